"""A cell's timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agentbay_kernel.execution.messages import Message, stream


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
