"""A notebook's first cell in an isolated sandbox stores what it shows, and nothing of ours."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

ISOLATED = {"AGENTBAY_BACKEND": "local", "AGENTBAY_LOCAL_ISOLATION": "required"}


@pytest.mark.parametrize(
    ("kernel", "cells"),
    [
        ("agentbay-python", ["1 + 1"]),
        ("python3", ["%load_ext agentbay_kernel", "%%agentbay python\n1 + 1"]),
    ],
)
def test_a_first_cell_stores_exactly_one_output(
    kernel: str, cells: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ISOLATED.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(it) for it in cells])
    NotebookClient(notebook, kernel_name=kernel, timeout=60).execute()
    (output,) = (it for cell in notebook.cells for it in cell.outputs)
    assert output.data == {"text/plain": "2"}
