"""A stream of bytes that is transferred as pieces: put together again, and cut where its parts end.

In: files BASE.p-OFFSET, each a piece in base64. Out: their bytes in order, what of them is there,
and the parts that a stream is made of.

Runs on both sides; needs Python 3.9.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import os
from typing import Iterable, Iterator

from agentbay_kernel.sandbox.exchange.values import MALFORMED, Refused


def found(base: str) -> list[tuple[int, int, str]]:
    """The pieces that are there: offset, bytes, path; none that laps over another."""
    pieces = []
    after = 0
    for path in sorted(glob.glob(glob.escape(base) + ".p-*")):
        offset = int(path.rpartition("-")[2])
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            file.seek(max(0, size - 2))
            padding = file.read().count(b"=")
        length = size // 4 * 3 - padding
        # One that was cut off on its way is sent again.
        if offset >= after and size % 4 == 0 and length > 0:
            pieces.append((offset, length, path))
            after = offset + length
    return pieces


def joined(base: str) -> Iterator[bytes]:
    """The bytes of all pieces, in order. A piece is removed when the next one is asked for.

    Raises:
        Refused: there is a gap.
    """
    after = 0
    for offset, length, path in found(base):
        if offset != after:
            raise Refused(MALFORMED, "a piece is missing at %d" % after)
        with open(path, "rb") as file:
            yield base64.b64decode(file.read())
        # What is made of them would not fit beside them on a small disk.
        os.unlink(path)
        after += length


class Stream:
    """Bytes that come in pieces, taken in parts of other sizes."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = iter(data)
        self._rest = memoryview(b"")
        self._digest = hashlib.sha256()

    def take(self, size: int) -> Iterator[memoryview]:
        """The next bytes, so many.

        Raises:
            Refused: there are fewer.
        """
        while size:
            if not self._rest:
                piece = next(self._data, b"")
                if not piece:
                    raise Refused(MALFORMED, "fewer bytes arrived than were announced")
                self._digest.update(piece)
                self._rest = memoryview(piece)
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            size -= len(part)
            yield part

    def end(self, sha256: str) -> None:
        """Make sure that nothing is left, and that all was what it should be.

        Raises:
            Refused: it was not.
        """
        if len(self._rest) or next(self._data, b""):
            raise Refused(MALFORMED, "more bytes arrived than were announced")
        if self._digest.hexdigest() != sha256:
            raise Refused(MALFORMED, "what arrived is not what was sent")


def unpack(data: Iterable[bytes], folder: str, sizes: list[int], sha256: str) -> bytes:
    """Write the blobs of a stream to files b0, b1, ...; returns the text in front of them.

    Raises:
        Refused: the stream has another length or content than told.
    """
    stream = Stream(data)
    text = b"".join(stream.take(sizes[0]))
    for number, size in enumerate(sizes[1:]):
        with open(os.path.join(folder, "b%d" % number), "wb") as file:
            for part in stream.take(size):
                file.write(part)
    stream.end(sha256)
    return text
