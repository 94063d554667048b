"""A notebook on the local runtime beside a notebook of the stock kernel.

In: nothing. Out: a table, with the machine, the commit and the load that it was measured at. The
compared parts take turns. It waits for the machine to be idle, and says so where it never was.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from jupyter_client.blocking.client import BlockingKernelClient

from agentbay_kernel.service import AgentBay
from benchmarks import memory
from benchmarks.bridge import LATENCY_MS, first_text, idle, managed
from benchmarks.bridge import serving as far
from benchmarks.kernels import AGENTBAY, ANSWER_S, STOCK, Spread, run, started, table
from benchmarks.local_runtime import serving

STARTS, CELLS, ASKED, FEW = 12, 200, 100, 15
WARM_UP = 20
TYPING_S = 3.0
# After 2 MB at once, a notebook's kernel sends at the pace of a server (kernel/publisher.py): as
# long as this until it may send as much at once again.
PACE_S = 2.5
# As `uptime` counts; and how long a machine may take to come down to it.
IDLE_LOAD, IDLE_WITHIN_S = 0.5, 300.0
DIRECT = {"AGENTBAY_EXECUTION": "direct"}
BUSY = "import time\nfor _ in range(3000): time.sleep(0.01)"
SHELL = "from IPython.core.interactiveshell import InteractiveShell"


def ask(client: BlockingKernelClient, send: Callable[[], str]) -> dict[str, object]:
    """Send a request; returns its reply's content."""
    request = send()
    while True:
        reply = client.get_shell_msg(timeout=ANSWER_S)
        if reply["parent_header"].get("msg_id") == request:
            content: dict[str, object] = reply["content"]
            return content


def complete(client: BlockingKernelClient) -> None:
    """Ask for completions."""
    if not ask(client, lambda: client.complete("pri"))["matches"]:
        raise RuntimeError("There are no matches.")


def timed(work: Callable[..., object], *arguments: object) -> float:
    """How long a call takes, in seconds."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


class Rows:
    """The table's rows: what is measured of ours and of what it stands beside."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def add(self, what: str, ours: list[float], beside: str, stock: list[float]) -> None:
        """Add a row; the figures are in seconds."""
        own, other = Spread.of(ours), Spread.of(stock)
        self.rows.append(
            (
                what,
                f"{own.median:.1f}",
                f"{own.least:.1f}",
                beside,
                f"{other.median:.1f}",
                f"{own.median / other.median:.2f}",
            )
        )


def starts(rows: Rows) -> None:
    """Measure from the start of a kernel."""
    ready: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
    output: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
    typed: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
    completed: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
    for turn in range(STARTS + 1):
        for name in (STOCK, AGENTBAY):
            began = time.perf_counter()
            with started(name) as (client, start_s):
                # What is published before the client has subscribed is lost.
                client.wait_for_ready(timeout=ANSWER_S)
                run(client, "1 + 1")
                output_s = time.perf_counter() - began
                time.sleep(1)

                complete_s = timed(complete, client)
            with started(name) as (client, _):
                client.wait_for_ready(timeout=ANSWER_S)
                time.sleep(TYPING_S)
                typed_s = run(client, "1 + 1")
            # The first start reads from a cold disk.
            if turn:
                ready[name].append(start_s)
                output[name].append(output_s)
                typed[name].append(typed_s)
                completed[name].append(complete_s)
    for what, figures in (
        ("start to the first `kernel_info` reply", ready),
        ("start to the first cell's output, sent at once", output),
        ("first cell, three seconds after the start", typed),
        ("first completion", completed),
    ):
        rows.add(what, figures[AGENTBAY], "stock kernel", figures[STOCK])


