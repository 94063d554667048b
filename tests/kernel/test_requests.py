"""Every request gets its own busy status, reply and idle status, whatever is sent beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import ANSWER_S, RunningKernel, running_kernel

SLIDER = (
    "import ipywidgets\nslider, seen = ipywidgets.IntSlider(), []\n"
    "slider.observe(lambda change: seen.append(change.new), 'value')\nprint(slider.model_id)"
)
LOOP = "print('go')\nimport time\nwhile True: time.sleep(.01)"


@pytest.fixture
def slider(bridged_kernel: RunningKernel) -> str:
    """The comm of a slider, whose values are added to `seen`."""
    return bridged_kernel.run(SLIDER).text().strip()


def send(kernel: RunningKernel, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
    """Send a request; returns its id."""
    message = kernel.client.session.msg(kind, content)
    getattr(kernel.client, f"{channel}_channel").send(message)
    message_id: str = message["header"]["msg_id"]
    return message_id


def move(kernel: RunningKernel, slider: str, value: int) -> str:
    """Move a slider; returns the request's id."""
    data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
    return send(kernel, "comm_msg", {"comm_id": slider, "data": data})


def published_until_idle(kernel: RunningKernel, *sent: str) -> list[tuple[str, str, Any]]:
    """What is published until each of the requests is idle: request, type, content."""
    published, waiting, deadline = [], set(sent), time.monotonic() + ANSWER_S
    while waiting:
        message = kernel.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
        request, content = message["parent_header"].get("msg_id", ""), message["content"]
        published.append((request, message["msg_type"], content))
        if content.get("execution_state") == "idle":
            waiting.discard(request)
    return published


def states_of(published: list[tuple[str, str, Any]], request: str) -> list[str]:
    """The statuses of one request."""
    return [
        content["execution_state"]
        for parent, kind, content in published
        if (parent, kind) == (request, "status")
    ]


def replies(kernel: RunningKernel, *sent: str) -> Iterator[tuple[str, Any]]:
    """The replies to requests, as they come: request, content."""
    waiting, deadline = set(sent), time.monotonic() + ANSWER_S
    while waiting:
        message = kernel.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
        request = message["parent_header"]["msg_id"]
        if request in waiting:
            waiting.remove(request)
            yield request, message["content"]


def test_each_request_has_its_status_before_and_beside_cells(
    bridged_kernel: RunningKernel, slider: str
) -> None:
    client = bridged_kernel.client
    for number in range(6):
        moves = [move(bridged_kernel, slider, 3 * number + one) for one in range(3)]
        first = bridged_kernel.send(f"'{number}'")
        beside = [client.complete("slid", 4), client.inspect("slider", 6), client.kernel_info()]
        moves.append(move(bridged_kernel, slider, 100 - number))
        second = bridged_kernel.send(f"print({number})")
        published = published_until_idle(bridged_kernel, *moves, *beside, first, second)
        for request in [*moves, *beside]:
            assert states_of(published, request) == ["busy", "idle"]
        for cell in (first, second):
            states = states_of(published, cell)
            assert set(states[:-1]) == {"busy"} and states[-1] == "idle"
        # Nothing of the one is under the other.
        outputs = [(parent, kind) for parent, kind, _ in published if parent in (first, second)]
        assert (first, "execute_result") in outputs and (second, "stream") in outputs
        answered = dict(replies(bridged_kernel, *beside, first, second))
        assert {content["status"] for content in answered.values()} == {"ok"}


def test_the_latest_status_is_busy_as_long_as_a_cell_runs(
    bridged_kernel: RunningKernel, slider: str
) -> None:
    running = bridged_kernel.send(LOOP)
    bridged_kernel.wait_for_output(running, "stream")
    client = bridged_kernel.client
    usage = send(bridged_kernel, "usage_request", {}, "control")
    status = bridged_kernel.send("%agentbay help")
    beside = [client.complete("slid", 4), client.is_complete("1"), usage, status]
    published = published_until_idle(bridged_kernel, *beside)
    # With each idle status the cell is busy again.
    deadline = time.monotonic() + ANSWER_S
    while published[-1][0] != running:
        message = client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
        parent = message["parent_header"].get("msg_id", "")
        published.append((parent, message["msg_type"], message["content"]))
    idle = [
        at
        for at, (_, _, content) in enumerate(published)
        if content.get("execution_state") == "idle"
    ]
    assert len(idle) == len(beside)
    for at in idle:
        parent, _, content = published[at + 1]
        assert (parent, content["execution_state"]) == (running, "busy")
    bridged_kernel.manager.interrupt_kernel()
    ended = published_until_idle(bridged_kernel, running)
    # Busy with the interrupt's idle status.
    assert states_of(ended, running) == ["busy", "idle"]
    last = move(bridged_kernel, slider, 5)
    # And not again after it.
    assert not states_of(published_until_idle(bridged_kernel, last), running)


