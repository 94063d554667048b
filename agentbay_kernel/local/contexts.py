"""Contexts: named stores outside the sessions, whose files are copied to and from sessions
(AgentBay wire protocol, contexts and file transfer).

A context's files live as long as the runtime; they are not put into new sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import posixpath
import secrets
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentbay_kernel.local import file_tools
from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.sessions import Session
from agentbay_kernel.local.turns import give_way

URL_LIFE_S = 3600
# Bytes of a file that are copied at once.
CHUNK = 256 * 1024
# Bytes of one file, and of all files of all contexts.
FILE_LIMIT = 1024 * 1024 * 1024
FILES_LIMIT = 8 * FILE_LIMIT
CONTEXTS_LIMIT = 10_000
TICKETS_LIMIT = 10_000
TASKS_LIMIT = 1_000
PATH_LIMIT = 4096


class ContextGone(Exception):
    """There is no such context."""


class ContextsFull(Exception):
    """A limit of the contexts is reached; the message names it."""


@dataclass(eq=False)
class Context:
    """One named store."""

    id: str
    name: str
    created: str
    used: str
    files: dict[str, Path] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return the service's description of it."""
        return {
            "Id": self.id,
            "Name": self.name,
            "State": "available",
            "OsType": "linux",
            "CreateTime": self.created,
            "LastUsedTime": self.used,
        }


@dataclass(frozen=True)
class Ticket:
    """A presigned address: for one file, in one direction, for an hour."""

    context: Context
    path: str
    writes: bool
    expires: float


class Contexts:
    """All contexts of the runtime.

    Arguments:
        folder: for their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: dict[str, Context] = {}
        self._tickets: dict[str, Ticket] = {}
        self._tasks: dict[str, list[dict[str, Any]]] = {}

    def get_or_make(self, name: str, make: bool) -> Context | None:
        """Return the context of that name, a new one if `make` is true."""
        for context in self._contexts.values():
            if context.name == name:
                context.used = _now()
                return context
        if not make:
            return None
        if len(self._contexts) >= CONTEXTS_LIMIT:
            raise ContextsFull(f"There are {CONTEXTS_LIMIT} contexts already: delete some.")
        context = Context(f"SdkCtx-{secrets.token_hex(8)}", name, _now(), _now())
        self._contexts[context.id] = context
        return context

    def find(self, context_id: str) -> Context:
        """Return the context of that id.

        Raises:
            ContextGone: it does not exist.
        """
        if context_id not in self._contexts:
            raise ContextGone(context_id)
        return self._contexts[context_id]

    def listed(self) -> list[Context]:
        """Return all contexts, oldest first, without those for transfers."""
        return [c for c in self._contexts.values() if not c.name.startswith("transfer-")]

    def delete(self, context_id: str) -> None:
        """Delete a context and its files."""
        for path in self.find(context_id).files.values():
            path.unlink(missing_ok=True)
        del self._contexts[context_id]

    def transfer_context(self, session: Session) -> Context:
        """Return the context through which a session's files are transferred."""
        context = self.get_or_make(f"transfer-{session.id}", make=True)
        assert context is not None
        return context

    def presign(self, context_id: str, path: str, writes: bool) -> tuple[str, int]:
        """Return a token for `/oss/TOKEN` and the second at which it expires."""
        context = self.find(context_id)
        now = time.time()
        # All have the same lifetime: the oldest expires first.
        while self._tickets:
            oldest = next(iter(self._tickets))
            if self._tickets[oldest].expires > now and len(self._tickets) < TICKETS_LIMIT:
                break
            del self._tickets[oldest]
        token = secrets.token_urlsafe(24)
        self._tickets[token] = Ticket(context, path[:PATH_LIMIT], writes, now + URL_LIFE_S)
        return token, int(now + URL_LIFE_S)

    def redeem(self, token: str, writes: bool) -> Ticket | None:
        """Return a token's ticket, unless it is unknown, expired or for the other direction."""
        ticket = self._tickets.get(token)
        if ticket is None or ticket.writes != writes or ticket.expires < time.time():
            return None
        # The context may have been deleted since.
        return ticket if ticket.context.id in self._contexts else None

    def stored_file(self, ticket: Ticket) -> Path | None:
        """Return where a ticket's file is stored, None if it does not exist."""
        return ticket.context.files.get(ticket.path)

    def new_file(self) -> Path:
        """Return a path to write a file to, for `add_file`."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        return self._folder / secrets.token_hex(12)

    def add_file(self, context: Context, path: str, stored: Path) -> None:
        """Add a file that was written to a context; it replaces an older one of its path.

        Raises:
            ContextsFull: the files of all contexts are too large, or the context is gone.
        """
        total = stored.stat().st_size
        for other in self._contexts.values():
            for name, kept in other.files.items():
                if (other, name) != (context, path):
                    with suppress(OSError):
                        total += kept.stat().st_size
        if total > FILES_LIMIT or context.id not in self._contexts:
            stored.unlink()
            raise ContextsFull(f"The files of contexts may have {FILES_LIMIT:,} bytes.")
        older = context.files.get(path)
        context.files[path] = stored
        if older is not None:
            older.unlink(missing_ok=True)

    def files_in(self, context: Context, folder: str) -> list[dict[str, Any]]:
        """Return the service's description of each file directly in a directory, by path."""
        wanted = posixpath.normpath("/" + folder.lstrip("/"))
        found = []
        for path, stored in sorted(context.files.items()):
            whole = posixpath.normpath("/" + path.lstrip("/"))
            if posixpath.dirname(whole) != wanted:
                continue
            try:
                status = stored.stat()
            except OSError:
                continue
            when = _as_time(status.st_mtime)
            found.append(
                {
                    "FileId": hashlib.sha256(f"{context.id}:{path}".encode()).hexdigest()[:24],
                    "FileName": posixpath.basename(whole),
                    "FilePath": path,
                    "FileType": posixpath.splitext(whole)[1].removeprefix("."),
                    "GmtCreate": when,
                    "GmtModified": when,
                    "Size": status.st_size,
                    "Status": "available",
                }
            )
        return found

    def delete_file(self, context_id: str, path: str) -> None:
        """Delete a file of a context, if it exists."""
        stored = self.find(context_id).files.pop(path, None)
        if stored is not None:
            stored.unlink(missing_ok=True)

    async def sync(self, session: Session, context_id: str, path: str, mode: str) -> None:
        """Copy a file into the session (`download`) or out of it (`upload`); record the task."""
        task = {
            "contextId": context_id,
            "path": path,
            "taskType": mode,
            "status": "Success",
            "errorMessage": "",
            "startTime": int(time.time()),
        }
        try:
            context = self.find(context_id)
            if mode == "download":
                stored = context.files.get(path)
                if stored is None:
                    raise FileNotFoundError(2, "No such file in the context", path)
                await _copy_in(session, path, stored)
            else:
                await self._upload(session, context, path)
        except (OSError, AgentError, ContextGone, ContextsFull) as failure:
            task |= {"status": "Failed", "errorMessage": str(failure)}
        task["finishTime"] = int(time.time())
        self.record_task(session, task)

    async def _upload(self, session: Session, context: Context, path: str) -> None:
        stored = self.new_file()
        try:
            await _copy_out(session, path, stored)
            self.add_file(context, path, stored)
        except BaseException:
            stored.unlink(missing_ok=True)
            raise

    def record_task(self, session: Session, task: dict[str, Any]) -> None:
        """Record a finished task for GetContextInfo; a later one of its kind replaces it."""
        same = ("contextId", "path", "taskType")
        tasks = self._tasks.setdefault(session.id, [])
        tasks[:] = [old for old in tasks if any(old[key] != task[key] for key in same)]
        tasks.append(task)
        del tasks[:-TASKS_LIMIT]

    def tasks(self, session: Session, context_id: str, path: str, kind: str) -> str:
        """Return the tasks of a session as in GetContextInfo; empty arguments match all."""
        wanted = {"contextId": context_id, "path": path, "taskType": kind}
        found = [
            task
            for task in self._tasks.get(session.id, [])
            if all(value in ("", task[key]) for key, value in wanted.items())
        ]
        return json.dumps([{"type": "data", "data": json.dumps(found)}])

    def forget(self, session_id: str) -> None:
        """Delete what was stored for a session that has ended."""
        self._tasks.pop(session_id, None)
        context = self.get_or_make(f"transfer-{session_id}", make=False)
        if context is not None:
            self.delete(context.id)


