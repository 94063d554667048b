"""The notebooks: what is stored in them, and that they still give it when executed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from nbformat import NotebookNode

from agentbay_kernel.sessions.statefile import StateFile
from tests.notebooks.course import (
    FOLDER,
    NOTEBOOKS,
    SETTINGS,
    Outputs,
    agree,
    code_cells,
    execute,
    kinds,
    may_fail,
    read,
    tagged,
    verdicts,
    with_answers,
    without_answers,
    without_colours,
)

pytestmark = pytest.mark.timeout(600)

# What `make test` executes elsewhere: `make demo` the first, and the browser the one whose last
# attack is on the page. Those that it executes in the browser are in tests/browser/test_course.py.
ELSEWHERE = {"01-first-steps", "02-break-the-sandbox"}
# Many sandboxes, or nbgrader. What they use is tried in tests/cli, tests/grading, tests/executor
# and tests/docs.
LONG = {"07-run-submissions", "08-grade-by-values", "09-test-students-code"}
# Others that take a quarter of a minute and more: most of it is waiting, for an agent or a timeout;
# or large libraries, as in the first.
LEISURELY = {"03-data-analysis", "05-long-work", "10-agent-session", "12-prompt-injection"}
# Ten seconds; tests/magics and tests/docs/test_guides.py run magics in `make test`.
LEISURELY |= {"06-magics"}
# Of those, the ones whose exercises `make test` solves.
QUICK = {"02-break-the-sandbox", "09-test-students-code"}
# What a reader keeps of a notebook.
KEPT = {"01-first-steps": ("total.txt",)}
# Ten minutes. Cells that are folded hold what a reader need not read.
MOST_LINES, MOST_LINES_OF_A_CELL, MOST_WORDS = 120, 25, 900
MARK = "AGENTBAY_TEST_OF_NOTEBOOK"
ENDED_WITHIN_S = 60


@pytest.fixture(autouse=True)
def local_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test runs a notebook anywhere else."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENTBAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv(MARK, tmp_path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the notebooks' folder, to run them in."""
    return Path(shutil.copytree(FOLDER, tmp_path / "notebooks"))


def check_first_steps(notebook: NotebookNode) -> None:
    first = Outputs(notebook, "berths = {")
    assert first.text() == "Ships in the bay: Aurora, Borealis, Corvus\n"
    assert first.text("stderr") == ""
    assert Outputs(notebook, "max(berths").data("text/plain") == "4"
    assert "<table" in Outputs(notebook, "pd.read_csv").data("text/html")
    check_picture(Outputs(notebook, "plt.show()").data("image/png"))
    error = Outputs(notebook, 'berths["Erebus"]').error
    assert (error.ename, error.evalue) == ("KeyError", "'Erebus'")
    assert 'berths["Erebus"]' in without_colours(error.traceback)
    assert Outputs(notebook, "ships are still known").text() == "4 ships are still known\n"
    assert Outputs(notebook, "const tide").text() == "High water: 3.5 m\n"
    assert "metres: 3.5" in Outputs(notebook, "[0, 3.1, 6.2, 9.3]").data("text/plain")
    shared = Outputs(notebook, '"total.txt").read_text()').data("text/plain")
    assert shared == "'1505 containers on 4 ships'"
    status = Outputs(notebook, "%agentbay status").data("text/plain")
    assert "local runtime on this machine" in status
    assert "ships.csv ships.json total.txt" in Outputs(notebook, "getpass.getuser").text()
    assert "total.txt" in str(Outputs(notebook, "%agentbay download").all)


def check_break_the_sandbox(notebook: NotebookNode) -> None:
    assert Outputs(notebook, "def require").text().count(" confined ") == 6
    for cell in attacks(notebook):
        assert "NotConfined" not in kinds(cell.outputs), cell.source
    printed = "".join(
        output.get("text", "") for cell in attacks(notebook) for output in cell.outputs
    )
    for success in ("REACHED", "COULD BE CHANGED", "NOBODY STOPPED IT"):
        assert success not in printed
    assert Outputs(notebook, "treasures").text().count(": none") == 2
    assert re.search(r"Started \d+ processes, then: ", Outputs(notebook, "BOMB").text())
    assert "Ended by: Killed" in Outputs(notebook, "EATER").text()
    assert Outputs(notebook, "10**15").error.ename == "MemoryError"
    assert Outputs(notebook, "rounds += 1").error.ename == "KeyboardInterrupt"
    frame = Outputs(notebook, "fetch(").data("text/html")
    assert "<iframe" in frame and 'sandbox="allow-scripts"' in frame
    assert "not shown" in str(Outputs(notebook, "Javascript(").all)


