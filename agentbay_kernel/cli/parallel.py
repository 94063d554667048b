"""Many items side by side, a line for each as it ends: what `run` and `grade` have in common.

Ctrl-C stops what runs; the results of what was done still come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.containment.text import one_line

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

T = TypeVar("T")
R = TypeVar("R")


def sessions_at_once(settings: AgentBaySettings, asked: int) -> tuple[int, str]:
    """How many sessions are used at a time, and `max_sessions` for those who create them.

    A `max_sessions` that was configured holds for the first; the default is for notebooks that
    somebody forgot. The second leaves room for sessions that are just being deleted and for those
    of open notebooks.
    """
    jobs = asked
    if "max_sessions" in settings.sources and asked > settings.max_sessions:
        jobs = settings.max_sessions
        print(
            f"At most {jobs} at a time: max_sessions is set in {settings.sources['max_sessions']}.",
            file=sys.stderr,
        )
    return jobs, str(jobs + settings.max_sessions)


class Stopper:
    """Stops, from the main thread, what worker threads do.

    `interrupted` is set if a person wanted it.
    """

    def __init__(self) -> None:
        self.stopped = self.interrupted = False
        self._ways: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Stopper:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def by(self, way: Callable[[], object]) -> Iterator[None]:
        """Within the block, something runs that this call stops."""
        with self._lock:
            self._ways.append(way)
            if self.stopped:
                way()
        try:
            yield
        finally:
            with self._lock:
                self._ways.remove(way)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, on an event loop of its own.

        Raises:
            CancelledError: it was stopped.
        """
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(work)
            with self.by(lambda: loop.call_soon_threadsafe(task.cancel)):
                return loop.run_until_complete(task)

    def stop(self) -> None:
        """Stop everything, now and later."""
        with self._lock:
            self.stopped = True
            for way in self._ways:
                way()


def in_parallel(
    work: Callable[[T], R],
    items: Sequence[T],
    jobs: int,
    stopper: Stopper,
    started: Callable[[int], None] = lambda index: None,
) -> Iterator[R]:
    """Results of `work` as they come, at most `jobs` at a time.

    At a KeyboardInterrupt nothing more is begun, what runs is stopped, and its results still come.

    Arguments:
        started: told, on this thread, of each item that begins, by its index.
    """
    done: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()
    left = iter(enumerate(items))
    running = 0
    while True:
        try:
            while running < jobs and not stopper.stopped:
                following = next(left, None)
                if following is None:
                    break
                index, item = following
                running += 1
                started(index)
                future = threads.start(lambda item=item: work(item))  # type: ignore[misc]
                future.add_done_callback(done.put)
            if not running:
                return
            future = done.get()
            running -= 1
            yield future.result()
        except KeyboardInterrupt:
            if stopper.interrupted:
                # A second Ctrl-C: whoever presses it does not want to wait.
                raise
            print("\nStopping. What was done is kept.", file=sys.stderr, flush=True)
            stopper.interrupted = True
            stopper.stop()


class Table:
    """Lines of columns on stdout, one as each item ends; on a terminal, also what runs now.

    Arguments:
        columns: their titles; the first is the item's name, the last is cut by nothing.
        names: of the items, for the width of the first column.
    """

    def __init__(self, columns: Sequence[str], names: Sequence[str]) -> None:
        self._names = [one_line(name) for name in names]
        self._columns = columns
        self._widths = [max(map(len, [columns[0], *self._names])), *(11 for _ in columns[1:-1])]
        self._running: list[str] = []
        self._done = 0
        self._is_terminal = sys.stdout.isatty()

    def __enter__(self) -> Table:
        self._line(self._columns)
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()

    def started(self, index: int) -> None:
        """An item begins."""
        self._running.append(self._names[index])
        self._show_running()

    def add(self, cells: Sequence[str]) -> None:
        """An item has ended."""
        self._erase()
        with contextlib.suppress(ValueError):
            self._running.remove(one_line(cells[0]))
        self._done += 1
        self._line([one_line(cell) for cell in cells])
        self._show_running()

    def _line(self, cells: Sequence[str]) -> None:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False)]
        print("  ".join([*padded, cells[-1]]).rstrip(), flush=True)

    def _show_running(self) -> None:
        if self._is_terminal and self._running:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
            text = f"{self._done} of {len(self._names)} done; running: {', '.join(self._running)}"
            sys.stdout.write(f"\r\x1b[K{text[: max(width - 1, 1)]}")
            sys.stdout.flush()

    def _erase(self) -> None:
        if self._is_terminal:
            sys.stdout.write("\r\x1b[K")
