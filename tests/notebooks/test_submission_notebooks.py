"""The notebooks that run code of others: what is stored in them, and what runs without a wall."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.notebooks.course import FOLDER, Outputs, code_cells, execute, read, tagged

pytestmark = pytest.mark.timeout(600)

RUN = FOLDER / "07-run-submissions.ipynb"
GRADE = FOLDER / "08-grade-by-values.ipynb"
TEST = FOLDER / "09-test-students-code.ipynb"
INJECTION = FOLDER / "12-prompt-injection.ipynb"
# By these, cells run code of others: Ada's too, since a runner does not know who is honest.
RUNNING = re.compile(r"^(?!def |async def ).*(\brun\(|_command\(|pool\.|\bmeet\(|Grader\()", re.M)


def running(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run code of others when they are executed; those of exercises aside."""
    return [
        cell
        for cell in code_cells(notebook)
        if RUNNING.search(
            re.sub(r"^(async )?def .*\n(( +.*)?\n)*", "", f"{cell.source}\n", flags=re.M)
        )
        and not (tagged(cell, "check") or tagged(cell, "exercise"))
    ]


def test_what_came_of_the_hostile_submission_is_stored() -> None:
    notebook = read(RUN)
    tried = Outputs(notebook, "mallory = await").text()
    for attempt in ("Read the answers", "Ask the grade book", "Change the grades"):
        (line,) = [line for line in tried.splitlines() if line.startswith(attempt)]
        assert line.endswith("Error"), line
    assert tried.count(": nothing there") == 4
    assert tried.count("NotAllowedError") == 2
    desk = Outputs(notebook, "visits to the grade book").text()
    assert "mallory,0\n" in desk and "grade book: 0" in desk
    assert Outputs(notebook, "ENDLESS =").text().startswith("begun\nGiven up after")
    of_class = Outputs(notebook, "def run_command").text()
    for line in (
        "ada.ipynb +passed",
        "eve.ipynb +failed .*not finish",
        "mallory.ipynb +failed .*'median'",
    ):
        assert re.search(line, of_class), of_class
    assert of_class.endswith("Written: ada.ipynb eve.ipynb mallory.ipynb\n")
    assert Outputs(notebook, "place.close()").text() == "sandboxes left: 0\n"


def test_what_the_submissions_got_is_stored() -> None:
    notebook = read(GRADE)
    # In the tests' own session she can give herself the points, and where values count she can't.
    by_nbgrader = Outputs(notebook, '"export"').text()
    assert by_nbgrader == "ada has 5.0 of 5.0\nmallory has 5.0 of 5.0\n"
    assert Outputs(notebook, "BOB =").text().splitlines() == [
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
@pytest.mark.parametrize(
    "path",
    [
        # `make test` has the quickest, and sees that all refuse by the same function.
        *(pytest.param(path, marks=pytest.mark.slow) for path in (RUN, GRADE)),
        TEST,
        INJECTION,
    ],
    ids=lambda path: path.stem,
)
def test_without_a_wall_no_code_of_others_runs(
    path: Path,
    setting: str,
    value: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if setting == "AGENTBAY_LOCAL_NETWORK" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv(setting, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = execute(read(path), tmp_path, goes_on=True)
    cells = running(notebook)
    assert len(cells) >= 4, "the words by which the cells are found are no longer theirs"
    refused = 0
    for cell in cells:
        error = cell.outputs[-1]
        assert error.output_type == "error", cell.source
        if error.ename == "NameError":
            # It needs what a refused cell did not make.
            assert refused, cell.source
            continue
        refused += 1
        assert error.ename == "PermissionError", error.evalue
        assert error.evalue.startswith("Refused, and nothing was run"), error.evalue
        assert reason in error.evalue and "bubblewrap" in error.evalue
    assert all(tagged(cell, "attack") <= (cell in cells) for cell in code_cells(notebook))
    left = next(cell for cell in code_cells(notebook) if "place.close()" in cell.source)
    assert left.outputs[0].text.endswith(" left: 0\n")
    assert list(tmp_path.glob("desk-*")) == []


def test_all_refuse_by_the_same_function() -> None:
    refusing = re.compile(r"^def refuse_unless_confined\(\):\n(?:(?: +.*)?\n)+", re.M)
    functions = set()
    for path in (RUN, GRADE, TEST, INJECTION):
        (cell,) = [it for it in code_cells(read(path)) if refusing.search(it.source)]
        assert "\n\nrefuse_unless_confined()\n" in cell.source
        (function,) = refusing.findall(cell.source)
        assert "raise PermissionError" in function
        functions.add(function.replace("Attacks would", "Submissions would"))
    assert len(functions) == 1


def test_without_a_place_it_says_what_to_set(tmp_path: Path) -> None:
    notebook = read(RUN)
    notebook.cells = [cell for cell in code_cells(notebook) if "open_backend()" in cell.source]
    execute(notebook, tmp_path, goes_on=True)
    error = Outputs(notebook, "open_backend()").error
    assert error.ename == "NoBackendError"
    assert "AGENTBAY_BACKEND=local" in error.evalue