def check_long_work(notebook: NotebookNode) -> None:
    assert Outputs(notebook, '"unpack"').text().endswith("write ...\ndone\n")
    assert " 40/40 [█" in Outputs(notebook, "def progress").text()
    changed = Outputs(notebook, "waiting for the tide").data("text/plain")
    assert changed == "'high water: the ship may leave'"
    assert Outputs(notebook, "counted += 1").error.ename == "KeyboardInterrupt"
    assert Outputs(notebook, "counted > 0").text().endswith("True\n")
    assert "closing the log" in Outputs(notebook, "log.close").text()
    assert "Welcome, Aurora" in Outputs(notebook, "input(").text()
    assert notebook.metadata.widgets
    late = Outputs(notebook, "threading.Thread").text() + Outputs(notebook, "watcher.join").text()
    assert [f"hour {hour}: all quiet" in late for hour in (1, 2, 3)] == [True] * 3


def check_magics(notebook: NotebookNode) -> None:
    assert Outputs(notebook, "Here:").text() == "Here: this notebook\n"
    assert Outputs(notebook, "There:").text() == "There: the sandbox\n"
    assert Outputs(notebook, 'place = "the sandbox"').text("stderr") == ""
    error = Outputs(notebook, "depth(25)").error
    assert (error.ename, error.evalue) == ("KeyError", "25")
    assert "depth(25)" in without_colours(error.traceback)
    assert "agentbay_kernel" not in without_colours(error.traceback)
    printed = Outputs(notebook, "const heavy").text()
    assert printed == "2 of 3 ships carry more than 8 tons\n"
    heavy = "[{'ship': 'Aurora', 'tons': 12.5}, {'ship': 'Corvus', 'tons': 21}]"
    (kept,) = [it for it in code_cells(notebook) if it.source == "heavy"]
    assert kept.outputs[0].data["text/plain"] == heavy
    assert "ZeroDivisionError - division" in Outputs(notebook, "outcome.ok").text()
    shown = Outputs(notebook, "north.show()").text().splitlines()
    assert [line.split()[0] for line in shown] == ["north"] * 4 + ["south"] * 4
    assert Outputs(notebook, '"place" in globals()').text() == "False\n"
    status = Outputs(notebook, "%agentbay status").data("text/plain")
    assert "local runtime on this machine" in status


def check_agent_loop(notebook: NotebookNode) -> None:
    answer = Outputs(notebook, "def agent(task").data("text/plain")
    assert answer == "'The best month, and its sales: 2025-02 2444'"
    assert "characters left out]" in Outputs(notebook, 'read())"))').text()
    transcript = Outputs(notebook, "for message in messages").text()
    assert [line.split()[0] for line in transcript.splitlines()[1:]] == [
        "assistant",
        "tool",
    ] * 4 + ["assistant"]
    assert "KeyError: 'Amount'" in transcript and "ValueError: " in transcript
    hung = Outputs(notebook, 'Count for ever.", stand_in').text().splitlines()
    assert hung[0] == "No answer: the steps are used up."
    assert hung[1].startswith("TimeoutError: ") and hung[2] == "335 rows"
    assert "a Counter arrives as dict" in str(Outputs(notebook, "len(sales)").all)
    months = Outputs(notebook, "sorted(sales").data("text/plain")
    assert months == "['2025-02', '2025-11', '2025-04']"
    assert Outputs(notebook, "session.delete()").text() == "sessions left: 0\n"


def check_test_students_code(notebook: NotebookNode) -> None:
    assert Outputs(notebook, "def right_examples").text().endswith("Ada 4 of 4\nBob 4 of 4\n")
    *_, chance = Outputs(notebook, "def by_chance").text().splitlines()
    # A longer text than the smallest.
    assert re.fullmatch(r"None [abc]{11,}", chance)
    *_, smallest = Outputs(notebook, "def smallest").text().splitlines()
    assert smallest == "aaaaaaaaaa"
    sentences = Outputs(notebook, "Counter(sentences").text()
    counts = {what: int(count) for count, what in re.findall(r"^ +(\d+) (.*)$", sentences, re.M)}
    assert sum(counts.values()) == 30
    assert counts["All tests pass."] == 12
    assert counts["unpack(pack('aaaaaaaaaa')) is another text."] == 5
    assert counts["Your code does not end."] == 1
    judged = Outputs(notebook, "Zoe, tested").text().splitlines()
    assert judged[-3:] == [
        "Zoe, tested in the sandbox: All tests pass.",
        "ada has 1 of 1",
        "zoe has 0 of 1",
    ]
    assert Outputs(notebook, "place.close()").text() == "sandboxes left: 0\n"


