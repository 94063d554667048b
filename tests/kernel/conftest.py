"""Kernels on the local runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import RunningKernel, running_kernel

LOCAL = {"AGENTBAY_BACKEND": "local"}


@pytest.fixture(scope="module", params=["bridged", "direct"])
def python_kernel(request: pytest.FixtureRequest) -> RunningKernel:
    """One "AgentBay Python" for the tests of a module, in either execution."""
    # The one that other tests of the module have.
    kernel: RunningKernel = request.getfixturevalue(f"{request.param}_kernel")
    return kernel


@pytest.fixture(scope="module")
def bridged_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay Python" in bridged execution."""
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_EXECUTION": "bridged"}) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel


@pytest.fixture(scope="module")
def direct_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay Python" in direct execution."""
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_EXECUTION": "direct"}) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel


@pytest.fixture(scope="module")
def javascript_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay JavaScript" for the tests of a module."""
    with running_kernel("agentbay-javascript", LOCAL) as kernel:
        kernel.run("1")  # the first cell's output also says where it runs
        yield kernel
