"""Notebook 7: without a wall its hostile code refuses to run; what is stored is the truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.notebooks.course import FOLDER, Outputs, code_cells, execute, read

pytestmark = pytest.mark.timeout(600)

NOTEBOOK = FOLDER / "07-grading.ipynb"
# By these, cells run code of students: Ada's too, since a runner does not know who is honest.
RUNNING = ("await run(", "nbgrader_command(", "in grade_command(")


def test_what_came_of_the_hostile_submission_is_stored() -> None:
    notebook = read(NOTEBOOK)
    tried = Outputs(notebook, "MALLORY_TRIES").text()
    for attempt in ("Read the answers", "Ask the grade book", "Change the grades"):
        (line,) = [line for line in tried.splitlines() if line.startswith(attempt)]
        assert line.endswith("Error"), line
    assert tried.count(": nothing there") == 4
    assert tried.count("NotAllowedError") == 2
    desk = Outputs(notebook, "visits to the grade book").text()
    assert "mallory,0\n" in desk and "grade book: 0" in desk
    assert Outputs(notebook, "ENDLESS =").text().startswith("begun\nGiven up after")
    # In the tests' own session she can give herself the points, and where values count she can't.
    by_nbgrader = Outputs(notebook, '"export"').text()
    assert by_nbgrader == "ada has 5.0 of 5.0\nmallory has 5.0 of 5.0\n"
    by_values = Outputs(notebook, "BOB =").text()
    assert by_values.splitlines() == [
        "ada.ipynb has 5 of 5 (graded)",
        "bob.ipynb has 1 of 5 (graded)",
        "eve.ipynb has 0 of 5 (timeout)",
        "mallory.ipynb has 0 of 5 (graded)",
    ]
    assert Outputs(notebook, "place.close()").text() == "sandboxes left: 0\n"


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
    notebook = execute(read(NOTEBOOK), tmp_path, goes_on=True)
    refused = 0
    for cell in code_cells(notebook):
        if any(words in cell.source for words in RUNNING):
            refused += 1
            (output,) = cell.outputs
            assert output.output_type == "error", cell.source
            assert output.ename == "PermissionError", output.evalue
            assert output.evalue.startswith("Refused, and nothing was run"), output.evalue
            assert reason in output.evalue and "bubblewrap" in output.evalue
    assert refused >= 6, "the words by which the cells are found are no longer theirs"
    desk = Outputs(notebook, "visits to the grade book").text()
    assert "mallory,0\n" in desk and "grade book: 0" in desk
    assert list(tmp_path.glob("desk-*")) == []


def test_without_a_place_it_says_what_to_set(tmp_path: Path) -> None:
    notebook = read(NOTEBOOK)
    notebook.cells = [cell for cell in code_cells(notebook) if "open_backend()" in cell.source]
    execute(notebook, tmp_path, goes_on=True)
    error = Outputs(notebook, "open_backend()").error
    assert error.ename == "NoBackendError"
    assert "AGENTBAY_BACKEND=local" in error.evalue
