"""Ending processes where no PID namespace does it: find what descends from this process, kill it.

In: nothing but the process's own id. Out: no descendant left. On Linux orphans are adopted, so
that a daemon which detached itself is found too; elsewhere only process groups are known.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Make this process the parent of every orphan below it; False where that can't be done."""
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants() -> list[int]:
    """The ids of all processes below this one."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may hold spaces and parentheses of its own.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_descendants() -> None:
    """Kill until nothing is left: a process may start another while it is being killed."""
    for _ in range(50):
        alive = descendants()
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in alive:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


async def reap_orphans() -> None:
    """Collect adopted processes that have ended; children started here are left alone."""
    while True:
        await asyncio.sleep(5)
        own = os.getpid()
        for pid in descendants():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # Children started here lead a session of their own and are waited for elsewhere.
                if fields[0] == "Z" and int(fields[1]) == own and int(fields[3]) != pid:
                    os.waitpid(pid, os.WNOHANG)
            except (OSError, IndexError):
                continue
