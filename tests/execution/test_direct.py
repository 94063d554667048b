"""Direct execution over a real local runtime: streaming where the session offers it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import AgentBay
from tests.runtime import running_local_runtime


@pytest.fixture(scope="module", params=[True, False], ids=["streaming", "answered"])
def direct(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DirectExecution]:
    path: Path = tmp_path_factory.mktemp("profile") / "profile.json"
    path.write_text(json.dumps({"ws_url": request.param}))
    with (
        running_local_runtime("--profile", str(path)) as runtime,
        AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client,
    ):
        session = client.create().session
        assert session is not None and session.can_stream is request.param
        yield DirectExecution(session)


@pytest.fixture
def streams(direct: DirectExecution) -> bool:
    return direct._session.can_stream


def run(direct: DirectExecution, code: str, language: str = "python") -> list[Message]:
    return list(direct.execute(Cell(code, language)))


def test_a_value_is_the_result(direct: DirectExecution) -> None:
    value, reply = run(direct, "6 * 7")
    assert value.type == "execute_result" and value.content["data"]["text/plain"] == "42"
    assert reply.type == "execute_reply" and reply.content["status"] == "ok"
    *_, failed = run(direct, "1 / 0")
    # By these the service knows them.
    assert reply.metadata["request_id"] and failed.metadata["request_id"]


def test_prints_and_displays_keep_their_order_where_it_streams(
    direct: DirectExecution, streams: bool
) -> None:
    code = (
        "from IPython.display import display\n"
        "print('a')\ndisplay({'text/plain': 'b'}, raw=True)\nprint('c')"
    )
    kinds = [message.type for message in run(direct, code)]
    if streams:
        assert kinds == ["stream", "display_data", "stream", "execute_reply"]
    else:
        assert kinds == ["stream", "display_data", "execute_reply"]


def test_output_arrives_while_the_cell_runs_where_it_streams(
    direct: DirectExecution, streams: bool
) -> None:
    code = "print('first', flush=True)\n"
    if streams:
        # Goes on only when what it printed has arrived.
        code += "import os, time\nwhile not os.path.exists('arrived'): time.sleep(.02)\n"
    arrived = []
    for message in direct.execute(Cell(code + "print('second')", "python")):
        if message.type == "stream":
            arrived.append(message.content["text"])
            command = {"command": "touch arrived"}
            assert direct._session.call_mcp_tool("shell", command).success
    assert arrived == (["first\n", "second\n"] if streams else ["first\nsecond\n"])


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_failure_is_shown_once(direct: DirectExecution, language: str) -> None:
    code = {"python": "print('a')\n1 / 0", "javascript": "console.log('a'); missing.x"}[language]
    printed, failure, reply = run(direct, code, language)
    assert (printed.type, printed.content["text"]) == ("stream", "a\n")
    assert failure.type == "error"
    assert failure.content["ename"] in ("ZeroDivisionError", "ReferenceError")
    assert len(failure.content["traceback"]) > 1
    assert reply.content["status"] == "error"


def test_more_than_the_limit_is_left_out_and_told(direct: DirectExecution) -> None:
    shown = list(direct.execute(Cell("print('x' * 500_000)", "python", output_limit=1000)))
    text = "".join(m.content["text"] for m in shown if m.type == "stream")
    notes = "".join(m.content["data"]["text/plain"] for m in shown if m.type == "display_data")
    assert "limit of 1,000 characters" in notes and len(text) < 2000


def test_a_cell_given_up_keeps_its_turn_until_it_ends(direct: DirectExecution) -> None:
    code = "import time\nprint('on', flush=True)\ntime.sleep(1)\nended = time.monotonic()"
    messages = direct.execute(Cell(code, "python"))
    next(messages)
    closing = threading.Thread(target=messages.close)  # type: ignore[attr-defined]
    closing.start()
    value, _ = run(direct, "ended")
    assert float(value.content["data"]["text/plain"]) < time.monotonic()
    closing.join(10)


def test_an_interrupt_of_a_running_cell_says_that_it_runs_on(direct: DirectExecution) -> None:
    began = threading.Event()
    cell = Cell("import time\nprint('on', flush=True)\ntime.sleep(1)", "python")

    def consume() -> None:
        for _ in direct.execute(cell):
            began.set()

    running = threading.Thread(target=consume)
    running.start()
    ends_at = time.monotonic() + 10
    while cell not in direct._sent and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert direct.interrupt(cell) is InterruptResult.CONTINUES
    running.join(10)
    waiting = Cell("1", "python")
    assert (
        direct.interrupt(waiting) is InterruptResult.UNSENT and list(direct.execute(waiting)) == []
    )