def test_comm_messages_keep_their_order(bridged_kernel: RunningKernel, slider: str) -> None:
    values = [*range(1, 41)]
    sent = [move(bridged_kernel, slider, value) for value in values[:20]]
    running = bridged_kernel.send("import time\nbefore = list(seen)\ntime.sleep(.1)")
    sent += [move(bridged_kernel, slider, value) for value in values[20:]]
    # What is queued behind the cell comes behind them.
    after = bridged_kernel.send("print(seen == list(range(1, 41)), before)")
    published = published_until_idle(bridged_kernel, *sent, running, after)
    idle = [
        parent
        for parent, _, content in published
        if content.get("execution_state") == "idle" and parent in sent
    ]
    assert idle == sent
    shown = "".join(content["text"] for _, kind, content in published if kind == "stream")
    assert shown.startswith("True ")


def test_an_interrupt_beside_comm_messages_reaches_its_cell(
    bridged_kernel: RunningKernel, slider: str
) -> None:
    running = bridged_kernel.send(LOOP)
    bridged_kernel.wait_for_output(running, "stream")
    # They wait in the sandbox for the cell's end.
    sent = [move(bridged_kernel, slider, value) for value in (1, 2, 3)]
    bridged_kernel.manager.interrupt_kernel()
    published = published_until_idle(bridged_kernel, running, *sent)
    assert [content["ename"] for _, kind, content in published if kind == "error"] == [
        "KeyboardInterrupt"
    ]
    assert bridged_kernel.run("print(seen)").text() == "[1, 2, 3]\n"


def control_reply(kernel: RunningKernel, request: str) -> Any:
    """The reply to a request of the control channel."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        message = kernel.client.get_control_msg(timeout=max(0.1, deadline - time.monotonic()))
        if message["parent_header"]["msg_id"] == request:
            return message["content"]


def test_a_cell_on_the_control_channel_is_answered_there_in_its_turn(
    bridged_kernel: RunningKernel,
) -> None:
    content = {"code": "print('by control')", "silent": False, "stop_on_error": True}
    running = bridged_kernel.send(LOOP)
    bridged_kernel.wait_for_output(running, "stream")
    queued = send(bridged_kernel, "execute_request", content, "control")
    # It holds up no interrupt. What fails aborts it like any other.
    bridged_kernel.manager.interrupt_kernel()
    assert control_reply(bridged_kernel, queued)["status"] == "aborted"
    bridged_kernel.finish(running)
    asked = send(bridged_kernel, "execute_request", content, "control")
    published = published_until_idle(bridged_kernel, asked)
    assert [content["text"] for _, kind, content in published if kind == "stream"] == [
        "by control\n"
    ]
    assert control_reply(bridged_kernel, asked)["status"] == "ok"


def test_a_cell_on_the_control_channel_behind_one_that_fails_is_aborted(
    bridged_kernel: RunningKernel,
) -> None:
    for _ in range(10):
        failing, behind = (
            send(
                bridged_kernel,
                "execute_request",
                {"code": code, "silent": False, "stop_on_error": True},
                "control",
            )
            for code in ("1 / 0", "print('must not run')")
        )
        assert control_reply(bridged_kernel, failing)["status"] == "error"
        assert control_reply(bridged_kernel, behind)["status"] == "aborted"
        published_until_idle(bridged_kernel, behind)


def test_subshells_are_refused(bridged_kernel: RunningKernel) -> None:
    asked = bridged_kernel.client.kernel_info()
    ((_, info),) = replies(bridged_kernel, asked)
    assert info["supported_features"] == ["debugger"]
    asked = send(bridged_kernel, "create_subshell_request", {}, "control")
    assert control_reply(bridged_kernel, asked)["status"] == "error"
    asked = send(bridged_kernel, "list_subshell_request", {}, "control")
    assert control_reply(bridged_kernel, asked)["subshell_id"] == []


def usage_with_ballast(kernel: RunningKernel) -> Any:
    """The usage when a cell has made BALLAST; figures are valid for 5 s."""
    usage: dict[str, Any] = {}
    deadline = time.monotonic() + ANSWER_S
    while usage.get("kernel_memory", 0) < 300_000_000 or not usage["kernel_cpu"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        usage = control_reply(kernel, send(kernel, "usage_request", {}, "control"))
    return usage


BALLAST = """\
import time
kept = bytearray(b'x') * 300_000_000
while True:
    sum(range(100_000))
    time.sleep(.01)
