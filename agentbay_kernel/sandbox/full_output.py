"""The full output of the latest cells, stored in the sandbox: the page shows only a part of it.

One file has the output of the latest cell, another that of the cell before, each up to a limit.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

# Bytes of one cell that are stored.
BOUND = 1024 * 1024 * 1024


class FullOutput:
    """Stores what the latest cells printed.

    Arguments:
        folder: the bridge's private directory.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "output.txt")
        self.before = os.path.join(folder, "output-before.txt")
        self.request = ""
        self.size = 0
        self.file: Any = None

    def begin(self, request: str) -> None:
        """Start to store this request's output."""
        self.end()
        with contextlib.suppress(OSError):
            os.replace(self.path, self.before)
        self.request, self.size = request, 0
        # If the disk is full, only the file fails, not the cell.
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self.file = os.fdopen(descriptor, "wb")

    def add(self, request: str, text: str) -> None:
        """Store a piece of a request's output."""
        if self.file is None or request != self.request:
            return
        data = text.encode("utf-8", "replace")
        self.size += len(data)
        try:
            if self.size <= BOUND:
                self.file.write(data)
        except OSError:
            self.end()

    def flush(self, request: str) -> None:
        """Write buffered output to the file: the request has ended."""
        if self.file is not None and request == self.request:
            with contextlib.suppress(OSError):
                self.file.flush()

    def end(self) -> None:
        """Stop storing."""
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
