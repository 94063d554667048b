"""The cells that are running in a bridged language, and how they are stopped.

In: cells as they are sent, begin and end; interrupts. Out: a signal to the language's process, at
the moment when it reaches the cell and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.messages import Message, stream


class RunningCells:
    """Thread-safe.

    Arguments:
        signal: interrupts the cell that runs now.
    """

    def __init__(self, signal: Callable[[Cell], None]) -> None:
        self._signal = signal
        self._lock = threading.Lock()
        self._running: set[Cell] = set()
        self._begun: set[Cell] = set()
        self._stop_when_begun: set[Cell] = set()

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._running)

    def admit(self, cell: Cell) -> bool:
        """May the cell be sent? From now on it is one that runs."""
        with self._lock:
            if not cell.stopped.is_set():
                self._running.add(cell)
            return cell in self._running

    def begin(self, cell: Cell) -> None:
        """The cell's code has begun, a signal reaches it now."""
        with self._lock:
            self._begun.add(cell)
            due = cell in self._stop_when_begun
            self._stop_when_begun.discard(cell)
        if due:
            self._signal(cell)

    def end(self, cell: Cell) -> None:
        """The cell has ended, or is given up."""
        with self._lock:
            for cells in (self._running, self._begun, self._stop_when_begun):
                cells.discard(cell)

    def interrupt(self, cell: Cell) -> Stop:
        """Stop a cell; one that was not sent yet never will be."""
        with self._lock:
            if cell not in self._running:
                cell.stopped.set()
                return Stop.UNSENT
            if cell not in self._begun:
                # The signal would come before the cell: kept until its code has begun.
                self._stop_when_begun.add(cell)
                return Stop.ENDING
        self._signal(cell)
        return Stop.ENDING


class Overdue:
    """Interrupts a cell at its timeout, used by `with`; `fired` tells afterwards.

    The time counts from `begin`: what a kernel takes to start, or the cell before to end, is not
    the cell's.

    Arguments:
        seconds: None for no timeout.
    """

    def __init__(self, seconds: float | None, interrupt: Callable[[], object]) -> None:
        self.fired = False
        self._seconds = seconds
        self._interrupt = interrupt
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Overdue:
        return self

    def begin(self) -> None:
        """The cell's code runs now; said again, it is nothing new."""
        if self._seconds is not None and self._timer is None:
            self._timer = threading.Timer(self._seconds, self._fire)
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self) -> Message:
        """What it did, for the cell's reader."""
        return stream("stderr", f"Stopped: it ran longer than {self._seconds:g} s.\n")

    def _fire(self) -> None:
        self.fired = True
        self._interrupt()
