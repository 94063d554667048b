"""Commands on the pages run, or a line above them states why they do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from agentbay_kernel.config import AgentBaySettings
from tests.docs.pages import FOLDER, PAGES, TABLES, Block, blocks_of, name_of
from tests.docs.test_guides import blocks, is_configuration
from tests.runtime import running_local_runtime

BLOCKS = [it for page in [*PAGES, *TABLES] for it in blocks_of(page) if it.has_commands]
SHELL = [it for it in BLOCKS if it.language == "sh" and not it.not_run]
PYTHON = [it for it in BLOCKS if it.language == "python" and not it.not_run]
CONFIGURATION = [it for it in PYTHON if is_configuration(it.text)]
# The tests that run every block of Python on a page; how-to/ci's first block of commands, each.
PROGRAMS = {
    "how-to/agents": "test_guides.py",
    "how-to/ci": "test_guides.py",
    "how-to/class": "test_guides.py",
    "how-to/data": "test_guides.py",
    "how-to/debugger": "test_guides.py",
    "how-to/grading": "test_guides.py",
    "how-to/local-runtime": "test_guides.py",
    "how-to/many-sandboxes": "../executor/test_docs.py",
    "tutorials/kernel": "test_guides.py",
    "tutorials/magics": "test_guides.py",
}
# Several commands that run a notebook, grade, or ask a service each, and what another page has too:
# shorter blocks, tests/cli, tests/grading and tests/headless run the same ones.
LONG = {
    "how-to/every-notebook:1",
    "how-to/every-notebook:3",
    "how-to/ci:2",
    "how-to/local-runtime:1",
    "reference/command-line:1",
    "reference/command-line:2",
    "reference/command-line:3",
    "reference/command-line:6",
    "tutorials/kernel:4",
}
IN_GUIDES = blocks("how-to/ci", "sh")[0]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a user who has an empty home, and a service on this machine."""
    home = tmp_path_factory.mktemp("home")
    kernel = home / "data" / "kernels" / "ir" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["R"], "display_name": "R", "language": "R"}')
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: it for name, it in os.environ.items() if not name.startswith("JUPYTER_")}
    with running_local_runtime() as runtime:
        yield {
            **kept,
            "HOME": str(home),
            "PATH": binaries,
            "AGENTBAY_BACKEND": "local",
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_STATE_DIR": str(home / "state"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the files that the commands name."""
    (tmp_path / "checks.py").write_text(blocks("how-to/grading", "python")[0])
    notebook = new_notebook(cells=[new_code_cell("print(6 * 7)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    for name in ("work", "analysis", "submission", "ada", "notebooks/a", "submissions/cem"):
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
    (tmp_path / "bob.py").write_text("def median(values):\n    return None\n")
    return tmp_path


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(it, marks=[pytest.mark.slow] * (str(it) in LONG))
        for it in SHELL
        if it.text != IN_GUIDES
    ],
    ids=str,
)
def test_a_block_of_commands_runs(block: Block, environment: dict[str, str], folder: Path) -> None:
    ran = subprocess.run(
        ["sh", "-e", "-u", "-c", block.text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)


@pytest.mark.parametrize("block", CONFIGURATION, ids=str)
def test_a_file_of_configuration_is_valid(block: Block) -> None:
    config = Config()
    exec(compile(block.text, str(block), "exec"), {"c": config, "get_config": lambda: config})
    assert config
    settings = AgentBaySettings(config=config)
    for name, value in config.get("AgentBaySettings", {}).items():
        assert getattr(settings, name) == value


def test_programs_are_run_by_other_tests() -> None:
    programs = [it for it in PYTHON if it not in CONFIGURATION]
    assert {it.page for it in programs} == set(PROGRAMS)
    for page, test in PROGRAMS.items():
        assert f'"{page}"' in (Path(__file__).parent / test).read_text()


def test_other_blocks_state_why_they_are_not_run() -> None:
    others = [it for it in BLOCKS if it.language in ("console", "text", "yaml")]
    unmarked = [str(it) for it in others if not it.not_run]
    assert unmarked == []
    short = [str(it) for it in BLOCKS if it.not_run and len(it.not_run.split()) < 3]
    assert short == []


def test_the_number_of_blocks_that_are_not_run_is_shown() -> None:
    marked = [it for it in BLOCKS if it.not_run]
    text = (FOLDER / "project" / "contributing.md").read_text()
    (shown,) = re.findall(r"\*\*(.+) blocks\*\* are marked so", text)
    assert shown == f"{len(marked)} of {len(BLOCKS)}"


def test_every_mark_belongs_to_a_block() -> None:
    for page in [*PAGES, *TABLES]:
        marks = len(re.findall(r"<!-- not-run: ", page.read_text()))
        # The page that explains the mark names it once.
        marks -= name_of(page) == "project/contributing"
        assert marks == len([it for it in blocks_of(page) if it.not_run]), page
