"""How long a cell takes while other sessions list, search and read, compute, or print.

In: nothing. Out: a table: a session's cell with the others idle and busy, and the peak of the
runtime's memory.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.kernels import Spread, table
from benchmarks.local_runtime import Client, seconds, serving

SESSIONS = 10
CELLS = 40
BUSY_S = 12
FILES = 20_000
PREPARE = f"""
import os
os.makedirs("many")
for number in range({FILES}): os.close(os.open(f"many/{{number}}", os.O_CREAT))
with open("long", "wb") as file: file.truncate(1_000_000_000)
"""
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_directory", {"path": "many"}),
    ("search_files", {"path": ".", "pattern": "*1*"}),
    ("read_file", {"path": "long"}),
    ("get_file_change", {"path": "many"}),
)


def tool(client: Client, session: str, name: str, arguments: dict[str, Any]) -> None:
    """Call a tool."""
    client.act("CallMcpTool", SessionId=session, Name=name, Args=json.dumps(arguments))


def busy_cells(what: str, code: str) -> None:
    """A session's cell, alone and while the others run code for `BUSY_S`."""
    with serving("--spares", "0") as (told, _, pid):
        client = Client(told)
        quiet = client.session()
        client.cell(quiet)
        alone = Spread.of([seconds(lambda: client.cell(quiet)) for _ in range(CELLS)])
        noisy = [client.session() for _ in range(SESSIONS)]
        for session in noisy:
            client.cell(session)
        with ThreadPoolExecutor(SESSIONS) as pool:
            running = [pool.submit(Client(told).cell, it, "python", code) for it in noisy]
            time.sleep(BUSY_S / 4)
            measured = []
            while not any(it.done() for it in running):
                measured.append(seconds(lambda: client.cell(quiet)))
            for it in running:
                it.result()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:")).split()[1]
        rows = [
            ("a cell, the others idle, median ms", f"{alone.median:.1f}"),
            (f"a cell, {SESSIONS} sessions {what}, median ms", f"{Spread.of(measured).median:.1f}"),
            ("peak memory of the runtime, MB", f"{int(peak) / 1024:.0f}"),
        ]
        print(table(("", "value"), rows), "\n")


def main() -> None:
    """Measure and print."""
    loop = f"import time\nend = time.time() + {BUSY_S}\nwhile time.time() < end: "
    busy_cells("computing", f"{loop}pass")
    busy_cells("printing", f"{loop}print('x' * 10**6)")
    busy_files()


def busy_files() -> None:
    """A session's cell, alone and while the others use their files."""
    with serving("--spares", "0") as (told, _, pid):
        client = Client(told)
        quiet = client.session()
        client.cell(quiet)
        noisy = [client.session() for _ in range(SESSIONS)]
        for session in noisy:
            tool(client, session, "run_code", {"code": PREPARE, "language": "python"})
        alone = Spread.of([seconds(lambda: client.cell(quiet)) for _ in range(CELLS)])
        stop = threading.Event()
        calls = 0

        def disturb(session: str) -> None:
            nonlocal calls
            own = Client(told)
            while not stop.is_set():
                for name, arguments in CALLS:
                    tool(own, session, name, arguments)
                    calls += 1

        threads = [threading.Thread(target=disturb, args=(session,)) for session in noisy]
        for thread in threads:
            thread.start()
        beside = Spread.of([seconds(lambda: client.cell(quiet)) for _ in range(CELLS)])
        stop.set()
        for thread in threads:
            thread.join()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:")).split()[1]
        rows = [
            ("a cell, the others idle, median ms", f"{alone.median:.1f}"),
            (f"a cell, {SESSIONS} sessions busy with files, median ms", f"{beside.median:.1f}"),
            ("calls of the others meanwhile", f"{calls:,}"),
            ("peak memory of the runtime, MB", f"{int(peak) / 1024:.0f}"),
        ]
        print(table(("", "value"), rows))


if __name__ == "__main__":
    main()