def cells(rows: Rows) -> None:
    """Measure cells and questions of kernels that run, and the kernels' processor time."""
    with (
        started(STOCK) as (stock, _),
        started(AGENTBAY) as (bridged, _),
        started(AGENTBAY, **DIRECT) as (direct, _),
    ):
        for client in (stock, bridged, direct):
            client.wait_for_ready(timeout=ANSWER_S)
        javascript = "%%agentbay javascript\n1 + 1"
        turns: dict[str, tuple[BlockingKernelClient, str]] = {
            "stock": (stock, "1 + 1"),
            "short cell, bridged": (bridged, "1 + 1"),
            "short cell, direct": (direct, "1 + 1"),
            "JavaScript cell, bridged": (bridged, javascript),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        processor: dict[str, list[float]] = {name: [] for name in turns}
        pids = {name: _kernel(client) for name, (client, _) in turns.items()}
        for turn in range(WARM_UP + CELLS):
            for name, (client, code) in turns.items():
                before = _processor_s(pids[name])
                taken = run(client, code)
                if turn >= WARM_UP:
                    seconds[name].append(taken)
                    processor[name].append(_processor_s(pids[name]) - before)
        for name in list(turns)[1:]:
            rows.add(name, seconds[name], "stock kernel, Python", seconds["stock"])
        # The system counts in steps of 10 ms, so the sum counts.
        for name in list(turns)[1:3]:
            mean = [sum(processor[one]) / CELLS for one in (name, "stock")]
            what = f"processor time of the notebook's kernel: {name}"
            rows.add(what, mean[:1], "stock kernel", mean[1:])
        for what, busy in (
            ("`kernel_info`, idle", False),
            ("`kernel_info`, beside a running cell", True),
        ):
            if busy:
                bridged.execute(BUSY)
                time.sleep(0.5)
            asked: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
            for _ in range(ASKED):
                for name, client in ((STOCK, stock), (AGENTBAY, bridged)):
                    taken = timed(ask, client, client.kernel_info)
                    asked[name].append(taken)
            rows.add(what, asked[AGENTBAY], "stock kernel, idle", asked[STOCK])


def _kernel(client: BlockingKernelClient) -> int:
    # The stock kernel says its own; of ours, it is the child that is no runtime.
    port = client.shell_port
    for process in psutil.Process().children(recursive=True):
        if any(
            connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
            for connection in process.net_connections("tcp")
        ):
            return int(process.pid)
    raise RuntimeError("The kernel's process was not found.")


def _processor_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def sessions(rows: Rows) -> None:
    """Measure sessions of a runtime, without a kernel."""
    cold: list[float] = []
    warm: list[float] = []
    imported: list[float] = []
    for prewarm, measured in (("0", cold), ("1", warm)):
        with serving("--prewarm", prewarm) as (told, _, _):
            client = AgentBay(told["api_key"], endpoint=told["endpoint"])

            def first_cell(client: AgentBay = client) -> None:
                session = client.create().session
                assert session is not None
                session.code.run_code("1 + 1", "python")

            for _ in range(STARTS):
                # As long as a sandbox takes to be made ready.
                time.sleep(2)
                measured.append(timed(first_cell))
                command = [sys.executable, "-c", SHELL]
                if prewarm == "0":
                    imported.append(timed(subprocess.check_call, command))
    rows.add("session and first direct cell, nothing ready", cold, "import of IPython", imported)
    rows.add("session and first direct cell, a sandbox ready", warm, "import of IPython", imported)


def streams(rows: Rows) -> None:
    """Measure output, interrupts and widgets."""
    printed = "for _ in range(20_000): print('x' * 99)"
    streamed = "time.sleep(.3); print(time.time(), flush=True); time.sleep(.3)"
    sleeping = "print(1, flush=True)\ntime.sleep(60)"
    what = (
        "2 MB printed in 20,000 lines",
        "first line, from its print to its arrival",
        "interrupt of sleeping code to idle",
        "widget, from the page's message to its answer",
    )
    seconds: dict[str, dict[str, list[float]]] = {it: {STOCK: [], AGENTBAY: []} for it in what}
    with managed(STOCK) as stock, managed(AGENTBAY) as ours:
        for turn in range(FEW + 1):
            time.sleep(PACE_S)
            for name, (manager, client) in ((STOCK, stock), (AGENTBAY, ours)):
                measured = [run(client, printed)]
                request = client.execute(streamed)
                at, text = first_text(client, request)
                measured.append(at - float(text))
                idle(client, request)
                request = client.execute(sleeping)
                first_text(client, request)
                began = time.perf_counter()
                manager.interrupt_kernel()
                idle(client, request)
                measured.append(time.perf_counter() - began)
                measured.append(widget_s(client))
                if turn:
                    for row, value in zip(what, measured, strict=True):
                        seconds[row][name].append(value)
    for row in what:
        rows.add(row, seconds[row][AGENTBAY], "stock kernel", seconds[row][STOCK])


def widget_s(client: BlockingKernelClient) -> float:
    """Move a slider whose observer sets a label; returns the seconds until the label is set."""
    request = client.execute(
        "import ipywidgets\nslider, label = ipywidgets.IntSlider(), ipywidgets.Label()\n"
        "slider.observe(lambda change: setattr(label, 'value', str(change.new)), 'value')\n"
        "print(slider.model_id, flush=True)"
    )
    slider = first_text(client, request)[1].strip()
    idle(client, request)
    data = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    message = client.session.msg("comm_msg", {"comm_id": slider, "data": data})
    began = time.perf_counter()
    client.shell_channel.send(message)
    while True:
        said = client.get_iopub_msg(timeout=ANSWER_S)
        state = said["content"].get("data", {}).get("state", {})
        if said["msg_type"] == "comm_msg" and state.get("value") == "7":
            seconds = time.perf_counter() - began
            idle(client, message["header"]["msg_id"])
            return seconds


def distance(rows: Rows) -> None:
    """Measure the first output with the service near and far: what it waits for, one by one."""
    output: dict[float, list[float]] = {0.0: [], LATENCY_MS / 1000: []}
    for delay_s, seconds in output.items():
        with far({}, delay_s / 2) as service:
            for _ in range(FEW):
                began = time.perf_counter()
                with started(AGENTBAY, **service.environment("bridged")) as (client, _):
                    client.wait_for_ready(timeout=ANSWER_S)
                    run(client, "1 + 1")
                    seconds.append(time.perf_counter() - began)
    near, away = output.values()
    what = f"start to the first output, the service {LATENCY_MS} ms away"
    rows.add(what, away, "no distance", near)
    trips = (Spread.of(away).median - Spread.of(near).median) / LATENCY_MS
    print(f"Of the start to the first output, {trips:.1f} round trips are waited for.\n")


def memory_of_a_notebook() -> str:
    """What a notebook takes after its first cell, all processes."""
    ours = next(memory.local_runtime())
    stock = next(memory.stock())
    return f"Memory of a notebook after `x = 1`: {ours[-1]} MB, the stock kernel {stock[-1]} MB.\n"


def wait_for_idle() -> str:
    """Wait until the machine is idle; says what its load is then."""
    ends_at = time.monotonic() + IDLE_WITHIN_S
    while (load := os.getloadavg()[0]) > IDLE_LOAD:
        if time.monotonic() > ends_at:
            return f"{load:.1f} (the machine was NOT idle)"
        time.sleep(5)
    return f"{load:.1f}"


def main() -> None:
    """Measure and print."""
    load = wait_for_idle()
    rows = Rows()
    starts(rows)
    cells(rows)
    sessions(rows)
    streams(rows)
    distance(rows)
    print(memory_of_a_notebook())
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, "
        f"{os.cpu_count()} processors, Linux {platform.release().partition('-')[0]}, Python "
        f"{platform.python_version()}, load {load} before.\n"
    )
    head = ("what", "here: median (ms)", "min (ms)", "beside", "its median (ms)", "ratio")
    print(table(head, rows.rows))


if __name__ == "__main__":
    main()
