"""Resource limits of one session, set by the agent on itself and inherited by its children.

No resource limit covers the memory of all processes together: `process_tree.watch_memory` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from typing import Any

# From malloc.h; blocks of at least this size go back to the system when they are freed.
M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 1024 * 1024


def free_at_once() -> None:
    """Give each large block back to the system when it is freed.

    glibc raises its threshold to the largest block that was freed, up to 32 MB, and keeps smaller
    ones (mallopt(3)): after one request of 16 MB, two such blocks for ever.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def apply(limits: dict[str, Any]) -> None:
    """Set the limits of this process, which its children inherit.

    Arguments:
        limits: "data" (bytes of one process), "memory" (bytes of all), "processes" (a count or
            None), "file_size" (bytes), "cpu_s" (seconds of one process).
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 4096)
    # So that an allocation that is far too large raises MemoryError. Not RLIMIT_AS: V8 reserves
    # gigabytes of addresses for WebAssembly, which `fetch` needs, and never uses them.
    _limit(resource.RLIMIT_DATA, limits["data"])
    # Linux does not enforce this one, but code can read it. `watch_memory` enforces the limit.
    _limit(resource.RLIMIT_RSS, limits["memory"])
    _limit(resource.RLIMIT_FSIZE, limits["file_size"])
    # The soft limit sends SIGXCPU, which shows the reason; the hard limit kills.
    _limit(resource.RLIMIT_CPU, limits["cpu_s"], beyond=5)
    if limits["processes"] is not None:
        _limit(resource.RLIMIT_NPROC, limits["processes"])


def _limit(which: int, value: int, beyond: int = 0) -> None:
    """Set a limit; code may raise it by `beyond`."""
    hard = resource.getrlimit(which)[1]
    most = value + beyond
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
        value = min(value, most)
    # macOS refuses some of them.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (value, most))
