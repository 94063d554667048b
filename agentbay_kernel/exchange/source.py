"""Bytes and files as one stream: what is sent, readable at any offset.

In: bytes and paths. Out: stretches of them one behind the other, from any thread.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from agentbay_kernel.errors import ChecksumError

_READ = 1024 * 1024


class Source:
    """The stream of some parts.

    Arguments:
        parts: bytes, or files; a file must keep its size.
        sizes: the parts' sizes in bytes, where they are known.
    """

    def __init__(self, parts: Sequence[bytes | Path], sizes: Sequence[int] | None = None) -> None:
        self._parts = parts
        self.sizes = list(
            sizes
            if sizes is not None
            else (len(p) if isinstance(p, bytes) else p.stat().st_size for p in parts)
        )
        self._ends = list(itertools.accumulate(self.sizes))
        self.size = sum(self.sizes)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a stretch.

        Raises:
            ChecksumError: a file is shorter than it was.
        """
        number = bisect.bisect_right(self._ends, offset)
        pieces = []
        while length and number < len(self._parts):
            inside = offset - (self._ends[number] - self.sizes[number])
            wanted = min(length, self.sizes[number] - inside)
            pieces.append(self._read_part(number, inside, wanted))
            offset, length, number = offset + wanted, length - wanted, number + 1
        return b"".join(pieces)

    def _read_part(self, number: int, inside: int, wanted: int) -> bytes:
        part = self._parts[number]
        if isinstance(part, bytes):
            return part[inside : inside + wanted]
        with open_plain(part) as file:
            file.seek(inside)
            data = file.read(wanted)
        if len(data) != wanted:
            raise ChecksumError(f"{part} changed while it was sent. Run it again.")
        return data

    def sha256(self) -> str:
        """The SHA-256 of the whole stream."""
        digest = hashlib.sha256()
        for offset in range(0, self.size, _READ):
            digest.update(self.read(offset, min(_READ, self.size - offset)))
        return digest.hexdigest()


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, but no link, where the system can tell."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")
