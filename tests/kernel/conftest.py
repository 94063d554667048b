"""Kernels on the local runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import RunningKernel, running_kernel

LOCAL = {"AGENTBAY_BACKEND": "local"}


# A kernel and its session take a second or two to start: these are started once for all modules
# that have them.


@pytest.fixture(scope="module", params=["bridged", "direct"])
def python_kernel(request: pytest.FixtureRequest) -> RunningKernel:
    """One "AgentBay Python", in either execution."""
    # The one that other tests have.
    kernel: RunningKernel = request.getfixturevalue(f"{request.param}_kernel")
    return kernel


@pytest.fixture(scope="package")
def bridged_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay Python" in bridged execution."""
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_EXECUTION": "bridged"}) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel


@pytest.fixture(scope="package")
def direct_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay Python" in direct execution."""
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_EXECUTION": "direct"}) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel


@pytest.fixture(scope="package")
def javascript_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay JavaScript"."""
    with running_kernel("agentbay-javascript", LOCAL) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel
