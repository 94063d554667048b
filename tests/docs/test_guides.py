"""The guides' own code runs as it stands there: block by block, in the order of the page."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_notebook

from tests.kernels import running_kernel
from tests.runtime import running_local_runtime

PAGES = Path(__file__).resolve().parents[2] / "docs"
LOCAL = {"AGENTBAY_BACKEND": "local"}


def blocks(page: str, language: str) -> list[str]:
    """A page's blocks in a language."""
    tokens = MarkdownIt("commonmark").parse((PAGES / f"{page}.md").read_text())
    return [it.content for it in tokens if it.type == "fence" and it.info == language]


# What a reader waits for in a cell (seconds), to see output that comes while it runs.
WAITED = re.compile(r"(?<=\btime\.sleep\()[12](?=\)$)", re.M)


def is_configuration(code: str) -> bool:
    """Is it a file that Jupyter or a tool of it reads?"""
    return re.search(r"^c\.|get_config\(\)", code, re.M) is not None


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """Variables that lead programs to a local runtime."""
    with running_local_runtime() as runtime:
        yield {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}


@pytest.mark.parametrize(
    ("page", "kernel", "expected"),
    [
        ("tutorials/kernel", "agentbay-python", ["42", "[ 1, 4, 9 ]", "step 4", "Uploaded"]),
        ("tutorials/magics", "python3", ["Ada", "(False, 'ZeroDivisionError')", "done"]),
        # The tutorial's cells send and fetch values too; files are transferred in tests/exchange.
        pytest.param(
            *("how-to/data", "python3", ["3.0", "{'mean': 2.0}", "Downloaded 1 file"]),
            marks=pytest.mark.slow,
        ),
        ("how-to/debugger", "agentbay-python", ["weights"]),
    ],
)
def test_the_cells_of_a_page_run(
    page: str, kernel: str, expected: list[str], service: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(PAGES.parent / "notebooks" / "ships.csv", tmp_path / "notebooks")
    told = ""
    # A tutorial's runtime is the kernel's own.
    place = LOCAL if page.startswith("tutorials/") else LOCAL | service
    with running_kernel(kernel, place, tmp_path) as running:
        for code in blocks(page, "python"):
            if is_configuration(code):
                continue
            ran = running.run(WAITED.sub("0.1", code))
            assert ran.reply["status"] == "ok", (code, ran)
            told += str([output["content"] for output in ran.outputs])
    assert [text for text in expected if text not in told] == [], told
    if page == "tutorials/kernel":
        assert "mean,376.25,8.5" in (tmp_path / "summary.csv").read_text()


def test_a_package_is_unpacked_in_the_sandbox(service: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "doubtful-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("doubtful/__init__.py", "answer = 6 * 7")
    (cell,) = (it for it in blocks("how-to/data", "text") if "zipfile" in it)
    with running_kernel("agentbay-python", LOCAL | service, tmp_path) as running:
        ran = running.run(f"{cell}\nimport doubtful\nprint(doubtful.__file__, doubtful.answer)")
    assert "/packages/doubtful/__init__.py 42" in ran.text(), ran


def run_program(program: str, service: dict[str, str], folder: Path, *arguments: str) -> str:
    """What a program prints."""
    (folder / "program.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env={**os.environ, **service},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, (program, ran.stdout, ran.stderr)
    return ran.stdout


def test_a_program_of_the_official_sdk_runs(service: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks("how-to/local-runtime", "python")
    assert run_program(program, service, tmp_path).splitlines()[-1] == "42"


AGENTS = {
    "ask_model": [
        "What is the sum of the numbers below ten?",
        "45",
        "ZeroDivisionError: division by zero",
        "45",
        "",
    ],
    "session.files.download": [
        "2 3 True",
        "['numbers.csv']",
        "b'n\\n3\\n4\\n'",
        "['result.csv']",
        "['from-sandbox']",
        "['again/result.csv']",
    ],
    "stream_code": ["stdout: 0", "stdout: 1", "stdout: 2", "shown: 2", "done: True"],
    "session.start": [
        "stdout: epoch 0",
        "stdout: epoch 1",
        "stdout: epoch 2",
        "stderr: finished",
        "0",
        "0 epoch 2 finished",
    ],
    "asyncio": ["['7', 'FileNotFoundError', '7']"],
    "SdkAgentBay": ["10"],
    "Exchange": ["{'sum': 6, 'set': {1, 2}}"],
}


@pytest.mark.parametrize(
    "named",
    # The official SDK takes long to import; a program of it runs above.
    [pytest.param(it, marks=[pytest.mark.slow] * (it == "SdkAgentBay")) for it in AGENTS],
)
def test_the_agent_developers_programs_run(
    named: str, service: dict[str, str], tmp_path: Path
) -> None:
    programs = blocks("how-to/agents", "python")
    assert len(programs) == len(AGENTS)
    (program,) = [it for it in programs if named in it]
    printed = run_program(program, service, tmp_path)
    if named == "session.start":
        # A chunk may hold several lines.
        printed = re.sub(r"^epoch", "stdout: epoch", printed, flags=re.MULTILINE)
    assert [line.rstrip() for line in printed.splitlines()] == AGENTS[named]


@pytest.mark.slow
@pytest.mark.parametrize("command", blocks("how-to/ci", "sh")[0].splitlines())
def test_the_runners_commands_run(command: str, service: dict[str, str], tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell("open('mark', 'w').write('x')")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "work.ipynb")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={**os.environ, **LOCAL, **service, "PATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    # It ran, and not here.
    assert not (tmp_path / "mark").exists()


def test_a_program_that_executes_a_notebook(service: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks("how-to/ci", "python")
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), tmp_path / "work.ipynb")
    (tmp_path / "program.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, **LOCAL, **service},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "CellExecutionError" in ran.stderr and "ZeroDivisionError" in ran.stderr


MEDIAN = """
def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered or len(ordered) % 2:
        return ordered[middle] if ordered else None
    return (ordered[middle - 1] + ordered[middle]) / 2

oldest = {"name": "Ada", "age": 36}
"""
# Makes nbgrader's own tests pass: every later cell does nothing.
CHEAT = "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])"
FORGED = "print('[' + ','.join(['true'] * 20) + ']')\nimport os\nos._exit(0)"


def test_a_class_from_its_homework_to_the_gradebook(
    service: dict[str, str], tmp_path: Path
) -> None:
    (command,) = blocks("how-to/class", "sh")
    (program,) = blocks("how-to/class", "python")
    checks = "def check_median(it):\n    assert it.call('median', [3, 1, 2]) == 2\n"
    (tmp_path / "checks.py").write_text(checks)
    (tmp_path / "penguins.csv").write_text("mass\n3\n")
    solution = f"assert open('penguins.csv').read()\n{MEDIAN}"
    notebook = new_notebook(cells=[new_code_cell(solution)])
    ada, bob, eve = (
        tmp_path / "submissions" / f"{name}_assignsubmission_file_"
        for name in ("Ada Lovelace_1001", "Bob_1002", "Eve_1003")
    )
    for folder in (ada, bob, eve):
        folder.mkdir(parents=True)
    nbformat.write(notebook, ada / "homework1.ipynb")
    nbformat.write(notebook, tmp_path / "submissions" / "cem_3_homework1.ipynb")
    (bob / "helper.py").write_text("nothing = None")
    (bob / "solution.py").write_text("from helper import nothing\ndef median(v): return nothing")
    (eve / "essay.pdf").write_text("not a program")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-e", "-c", command],
        cwd=tmp_path,
        env={**os.environ, **LOCAL, **service, "PATH": path},
        check=True,
        timeout=100,
    )
    (tmp_path / "worksheet.csv").write_text(
        "\ufeffIdentifier,Full name,Grade,Maximum Grade\n"
        "Participant 1001,Ada Lovelace,,1\n"
        "Participant 1002,Bob,,1\nParticipant 1003,Eve,,1\nParticipant 1004,Dan,,1\n",
        encoding="utf-8",
    )
    run_program(program, service | LOCAL, tmp_path)
    with (tmp_path / "worksheet-graded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["Full name"], row["Grade"]) for row in rows] == [
        ("Ada Lovelace", "1"),
        ("Bob", "0"),
        ("Eve", "0"),
        ("Dan", ""),
    ]
    with (tmp_path / "grades" / "grades.csv").open(newline="") as file:
        assert {row["submission"]: row["status"] for row in csv.DictReader(file)} == {
            ada.name: "graded",
            bob.name: "graded",
            eve.name: "unreadable",
            "cem_3_homework1.ipynb": "graded",
        }


def test_the_grader_gives_points_for_right_answers_alone(
    service: dict[str, str], tmp_path: Path
) -> None:
    checks, program, _ = blocks("how-to/grading", "python")
    (tmp_path / "checks.py").write_text(checks)
    (tmp_path / "in").mkdir()
    for name, solution in (
        ("honest", MEDIAN),
        ("cheat", CHEAT),
        ("late cheat", f"{MEDIAN}\n{CHEAT}"),
        ("forged", FORGED),
    ):
        notebook = new_notebook(cells=[new_code_cell(solution)])
        nbformat.write(notebook, tmp_path / "in" / f"{name}.ipynb")
    told = run_program(program, service | LOCAL, tmp_path, "in").splitlines()
    assert [line for line in told if not line.startswith(" ")] == [
        "cheat.ipynb graded 0.0 of 5",
        "forged.ipynb crashed 0.0 of 5",
        "honest.ipynb graded 5.0 of 5",
        "late cheat.ipynb graded 0.0 of 5",
    ]
