"""Kernels on the local runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import RunningKernel, running_kernel

LOCAL = {"AGENTBAY_BACKEND": "local"}


@pytest.fixture(scope="module")
def python_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay Python" for the tests of a module."""
    with running_kernel("agentbay-python", LOCAL) as kernel:
        yield kernel


@pytest.fixture(scope="module")
def javascript_kernel() -> Iterator[RunningKernel]:
    """One "AgentBay JavaScript" for the tests of a module."""
    with running_kernel("agentbay-javascript", LOCAL) as kernel:
        yield kernel
