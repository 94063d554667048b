"""Bytes to and from a sandbox, in pieces, by the session's file tools.

A stream becomes files in the sandbox that hold the bytes in base64, one for each piece, named by
offset. The bytes of a file of the sandbox are read in pieces. One tool writes text and one reads
bytes (AgentBay wire protocol, filesystem). So no code runs in the sandbox for it, and it does not
wait for running code. Writing a piece again replaces it, and reading changes nothing: both are
repeated if their response is lost.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import collections
import hashlib
import itertools
import json
import os
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    TRANSIENT_FAILURES,
    ChecksumError,
    CommandError,
    ExchangeError,
    ExchangeStoppedError,
    MalformedValueError,
)
from agentbay_kernel.service import Session

# Larger pieces are not faster (benchmarks/README.md).
_LARGEST_PIECE = 1_000_000
# Calls at a time: together they share the cost of a distance of 60 ms to the service.
_WORKERS = 8
_CALL_S, _SHELL_S = 60, 10
_PATIENCE_S = 60.0
# A session without isolation has a directory of its own for temporary files, removed with it.
_MAKE = 'mktemp -d "${TMPDIR:-/tmp}/ab-XXXXXXXXXX"'
_PATH = re.compile(r"/[\w./-]{1,200}")

Done = TypeVar("Done")
# A stretch of a stream: offset and length, in bytes.
Stretch = tuple[int, int]


class ByteTransfer:
    """Transfers bytes for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = ""

    def folder(self) -> str:
        """Return a private directory of the sandbox, created when it is first needed.

        Raises:
            ExchangeError: the sandbox did not create it.
            CommandError: the service failed.
        """
        if not self._folder:
            done = self._session.run_shell(_MAKE, _SHELL_S)
            made = _stdout(done.data).strip()
            if not done.success or not _PATH.fullmatch(made):
                raise ExchangeError(
                    "The sandbox created no directory for the transfer: "
                    f"{(done.error_message or done.data)[:300]}. Nothing was sent."
                )
            self._folder = made
        return self._folder

    def forget_folder(self) -> None:
        """Forget the directory, which is gone or changed: the next call creates a new one."""
        self._folder = ""

    def new_base(self) -> str:
        """Return an unused path in the private directory."""
        return f"{self.folder()}/{secrets.token_hex(6)}"

    def remove(self, base: str) -> None:
        """Remove the files whose paths start with a base; a failure does no harm."""
        command = f"rm -rf -- {shlex.quote(base)}.*"
        try:
            self._session.run_shell(command, _SHELL_S)
        except CommandError:
            return

    @property
    def piece(self) -> int:
        """The number of bytes to send in one call."""
        # In base64, which adds a third.
        return min(_LARGEST_PIECE, self._session.capacity("write_file").sent * 3 // 4)

    def write(self, path: str, text: str) -> None:
        """Write a short text to a file."""
        self._call("write_file", {"path": path, "content": text, "mode": "overwrite"})

    def write_stream(
        self,
        base: str,
        missing: Iterable[Stretch],
        read: Callable[[int, int], bytes],
        arrived: Callable[[int], None],
        stopped: threading.Event | None = None,
    ) -> None:
        """Write parts of a stream, as files BASE.p-OFFSET.

        Arguments:
            read: returns the bytes of a part.
            arrived: called with the number of bytes that arrived, on this thread.
        """
        size = self.piece

        def pieces() -> Iterator[Stretch]:
            for offset, length in missing:
                for start in range(offset, offset + length, size):
                    yield start, min(size, offset + length - start)

        def carry(piece: Stretch) -> int:
            text = base64.b64encode(read(*piece)).decode()
            self.write(f"{base}.p-{piece[0]:015d}", text)
            return piece[1]

        for done in self._parallel(carry, pieces(), stopped):
            arrived(done)

    def read_stream(
        self,
        path: str,
        start: int,
        end: int,
        stopped: threading.Event | None = None,
    ) -> Iterator[bytes]:
        """Yield the bytes of a file from one offset to another, in order.

        Raises:
            MalformedValueError: the file does not have that many bytes there.
        """
        size = self.piece

        def carry(piece: Stretch) -> bytes:
            data = self._read(path, *piece)
            if len(data) != piece[1]:
                raise MalformedValueError(
                    f"The sandbox promised {piece[1]:,} bytes of {path} at {piece[0]:,} and sent "
                    f"{len(data):,}. Nothing of it is used."
                )
            return data

        pieces = ((at, min(size, end - at)) for at in range(start, end, size))
        yield from self._parallel(carry, pieces, stopped)

    def read_all(self, path: str, limit: int) -> bytes:
        """Return all bytes of a file, at most `limit`.

        Raises:
            MalformedValueError: it has more.
        """
        size = self.piece
        held = bytearray()
        while True:
            data = self._read(path, len(held), size)
            held += data
            if len(held) > limit or len(data) > size:
                raise MalformedValueError(
                    f"The sandbox's response has more than {limit:,} bytes; it is not used."
                )
            if len(data) < size:
                return bytes(held)

    def _read(self, path: str, offset: int, length: int) -> bytes:
        text = self._call(
            "read_file", {"path": path, "offset": offset, "length": length, "format": "binary"}
        )
        if len(text) > 2 * length + 1000:
            raise MalformedValueError(
                f"The sandbox sent {len(text):,} characters for {length:,} bytes of {path}; they "
                "are not used."
            )
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise MalformedValueError(
                f"The sandbox sent what is no base64 for {path}; it is not used."
            ) from None

    def _call(self, tool: str, arguments: dict[str, object]) -> str:
        gives_up_at = time.monotonic() + _PATIENCE_S
        backoff = threads.Backoff(0.1, 5.0)
        while True:
            try:
                done = self._session.call_mcp_tool(tool, arguments, _CALL_S)
            except TRANSIENT_FAILURES:
                if not backoff.sleep(gives_up_at):
                    raise
                continue
            if not done.success:
                raise ExchangeError(
                    f"The sandbox's tool {tool} failed for {arguments['path']}: "
                    f"{done.error_message[:300]}"
                )
            return done.data

    def _parallel(
        self,
        carry: Callable[[Stretch], Done],
        items: Iterator[Stretch],
        stopped: threading.Event | None,
    ) -> Iterator[Done]:
        under_way: collections.deque[Future[Done]] = collections.deque()
        with ThreadPoolExecutor(_WORKERS, "agentbay-exchange") as pool:
            try:
                for item in items:
                    if stopped is not None and stopped.is_set():
                        raise ExchangeStoppedError(
                            "The transfer was stopped. Run it again: files continue "
                            "where they stopped."
                        )
                    under_way.append(pool.submit(carry, item))
                    # Results that have not been taken are held in memory.
                    if len(under_way) > _WORKERS:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()


def _stdout(text: str) -> str:
    """Return the output of a shell.

    The tool wraps it in JSON, older images do not (protocol 7.1).
    """
    try:
        told = json.loads(text)
    except ValueError:
        return text
    return str(told.get("stdout", "")) if isinstance(told, dict) else text


_READ = 1024 * 1024


class Source:
    """The parts to send, as one stream.

    Arguments:
        parts: bytes, or files; a file must keep its size.
        sizes: the parts' sizes in bytes, if they are known.
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
        """Return the bytes of a part of the stream.

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
        """Return the SHA-256 of the whole stream."""
        digest = hashlib.sha256()
        for offset in range(0, self.size, _READ):
            digest.update(self.read(offset, min(_READ, self.size - offset)))
        return digest.hexdigest()


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, but not a link, if the system can detect that."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")
