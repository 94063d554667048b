"""A local runtime as a child process, for tests of everything that talks to one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LocalRuntimeProcess:
    """A running local runtime: where it is, and all that its first line says."""

    endpoint: str
    api_key: str
    announcement: dict[str, Any]
    process: subprocess.Popen[str]


@contextmanager
def running_local_runtime(
    *flags: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> Iterator[LocalRuntimeProcess]:
    """Start `python -m agentbay_kernel serve` with flags and end it afterwards.

    Arguments:
        flags: of `serve`. Sessions are pre-warmed only where they say so: most tests use one, and a
            second that is made for nobody takes as long.
        env: added to this process's environment.
        prefix: a command that starts it, as another user for example.
    """
    if "--prewarm" not in flags:
        flags += ("--prewarm", "0")
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "agentbay_kernel", "serve", "--die-with-parent", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the local runtime said nothing"
        told = json.loads(line)
        yield LocalRuntimeProcess(told["endpoint"], told["api_key"], told, process)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(15)
        finally:
            # One that does not end when its program has gone fails its test.
            process.kill()
