"""Limits on what one session may use, set by the agent on itself and inherited by its children.

In: {"data", "memory", "processes", "file_size", "cpu_s"}: bytes of each process, bytes of
all, a count or null, bytes of a file, seconds of a process.
Out: resource limits, and a watch that kills the largest process when all of them together use
more memory than allowed, which no resource limit expresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any

from agentbay_kernel.local.agent.process_tree import descendants

WATCH_INTERVAL_S = 0.25
# From malloc.h; and the bytes from which on a block is the system's own again once it is freed.
M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 1024 * 1024


def free_at_once() -> None:
    """Give each large block back to the system when it is freed.

    glibc raises its bound for "large" to the largest block that was ever freed, up to 32 MB, and
    keeps those below it (mallopt(3)): after one request of 16 MB, two such blocks for ever.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def apply(limits: dict[str, Any]) -> None:
    """Set the limits on this process and so on all its children."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 4096)
    # Makes an allocation that is far too large a MemoryError. Writable memory, not addresses: V8
    # reserves gigabytes of those for WebAssembly, which `fetch` needs, and never uses them.
    _limit(resource.RLIMIT_DATA, limits["data"])
    # Linux enforces none for resident memory: the watch does, and this is how code can know of it.
    _limit(resource.RLIMIT_RSS, limits["memory"])
    _limit(resource.RLIMIT_FSIZE, limits["file_size"])
    # The first limit ends a process by a signal that tells why, the second one surely.
    _limit(resource.RLIMIT_CPU, limits["cpu_s"], beyond=5)
    if limits["processes"] is not None:
        _limit(resource.RLIMIT_NPROC, limits["processes"])


def _limit(which: int, value: int, beyond: int | None = 0) -> None:
    """Set a limit; code may raise it by `beyond`, without bounds where that is None."""
    hard = resource.getrlimit(which)[1]
    most = hard if beyond is None else value + beyond
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
        value = min(value, most)
    # macOS refuses some of them.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (value, most))


def memory_of(pids: list[int]) -> dict[int, int]:
    """Private resident memory of each process, in bytes."""
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

    The ids of the killed are added to `killed`.
    """
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        used = memory_of(descendants())
        if used and sum(used.values()) > limit:
            largest = max(used, key=lambda pid: used[pid])
            killed.add(largest)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(largest, signal.SIGKILL)
