"""How long a class takes: 200 generated submissions, twenty of them hostile, side by side.

In: nothing. Out: a table: submissions at a time, seconds, sessions at most, and the most memory
that the grader and the runtime with its sandboxes held. The points are compared with those that
each kind is known to have earned.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from agentbay_kernel.grading import Grader, find_submissions, load_checks
from agentbay_kernel.service import AgentBay
from benchmarks.kernels import table
from tests.grading.class_of_students import CHECKS, write_class
from tests.runtime import running_local_runtime

SUBMISSIONS, HOSTILE = 200, 20
TIMEOUT_S = 5
LOOK_S = 1.0


class Memory:
    """The most that processes and their children held, in MB, as it is looked at."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.most = 0.0

    def look(self) -> None:
        """Look now."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.most = max(self.most, total / 1e6)


@contextmanager
def watched(*memories: Memory) -> Iterator[None]:
    """Look at memories until the block ends."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            for memory in memories:
                memory.look()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def main(numbers: tuple[int, ...] = (1, 8)) -> None:
    """Grade the class with so many at a time, and print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        students = {it.name: it for it in write_class(folder / "in", SUBMISSIONS, HOSTILE)}
        (folder / "checks.py").write_text(CHECKS)
        checks = load_checks(folder / "checks.py")
        sources = find_submissions([folder / "in"])
        for number in numbers:
            with (
                running_local_runtime("--prewarm", "1", "--memory", "1024") as runtime,
                AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client,
            ):
                grader = Grader(client, checks, timeout_s=TIMEOUT_S, seed="1")
                sandboxes = Memory(psutil.Process(runtime.process.pid))
                started = time.monotonic()
                with watched(sandboxes), ThreadPoolExecutor(number) as pool:
                    grades = list(pool.map(grader.grade, sources))
                took = time.monotonic() - started
                wrong = [it for it in grades if it.points != students[it.name].points]
                own = psutil.Process().memory_info().rss / 1e6
                rows.append(
                    [
                        str(number),
                        f"{took:.0f}",
                        f"{took / len(grades):.2f}",
                        str(grader.most_sessions),
                        f"{own:.0f}",
                        f"{sandboxes.most:.0f}",
                        str(len(wrong)),
                    ]
                )
    titles = ["-j", "s", "s each", "sessions", "grader MB", "sandboxes MB", "wrong points"]
    print(table(titles, rows))


if __name__ == "__main__":
    main()