def check_prompt_injection(notebook: NotebookNode) -> None:
    # Each attack is asserted in its cell, which has not failed.
    results = Outputs(notebook, "in results.items()").text().splitlines()
    assert [line[30:].strip() for line in results] == ["stopped"] * 7 + ["NOT STOPPED"] * 3
    assert "price is 4200" in Outputs(notebook, "outbox[-1]").text()
    assert "secrets: False" in Outputs(notebook, "SEARCH =").text()
    assert Outputs(notebook, "place.close()").text() == "sessions left: 0\n"


CHECKS: dict[str, Callable[[NotebookNode], None]] = {
    "01-first-steps": check_first_steps,
    "02-break-the-sandbox": check_break_the_sandbox,
    "05-long-work": check_long_work,
    "06-magics": check_magics,
    "09-test-students-code": check_test_students_code,
    "11-agent-loop": check_agent_loop,
    "12-prompt-injection": check_prompt_injection,
}


def check_picture(encoded: str) -> None:
    """A PNG picture that shows something."""
    picture = base64.b64decode(encoded)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 2000


def check(name: str, notebook: NotebookNode) -> None:
    """Errors are only where they are meant to be, and a reader is shown what is to be shown."""
    for cell in code_cells(notebook):
        if not may_fail(cell):
            assert all(it.output_type != "error" for it in cell.outputs), cell.source
    if name in CHECKS:
        CHECKS[name](notebook)


def attacks(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that attack."""
    return [cell for cell in code_cells(notebook) if tagged(cell, "attack")]


def check_exercises(executed: NotebookNode, *, answered: bool = True) -> None:
    """Each check finds the exercise unsolved, and, after the answer, solved."""
    unsolved = verdicts(executed, added=False)
    assert len(unsolved) >= 2
    for verdict in unsolved:
        assert verdict.startswith("Not yet: "), verdict
    solved = verdicts(executed, added=True)
    assert solved == ["Right!\n"] * (len(unsolved) if answered else 0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_notebook_shows_what_a_reader_needs(path: Path) -> None:
    notebook = read(path)
    check(path.stem, notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.match(r"# \w.*\n\n\*\*Goal\.\*\* ", text)
    assert "## Exercises" in text
    check_exercises(notebook, answered=False)
    # Links between the notebooks lead somewhere.
    for link in re.findall(r"\]\(([\w.-]+\.ipynb)\)", text):
        assert (FOLDER / link).exists(), link
    for number, cell in enumerate(code_cells(notebook), start=1):
        # As after Restart and Run All.
        assert cell.execution_count in (number, None), cell.source
        outputs = str(cell.outputs)
        # Nothing of the machine that it was executed on.
        assert "/site-packages/" not in outputs, cell.source
        assert not re.search(r"/(home|root|Users)/", outputs), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_after_each_exercise_is_its_check(path: Path) -> None:
    notebook = read(path)
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type == "markdown":
            asked = re.findall(r"^\*\*\d+\.\*\* ", cell.source, re.M)
            assert len(asked) == tagged(following or cell, "exercise"), cell.source
        elif tagged(cell, "exercise"):
            assert cell.source.startswith("# Your turn")
            assert tagged(following, "check"), cell.source
            assert following.metadata.jupyter.source_hidden


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_takes_ten_minutes(path: Path) -> None:
    notebook = read(path)
    lines = [
        len(cell.source.splitlines())
        for cell in code_cells(notebook)
        if not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert sum(lines) <= MOST_LINES
    assert max(lines) <= MOST_LINES_OF_A_CELL
    assert sum(len(text.split()) for text in prose) <= MOST_WORDS


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (path.stem in ELSEWHERE | LONG | LEISURELY))
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
def test_executed_it_gives_what_is_stored(path: Path, folder: Path, tmp_path: Path) -> None:
    if path.stem.startswith("02") and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    there = sorted({*folder.rglob("*"), *(folder / name for name in KEPT.get(path.stem, ()))})
    answered = execute(with_answers(read(path)), folder)
    check_exercises(answered)
    executed = without_answers(answered)
    check(path.stem, executed)
    for cell, stored in zip(code_cells(executed), code_cells(read(path)), strict=True):
        assert agree(cell, stored), cell.source
    # Nothing is left behind: no file, no session, no process.
    assert sorted(folder.rglob("*")) == there
    # A create that was cut short names no session.
    records = StateFile(tmp_path / "state").read().values()
    assert not [record for record in records if record.session_id]
    deadline = time.monotonic() + ENDED_WITHIN_S
    while left := [process for process in psutil.process_iter() if is_of_this_test(process)]:
        assert time.monotonic() < deadline, [
            (p.pid, p.ppid(), p.cmdline(), p.status()) for p in left
        ]
        time.sleep(0.2)


@pytest.mark.parametrize(
    "name",
    [
        # Those of the second have attacks, those of the ninth many sandboxes and grades.
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in sorted(ELSEWHERE | LONG)
    ],
)
def test_its_exercises_can_be_solved(name: str, folder: Path) -> None:
    notebook = read(folder / f"{name}.ipynb")
    # Exercises don't need these.
    notebook.cells = [
        cell for cell in notebook.cells if not (tagged(cell, "attack") or tagged(cell, "long"))
    ]
    check_exercises(execute(with_answers(notebook), folder))


def is_of_this_test(process: psutil.Process) -> bool:
    """Was it started, by whichever way, for the test that runs now?"""
    try:
        mine = process.environ().get(MARK) == os.environ[MARK]
    except psutil.Error:
        return False
    return mine and process.pid != os.getpid()


def test_each_attack_begins_with_a_look_at_the_wall() -> None:
    cells = attacks(read(FOLDER / "02-break-the-sandbox.ipynb"))
    assert len(cells) >= 10
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        code = [line for line in lines if not line.startswith("%")]
        assert code[0].startswith("require("), cell.source


def test_without_walls_every_attack_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_LOCAL_ISOLATION", "none")
    executed = execute(read(FOLDER / "02-break-the-sandbox.ipynb"), folder)
    told = Outputs(executed, "def require").text()
    assert told.count("NOT CONFINED") == 5
    for cell in attacks(executed):
        if "html=contain" in cell.source:
            # The page's wall is the kernel's own: it holds all the same.
            assert "not shown" in str(cell.outputs) or "<iframe" in str(cell.outputs)
        else:
            (output,) = [it for it in cell.outputs if it.get("name") != "stderr"]
            assert output.ename == "NotConfined", cell.source
            assert "bubblewrap" in output.evalue
            assert len(output.traceback) == 1


@pytest.mark.slow
def test_with_a_network_the_attack_on_it_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv("AGENTBAY_LOCAL_NETWORK", "1")
    notebook = read(FOLDER / "02-break-the-sandbox.ipynb")
    wanted = ("def require", '("192.0.2.1", 80)', '"/planted"')
    notebook.cells = [
        cell for cell in code_cells(notebook) if any(words in cell.source for words in wanted)
    ]
    executed = execute(notebook, folder)
    devices = Path("/sys/class/net")
    if sorted(path.name for path in devices.iterdir()) == ["lo"]:
        pytest.skip("this machine has no network device but loopback")
    assert Outputs(executed, "192.0.2.1").error.ename == "NotConfined"
    assert "My own directory" in Outputs(executed, '"/planted"').text()


@pytest.mark.parametrize(
    "extension", [pytest.param("", marks=pytest.mark.slow), "%load_ext agentbay_kernel"]
)
def test_in_an_ordinary_kernel_every_attack_refuses(extension: str, folder: Path) -> None:
    notebook = read(FOLDER / "02-break-the-sandbox.ipynb")
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    definition = next(cell for cell in code_cells(notebook) if "def require" in cell.source)
    definition.source = f"{extension}\n{definition.source}"
    for cell in attacks(notebook):
        # Time enough for the session to start.
        cell.source = cell.source.replace("--timeout 3", "--timeout 60")
    executed = execute(notebook, folder, goes_on=True)
    for cell in attacks(executed):
        # Without the extension there is no %agentbay, which IPython says on stderr; with it, a
        # %%agentbay cell runs in a sandbox, which does not know `require`.
        told = kinds(cell.outputs) - {"display_data text/plain", "display_data text/html"}
        usage = Outputs(executed, cell.source).text("stderr").startswith("UsageError")
        assert "stdout" not in told, cell.source
        assert usage or told & {"NotConfined", "NameError"}, cell.source
