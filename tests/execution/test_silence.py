"""No call is silent for long: where nothing wakes it, and where a reply never comes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agentbay_kernel import threads
from agentbay_kernel.execution.bridge import transport
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from tests.execution.bench import SOON_S, Bench, text_of, value_of

NO_SHELL = [{"kind": "http_500", "tool": "shell", "probability": 1.0}]
GOES_ON = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"


@pytest.fixture
def bench(open_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench where less than usual is waited for: for a call that streams, and for a reply."""
    monkeypatch.setattr(transport, "_WAIT_STREAM_S", 1.0)
    bench = open_bench()
    module = "sys.modules['agentbay_kernel.sandbox.jupyter_kernel']"
    done = bench.session.code.run_code(f"import sys\n{module}.REPLY_WITHIN_S = 1.5", "python")
    assert done.success, done.error_message
    return bench


def run_soon(bench: Bench, cell: Cell) -> list[Message]:
    """Run a cell, for less time than a call may wait that the service ends."""
    return threads.start(lambda: list(bench.bridged.execute(cell))).result(SOON_S)


def test_a_cell_behind_a_call_that_nothing_wakes(bench: Bench) -> None:
    bench.warm_up()
    bench.run(GOES_ON, late_output_s=600.0)
    ends_at = time.monotonic() + SOON_S
    while not bench.tunnel._call_listens:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    bench.profile(faults=NO_SHELL)
    assert value_of(run_soon(bench, Cell("6 * 7", "python"))) == "42"
    bench.tunnel.close()


def test_an_interrupt_of_a_cell_whose_call_nothing_wakes(bench: Bench) -> None:
    bench.warm_up()
    cell = Cell("print('go', flush=True)\nwhile True: pass", "python")
    running = threads.Feed(bench.bridged.execute(cell), cell.stopped)
    assert next(running).type == "stream"
    bench.profile(faults=NO_SHELL)
    bench.bridged.interrupt(cell)
    last = threads.start(lambda: list(running)[-1]).result(SOON_S)
    assert last.content["ename"] == "KeyboardInterrupt"


WITHOUT_REPLY = """\
session = get_ipython().kernel.session
send = session.send
def without_reply(socket, kind, *arguments, **options):
    if kind != "execute_reply":
        return send(socket, kind, *arguments, **options)
    session.send = send
    return {"content": {"status": "ok"}}
session.send = without_reply
print("ran")"""


def test_a_cell_whose_reply_is_never_sent_ends_with_an_error(bench: Bench) -> None:
    *shown, reply = run_soon(bench, Cell(WITHOUT_REPLY, "python"))
    assert text_of(shown) == "ran\n"
    assert reply.content["ename"] == "ReplyLostError"
    assert [one.content["ename"] for one in shown if one.type == "error"] == ["ReplyLostError"]
    assert value_of(run_soon(bench, Cell("6 * 7", "python"))) == "42"


IDLE_TOO_EARLY = """\
import threading, time
get_ipython().kernel._publish_status("idle", "shell")
time.sleep(2.5)
session = get_ipython().kernel.session
send = session.send
# The reply takes another way than what says that the cell has ended.
def late_reply(socket, kind, *arguments, **options):
    if kind != "execute_reply":
        return send(socket, kind, *arguments, **options)
    session.send = send
    threading.Timer(0.5, send, (socket, kind, *arguments), options).start()
    content = arguments[0] if arguments else options["content"]
    return {"content": content}
session.send = late_reply
'result'"""


def test_an_idle_status_of_a_cells_own_does_not_end_it(bench: Bench) -> None:
    messages = run_soon(bench, Cell(IDLE_TOO_EARLY, "python"))
    assert messages[-1].content["status"] == "ok"
