"""Notebooks to be run without a front end, and a local runtime that all of them share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, output_from_msg

from tests.runtime import running_local_runtime

# What runs on this machine can be told by it.
MARK = "ran_here.txt"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """Variables that lead kernels to a local runtime."""
    with running_local_runtime() as runtime:
        yield {
            "AGENTBAY_BACKEND": "local",
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
        }


@pytest.fixture
def run(service: dict[str, str], tmp_path: Path) -> Run:
    """Runs a program of this environment in the notebook's folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        folder = Path(sys.executable).parent
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, **service, **environment},
            capture_output=True,
            text=True,
            timeout=110,
        )

    return run


def untrusted_notebook(kernel: str = "python3") -> Any:
    """A notebook that names a kernel of this machine, and would leave a mark there."""
    notebook = new_notebook(
        cells=[
            new_code_cell(f"open({MARK!r}, 'w').write('x')\nx = 6"),
            new_code_cell("x * 7"),
        ]
    )
    notebook.metadata["kernelspec"] = {
        "name": kernel,
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    content = {"data": {"text/plain": "42"}, "metadata": {}, "execution_count": 2}
    message = {"header": {"msg_type": "execute_result"}, "content": content}
    notebook.cells[1].outputs = [output_from_msg(message)]
    notebook.cells[0].execution_count, notebook.cells[1].execution_count = 1, 2
    return notebook


@pytest.fixture
def submission(tmp_path: Path) -> Iterator[Path]:
    """Such a notebook in a file; afterwards there must be no mark."""
    path = tmp_path / "submission.ipynb"
    nbformat.write(untrusted_notebook(), path)
    yield path
    assert not list(tmp_path.rglob(MARK))


def texts(notebook: Any) -> list[str]:
    """What each cell gave, as text."""
    told = []
    for cell in notebook.cells:
        told.append("")
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                told[-1] += output.text
            elif output.output_type in ("execute_result", "display_data"):
                told[-1] += output.data.get("text/plain", "")
    return told
