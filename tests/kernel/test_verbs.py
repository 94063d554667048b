"""Verbs, options and completion in an AgentBay kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import ANSWER_S, RunningKernel, running_kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook's folder."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def kernel(folder: Path) -> Iterator[RunningKernel]:
    """One "AgentBay Python" that has run a cell."""
    with running_kernel("agentbay-python", LOCAL, folder) as kernel:
        kernel.run("known_name = 1")
        yield kernel


@pytest.fixture(scope="module")
def direct(folder: Path) -> Iterator[RunningKernel]:
    """One in direct execution."""
    environment = {**LOCAL, "AGENTBAY_EXECUTION": "direct"}
    with running_kernel("agentbay-python", environment, folder) as kernel:
        yield kernel


@pytest.fixture
def either(request: pytest.FixtureRequest, execution: str) -> Iterator[RunningKernel]:
    """One in either execution, with a low limit of output."""
    name = {"bridged": "kernel", "direct": "direct"}[execution]
    kernel: RunningKernel = request.getfixturevalue(name)
    kernel.run("%agentbay config output_limit=10000")
    yield kernel
    kernel.run("%agentbay config output_limit=20000000")


def shown(kernel: RunningKernel, code: str) -> dict[str, Any]:
    """The last display of a cell; it may have taken the place of one that showed progress."""
    ran = kernel.run(code)
    assert ran.reply["status"] == "ok", ran
    displays = [it for it in ran.outputs if it["msg_type"].endswith("display_data")]
    data: dict[str, Any] = displays[-1]["content"]["data"]
    return data


def test_verbs_then_code(kernel: RunningKernel) -> None:
    ran = kernel.run("%agentbay status\n%agentbay config timeout\nprint('code')")
    assert len(ran.of_type("display_data")) == 2
    assert ran.text() == "code\n"


def test_a_wrong_verb_is_an_error_and_nothing_is_sent(kernel: RunningKernel) -> None:
    ran = kernel.run("%agentbay frobnicate\nprint('must not run')")
    assert ran.reply["ename"] == "VerbError"
    assert ran.text() == ""


def test_options_of_a_cell(kernel: RunningKernel) -> None:
    kernel.run("%%agentbay python -s second\nwho = 'second'")
    assert kernel.run("print('who' in globals())").text() == "False\n"
    assert kernel.run("%%agentbay py --session second\nprint(who)").text() == "second\n"
    ran = kernel.run("%%agentbay python -t 0.5\nimport time\ntime.sleep(600)")
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert kernel.run("%%agentbay python --silent\nprint(1)").outputs == []
    ran = kernel.run("%%agentbay python --ephemeral\nprint('known_name' in globals())")
    assert ran.text() == "False\n"


def test_a_cell_of_another_session_is_interrupted(kernel: RunningKernel) -> None:
    running = kernel.send("%%agentbay python -s second\nprint('go')\nwhile True: pass")
    kernel.wait_for_output(running, "stream")
    kernel.manager.interrupt_kernel()
    assert kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    assert kernel.run("%%agentbay python -s second\nprint(who)").text() == "second\n"


@pytest.mark.parametrize("flag", ["-i x", "-o x", "--capture x", "--background"])
def test_what_needs_a_notebook_of_its_own_says_so(kernel: RunningKernel, flag: str) -> None:
    ran = kernel.run(f"%%agentbay python {flag}\nprint('must not run')")
    assert "in an AgentBay kernel all variables are in the sandbox" in ran.reply["evalue"]
    assert ran.text() == ""


def test_help_of_the_cell_magic(kernel: RunningKernel) -> None:
    for code in ("%%agentbay?", "%%agentbay --help\n1", "%%agentbay js -h"):
        assert "--ephemeral" in shown(kernel, code)["text/plain"]


def test_last(kernel: RunningKernel, folder: Path) -> None:
    kernel.run("print('a line')\n6 * 7")
    assert "7 characters" in shown(kernel, "%agentbay last")["text/plain"]
    shown(kernel, "%agentbay last --save sub/said.txt")
    assert (folder / "sub" / "said.txt").read_text() == "a line\n42\n"


# `make test` has each language and each execution.
@pytest.mark.parametrize(
    ("execution", "language"),
    [
        ("direct", "python"),
        ("bridged", "js"),
        pytest.param("bridged", "python", marks=pytest.mark.slow),
        pytest.param("direct", "js", marks=pytest.mark.slow),
    ],
)
def test_last_saves_all_of_an_output_that_was_folded(
    either: RunningKernel, folder: Path, language: str
) -> None:
    code = "for line in range(5000): print('line', line)"
    if language == "js":
        code = "for (let line = 0; line < 5000; line++) console.log('line', line)"
    ran = either.run(f"%%agentbay {language}\n{code}")
    assert len(ran.text()) < 20_000
    assert "`%agentbay last --save FILE` brings all of it" in ran.notices()
    assert (
        "all that the cell printed"
        in shown(either, "%agentbay last --save all.txt --force")["text/plain"]
    )
    whole = "".join(f"line {line}\n" for line in range(5000))
    assert (folder / "all.txt").read_text() == whole
    # The next cell's is its own.
    either.run("print('short')")
    shown(either, "%agentbay last --save all.txt --force")
    assert (folder / "all.txt").read_text() == "short\n"


def test_a_file_that_is_here_is_the_cure(kernel: RunningKernel, folder: Path) -> None:
    (folder / "data.csv").touch()
    ran = kernel.run("open('data.csv')")
    assert ran.outputs[-2]["msg_type"] == "error"
    assert "`%agentbay upload data.csv`" in ran.outputs[-1]["content"]["text"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%agentbay sta|", "status"),
        ("%agentbay last --sa|", "--save"),
        ("%%agentbay java|", "javascript"),
        ("%%agentbay python -s sec|", "second"),
        ("%%agentbay python\nknown_|", "known_name"),
        ("%%agentbay js -s second\nArray.fro|", "Array.from"),
        ("%%agentbay js -s second\nkno|", "known"),
        ("known_|", "known_name"),
    ],
)
def test_completion(kernel: RunningKernel, code: str, expected: str) -> None:
    kernel.run("%%agentbay js -s second\nconst known = 1")
    cursor = code.index("|")
    code = code.replace("|", "")
    # The sandbox's first completion may come too late.
    for _ in range(10):
        kernel.client.complete(code, cursor)
        content = kernel.client.get_shell_msg(timeout=ANSWER_S)["content"]
        if content["matches"]:
            break
    begin, end = content["cursor_start"], content["cursor_end"]
    completed = [code[:begin] + match + code[end:] for match in content["matches"]]
    assert code[: code.rindex(code.split()[-1])] + expected in completed, content
