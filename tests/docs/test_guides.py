"""The guides' own code runs as it stands there: block by block, in the order of the page."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("page", "kernel", "expected"),
    [
        ("quickstart-kernel", "agentbay-python", ["42", "[ 1, 4, 9 ]", "step 4", "Uploaded"]),
        ("quickstart-magics", "python3", ["Ada", "(False, 'ZeroDivisionError')", "done"]),
    ],
)
def test_the_quickstarts_cells_run(
    page: str, kernel: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "prices.csv").write_text("price\n3\n4\n")
    told = ""
    with running_kernel(kernel, LOCAL, tmp_path) as running:
        for code in blocks(page, "python"):
            ran = running.run(code)
            assert ran.reply["status"] == "ok", (code, ran)
            told += str([output["content"] for output in ran.outputs])
    assert [text for text in expected if text not in told] == [], told
    if page == "quickstart-kernel":
        assert "mean,3.5" in (tmp_path / "summary.csv").read_text()


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """Variables that lead programs to a local runtime."""
    with running_local_runtime() as runtime:
        yield {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}


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


def test_the_agent_developers_programs_run(service: dict[str, str], tmp_path: Path) -> None:
    loop, with_sdk, values = blocks("agents", "python")
    assert run_program(loop, service, tmp_path).splitlines()[1:] == [
        "45",
        "ZeroDivisionError: division by zero",
        "45",
        "",
    ]
    assert run_program(with_sdk, service, tmp_path).strip() == "10"
    assert run_program(values, service, tmp_path).strip() == "7"


@pytest.mark.slow
@pytest.mark.parametrize("command", blocks("ci", "sh")[0].splitlines())
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


MEDIAN = "def median(values):\n    return sorted(values)[len(values) // 2]"
# Makes nbgrader's own tests pass: every later cell does nothing.
CHEAT = "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])"
FORGED = "print('[' + ','.join(['true'] * 20) + ']')\nimport os\nos._exit(0)"


@pytest.mark.parametrize(
    ("solution", "points"),
    [
        pytest.param(MEDIAN, 20, id="honest"),
        pytest.param(CHEAT, 0, id="cheat"),
        pytest.param(f"{MEDIAN}\njson = None\n{CHEAT}", 0, marks=pytest.mark.slow, id="late cheat"),
        pytest.param(FORGED, 0, marks=pytest.mark.slow, id="forged"),
    ],
)
def test_the_grader_gives_points_for_right_answers_alone(
    solution: str, points: int, service: dict[str, str], tmp_path: Path
) -> None:
    notebook = new_notebook(cells=[new_code_cell(solution)])
    nbformat.write(notebook, tmp_path / "submission.ipynb")
    program = blocks("grading", "python")[-1]
    told = run_program(program, service, tmp_path, "submission.ipynb")
    assert f"{points} of 20" in told
