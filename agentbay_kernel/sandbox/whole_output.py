"""All that the cells of a session print, kept in the sandbox: a front end folds what is too long.

In: the texts that a cell prints. Out: a file with all of the latest cell's, and one with those of
the cell before. Bounded: what a cell prints beyond that is not kept.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

# Bytes of one cell that are kept.
BOUND = 1024 * 1024 * 1024


class WholeOutput:
    """Keeps what the latest cells printed.

    Arguments:
        folder: the bridge's private one.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "output.txt")
        self.before = os.path.join(folder, "output-before.txt")
        self.request = ""
        self.size = 0
        self.file: Any = None

    def begin(self, request: str) -> None:
        """From now on this request's output is kept."""
        self.end()
        with contextlib.suppress(OSError):
            os.replace(self.path, self.before)
        self.request, self.size = request, 0
        # A full disk costs the copy, not the cell.
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self.file = os.fdopen(descriptor, "wb")

    def add(self, request: str, text: str) -> None:
        """A piece of what a request printed."""
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
        """The request has ended: what is kept can be read from the file."""
        if self.file is not None and request == self.request:
            with contextlib.suppress(OSError):
                self.file.flush()

    def end(self) -> None:
        """Keep no more."""
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
