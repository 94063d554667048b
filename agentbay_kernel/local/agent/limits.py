"""Resource limits of one session, set by the agent on itself and inherited by its children.

No resource limit covers the memory of all processes together: `process_tree.watch_memory` does.
"""

from __future__ import annotations

import ctypes
import resource

# From malloc.h; blocks of at least this size go back to the system when they are freed.
M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 1024 * 1024


def free_at_once() -> None:
    """Give each large block back to the system when it is freed.

    glibc raises its threshold to the largest block that was freed, up to 32 MB, and keeps smaller
    ones (mallopt(3)): after one request of 16 MB, two such blocks for ever.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def apply(limits: dict[str, str]) -> None:
    """Set the limits of this process, which its children inherit.

    Arguments:
        limits: "data" (bytes of one process), "memory" (bytes of all), "processes" (a count or
            empty), "file_size" (bytes), "cpu_s" (seconds of one process).
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 4096)
    # So that an allocation that is far too large raises MemoryError. Not RLIMIT_AS: V8 reserves
    # gigabytes of addresses for WebAssembly, which `fetch` needs, and never uses them.
    _limit(resource.RLIMIT_DATA, int(limits["data"]))
    # Linux does not enforce this one, but code can read it. `watch_memory` enforces the limit.
    _limit(resource.RLIMIT_RSS, int(limits["memory"]))
    _limit(resource.RLIMIT_FSIZE, int(limits["file_size"]))
    # The soft limit sends SIGXCPU, which shows the reason; the hard limit kills.
    _limit(resource.RLIMIT_CPU, int(limits["cpu_s"]), beyond=5)
    if limits["processes"]:
        _limit(resource.RLIMIT_NPROC, int(limits["processes"]))


def _limit(which: int, value: int, beyond: int = 0) -> None:
    """Set a limit; code may raise it by `beyond`."""
    hard = resource.getrlimit(which)[1]
    most = value + beyond
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
        value = min(value, most)
    # macOS refuses some of them.
    try:
        resource.setrlimit(which, (value, most))
    except (ValueError, OSError):
        return
