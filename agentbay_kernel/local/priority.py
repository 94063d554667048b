"""Who has the processor first: a cell that begins, before those that have taken long already.

Linux shares the processor among groups of processes, one for each session of processes (`setsid`),
if `kernel.sched_autogroup_enabled` is set and no cgroup shares it. A group's weight can be lowered
and raised again without privileges. Where there are no such groups, nothing changes. A weight is
lowered only while other cells need it: other programs of the machine would have the gain else.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

# A run that has taken longer is put behind those that begin, for so long after each.
SHORT_S = 1.0
LINGER_S = 2.0
FIRST, BEHIND = 0, 10
# Linux takes a change of an ordinary user every 0.1 s.
RETRY_S = 0.15


class Priority:
    """The weight of one group.

    Arguments:
        process: the folder in /proc of its first process.
    """

    def __init__(self, process: Path) -> None:
        self._file = process / "autogroup"
        self._wanted = self._set = FIRST
        self._retry: asyncio.TimerHandle | None = None

    def change(self, nice: int) -> None:
        """Give it this weight, soon."""
        self._wanted = nice
        if self._retry is None:
            self._apply()

    def _apply(self) -> None:
        self._retry = None
        if self._wanted == self._set:
            return
        try:
            self._file.write_text(str(self._wanted))
            self._set = self._wanted
        except BlockingIOError:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._apply)
        except OSError:
            # There are no groups, or the process has ended.
            pass


class Runs:
    """The runs of all sessions: which are long, and which began last."""

    def __init__(self) -> None:
        self._long: set[Priority] = set()
        self._recent: dict[Priority, asyncio.TimerHandle] = {}

    def begin(self, run: Priority) -> asyncio.TimerHandle:
        """A run begins; what is returned is for `end`."""
        loop = asyncio.get_running_loop()
        if run in self._recent:
            self._recent[run].cancel()
        self._recent[run] = loop.call_later(LINGER_S, self._forget, run)
        self._weigh()
        return loop.call_later(SHORT_S, self._becomes_long, run)

    def end(self, run: Priority, clock: asyncio.TimerHandle) -> None:
        """It has ended, or is to end soon."""
        clock.cancel()
        self._long.discard(run)
        run.change(FIRST)

    def _becomes_long(self, run: Priority) -> None:
        self._long.add(run)
        self._weigh()

    def _forget(self, run: Priority) -> None:
        del self._recent[run]
        self._weigh()

    def _weigh(self) -> None:
        for run in self._long:
            run.change(BEHIND if self._recent.keys() - {run} else FIRST)


runs = Runs()
