"""An ordinary Python notebook with the magics, on the local runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import RunningKernel, running_kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook's folder."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def notebook(folder: Path) -> Iterator[RunningKernel]:
    """An IPython kernel with the magics on the local runtime."""
    env = {"AGENTBAY_BACKEND": "local", "AGENTBAY_MAX_SESSIONS": "12"}
    with running_kernel("python3", env, folder) as kernel:
        assert kernel.run("%load_ext agentbay_kernel").reply["status"] == "ok"
        yield kernel
