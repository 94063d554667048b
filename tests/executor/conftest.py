"""A local runtime that pools find by their environment, and one pool for tests that break none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.service import AgentBay
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="package")
def runtime() -> Iterator[LocalRuntimeProcess]:
    # Not isolated, so that what items write can be counted from here.
    with running_local_runtime("--isolation", "none", "--no-kernels") as runtime:
        yield runtime


@pytest.fixture(scope="module")
def service(
    runtime: LocalRuntimeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentBay]:
    """The runtime's client; pools are created there meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTBAY_ENDPOINT", runtime.endpoint)
        patch.setenv("AGENTBAY_API_KEY", runtime.api_key)
        patch.setenv("AGENTBAY_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        with AgentBay() as client:
            yield client


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the pool of `pool` says."""
    return []


@pytest.fixture(scope="module")
def pool(service: AgentBay, told: list[str]) -> Iterator[SandboxExecutor]:
    """Two sessions."""
    with SandboxExecutor(2, notify=told.append) as pool:
        yield pool
    assert not list(service.list_all())
