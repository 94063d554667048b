"""Servers and clients for the tests of the service client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentbay_kernel.service import AgentBay, Session
from tests.runtime import LocalRuntimeProcess, running_local_runtime
from tests.service.malformed import MalformedServer


@pytest.fixture(scope="session")
def local_runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime("--no-kernels") as runtime:
        yield runtime


@pytest.fixture(params=["action", "link"])
def server(request: pytest.FixtureRequest) -> Iterator[MalformedServer]:
    """The scripted server, offering one route and then the other."""
    with MalformedServer(link=request.param == "link") as server:
        yield server


@pytest.fixture
def client(server: MalformedServer) -> Iterator[AgentBay]:
    with AgentBay(server.api_key, endpoint=server.endpoint) as client:
        yield client


@pytest.fixture
def session(client: AgentBay) -> Session:
    session = client.create().session
    assert session is not None
    return session
