"""`jupyter agentbay run DIR -j N`: a row for each notebook, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from agentbay_kernel.cli import main
from agentbay_kernel.service import AgentBay
from tests.cli.test_main import call
from tests.cli.test_run import notebook
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime() as runtime:
        yield runtime


@pytest.fixture(scope="module")
def small() -> Iterator[LocalRuntimeProcess]:
    """An account that allows one session."""
    with running_local_runtime("--max-sessions", "1") as runtime:
        yield runtime


def environment(runtime: LocalRuntimeProcess) -> dict[str, str]:
    return {
        "AGENTBAY_BACKEND": "local",
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
    }


def sessions_left(runtime: LocalRuntimeProcess) -> list[dict[str, str]]:
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        return list(client.list_all())


def rows(table: str) -> dict[str, list[str]]:
    """The cells of each line of the table, by the notebook's name."""
    lines = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 2 and line[0] != "notebook"}


def test_each_notebook_is_a_row(runtime: LocalRuntimeProcess, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "in" / "out"
    for name in ("a", "b", ".ipynb_checkpoints"):
        (source / name).mkdir(parents=True)
    # The same name twice: each has its own session.
    notebook(source / "a" / "same.ipynb", "mine = 'a'", "print(mine)")
    notebook(source / "b" / "same.ipynb", "print('mine' in globals())", "1/0", "print('never')")
    notebook(source / "web.ipynb", "[1, 2].length", language="javascript")
    notebook(source / "r.ipynb", "1", language="R")
    (source / "broken.ipynb").write_text("{")
    notebook(source / ".ipynb_checkpoints" / "old.ipynb", "1/0")
    notebook(source / "x.executed.ipynb", "1/0")
    done = call("run", str(source), "-j", "3", "--output-dir", str(output), **environment(runtime))
    assert done.returncode == 1, done.stderr
    found = rows(done.stdout)
    assert {name: row[:2] for name, row in found.items()} == {
        "a/same.ipynb": ["passed", "2/2"],
        "b/same.ipynb": ["failed", "2/3"],
        "web.ipynb": ["passed", "1/1"],
        "r.ipynb": ["unreadable", "-"],
        "broken.ipynb": ["unreadable", "-"],
    }
    assert found["b/same.ipynb"][3] == "ZeroDivisionError: division by zero"
    assert "2 of 5 passed." in done.stdout and "\x1b" not in done.stdout
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.ipynb")) == [
        "a/same.ipynb",
        "b/same.ipynb",
        "web.ipynb",
    ]
    written = nbformat.read(output / "a" / "same.ipynb", as_version=4)
    assert written.cells[1].outputs[0].text == "a\n"
    written = nbformat.read(output / "b" / "same.ipynb", as_version=4)
    assert written.cells[0].outputs[0].text == "False\n" and written.cells[2].outputs == []
    assert sessions_left(runtime) == []


def test_ctrl_c_ends_all_and_keeps_what_is_done(
    runtime: LocalRuntimeProcess, tmp_path: Path
) -> None:
    notebook(tmp_path / "1-done.ipynb", "print('done')")
    hangs = "import time; time.sleep(1000)"
    notebook(tmp_path / "2-hangs.ipynb", "print('kept')", hangs)
    # A line comes when code is sent.
    os.mkfifo(log := tmp_path / "audit")
    process = subprocess.Popen(
        [sys.executable, "-m", "agentbay_kernel", "run", str(tmp_path), "-j", "1"],
        env={**os.environ, **environment(runtime), "AGENTBAY_AUDIT_LOG": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Open for writing too: no end comes between two lines.
    with os.fdopen(os.open(log, os.O_RDWR)) as told:
        digest = hashlib.sha256(hangs.encode()).hexdigest()
        next(line for line in told if digest in line)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "What was done is kept" in err
    found = rows(out)
    assert found["1-done.ipynb"][:2] == ["passed", "1/1"]
    assert found["2-hangs.ipynb"][0] == "stopped"
    written = nbformat.read(tmp_path / "2-hangs.executed.ipynb", as_version=4)
    assert written.cells[0].outputs[0].text == "kept\n"
    assert sessions_left(runtime) == []


def test_an_account_with_too_few_sessions_is_told_of(
    small: LocalRuntimeProcess, tmp_path: Path
) -> None:
    for number in range(2):
        notebook(tmp_path / f"{number}.ipynb", "1")
    with AgentBay(small.api_key, endpoint=small.endpoint) as client, client.session():
        done = call("run", str(tmp_path), "-j", "2", **environment(small))
    assert done.returncode == 1
    assert [row[0] for row in rows(done.stdout).values()] == ["failed", "failed"]
    assert "2 notebooks had no session: the account allows fewer than 2." in done.stderr
    assert "Run them again with a smaller -j." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["."], "no notebooks"),
        (["n.ipynb", "n.ipynb", "--output", "x.ipynb"], "--output-dir"),
        ([".", "-j", "0"], "-j 0"),
    ],
)
def test_invalid_arguments_exit_with_2(
    tmp_path: Path,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_configured_number_of_sessions_holds(small: LocalRuntimeProcess, tmp_path: Path) -> None:
    # A notebook that has run holds no session: the account has one for all of them.
    for name in "ab":
        notebook(tmp_path / f"{name}.ipynb", "print('ran')")
    done = call("run", str(tmp_path), "-j", "2", AGENTBAY_MAX_SESSIONS="1", **environment(small))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "At most 1 at a time" in done.stderr
    assert sessions_left(small) == []
