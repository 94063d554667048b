"""A session's processes without a PID namespace: finds and kills them, and watches their memory.

On Linux, orphans are adopted, so that a daemon that has detached itself is found too. Elsewhere
only process groups are known.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Container
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
REAP_INTERVAL_S = 0.05
WATCH_INTERVAL_S = 0.25


def adopt_orphans() -> bool:
    """Make this process the parent of every orphan below it; return False if that is impossible."""
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants() -> list[int]:
    """Return the ids of all processes below this one."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may itself contain spaces and parentheses.
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
    """Kill all descendants, again and again: one may start another while it is being killed."""
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


async def reap_orphans(own_children: Container[int]) -> None:
    """Reap adopted processes as they end; `own_children` are waited for elsewhere."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, ended.set)
    # Some may have ended before.
    ended.set()
    seen: set[int] = set()
    while True:
        # A child that has just been started may not be in `own_children` yet. So a session leader
        # is reaped only if it has ended in two rounds.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1 if seen else None):
                await ended.wait()
        ended.clear()
        seen = {pid for pid in _ended_children() if pid not in own_children and _reap(pid, seen)}
        # A limit: cells can send the signal too.
        await asyncio.sleep(REAP_INTERVAL_S)


def _ended_children() -> list[int]:
    own = str(os.getpid())
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z" and fields[1] == own:
                found.append(int(folder.name))
    return found


def _reap(pid: int, seen: set[int]) -> bool:
    """Reap an orphan; return True if it must be checked again."""
    with contextlib.suppress(OSError):
        session = os.getsid(pid)
        if session == os.getsid(0):
            # A file operation, which is waited for. Cells' processes are in other sessions.
            return False
        if session == pid and pid not in seen:
            return True
        os.waitpid(pid, os.WNOHANG)
    return False


def memory_of(pids: list[int]) -> dict[int, int]:
    """Return the private resident memory of each process, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    used = {}
    for pid in pids:
        try:
            _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
        except (OSError, ValueError):
            continue
        used[pid] = (int(resident) - int(shared)) * page
    return used


async def watch_memory(limit: int, killed: set[int]) -> None:
    """Kill the largest process of the session while all of them use more than `limit` bytes.

    The ids of killed processes are added to `killed`.
    """
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        used = memory_of(descendants())
        if used and sum(used.values()) > limit:
            largest = max(used, key=lambda pid: used[pid])
            killed.add(largest)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(largest, signal.SIGKILL)
