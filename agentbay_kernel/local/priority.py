"""Who has the processor first: short cells, before what has taken long already.

Linux shares the processor among groups of processes, one for each session of processes (`setsid`),
if `kernel.sched_autogroup_enabled` is set and no cgroup shares it. A group's weight can be lowered
and raised again without privileges. Where there are no such groups, nothing changes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

# A run that has taken longer is put behind the others.
SHORT_S = 1.0
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
