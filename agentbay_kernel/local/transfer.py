"""Presigned addresses: `PUT` and `GET` of one file, as the service's object store takes them.

In: a token in the path, which is the permission. Out: the file's bytes stored or sent. They go
from the connection to the disk and back in pieces; a file is whole or it is not there.
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
    """Presigned addresses: upload or download of one file, in pieces."""

    methods = ("GET", "PUT")
    body_s = UPLOAD_S
    held_in_memory = False

    def initialize(self, runtime: Runtime) -> None:
        """Called by tornado with the route's arguments."""
        super().initialize(runtime)
        self._file: IO[bytes] | None = None
        self._path: Path | None = None

    def admit(self) -> int | None:
        """Refuse a token that is unknown, expired, or for the other way."""
        writes = self.request.method == "PUT"
        ticket = self.runtime.contexts.redeem(self.path_args[0], writes)
        if ticket is None:
            self.refuse(403, "AccessDenied", "The address is not valid, or no longer.")
            return None
        self._ticket = ticket
        return UPLOAD_LIMIT if writes else 0

    def take(self, chunk: bytes) -> None:
        """Write a piece of an upload."""
        if self._file is None:
            self._path = self.runtime.contexts.new_place()
            self._file = self._path.open("wb")
        self._file.write(chunk)

    def drop(self) -> None:
        """Forget an upload that did not become a file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def put(self, token: str) -> None:
        """The upload is complete."""
        if self._file is None:
            self.take(b"")
        assert self._file is not None and self._path is not None
        self._file.close()
        place, self._file, self._path = self._path, None, None
        try:
            self.runtime.contexts.keep(self._ticket.context, self._ticket.path, place)
        except ContextsFull as failure:
            self.refuse(413, "ExceedLimit", str(failure))
            return
        self.set_header("ETag", f'"{secrets.token_hex(16)}"')
        self.finish()

    async def get(self, token: str) -> None:
        """Send the file; it stays readable if it is replaced meanwhile."""
        place = self.runtime.contexts.place(self._ticket)
        if place is None or not place.exists():
            self.refuse(404, "NoSuchKey", "There is no such file.")
            return
        self.set_header("Content-Type", "application/octet-stream")
        with place.open("rb") as file:
            self.set_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            while chunk := file.read(PIECE):
                self.write(chunk)
                await self.flush()
