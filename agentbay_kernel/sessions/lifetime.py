"""The lifetime of a session: its end, its warnings, and what keeps it alive.

Running cells and requested extensions keep a session alive, by RefreshSessionIdleTime. An idle
notebook does not. Facts of the AgentBay wire protocol: an idle session is released after its idle
time, any session at its maximum lifetime; no action moves the latter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentbay_kernel.errors import AgentBayError, SessionNotFoundError
from agentbay_kernel.execution.messages import Message, stream

if TYPE_CHECKING:
    from agentbay_kernel.service import Session

WARN_BEFORE_S = 600.0
# Number of refreshes within the idle time: a lost request does not end the session.
_REFRESHES = 3


class Lifetime:
    """The lifetime of one of this notebook's sessions. Thread-safe; times in seconds since 1970.

    Arguments:
        idle_s: seconds without use after which the service releases it.
        max_s: seconds after which the service releases it in any case.
        keep_s: seconds for which one cell keeps it alive, unless the cell's timeout is longer.
        created_at: when it was created.
    """

    def __init__(
        self, session: Session, idle_s: float, max_s: float, keep_s: float, created_at: float
    ) -> None:
        self._session = session
        self.idle_s = idle_s
        self.ends_at = created_at + max_s
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._used_at = time.time()
        # Until when each running cell keeps the session alive, and until when an extension does.
        self._running: dict[object, float] = {}
        self._extended_until = 0.0
        self._keeping = False

    @property
    def released_at(self) -> float:
        """The time at which the service releases it, if nothing more happens."""
        return min(self.ends_at, self._last_use() + self.idle_s)

    @property
    def idle_for_s(self) -> float:
        """Seconds since it was last used or kept alive."""
        return time.time() - self._last_use()

    @property
    def extended_until(self) -> float:
        """The time until which it is kept alive without a cell; 0 if it is not."""
        return self._extended_until

    def extend(self, seconds: float) -> float:
        """Keep it alive from now on for so long, with or without a cell; return until when.

        Its maximum lifetime is fixed at its creation: it can't be kept beyond that.
        """
        until = min(time.time() + seconds, self.ends_at)
        with self._lock:
            self._extended_until = max(self._extended_until, until)
            for cell, kept in self._running.items():
                self._running[cell] = max(kept, until)
        self._keep()
        return self._extended_until

    @contextlib.contextmanager
    def used_by(self, cell: object, timeout_s: float | None) -> Iterator[Warnings]:
        """Keep it alive while a cell runs, within limits; yield the warnings that become due."""
        kept = time.time() + max(self._keep_s, timeout_s or 0.0)
        with self._lock:
            self._running[cell] = max(kept, self._extended_until)
            self._used_at = time.time()
        self._keep()
        try:
            yield Warnings(self, cell)
        finally:
            with self._lock:
                self._running.pop(cell, None)
                self._used_at = time.time()

    def kept_until(self, cell: object) -> float:
        """Return until when a running cell keeps it alive."""
        return self._running.get(cell, 0.0)

    def _last_use(self) -> float:
        with self._lock:
            return time.time() if self._reason_until() > time.time() else self._used_at

    def _reason_until(self) -> float:
        return max([*self._running.values(), self._extended_until])

    def _keep(self) -> None:
        with self._lock:
            if self._keeping or self._reason_until() <= time.time():
                return
            self._keeping = True
        threading.Thread(target=self._refresh, name="agentbay-keep-alive", daemon=True).start()

    def _refresh(self) -> None:
        while True:
            with contextlib.suppress(AgentBayError):
                if isinstance(self._session.keep_alive().failure, SessionNotFoundError):
                    # The next use of it reports that.
                    with self._lock:
                        self._keeping = False
                    return
            time.sleep(self.idle_s / _REFRESHES)
            with self._lock:
                self._used_at = time.time()
                if self._reason_until() <= time.time():
                    self._keeping = False
                    return


class Warnings:
    """The warnings about a session's end that one running cell gets, each once."""

    def __init__(self, lifetime: Lifetime, cell: object) -> None:
        self._lifetime = lifetime
        self._cell = cell
        self._end_told = False
        self._kept_told = 0.0

    def over(self, now: float) -> bool:
        """Return whether the cell has kept the session alive for as long as it may."""
        kept = self._lifetime.kept_until(self._cell)
        return now >= kept and kept < self._lifetime.ends_at

    def due(self, now: float) -> Iterator[Message]:
        """Yield the warnings that are due at that time."""
        ends_at, kept = self._lifetime.ends_at, self._lifetime.kept_until(self._cell)
        if not self._end_told and now >= ends_at - WARN_BEFORE_S:
            self._end_told = True
            yield stream(
                "stderr",
                f"AgentBay: the service ends this session at {clock(ends_at)}, "
                f"{_minutes(ends_at - now)}; variables and files are lost then. Save what you "
                "need (`%agentbay download`). AGENTBAY_MAX_MINUTES lets the next session live "
                "longer.\n",
            )
        elif kept != self._kept_told and kept - WARN_BEFORE_S <= now and kept < ends_at:
            self._kept_told = kept
            yield stream(
                "stderr",
                f"AgentBay: this cell is followed and keeps its session alive until {clock(kept)}, "
                f"{_minutes(kept - now)}. `%agentbay extend 2h` in another cell, or a longer "
                "AGENTBAY_TIMEOUT before it starts, lets it continue.\n",
            )


def clock(moment: float) -> str:
    """Return a time as hours and minutes of the local clock."""
    return time.strftime("%H:%M", time.localtime(moment))


def _minutes(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"in {minutes} min" if minutes else "now"
