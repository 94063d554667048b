"""Blocking work on daemon threads, with one value or a feed of many values.

The executor behind `asyncio.to_thread` joins its threads when Python exits. So a request that waits
for a sandbox would delay a kernel's shutdown for a minute. Daemon threads don't.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# Items that may wait for their reader. Then the work pauses, so that memory is bounded.
_MOST_WAITING = 256
# Seconds between the checks of paused work whether its reader has stopped.
_LOOK_AGAIN_S = 0.2


class Backoff:
    """A pause between attempts that doubles up to a maximum; both in seconds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self.pause_s = first_s

    def grow(self) -> None:
        """Make the next pause longer."""
        self.pause_s = min(self.pause_s * 2, self._longest_s)

    def reset(self) -> None:
        """Start with the first pause again."""
        self.pause_s = self._first_s

    def sleep(self, until: float) -> bool:
        """Pause; return False at once if the pause would end after that monotonic time."""
        if time.monotonic() + self.pause_s > until:
            return False
        time.sleep(self.pause_s)
        self.grow()
        return True


def start(work: Callable[[], T]) -> Future[T]:
    """Run `work()` on a daemon thread; the future gets its result or its error."""
    future: Future[T] = Future()
    # From here on it can't be cancelled, so its result can always be set.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(outcome)

    threading.Thread(target=run, name="agentbay-work", daemon=True).start()
    return future


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _End:
    """Marks the end of the items."""


class Feed(Generic[T]):
    """The items of a blocking iterator, read by `for` or by `async for`.

    Reading by `for` may be interrupted (KeyboardInterrupt) and continued later. The reader must
    close the feed when it needs no more items, preferably by `with`.

    Arguments:
        items: the iterator, which is read on a daemon thread.
        stopped: set it to stop reading; no more items are added then.
    """

    def __init__(self, items: Iterator[T], stopped: threading.Event) -> None:
        self._items = items
        self._stopped = stopped
        self._waiting: queue.Queue[T | _Failed | _End] = queue.Queue(_MOST_WAITING)
        self._wake: Callable[[], object] = lambda: None
        self._started = False

    def __enter__(self) -> Feed[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading the items."""
        self._stopped.set()

    def __iter__(self) -> Feed[T]:
        return self

    def __next__(self) -> T:
        """Return the next item; raise an error of the iterator here."""
        self._start()
        item = self._waiting.get()
        if isinstance(item, _End):
            raise StopIteration
        return self._unpack(item)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items without blocking the event loop."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(arrived.set)
        self._start()
        try:
            while not self._stopped.is_set():
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    await arrived.wait()
                    arrived.clear()
                    continue
                if isinstance(item, _End):
                    return
                yield self._unpack(item)
        finally:
            self._stopped.set()

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        threading.Thread(target=self._pump, name="agentbay-feed", daemon=True).start()

    def _unpack(self, item: T | _Failed | _End) -> T:
        if isinstance(item, _Failed):
            raise item.error
        assert not isinstance(item, _End)
        return item

    def _pump(self) -> None:
        last: _Failed | _End = _End()
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            last = _Failed(error)
        finally:
            if (close := getattr(self._items, "close", None)) is not None:
                close()
        self._put(last)

    def _put(self, item: T | _Failed | _End) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=_LOOK_AGAIN_S)
                # The loop is closed if the kernel has ended; then there is no reader.
                with contextlib.suppress(RuntimeError):
                    self._wake()
                return True
        return False
