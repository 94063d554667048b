"""Notebook 7: without a wall its hostile code refuses to run; what is stored is the truth."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "07-grading.ipynb"
# These run code of students: Ada's too, since a runner does not know who is honest.
RUNNING = ("await run(", "nbgrader_command(", "points(answer(")


def read() -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)
    return notebook


def executed(folder: Path) -> NotebookNode:
    """The whole notebook, also beyond cells that fail."""
    notebook = read()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=100, allow_errors=True, resources=resources)
    client.execute()
    return notebook


def printed(notebook: NotebookNode, source: str) -> str:
    """What the one code cell with these words printed and showed, as text."""
    (cell,) = [it for it in notebook.cells if it.cell_type == "code" and source in it.source]
    told = ""
    for output in cell.outputs:
        told += output.get("text", "") + output.get("data", {}).get("text/plain", "")
    return told


def test_what_came_of_the_hostile_submission_is_stored() -> None:
    notebook = read()
    tried = printed(notebook, "MALLORY_TRIES")
    for attempt in ("Read the answers", "Ask the grade book", "Change the grades"):
        (line,) = [line for line in tried.splitlines() if line.startswith(attempt)]
        assert line.endswith("Error"), line
    assert tried.count(": nothing there") == 4
    assert tried.count("NotAllowedError") == 2
    desk = printed(notebook, "visits to the grade book")
    assert "mallory,0\n" in desk and "grade book: 0" in desk
    assert printed(notebook, "ENDLESS =").startswith("begun\nGiven up")
    # In the tests' own session she can give herself the points, and where values count she can't.
    assert "mallory    5.0" in printed(notebook, '"export"')
    scores = dict(line.split() for line in printed(notebook, "BOB =").splitlines()[:3])
    assert scores == {"ada": "5", "bob": "1", "mallory": "0"}
    assert printed(notebook, "place.close()") == "sandboxes left: 0\n"


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("AGENTBAY_LOCAL_ISOLATION", "none", "your files"),
        pytest.param("AGENTBAY_LOCAL_NETWORK", "1", "network", marks=pytest.mark.slow),
    ],
)
def test_without_a_wall_no_submission_runs(
    setting: str, value: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting == "AGENTBAY_LOCAL_NETWORK" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv(setting, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = executed(tmp_path)
    refused = 0
    for cell in notebook.cells:
        if cell.cell_type != "code" or not any(words in cell.source for words in RUNNING):
            continue
        refused += 1
        (output,) = cell.outputs
        assert output.output_type == "error", cell.source
        assert output.ename == "PermissionError", output.evalue
        assert output.evalue.startswith("Refused, and nothing was run"), output.evalue
        assert reason in output.evalue and "bubblewrap" in output.evalue
    assert refused >= 6, "the words by which the cells are found are no longer theirs"
    desk = printed(notebook, "visits to the grade book")
    assert "mallory,0\n" in desk and "grade book: 0" in desk
    assert list(tmp_path.glob("desk-*")) == []


def test_without_a_place_it_says_what_to_set(tmp_path: Path) -> None:
    notebook = read()
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "open_backend()" in cell.source
    ]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=100, allow_errors=True, resources=resources).execute()
    (error,) = [it for it in notebook.cells[0].outputs if it.output_type == "error"]
    assert error.ename == "NoBackendError"
    assert "AGENTBAY_BACKEND=local" in error.evalue
    assert sys.executable not in error.evalue
