"""Presigned addresses: `PUT` and `GET` of one file, as in the service's object store.

The token in the path is the permission. Bytes are copied in pieces between connection and disk. An
incomplete upload leaves no file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO

from agentbay_kernel.local.contexts import ContextsFull
from agentbay_kernel.local.listener import UPLOAD_LIMIT, UPLOAD_S, LoopbackHandler, Runtime

PIECE = 256 * 1024


class FileHandler(LoopbackHandler):
    """The route of presigned addresses: upload or download of one file."""

    methods = ("GET", "PUT")
    body_s = UPLOAD_S
    held_in_memory = False

    def initialize(self, runtime: Runtime) -> None:
        """Take the route's arguments; tornado calls it."""
        super().initialize(runtime)
        self._file: IO[bytes] | None = None
        self._path: Path | None = None

    def admit(self) -> int | None:
        """Refuse a token that is unknown, expired, or for the other direction."""
        writes = self.request.method == "PUT"
        ticket = self.runtime.contexts.redeem(self.path_args[0], writes)
        if ticket is None:
            self.refuse(403, "AccessDenied", "The address is invalid or has expired.")
            return None
        self._ticket = ticket
        return UPLOAD_LIMIT if writes else 0

    def take(self, chunk: bytes) -> None:
        """Write a piece of an upload."""
        if self._file is None:
            self._path = self.runtime.contexts.new_file()
            self._file = self._path.open("wb")
        self._file.write(chunk)

    def drop(self) -> None:
        """Delete an incomplete upload."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def put(self, token: str) -> None:
        """Add the complete upload to its context."""
        if self._file is None:
            self.take(b"")
        assert self._file is not None and self._path is not None
        self._file.close()
        stored, self._file, self._path = self._path, None, None
        try:
            self.runtime.contexts.add_file(self._ticket.context, self._ticket.path, stored)
        except ContextsFull as failure:
            self.refuse(413, "ExceedLimit", str(failure))
            return
        self.set_header("ETag", f'"{secrets.token_hex(16)}"')
        self.finish()

    async def get(self, token: str) -> None:
        """Send the file, to its end even if it is replaced meanwhile."""
        stored = self.runtime.contexts.stored_file(self._ticket)
        if stored is None or not stored.exists():
            self.refuse(404, "NoSuchKey", "There is no such file.")
            return
        self.set_header("Content-Type", "application/octet-stream")
        with stored.open("rb") as file:
            self.set_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            while chunk := file.read(PIECE):
                self.write(chunk)
                await self.flush()