"""


# Slow: a figure is valid for 5 s. `make test` has those of a cell's end, below.
@pytest.mark.slow
def test_usage_is_the_sandboxs(bridged_kernel: RunningKernel) -> None:
    inside = "import os, socket\nprint(socket.gethostname(), os.cpu_count())"
    name, processors = bridged_kernel.run(inside).text().split()
    running = bridged_kernel.send(BALLAST)
    usage = usage_with_ballast(bridged_kernel)
    bridged_kernel.manager.interrupt_kernel()
    bridged_kernel.finish(running)
    assert (usage["hostname"], usage["cpu_count"]) == (name, int(processors))
    assert usage["host_virtual_memory"]["total"] > usage["kernel_memory"]
    bridged_kernel.run("del kept")


# `make test` has it once.
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_usage_after_a_cell_is_that_of_its_end(bridged_kernel: RunningKernel, times: int) -> None:
    inside = "import os, socket\nprint(socket.gethostname(), os.cpu_count())"
    name, processors = bridged_kernel.run(inside).text().split()

    def memory() -> int:
        asked = send(bridged_kernel, "usage_request", {}, "control")
        usage = control_reply(bridged_kernel, asked)
        # The sandbox's, not this machine's.
        assert (usage["hostname"], usage["cpu_count"]) == (name, int(processors))
        assert usage["host_virtual_memory"]["total"] > usage["kernel_memory"]
        used: int = usage["kernel_memory"]
        return used

    # More often than figures are read while a cell runs.
    for _ in range(times):
        bridged_kernel.run("import time\ntime.sleep(0.6)\nkept = bytearray(b'x') * 300_000_000")
        assert memory() > 300_000_000
        bridged_kernel.run("del kept\ntime.sleep(0.6)")
        assert memory() < 300_000_000


def test_what_nobody_sees_creates_no_session_and_runs_first() -> None:
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_START": "first-cell"}) as kernel:
        assert kernel.run("order = ['hidden']", silent=True).reply["status"] == "ok"
        assert kernel.run("order.append('too')\n1/0", silent=True).reply["status"] == "ok"
        asked = send(kernel, "usage_request", {}, "control")
        # Nothing runs, and nothing is started for that.
        usage = control_reply(kernel, asked)
        assert usage == {"hostname": "", "pid": 0, "kernel_cpu": 0.0, "kernel_memory": 0}
        (shown,) = kernel.run("%agentbay status").of_type("display_data")
        assert "none" in shown["data"]["text/plain"]
        ran = kernel.run("print(order)")
        assert ran.text() == "['hidden', 'too']\n" and ran.reply["execution_count"] == 2
        # With a session it runs in its place.
        kernel.run("order.append('now')\nprint('unseen')", silent=True)
        assert kernel.run("print(order)").text() == "['hidden', 'too', 'now']\n"


def has_child(pid: int, command: list[str]) -> bool:
    """Whether such a process runs below that one; others may end meanwhile."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.cmdline() == command:
                return True
    return False


def test_stop_ends_what_nobody_sees_and_the_cell_behind_it() -> None:
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_START": "first-cell"}) as kernel:
        kernel.run("import subprocess\nsubprocess.run(['sleep', '987.25'])", silent=True)
        running = kernel.send("print('must not run')")
        deadline = time.monotonic() + ANSWER_S
        while not has_child(kernel.pid, ["sleep", "987.25"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kernel.manager.interrupt_kernel()
        ran = kernel.finish(running)
        assert ran.reply["ename"] == "KeyboardInterrupt" and not ran.text()
        assert kernel.run("print('alive')").text() == "alive\n"
