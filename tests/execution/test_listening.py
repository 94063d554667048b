"""What comes unasked through the bridge, and a bridge that another kernel takes up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.decoder import Answer
from agentbay_kernel.execution.bridge.javascript import BridgedJavaScript
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.bridge.requests import as_message
from agentbay_kernel.execution.cell import Cell
from tests.execution.bench import SOON_S, Bench, text_of, value_of

LISTEN_S = 60.0
LATE = """\
import threading, time
def work():
    for number in range(3):
        time.sleep(.1 if number else .3); print("late", number, flush=True)
thread = threading.Thread(target=work); thread.start()"""


class Late:
    """Collects what comes late from a tunnel."""

    def __init__(self, tunnel: BridgeClient) -> None:
        self.carried: list[dict[str, Any]] = []
        late = tunnel.late()
        assert late is not None
        threading.Thread(target=lambda: self.carried.extend(late), daemon=True).start()

    def wait_for(self, text: str) -> None:
        ends_at = time.monotonic() + SOON_S
        while self.text != text:
            assert time.monotonic() < ends_at, self.text
            time.sleep(0.05)

    @property
    def text(self) -> str:
        return text_of([as_message(one) for one in self.carried])


@pytest.mark.parametrize(
    "route", ["websocket", "action", pytest.param("link", marks=pytest.mark.slow)]
)
def test_late_output_is_collected_on_every_route(bench: Bench) -> None:
    late = Late(bench.tunnel)
    cell = Cell(LATE, "python", late_output_s=LISTEN_S)
    list(bench.bridged.execute(cell))
    late.wait_for("late 0\nlate 1\nlate 2\n")
    assert {one["p"]["msg_id"] for one in late.carried} == {cell.message_id}
    # Cells run as ever while the bridge listens.
    assert value_of(bench.run("6 * 7", late_output_s=LISTEN_S)) == "42"
    bench.run("thread.join()")
    bench.tunnel.close()


@pytest.mark.usefixtures("patient")
def test_nothing_is_asked_where_nothing_goes_on(bench: Bench) -> None:
    assert bench.calls_of(lambda: bench.run("1", late_output_s=LISTEN_S)) == 1


def test_listening_ends_when_no_timer_is_left(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(ws_url=False)
    javascript = BridgedJavaScript(bench.tunnel)
    javascript.start()
    late = Late(bench.tunnel)
    code = "setTimeout(() => console.log('late'), 500)"
    list(javascript.execute(Cell(code, "javascript", late_output_s=600.0)))
    late.wait_for("late\n")
    # Long before its time is over nothing is under way.
    assert bench.calls_of(lambda: None) == 0


def test_a_cell_behind_a_call_that_listened_is_not_held_up(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench()
    bench.warm_up()
    javascript = BridgedJavaScript(bench.tunnel)
    javascript.start()

    def run(code: str) -> None:
        list(javascript.execute(Cell(code, "javascript", late_output_s=600.0)))

    run("const timer = setTimeout(() => {}, 600_000)")
    # The call that listens takes this cell, and after it nothing is left to listen for.
    run("clearTimeout(timer)")
    run("1")
    assert bench.calls_of(lambda: None) == 0


@pytest.mark.parametrize(
    "route", ["websocket", "action", pytest.param("link", marks=pytest.mark.slow)]
)
def test_listening_ends_at_its_time(bench: Bench) -> None:
    bench.run("import threading; forever = threading.Event()")
    bench.run("threading.Thread(target=forever.wait, daemon=True).start()", late_output_s=1.0)
    assert bench.tunnel._pumping
    assert bench.calls_of(lambda: None) == 0
    bench.run("forever.set()")


def test_what_nobody_collects_is_dropped_and_that_is_told(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench()
    late = Late(bench.tunnel)
    keep_at_most(bench, "200_000")
    flood = (
        "import os, threading\ndone = threading.Event()\n"
        "def work():\n    for _ in range(100): print(os.urandom(10_000).hex(), flush=True)\n"
        "    done.set()\nthreading.Thread(target=work).start()"
    )
    # Nobody listens after this cell.
    shown = bench.run(flood)
    shown += bench.run("done.wait(60)")

    def all_accounted_for() -> bool:
        text = late.text + text_of(shown)
        lines = sum(len(line) == 20_000 for line in text.splitlines())
        told = [int(found) for found in re.findall(r"(\d+) messages of this session", text)]
        assert lines < 100
        return lines + sum(told) >= 100

    ends_at = time.monotonic() + SOON_S
    while not all_accounted_for():
        assert time.monotonic() < ends_at, late.text[-1000:]
        shown += bench.run("1")
    assert value_of(bench.run("6 * 7")) == "42"


def keep_at_most(bench: Bench, size: str) -> str:
    """Let the sandbox keep so many bytes for a front end that does not collect; before it was?"""
    bound = "__import__('sys').modules['_agentbay_bridge'].bridge.outbox.bound"
    done = bench.session.code.run_code(f"before = {bound}; {bound} = {size}; before", "python")
    assert done.success
    return done.result


@pytest.fixture
def short_of_space(bench: Bench) -> Iterator[Bench]:
    """A bench that keeps little."""
    before = keep_at_most(bench, "200_000")
    yield bench
    keep_at_most(bench, before)


def test_one_large_display_pushes_nothing_out(short_of_space: Bench) -> None:
    bench = short_of_space
    large = "from IPython.display import display\nimport os\n"
    large += "display({'text/plain': os.urandom(300_000).hex()}, raw=True)\nprint('after')"
    # The call that listens after a cell takes the next one; what the first one showed is here by
    # then, and the sandbox keeps it no longer.
    for _ in range(3):
        shown = bench.run(large, late_output_s=LISTEN_S)
        assert [m.type for m in shown] == ["display_data", "stream", "execute_reply"]
        assert text_of(shown) == "after\n"
    bench.tunnel.close()


@pytest.mark.parametrize("route", ["action"])
@pytest.mark.parametrize("what", ["display({'text/plain': text}, raw=True)", "print(text)"])
def test_what_a_cell_loses_is_told_in_that_cell(short_of_space: Bench, what: str) -> None:
    shown = short_of_space.run(
        "from IPython.display import display\nimport os, sys\nfor number in range(100):\n"
        f"    text = os.urandom(40_000).hex(); {what}; sys.stdout.flush()"
    )
    arrived = [m for m in shown if m.type == "display_data" or m.content.get("name") == "stdout"]
    told = [int(found) for found in re.findall(r"(\d+) messages of this session", text_of(shown))]
    assert len(arrived) < 100 <= len(arrived) + sum(told)
    assert shown[-1].type == "execute_reply"


# What an earlier holder sends is refused on the other routes in `test_tunnel.py`.
@pytest.mark.parametrize(
    "route",
    ["websocket", *(pytest.param(it, marks=pytest.mark.slow) for it in ("action", "link"))],
)
def test_another_kernel_takes_up_the_bridge_and_the_cell_that_runs(bench: Bench) -> None:
    begun = threading.Event()
    cell = Cell(
        "kept = 5\nimport os, time\nfor number in range(8):\n    print(number, flush=True)\n"
        "    while number == 3 and not os.path.exists('go'): time.sleep(.02)\n"
        "    time.sleep(.1)\nnumber * kept",
        "python",
    )

    def run() -> None:
        for _ in bench.bridged.execute(cell):
            begun.set()
            # As if this process ended here: nothing more is collected.
            bench.tunnel._calls.answers = gone  # type: ignore[method-assign]
            return

    def gone(call: object) -> Iterator[Answer]:
        threading.Event().wait()
        yield from ()

    threading.Thread(target=run, daemon=True).start()
    assert begun.wait(SOON_S)
    bench.tunnel._wakeup.release(bench.tunnel._call)
    tunnel = BridgeClient(bench.session)
    tunnel.install()
    bench.session.code.run_code("require('fs').writeFileSync('go', '')", "javascript")
    messages = list(BridgedPython(tunnel).execute(Cell("kept", "python")))
    # Its first cell waits for the one that runs, and has that one's output first: what the other
    # kernel had not got yet. The result of that one is not its own.
    assert value_of(messages) == "5"
    (display,) = [m for m in messages if m.type == "display_data"]
    assert display.content["data"] == {"text/plain": "35"}
    told, lines = text_of(messages).split(":\n", 1)
    assert "before the connection" in told
    numbers = [int(line) for line in lines.splitlines() if line.isdigit()]
    assert numbers == list(range(8))[-len(numbers) :]
    assert len(numbers) >= 4
