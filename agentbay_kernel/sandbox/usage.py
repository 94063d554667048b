"""Processor and memory of the sandbox's kernel and its child processes, for a usage_request.

Read from Linux's /proc; elsewhere there is only the name of the host. The bridge sends it with its
answers, so it needs no call.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

# Seconds for which figures are valid: while requests are in progress, and for the answer after the
# last one, whose figures are shown until the next cell.
VALID_S, LAST_VALID_S = 5.0, 0.5
# Fields of /proc/PID/stat after the name: session, times in user and kernel mode, resident pages.
SESSION, USER, KERNEL, RESIDENT = 3, 11, 12, 21


class Usage:
    """The figures of all processes of a session (setsid), by the id of its leader."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.read_at = 0.0
        # Processor time of each process, at that time.
        self.seconds: dict[str, float] = {}

    def is_due(self, is_last: bool) -> bool:
        """Return whether the last figures are no longer valid.

        Arguments:
            is_last: whether no request is in progress.
        """
        valid_s = LAST_VALID_S if is_last else VALID_S
        return not self.read_at or time.monotonic() - self.read_at >= valid_s

    def read(self) -> dict[str, Any]:
        """Return the content of a usage_reply."""
        now = time.monotonic()
        figures: dict[str, Any] = {
            "hostname": socket.gethostname(),
            "pid": self.leader,
            "cpu_count": os.cpu_count() or 1,
        }
        with contextlib.suppress(OSError, ValueError, AttributeError):
            figures.update(self.processes(now))
        with contextlib.suppress(OSError, ValueError, KeyError):
            figures["host_virtual_memory"] = memory()
        self.read_at = now
        return figures

    def processes(self, now: float) -> dict[str, float]:
        """Return processor use in percent of one core since the last time, and bytes of memory."""
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        before, self.seconds, resident, used = self.seconds, {}, 0, 0.0
        for process in Path("/proc").glob("[0-9]*"):
            # It may have ended meanwhile.
            with contextlib.suppress(OSError):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[SESSION]) != self.leader:
                    continue
                seconds = (int(fields[USER]) + int(fields[KERNEL])) / tick
                self.seconds[process.name] = seconds
                used += seconds - before.get(process.name, 0.0)
                resident += int(fields[RESIDENT]) * page
        passed = now - self.read_at if self.read_at else 0.0
        return {
            "kernel_cpu": round(100 * used / passed, 1) if passed else 0.0,
            "kernel_memory": resident,
        }


def memory() -> dict[str, float]:
    """Return the machine's memory in bytes, with the names of psutil's `virtual_memory`."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}
    total, available = (int(values[key][0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return {
        "total": total,
        "available": available,
        "used": total - available,
        "percent": round(100 * (total - available) / total, 1),
    }
