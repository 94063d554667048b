"""The bridge's tunnel over a real local runtime: on every route, with faults, nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from agentbay_kernel.errors import BridgeError, KernelEndedError, SilentSessionError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.installer import installing_code, request_status
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from tests.execution.bench import ROUTES, SOON_S, Bench, text_of, value_of


def test_the_installing_call_is_small() -> None:
    # The action route carries 64,512 bytes, and this is a string in base64 in them.
    assert len(installing_code()) < 52_000


@pytest.mark.usefixtures("patient")
def test_a_short_cell_costs_one_call(bench: Bench) -> None:
    assert bench.calls_of(lambda: bench.run("print('a'); 1 + 1")) == 1


@pytest.mark.usefixtures("patient")
def test_cells_that_follow_each_other_cost_one_call_each(bench: Bench) -> None:
    before = len(bench.calls("shell"))
    assert bench.calls_of(lambda: [bench.run(str(number)) for number in range(10)]) == 10
    assert len(bench.calls("shell")) == before


def test_a_sandbox_is_asked_for_a_way_in_when_a_cell_takes_longer(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench(**ROUTES["websocket"])
    for number in range(5):
        bench.run(str(number))
    assert not bench.calls("shell")
    assert not bench.tunnel._wakeable
    bench.warm_up()
    # The bridge is reached before the call that does it ends.
    ends_at = time.monotonic() + SOON_S
    while not bench.calls("shell"):
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    assert len(bench.calls("shell")) == 1


def test_a_long_cell_costs_one_call_where_it_streams(bench: Bench, route: str) -> None:
    code = "import time\nfor i in range(5): print(i, flush=True); time.sleep(0.2)"
    shown: list[Message] = []
    calls = bench.calls_of(lambda: shown.extend(bench.run(code)))
    assert text_of(shown) == "".join(f"{i}\n" for i in range(5))
    assert calls == 1 if route == "websocket" else calls > 1


@pytest.mark.parametrize(
    "route", ["link", *(pytest.param(it, marks=pytest.mark.slow) for it in ("websocket", "action"))]
)
def test_a_timeout_does_not_count_what_a_cell_waits_for(bench: Bench) -> None:
    bench.warm_up()
    first = threading.Thread(target=bench.run, args=("import time; time.sleep(1.6)",))
    first.start()
    ends_at = time.monotonic() + SOON_S
    while not bench.bridged._cells:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    waited = bench.run("'in time'", timeout=1.0)
    first.join()
    assert value_of(waited) == "'in time'"
    stopped = bench.run("import time; time.sleep(600)", timeout=0.5)
    assert "longer than 0.5 s" in text_of(stopped)


def test_output_arrives_while_the_cell_runs(bench: Bench) -> None:
    # Goes on only when what it printed has arrived.
    code = (
        "import os, time\nfor i in range(3):\n    print(f'line{i}', flush=True)\n"
        "    while not os.path.exists(f'line{i}'): time.sleep(.02)"
    )
    arrived: list[str] = []
    for message in bench.bridged.execute(Cell(code, "python")):
        if message.type == "stream":
            arrived.append(message.content["text"].strip())
            command = {"command": f"touch {arrived[-1]}"}
            assert bench.session.call_mcp_tool("shell", command).success
    assert arrived == ["line0", "line1", "line2"]


@pytest.mark.parametrize("size", [5, pytest.param(10_000, marks=pytest.mark.slow), 300_000])
def test_input_is_answered_while_a_call_waits(bench: Bench, size: int) -> None:
    answer = "ü" * size
    shown = []
    for message in bench.bridged.execute(
        Cell("x = input('? '); len(x)", "python", allow_stdin=True)
    ):
        shown.append(message)
        if message.type == "input_request":
            # Let a call be on its way that knows nothing of the answer.
            time.sleep(0.2)
            bench.bridged.answer_input(answer)
    assert value_of(shown) == str(size)


def test_the_kernel_is_asked_while_a_cell_runs(bench: Bench) -> None:
    tunnel: BridgeClient = bench.tunnel
    go_on = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n'done'"
    shown: list[Message] = []
    cell = threading.Thread(target=lambda: shown.extend(bench.run(go_on)))
    cell.start()
    try:
        ends_at = time.monotonic() + SOON_S
        while not tunnel._call:
            assert time.monotonic() < ends_at
            time.sleep(0.01)
        time.sleep(0.3)
        *_, reply = tunnel.post("control", "kernel_info_request", {}).answers()
        assert reply["b"]["status"] == "ok"
        assert cell.is_alive() and not shown
    finally:
        assert bench.session.call_mcp_tool("shell", {"command": "touch go"}).success
        cell.join(SOON_S)
    assert value_of(shown) == "'done'"


def test_megabytes_each_way(bench: Bench, route: str) -> None:
    # Random, so that it does not get smaller on its way: more than a frame, or ten calls.
    size = 900_000 if route == "websocket" else 500_000
    code = f"import os, hashlib\ntext = os.urandom({size}).hex()\nprint(text)"
    text = text_of(bench.run(code)).strip()
    assert len(text) == 2 * size
    assert value_of(bench.run(f"text == {text!r}")) == "True"


def test_many_messages_keep_their_order(bench: Bench) -> None:
    code = (
        "from IPython.display import display\n"
        "for i in range(100):\n"
        "    print(i)\n"
        "    display({'text/plain': str(i)}, raw=True)"
    )
    shown = [
        m.content["text"].strip() if m.type == "stream" else m.content["data"]["text/plain"]
        for m in bench.run(code)
        if m.type in ("stream", "display_data")
    ]
    assert shown == [str(i) for i in range(100) for _ in range(2)]


@pytest.fixture(scope="module")
def faulty() -> dict[str, Bench]:
    """The benches that tests of faults share, by route."""
    return {}


# `make test` has every kind of fault on one route, and every route with some.
FAULTS = [
    (("websocket", "link", "action"), "reset", False),
    (("action", "websocket", "link"), "reset", True),
    (("link", "action"), "half", True),
    (("action", "link"), "http_502", True),
    (("link", "action"), "http_500", False),
    (("action", "link"), "http_429", False),
    (("websocket",), "ws_drop", True),
    (("websocket",), "end_twice", True),
]


@pytest.mark.parametrize(
    ("route", "kind", "effect"),
    [
        pytest.param(route, kind, effect, marks=[pytest.mark.slow] * (route != routes[0]))
        for routes, kind, effect in FAULTS
        for route in routes
    ],
)
def test_faults_lose_nothing_and_do_nothing_twice(
    open_bench: Callable[..., Bench],
    faulty: dict[str, Bench],
    route: str,
    kind: str,
    effect: bool,
) -> None:
    if route not in faulty:
        faulty[route] = open_bench(**ROUTES[route])
    bench = faulty[route]
    bench.profile()
    bench.run("seen = []")
    fault = {"kind": kind, "effect": effect, "probability": 0.4, "seed": 7, "tool": "run_code"}
    bench.profile(faults=[fault])
    for number in range(5):
        shown = bench.run(f"seen.append({number}); print({number} + 100)")
        assert text_of(shown) == f"{number + 100}\n"
    bench.profile()
    assert value_of(bench.run("seen")) == str(list(range(5)))


def test_a_stream_that_breaks_while_a_cell_runs_goes_on(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench()
    bench.warm_up()
    fault = {"kind": "ws_drop", "at": [1, 2, 4], "effect": True, "tool": "run_code"}
    bench.profile(faults=[fault])
    code = "import time\nfor i in range(15): print(i, flush=True); time.sleep(0.1)"
    assert text_of(bench.run(code)) == "".join(f"{i}\n" for i in range(15))


@pytest.mark.slow
def test_an_end_that_stays_away_is_not_waited_for_for_ever(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench()
    bench.warm_up()
    bench.profile(faults=[{"kind": "end_missing", "at": [1], "tool": "run_code"}])
    assert value_of(bench.run("6 * 7")) == "42"
    assert value_of(bench.run("7 * 7")) == "49"


def destructive(quick: str) -> pytest.MarkDecorator:
    """Each has a session to itself: `make test` has them in turn with a WebSocket and without."""
    return pytest.mark.parametrize(
        "route", [pytest.param(it, marks=[pytest.mark.slow] * (it != quick)) for it in ROUTES]
    )


@destructive("action")
def test_without_a_shell_calls_wait_less_and_input_still_works(
    open_bench: Callable[..., Bench], route: str
) -> None:
    no_shell = {"kind": "http_500", "probability": 1, "tool": "shell"}
    bench = open_bench(**ROUTES[route], faults=[no_shell])
    shown = []
    for message in bench.bridged.execute(Cell("input()", "python", allow_stdin=True)):
        shown.append(message)
        if message.type == "input_request":
            bench.bridged.answer_input("typed")
    assert value_of(shown) == "'typed'"


def test_calls_that_a_gateway_ends_early_are_made_shorter(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench(gateway_s=2)
    bench.warm_up()
    code = "import time\nfor i in range(6): print(i, flush=True); time.sleep(0.5)"
    assert text_of(bench.run(code)) == "".join(f"{i}\n" for i in range(6))


@destructive("websocket")
def test_a_kernel_that_ends_is_told(open_bench: Callable[..., Bench], route: str) -> None:
    bench = open_bench(**ROUTES[route])
    with pytest.raises(BridgeError, match="status 3"):
        bench.run("import os; os._exit(3)")


@destructive("websocket")
def test_a_sandbox_whose_python_is_killed_keeps_no_kernel_and_can_have_another_bridge(
    open_bench: Callable[..., Bench], route: str
) -> None:
    bench = open_bench(**ROUTES[route])
    outer = bench.session.code.run_code("import os; os.getpid()", "python").result
    inner = value_of(bench.run("import os; os.getpid()"))

    def shell(command: str) -> bool:
        return bench.session.call_mcp_tool("shell", {"command": command}).success

    messages = bench.bridged.execute(
        Cell("print('on', flush=True)\nimport time; time.sleep(600)", "python")
    )
    assert text_of([next(messages)]) == "on\n"
    assert shell(f"kill -9 {outer}")
    with pytest.raises(KernelEndedError, match="The next cell starts a new one"):
        list(messages)
    ends_at = time.monotonic() + SOON_S
    while shell(f"kill -0 {inner}"):
        assert time.monotonic() < ends_at, "the kernel runs on, and nobody can reach it"
        time.sleep(0.1)
    again = BridgeClient(bench.session)
    again.install()
    assert value_of(list(BridgedPython(again).execute(Cell("6*7", "python")))) == "42"


@destructive("action")
def test_what_an_earlier_holder_sent_and_comes_late_is_not_taken(
    open_bench: Callable[..., Bench], route: str
) -> None:
    bench = open_bench(**ROUTES[route])
    bench.run("ran = []")
    earlier = bench.tunnel
    # As if the answers were lost from now on, and the tunnel given up.
    earlier.close(SilentSessionError("given up"))
    again = BridgeClient(bench.session)
    again.install()
    bridged = BridgedPython(again)
    with pytest.raises(KernelEndedError, match="taken up the bridge"):
        bench.run("ran.append('late')")
    shown = list(bridged.execute(Cell("ran.append('first'); ran", "python")))
    assert value_of(shown) == "['first']"
    with pytest.raises(KernelEndedError, match="taken up the bridge"):
        bench.run("ran.append('late')")
    assert value_of(list(bridged.execute(Cell("ran", "python")))) == "['first']"


def test_a_cell_that_is_told_not_to_have_run_never_runs(bench: Bench) -> None:
    bench.run("ran = []")
    cell = Cell("ran.append('late')", "python")
    assert request_status(bench.session, cell.message_id) == "unknown"
    bench.tunnel.post(
        "shell",
        "execute_request",
        {"code": cell.code, "silent": False},
        message_id=cell.message_id,
        awaited=False,
    )
    assert value_of(bench.run("ran")) == "[]"
