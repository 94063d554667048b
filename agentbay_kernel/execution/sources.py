"""The source of `sandbox/`, as code that `run_code` runs in a sandbox."""

from __future__ import annotations

import base64
import functools
import zlib
from pathlib import Path

from agentbay_kernel import sandbox

DISPLAY_HOOKS = "display_hooks.py"


def read_source(file: str) -> str:
    """Return the text of a file of `sandbox/`."""
    return Path(sandbox.__file__ or "").with_name(file).read_text("utf-8")


def packed(script: str) -> str:
    """Return a script as one short expression that runs it and leaves no names behind."""
    compressed = base64.b64encode(zlib.compress(script.encode(), 9)).decode()
    unpacked = f"__import__('zlib').decompress(__import__('base64').b64decode({compressed!r}))"
    return f"exec({unpacked}, {{'__name__': '_agentbay'}})"


@functools.cache
def display_hooks_code() -> str:
    """Return code that prepares the Python that runs cells to show charts.

    The bridge does so in the kernel that it starts. Run again, the code does nothing.
    """
    return packed(read_source(DISPLAY_HOOKS))
