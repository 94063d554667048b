"""Presigned addresses: `PUT` and `GET` of one file, as the service's object store takes them.

In: a token in the path, which is the permission. Out: the file's bytes stored or sent.
"""

from __future__ import annotations

import secrets
from typing import Any

from tornado import web

from agentbay_kernel.local.listener import BODY_LIMIT, LoopbackHandler, Runtime


@web.stream_request_body
class FileHandler(LoopbackHandler):
    """Presigned addresses: the token in the path is the permission."""

    def initialize(self, runtime: Runtime) -> None:
        """Called by tornado with the route's arguments."""
        super().initialize(runtime)
        self._file: Any = None

    def prepare(self) -> None:
        """Find the file before its bytes arrive."""
        super().prepare()
        if self._finished:
            return
        ticket = self.runtime.contexts.redeem(
            self.path_args[0], writes=self.request.method == "PUT"
        )
        if ticket is None:
            self.set_status(403)
            self.finish("AccessDenied")
            return
        self._place = self.runtime.contexts.place(ticket)
        if self.request.method == "PUT":
            connection: Any = self.request.connection
            connection.set_max_body_size(BODY_LIMIT)
            self._file = self._place.open("wb")

    def data_received(self, chunk: bytes) -> None:
        """A piece of an upload."""
        if self._file is not None:
            self._file.write(chunk)

    def put(self, token: str) -> None:
        """The upload is complete."""
        self._file.close()
        self.set_header("ETag", f'"{secrets.token_hex(16)}"')
        self.finish()

    async def get(self, token: str) -> None:
        """A download."""
        if not self._place.exists():
            self.set_status(404)
            self.finish("NoSuchKey")
            return
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(self._place.stat().st_size))
        with self._place.open("rb") as file:
            while chunk := file.read(1024 * 1024):
                self.write(chunk)
                await self.flush()
