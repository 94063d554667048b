"""How long a cell takes while other sessions use files, use commands, compute, print, or display.

In: nothing. Out: tables: a session's cell with the others idle and busy, and the peak of the
runtime's memory. The others' clients are a process of their own: they parse responses of many
megabytes, and a client that shares their interpreter would be measured with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from agentbay_kernel.service import AgentBay
from benchmarks.kernels import Spread, table
from benchmarks.local_runtime import Client, seconds, serving

SESSIONS = 10
CELLS = 40
BUSY_S = 12
SETTLE_S = 3
FILES = 20_000
PREPARE = f"""
import os
os.makedirs("many")
for number in range({FILES}): os.close(os.open(f"many/{{number}}", os.O_CREAT))
with open("long", "wb") as file: file.truncate(1_000_000_000)
"""
FILE_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_directory", {"path": "many"}),
    ("search_files", {"path": ".", "pattern": "*1*"}),
    ("read_file", {"path": "long"}),
    ("get_file_change", {"path": "many"}),
)
COMMAND_CALLS = (("shell", {"command": "head -c 600M /dev/zero"}),)
LOOP = "import time\nend = time.time() + 3\nwhile time.time() < end: "
DISPLAY = "from IPython.display import display\n"


def cell(code: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """A call that runs a cell."""
    return (("run_code", {"code": code, "language": "python"}),)


STREAMED = cell(f"{LOOP}print('x' * 10**6)")

BUSY = {
    "computing": cell(f"{LOOP}pass"),
    "printing 1 MB at a time": cell(f"{LOOP}print('x' * 10**6)"),
    "printing 1 MB at a time, streamed": STREAMED,
    "displaying 1 MB at a time": cell(
        f"{DISPLAY}{LOOP}display({{'text/plain': 'x' * 10**6}}, raw=True)"
    ),
    "using files": FILE_CALLS,
    "printing 600 MB from commands": COMMAND_CALLS,
}


def tool(client: Client, session: str, name: str, arguments: dict[str, Any]) -> None:
    """Call a tool."""
    client.act("CallMcpTool", SessionId=session, Name=name, Args=json.dumps(arguments))


def disturb(
    told: dict[str, Any], sessions: list[str], calls: Any, streamed: bool, stop: Event
) -> None:
    """Make calls in all sessions at a time until `stop`; the body of the others' process."""
    os.setsid()

    def one(session: str) -> None:
        client = Client(told)
        while not stop.is_set():
            for name, arguments in calls:
                tool(client, session, name, arguments)

    def stream(session: str) -> None:
        client = AgentBay(told["api_key"], endpoint=told["endpoint"])
        found = client.get(session).session
        assert found is not None
        while not stop.is_set():
            for _, arguments in calls:
                for _ in found.code.stream_code(arguments["code"], arguments["language"]):
                    pass

    work = stream if streamed else one
    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def disturbed(told: dict[str, Any], sessions: list[str], calls: Any) -> Iterator[None]:
    """While the sessions are busy."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    # A process of its own gets a copy of the calls.
    streamed = calls is STREAMED
    process = context.Process(target=disturb, args=(told, sessions, calls, streamed, stop))
    process.start()
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        stop.set()
        process.join()


def for_a_while(cells: Callable[[], object]) -> Spread:
    """Measure again and again."""
    end = time.monotonic() + BUSY_S
    measured = []
    while time.monotonic() < end:
        measured.append(seconds(cells))
    return Spread.of(measured)


def busy(what: str, calls: Any) -> None:
    """A session's cell, alone and while the others make these calls."""
    with serving("--prewarm", "0") as (told, _, pid):
        client = Client(told)
        quiet = client.session()
        client.cell(quiet)
        noisy = [client.session() for _ in range(SESSIONS)]
        for session in noisy:
            client.cell(session, code=PREPARE if calls is FILE_CALLS else "1 + 1")
        alone = Spread.of([seconds(lambda: client.cell(quiet)) for _ in range(CELLS)])
        with disturbed(told, noisy, calls):
            beside = for_a_while(lambda: client.cell(quiet))
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:")).split()[1]
        rows = [
            ("a cell, the others idle, median ms", f"{alone.median:.1f}"),
            (f"a cell, {SESSIONS} sessions {what}, median ms", f"{beside.median:.1f}"),
            ("the same, nine of ten take at most ms", f"{beside.p90:.1f}"),
            ("peak memory of the runtime, MB", f"{int(peak) / 1024:.0f}"),
        ]
        print(table(("", "value"), rows), "\n", flush=True)


def main() -> None:
    """Measure and print."""
    for what, calls in BUSY.items():
        busy(what, calls)


if __name__ == "__main__":
    main()
