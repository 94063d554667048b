"""Limits on what one session may use, set by the agent on itself and inherited by its children.

In: {"data", "memory", "processes", "file_size", "cpu_s"}: bytes of each process, bytes of
all, a count or null, bytes of a file, seconds of a process.
Out: resource limits. For what no resource limit expresses, the memory of all processes together,
there is `process_tree.watch_memory`.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from typing import Any

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