async def _copy_in(session: Session, path: str, stored: Path) -> None:
    loop = asyncio.get_running_loop()
    with stored.open("rb") as file:
        async with _copying(session, "receive_file", path) as ours:
            # A read of a piece that is cached takes less than a change of thread.
            while piece := file.read(CHUNK):
                await loop.sock_sendall(ours, piece)
                await give_way()
            ours.shutdown(socket.SHUT_WR)


async def _copy_out(session: Session, path: str, stored: Path) -> None:
    loop = asyncio.get_running_loop()
    with stored.open("wb") as file:
        async with _copying(session, "send_file", path) as ours:
            while piece := await loop.sock_recv(ours, CHUNK):
                file.write(piece)
                if file.tell() > FILE_LIMIT:
                    raise ContextsFull(f"{path} has more than {FILE_LIMIT:,} bytes.")
                await give_way()


@asynccontextmanager
async def _copying(session: Session, do: str, path: str) -> AsyncGenerator[socket.socket]:
    """Open a socket for the bytes of a file, which the session's agent copies from or to it.

    Raises:
        AgentError: the agent refused or failed.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def call() -> None:
        try:
            arguments = {"path": path}
            await file_tools.work(session, do, arguments, pass_fd=theirs.fileno())
        finally:
            # So that a wait at our end stops too.
            theirs.close()

    calling = asyncio.ensure_future(call())
    try:
        # If the connection breaks, the call has failed; it raises the reason.
        with suppress(BrokenPipeError, ConnectionResetError):
            yield ours
        await calling
    finally:
        ours.close()
        # It ends soon: its socket is closed.
        await asyncio.wait([calling])
        if not calling.cancelled():
            calling.exception()


def _now() -> str:
    return _as_time(time.time())


def _as_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
