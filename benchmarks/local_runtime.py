"""How fast the local runtime is: its start, a first cell, later cells, and what it costs idle.

Then what a session's cells take while ten others print 600 MB each, and how large the runtime gets.

In: nothing. Out: tables. A cell is measured beside the same cell in a bare ipykernel, in turn, so
that what else the machine does falls on both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from jupyter_client.manager import KernelManager

from benchmarks.kernels import Spread, table

STARTS = 10
SESSIONS = 8
CELLS = 100
SPARE_READY_S = 3.0
FLOODS = 10
FLOOD = "for _ in range(600): print('x' * 10**6)"


@contextmanager
def serving(*flags: str) -> Iterator[tuple[dict[str, Any], float, int]]:
    """A runtime: its first line, the seconds until it came, its process id."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "agentbay_kernel", "serve", "--die-with-parent", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = json.loads(process.stdout.readline())
        yield line, time.perf_counter() - begun, process.pid
    finally:
        process.stdin.close()
        process.wait(30)


class Client:
    """The action route on one connection."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._http = requests.Session()
        self._http.trust_env = False

    def act(self, action: str, **fields: str) -> dict[str, Any]:
        """One action's answer."""
        answer = self._http.post(
            f"{self._told['endpoint']}/?Action={action}",
            data={"Authorization": self._told["api_key"], **fields},
            timeout=60,
        )
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def session(self) -> str:
        """A new session's id."""
        return str(self.act("CreateMcpSession")["Data"]["SessionId"])

    def cell(self, session: str, language: str = "python", code: str = "1 + 1") -> None:
        """Run a cell."""
        arguments = json.dumps({"code": code, "language": language, "timeout_s": 60})
        data = self.act("CallMcpTool", SessionId=session, Name="run_code", Args=arguments)["Data"]
        assert not data["isError"], data


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextmanager
def bare_kernel() -> Iterator[Any]:
    """A started ipykernel's client, on unix sockets as the runtime's own is."""
    manager = KernelManager(transport="ipc")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def bare_cell(client: Any) -> None:
    """Run a cell and wait for its reply and its end."""
    reply = client.execute_interactive("1 + 1", output_hook=lambda message: None, timeout=60)
    assert reply["content"]["status"] == "ok"


def starts() -> None:
    """From the command to the JSON line."""
    rows = []
    for name, flags in (("bubblewrap", ()), ("--isolation none", ("--isolation", "none"))):
        measured = []
        for turn in range(STARTS + 1):
            with serving("--prewarm", "0", *flags) as (told, start_s, _):
                if turn:
                    measured.append(start_s)
        spread = Spread.of(measured)
        rows.append((f"{name} ({told['isolation']['level']})", f"{spread.median:.0f}"))
    print(f"`serve` to its JSON line, {STARTS} starts each:\n")
    print(table(("isolation", "median (ms)"), rows), "\n")


def first_cell(client: Client, measured: list[float]) -> float:
    """Measure the first cell of a new session; returns the seconds that creating it took."""
    begun = time.perf_counter()
    session = client.session()
    created = time.perf_counter()
    client.cell(session)
    measured.append(time.perf_counter() - created)
    client.act("DeleteSessionAsync", SessionId=session)
    return created - begun


def first_cells() -> None:
    """The first cell of a new session, with a spare and without, beside a fresh ipykernel's."""
    bare: list[float] = []
    spare: list[float] = []
    cold: list[float] = []
    create: list[float] = []
    with serving("--prewarm", "1") as (warm, _, _), serving("--prewarm", "0") as (slow, _, _):
        for _ in range(SESSIONS):
            with bare_kernel() as kernel:
                bare.append(seconds(lambda: bare_cell(kernel)))
            # A new spare is made in the background.
            time.sleep(SPARE_READY_S)
            create.append(first_cell(Client(warm), spare))
            first_cell(Client(slow), cold)
    reference = Spread.of(bare).median
    rows = []
    for name, measured in (
        ("a started bare ipykernel", bare),
        ("new session, spare ready", spare),
        ("new session, no spares", cold),
    ):
        spread = Spread.of(measured)
        rows.append((name, f"{spread.median:.1f}", f"{spread.median - reference:+.1f}"))
    rows.append(("(creating the session, spare ready)", f"{Spread.of(create).median:.1f}", ""))
    print(f"First cell, {SESSIONS} times each:\n")
    print(table(("where", "median (ms)", "beyond bare (ms)"), rows), "\n")


def later_cells() -> None:
    """A cell in a session that runs, beside a bare ipykernel."""
    bare, python, javascript = [], [], []
    with serving() as (told, _, _), bare_kernel() as kernel:
        client = Client(told)
        session = client.session()
        for _ in range(CELLS):
            bare.append(seconds(lambda: bare_cell(kernel)))
            python.append(seconds(lambda: client.cell(session)))
            javascript.append(seconds(lambda: client.cell(session, "javascript")))
    reference = Spread.of(bare).median
    rows = []
    for name, measured in (
        ("bare ipykernel", bare),
        ("run_code python", python),
        ("run_code javascript", javascript),
    ):
        spread = Spread.of(measured)
        rows.append((name, f"{spread.median:.1f}", f"{spread.median / reference:.2f}"))
    print(f"Later cells, {CELLS} of each in turn:\n")
    print(table(("where", "median (ms)", "median / bare"), rows), "\n")


def idle_cost() -> None:
    """Memory and processor time of a runtime nobody asks anything."""
    rows = []
    for spares in ("0", "1"):
        with serving("--prewarm", spares) as (_, _, pid):
            time.sleep(SPARE_READY_S)
            runtime = psutil.Process(pid)
            family = [runtime, *runtime.children(recursive=True)]
            before = sum(sum(p.cpu_times()[:2]) for p in family)
            time.sleep(5)
            used = sum(sum(p.cpu_times()[:2]) for p in family) - before
            memory = sum(p.memory_info().rss for p in family) / 2**20
            rows.append((spares, str(len(family)), f"{memory:.0f}", f"{used / 5 * 100:.1f}"))
    print("Idle, over 5 s:\n")
    print(table(("spares", "processes", "resident (MB)", "one processor (%)"), rows))


def floods() -> None:
    """Cells of one session, alone and while others print without end."""
    rows = []
    with serving("--prewarm", "0", "--max-sessions", str(FLOODS + 1)) as (told, _, pid):
        client = Client(told)
        session = client.session()
        client.cell(session)
        alone = [seconds(lambda: client.cell(session)) for _ in range(CELLS)]
        sessions = [client.session() for _ in range(FLOODS)]
        for other in sessions:
            client.cell(other)
        with ThreadPoolExecutor(FLOODS) as pool:
            running = [pool.submit(Client(told).cell, one, "python", FLOOD) for one in sessions]
            beside = []
            while not all(one.done() for one in running):
                beside.append(seconds(lambda: client.cell(session)))
            for one in running:
                one.result()
        for name, measured in (("alone", alone), (f"beside {FLOODS} floods", beside)):
            rows.append((name, f"{Spread.of(measured).median:.1f}"))
        status = Path(f"/proc/{pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    print(
        f"A cell while other sessions print 600 MB each:\n\n{table(('cells', 'median (ms)'), rows)}"
    )
    print(f"\nThe runtime's largest resident memory: {peak} MB\n")


def main() -> None:
    """Measure and print."""
    starts()
    first_cells()
    later_cells()
    floods()
    idle_cost()


if __name__ == "__main__":
    main()
