"""Tab in a new session: cold, warm, before there is one, and beside a running cell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.sandbox.completion_cache import WITH_JEDI, WITHOUT_JEDI
from tests.kernel.conftest import LOCAL
from tests.kernels import ANSWER_S, RunningKernel, running_kernel

USE_JEDI = "get_ipython().Completer.use_jedi"
TYPES = "_jupyter_types_experimental"


def complete(kernel: RunningKernel, code: str) -> dict[str, Any]:
    """The content of the reply, asked for with the cursor at the end."""
    message = kernel.client.complete(code, len(code))
    while True:
        reply = kernel.client.get_shell_msg(timeout=ANSWER_S)
        if reply["parent_header"]["msg_id"] == message:
            content: dict[str, Any] = reply["content"]
            return content


def jedi_in_use(kernel: RunningKernel) -> bool:
    return kernel.run(f"print({USE_JEDI})").text() == "True\n"


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 2 * ANSWER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def new_machine(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has never run a session here."""
    return {**LOCAL, "AGENTBAY_EXECUTION": "bridged", "JUPYTER_DATA_DIR": str(tmp_path)}


def test_a_cold_session_completes_at_once_and_later_ones_start_warm(
    new_machine: dict[str, str], tmp_path: Path
) -> None:
    made = tmp_path / "agentbay" / "completion"
    with running_kernel("agentbay-python", new_machine) as kernel:
        # Its sandbox was made before anything could have been prepared.
        kernel.run("1")
        assert not jedi_in_use(kernel)
        assert complete(kernel, "pri")["matches"] == ["print"]
        assert complete(kernel, "import collec")["matches"] == ["collections"]
        wait_until(lambda: jedi_in_use(kernel))
        reply = complete(kernel, "pri")
        assert reply["matches"] == ["print"]
        assert reply["metadata"][TYPES][0]["type"] == "function"
        # Its runtime has prepared what later ones bring along.
        wait_until(lambda: list(made.glob("*-*/*/*.pkl")))
    (cache,) = made.glob("*-*")
    with running_kernel("agentbay-python", new_machine) as kernel:
        kernel.run("import os, pathlib")
        assert jedi_in_use(kernel)
        reply = complete(kernel, "pri")
        assert reply["matches"] == ["print"]
        assert reply["metadata"][TYPES][0]["signature"]
        # Nothing of it is where the user looks.
        assert kernel.run("print(os.listdir())").text() == "[]\n"
        # A copy: the session may change it, and the original is out of reach.
        original = "pathlib.Path(os.environ['AGENTBAY_COMPLETION_CACHE'])"
        ran = kernel.run(f"next({original}.rglob('*.pkl')).write_bytes(b'')")
        assert ran.reply["ename"] in ("PermissionError", "OSError"), ran
        ran = kernel.run("next(pathlib.Path('/tmp').glob('ab-*/jedi/*/*.pkl')).write_bytes(b'')")
        assert ran.reply["status"] == "ok", ran
    assert all(path.stat().st_size for path in cache.rglob("*.pkl"))


def test_what_the_user_set_meanwhile_stays(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run(WITHOUT_JEDI)
    bridged_kernel.run(WITH_JEDI)
    assert jedi_in_use(bridged_kernel)
    bridged_kernel.run("%config Completer.use_jedi = False")
    bridged_kernel.run(WITH_JEDI)
    assert not jedi_in_use(bridged_kernel)
    bridged_kernel.run("%config Completer.use_jedi = True")
    assert jedi_in_use(bridged_kernel)


# What waits for a busy interpreter takes long: fifty in all are slow.
@pytest.mark.parametrize(
    ("idle", "busy"), [(4, 1), pytest.param(20, 5, marks=pytest.mark.slow)], ids=["few", "fifty"]
)
def test_completions_beside_a_running_cell(
    bridged_kernel: RunningKernel, idle: int, busy: int
) -> None:
    bridged_kernel.run("lighthouse = 'bay'")
    # One that sleeps, and one that leaves the interpreter only when it must.
    for work, times in ("time.sleep(.01)", idle), ("pass", busy):
        running = bridged_kernel.send(f"print('go')\nimport time\nwhile True: {work}")
        bridged_kernel.wait_for_output(running, "stream")
        found = [complete(bridged_kernel, code)["matches"] for code in ("lightho", "pri") * times]
        bridged_kernel.manager.interrupt_kernel()
        assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
        assert found == [["lighthouse"], ["print"]] * times


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "agentbay-python",
            {
                "pri": "print",
                "import collec": "collections",
                "%agen": "%agentbay",
                "%%agentb": "%%agentbay",
                "%%agentbay js\nstructuredC": "structuredClone",
            },
        ),
        ("agentbay-javascript", {"structuredC": "structuredClone", "awa": "await"}),
    ],
)
def test_before_the_first_cell(name: str, rows: dict[str, str], tmp_path: Path) -> None:
    # Else one is created ahead; and the list is the user's, so others would be in it.
    quiet = {"AGENTBAY_START": "first-cell", "AGENTBAY_STATE_DIR": str(tmp_path)}
    with running_kernel(name, {**LOCAL, **quiet}) as kernel:
        for code, expected in rows.items():
            reply = complete(kernel, code)
            assert reply["matches"] == [expected]
            assert expected.startswith(code[reply["cursor_start"] : reply["cursor_end"]])
            assert reply["cursor_end"] == len(code)
        # No session was created for it.
        sessions = kernel.run("%agentbay sessions").of_type("display_data")[0]
        assert "no session" in sessions["data"]["text/plain"].lower()


def test_our_magics_stand_beside_those_of_the_sandbox(bridged_kernel: RunningKernel) -> None:
    reply = complete(bridged_kernel, "%a")
    assert reply["matches"][:2] == ["%agentbay", "%alias"]
    assert [entry["text"] for entry in reply["metadata"][TYPES]] == reply["matches"]
    assert complete(bridged_kernel, "%%agentb")["matches"] == ["%%agentbay"]
    assert complete(bridged_kernel, "x = 1\n%agentb")["matches"] == []


def test_files_of_the_sandbox(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run(
        "import os\nos.makedirs('harbour/deep', exist_ok=True)\nopen('sail.py', 'w')"
    )
    assert "harbour/" in complete(bridged_kernel, "%cd ha")["matches"]
    assert "sail.py" in complete(bridged_kernel, "%run sa")["matches"]
    (match,) = complete(bridged_kernel, "open('harbour/de")["matches"]
    assert match.rstrip("/") == "harbour/deep"


def test_a_cell_magic_is_completed_where_its_text_stands(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run("lighthouse = 1")
    code = "%%agentbay python\nlightho"
    reply = complete(bridged_kernel, code)
    assert code[reply["cursor_start"] : reply["cursor_end"]] == "lightho"
    (entry,) = reply["metadata"][TYPES]
    assert (entry["start"], entry["end"]) == (reply["cursor_start"], reply["cursor_end"])
