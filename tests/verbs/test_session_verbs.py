"""The verbs about sessions, as a user types them in a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Ran, RunningKernel, running_kernel
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime("--idle-seconds", "0") as runtime:
        yield runtime


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "data.txt").write_text("brought along")
    return folder


@pytest.fixture(scope="module")
def kernel(runtime: LocalRuntimeProcess, folder: Path) -> Iterator[RunningKernel]:
    env = {
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
        "AGENTBAY_STATE_DIR": str(folder / "state"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with running_kernel("agentbay-python", env) as kernel:
            yield kernel


def _text(ran: Ran) -> str:
    assert ran.reply["status"] == "ok", ran
    return "\n".join(it["data"]["text/plain"] for it in ran.of_type("display_data"))


def test_a_session_is_set_up_created_listed_shown_extended_restarted_and_deleted(
    kernel: RunningKernel,
) -> None:
    assert "No sessions" in _text(kernel.run("%agentbay sessions"))
    assert "data.txt" in _text(kernel.run('%%agentbay setup\nfiles = ["data.txt"]'))
    started = _text(kernel.run("%agentbay create"))
    assert "ready: session-" in started
    session_id = started.rpartition(" ")[2].rstrip(".")
    assert kernel.run("word = open('data.txt').read(); print(word)").text() == "brought along\n"
    listed = json.loads(_text(kernel.run("%agentbay sessions --json")))["sessions"]
    assert [(it["name"], it["id"], it["whose"]) for it in listed] == [
        ("default", session_id, "of this notebook")
    ]
    looked = _text(kernel.run("%agentbay top"))
    assert "word: str (13)" in looked and "data.txt" in looked
    assert "kept alive until" in _text(kernel.run("%agentbay extend 2h"))
    assert "maximum lifetime" in _text(kernel.run("%agentbay extend 20h"))
    assert "files are kept" in _text(kernel.run("%agentbay restart"))
    assert kernel.run("word").reply["ename"] == "NameError"
    assert "word = open" in str(kernel.run("%agentbay rerun").of_type("display_data"))
    assert kernel.run("print(word)").text() == "brought along\n"
    assert session_id in _text(kernel.run("%agentbay delete"))
    assert kernel.run("%agentbay delete").reply["ename"] == "SessionError"


def test_processes_are_shown_without_folders_and_in_lines_that_can_be_read(
    kernel: RunningKernel,
) -> None:
    kernel.run(
        "import subprocess\nsleeper = subprocess.Popen(['/bin/sh', '-c', "
        "'sleep 600 # ' + 'x' * 300 + ' /end'])"
    )
    looked = kernel.run("%agentbay top")
    shown = _text(looked)
    whole = json.loads(_text(kernel.run("%agentbay top --json")))["processes"]
    kernel.run("sleeper.kill()")
    (line,) = [line for line in shown.splitlines() if "sleep 600" in line and "sh -c" in line]
    assert "/bin/sh" not in line and line.endswith("x …")
    assert max(map(len, shown.splitlines())) < 130
    # Columns made of spaces need letters of one width.
    page = looked.of_type("display_data")[0]["data"]["text/html"]
    assert re.search(r'<td style="[^"]*font-family:monospace">\s*PID STAT', page)
    # A program gets all of it.
    assert "/bin/sh -c sleep 600" in whole and "/end" in whole
    assert "deleted" in _text(kernel.run("%agentbay delete"))


def test_another_session_is_attached_and_left(
    kernel: RunningKernel, runtime: LocalRuntimeProcess
) -> None:
    from agentbay_kernel.service import AgentBay

    client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
    other = client.create().session
    assert other is not None
    assert other.session_id in _text(kernel.run("%agentbay sessions --all"))
    assert "Attached" in _text(kernel.run(f"%agentbay attach {other.session_id}"))
    kernel.run("seen = 1")
    assert kernel.run("%agentbay delete").reply["ename"] == "AttachedSessionError"
    refused = kernel.run("%agentbay delete --force")
    assert refused.reply["ename"] == "NotAllowedError"
    assert kernel.run("%agentbay config delete_attached=True").reply["status"] == "error"
    assert "continues" in _text(kernel.run("%agentbay detach"))
    assert other.code.run_code("seen", "python").result == "1"
    other.delete()


@pytest.mark.parametrize("line", ["extend", "extend soon", "extend -5", "attach", "top a b"])
def test_a_wrong_line_is_told(kernel: RunningKernel, line: str) -> None:
    assert kernel.run(f"%agentbay {line}").reply["ename"] == "VerbError"


def test_a_running_cell_is_interrupted_by_the_verb(kernel: RunningKernel) -> None:
    kernel.run("1")
    sent = kernel.send("print('on', flush=True)\nwhile True: pass")
    kernel.wait_for_output(sent, "stream")
    kernel.send("%agentbay interrupt")
    assert kernel.finish(sent).reply["ename"] == "KeyboardInterrupt"
