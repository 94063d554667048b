"""Jedi's cache of parsed files, made once on this machine and copied into each session.

Without it each session would parse Python's stubs for its first completion. The interpreter of the
sessions makes it, outside them: a session reads a copy and can't change the original.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from agentbay_kernel.sandbox.completion_cache import FILL


@functools.cache
def cache_of(python: str, prefix: str) -> Path | None:
    """Return an interpreter's cache directory: another one if its packages have changed.

    Arguments:
        python: path of the interpreter.
        prefix: its `sys.prefix`.

    Returns:
        None if no Jedi is found for it.
    """
    # Imported here: a runtime must start fast.
    from jupyter_core.paths import jupyter_data_dir

    packages = [
        f"{path.name} {path.stat().st_mtime_ns}"
        for name in ("jedi", "parso")
        for path in Path(prefix).glob(f"lib/python*/site-packages/{name}-*.dist-info")
    ]
    if not packages:
        return None
    name = "-".join(_digest(facts) for facts in (python, "\n".join(sorted(packages))))
    return Path(jupyter_data_dir(), "agentbay", "completion", name)


# Ends the child when this process ends, however that happens. Only on Linux: elsewhere the child
# runs to its end.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
"""
# Names a directory that is being filled. An older one is left from a process that was killed.
_UNFINISHED, _UNFINISHED_S = "unfinished-", 3600.0


def _digest(facts: str) -> str:
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


async def fill(python: str, prefix: str) -> None:
    """Make the cache, unless it is there. If that fails, first completions are slow."""
    cache = cache_of(python, prefix)
    if cache is None or cache.is_dir():
        return
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        for left in cache.parent.glob(f"{_UNFINISHED}*"):
            if time.time() - left.stat().st_mtime > _UNFINISHED_S:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=_UNFINISHED) as made:
            process = await asyncio.create_subprocess_exec(
                *(python, "-I", "-c", _END_WITH_PARENT + FILL, str(os.getpid())),
                env={**os.environ, "XDG_CACHE_HOME": made},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                done = await process.wait() == 0
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            if not done:
                return
            files = Path(made, "jedi")
            # Sessions have another user id.
            for path in (files, *files.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            for old in cache.parent.glob(f"{cache.name.partition('-')[0]}-*"):
                shutil.rmtree(old, ignore_errors=True)
            files.rename(cache)
