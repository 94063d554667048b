"""A real local runtime, and the official SDK pointed at it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read by the SDK when it is imported; without them it writes a log into the working directory.
os.environ["AGENTBAY_LOG_LEVEL"] = "CRITICAL"
os.environ["AGENTBAY_LOG_FILE"] = str(Path(tempfile.gettempdir()) / "agentbay-sdk-tests.log")

import pytest
import requests

from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="package")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """One runtime for the modules that need none of their own; each has its sessions."""
    with running_local_runtime("--no-kernels") as process:
        yield process


def official_client(runtime: LocalRuntimeProcess) -> Any:
    """The official SDK's client of a runtime."""
    from agentbay import AgentBay, Config

    with warnings.catch_warnings():
        # There is no region of this machine.
        warnings.simplefilter("ignore", DeprecationWarning)
        config = Config(endpoint=runtime.endpoint, timeout_ms=60000)
    return AgentBay(api_key=runtime.api_key, cfg=config)


@pytest.fixture(scope="module")
def client(runtime: LocalRuntimeProcess) -> Any:
    """The official SDK's client."""
    return official_client(runtime)


def drop(runtime: LocalRuntimeProcess, session: Any) -> None:
    """Delete a session without the second that the SDK waits for its end."""
    fields = {"Authorization": runtime.api_key, "SessionId": session.session_id}
    requests.post(f"{runtime.endpoint}/?Action=DeleteSessionAsync", data=fields, timeout=30)


@pytest.fixture
def make_session(client: Any, runtime: LocalRuntimeProcess) -> Iterator[Callable[..., Any]]:
    """Makes sessions that are deleted after the test."""
    from agentbay import CreateSessionParams

    made = []

    def make(**arguments: Any) -> Any:
        arguments.setdefault("image_id", "code_latest")
        result = client.create(CreateSessionParams(**arguments))
        assert result.success, result.error_message
        made.append(result.session)
        return result.session

    yield make
    for session in made:
        drop(runtime, session)


@pytest.fixture(scope="module")
def session(client: Any, runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """One session for the tests of a module."""
    from agentbay import CreateSessionParams

    result = client.create(CreateSessionParams(image_id="code_latest"))
    assert result.success, result.error_message
    yield result.session
    drop(runtime, result.session)
