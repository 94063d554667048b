"""For how long what comes unasked is still collected: output of threads, tasks and timers.

In: who may send it, and for how many seconds. Out: how much of that is left, and the pause between
two questions where nothing streams.
"""

from __future__ import annotations

import time

# Who listens without a stream asks again after so long, at first and in the end.
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


class Listening:
    """Until when it is listened to whom. Its owner locks it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self.pause_s = _PAUSE_S

    def begin(self, what: str, seconds: float) -> None:
        """Listen to that for so long from now."""
        self._until[what] = time.monotonic() + seconds
        self.pause_s = _PAUSE_S

    def end(self, what: str) -> None:
        """From there nothing more will come."""
        self._until.pop(what, None)

    def end_all(self) -> None:
        """Nothing more will come."""
        self._until.clear()

    def heard(self, something: bool) -> None:
        """An answer has come; one that holds nothing makes the pauses longer."""
        self.pause_s = _PAUSE_S if something else min(self.pause_s * 2, _LONGEST_PAUSE_S)

    @property
    def left_s(self) -> float:
        """Seconds that are left, none if negative."""
        return max(self._until.values(), default=0.0) - time.monotonic()

    def __bool__(self) -> bool:
        return self.left_s > 0
