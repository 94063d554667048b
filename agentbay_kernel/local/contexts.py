"""Contexts: named stores outside the sessions, and files on their way in and out of sessions.

In: names, ids and paths. Out: contexts, tickets for presigned addresses, and files brought into
and out of sandboxes (AgentBay wire protocol, contexts and file transfer). A context's files live
as long as the runtime; they are not put into new sessions.
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
from agentbay_kernel.local.agent_client import AgentError, bulk
from agentbay_kernel.local.sessions import Session

URL_LIFE_S = 3600
# Bytes of a file that are copied at once.
CHUNK = 256 * 1024
# One file, all files of all contexts (bytes), and how many of what there may be.
FILE_LIMIT = 1024 * 1024 * 1024
FILES_LIMIT = 8 * FILE_LIMIT
CONTEXTS_LIMIT = 10_000
TICKETS_LIMIT = 10_000
TASKS_LIMIT = 1_000
PATH_LIMIT = 4096


class ContextGone(Exception):
    """No such context."""


class ContextsFull(Exception):
    """The runtime keeps no more; the message says of what."""


@dataclass(eq=False)
class Context:
    """One named store."""

    id: str
    name: str
    created: str
    used: str
    files: dict[str, Path] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """As the service tells of it."""
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
    """A presigned address: for one file, one way, for an hour."""

    context: Context
    path: str
    writes: bool
    expires: float


class Contexts:
    """All contexts of the runtime.

    Arguments:
        folder: where files are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: dict[str, Context] = {}
        self._tickets: dict[str, Ticket] = {}
        self._tasks: dict[str, list[dict[str, Any]]] = {}

    def get_or_make(self, name: str, make: bool) -> Context | None:
        """The context of that name; made if asked to."""
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
        """The context of that id.

        Raises:
            ContextGone: there is none.
        """
        if context_id not in self._contexts:
            raise ContextGone(context_id)
        return self._contexts[context_id]

    def listed(self) -> list[Context]:
        """All contexts, oldest first, without the sessions' own."""
        return [c for c in self._contexts.values() if not c.name.startswith("transfer-")]

    def delete(self, context_id: str) -> None:
        """Forget a context and its files."""
        for path in self.find(context_id).files.values():
            path.unlink(missing_ok=True)
        del self._contexts[context_id]

    def transfer_context(self, session: Session) -> Context:
        """The context through which a session's files are exchanged."""
        context = self.get_or_make(f"transfer-{session.id}", make=True)
        assert context is not None
        return context

    def presign(self, context_id: str, path: str, writes: bool) -> tuple[str, int]:
        """A token for `/oss/TOKEN` and the second at which it expires."""
        context = self.find(context_id)
        now = time.time()
        # All last equally long: the first is the first to expire.
        while self._tickets:
            oldest = next(iter(self._tickets))
            if self._tickets[oldest].expires > now and len(self._tickets) < TICKETS_LIMIT:
                break
            del self._tickets[oldest]
        token = secrets.token_urlsafe(24)
        self._tickets[token] = Ticket(context, path[:PATH_LIMIT], writes, now + URL_LIFE_S)
        return token, int(now + URL_LIFE_S)

    def redeem(self, token: str, writes: bool) -> Ticket | None:
        """The ticket of a token, unless it is unknown, expired or for the other way."""
        ticket = self._tickets.get(token)
        if ticket is None or ticket.writes != writes or ticket.expires < time.time():
            return None
        # The context may have been deleted since.
        return ticket if ticket.context.id in self._contexts else None

    def place(self, ticket: Ticket) -> Path | None:
        """Where the bytes of a ticket's file are kept, if there are any."""
        return ticket.context.files.get(ticket.path)

    def new_place(self) -> Path:
        """Where the bytes of a file may be written that becomes a context's by `keep`."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        return self._folder / secrets.token_hex(12)

    def keep(self, context: Context, path: str, place: Path) -> None:
        """Make a file that was written the context's, instead of an older one of its path.

        Raises:
            ContextsFull: the files of all contexts are too large, or the context is gone.
        """
        total = place.stat().st_size
        for other in self._contexts.values():
            for name, kept in other.files.items():
                if (other, name) != (context, path):
                    with suppress(OSError):
                        total += kept.stat().st_size
        if total > FILES_LIMIT or context.id not in self._contexts:
            place.unlink()
            raise ContextsFull(f"The files of contexts may have {FILES_LIMIT:,} bytes.")
        older = context.files.get(path)
        context.files[path] = place
        if older is not None:
            older.unlink(missing_ok=True)

    def files_in(self, context: Context, folder: str) -> list[dict[str, Any]]:
        """The files directly in a directory, as the service describes them, by path."""
        wanted = posixpath.normpath("/" + folder.lstrip("/"))
        found = []
        for path, place in sorted(context.files.items()):
            whole = posixpath.normpath("/" + path.lstrip("/"))
            if posixpath.dirname(whole) != wanted:
                continue
            try:
                told = place.stat()
            except OSError:
                continue
            when = _as_time(told.st_mtime)
            found.append(
                {
                    "FileId": hashlib.sha256(f"{context.id}:{path}".encode()).hexdigest()[:24],
                    "FileName": posixpath.basename(whole),
                    "FilePath": path,
                    "FileType": posixpath.splitext(whole)[1].removeprefix("."),
                    "GmtCreate": when,
                    "GmtModified": when,
                    "Size": told.st_size,
                    "Status": "available",
                }
            )
        return found

    def delete_file(self, context_id: str, path: str) -> None:
        """Forget a file of a context; one that is not there is fine."""
        place = self.find(context_id).files.pop(path, None)
        if place is not None:
            place.unlink(missing_ok=True)

    async def sync(self, session: Session, context_id: str, path: str, mode: str) -> None:
        """Bring a file into the session (`download`) or out of it (`upload`), and note it."""
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
                place = context.files.get(path)
                if place is None:
                    raise FileNotFoundError(2, "No such file in the context", path)
                await _bring_in(session, path, place)
            else:
                await self._bring_out(session, context, path)
        except (OSError, AgentError, ContextGone, ContextsFull) as failure:
            task |= {"status": "Failed", "errorMessage": str(failure)}
        task["finishTime"] = int(time.time())
        self.note(session, task)

    async def _bring_out(self, session: Session, context: Context, path: str) -> None:
        place = self.new_place()
        try:
            await _copy_out(session, path, place)
            self.keep(context, path, place)
        except BaseException:
            place.unlink(missing_ok=True)
            raise

    def note(self, session: Session, task: dict[str, Any]) -> None:
        """Remember a finished task for GetContextInfo; a later one of its kind replaces it."""
        same = ("contextId", "path", "taskType")
        tasks = self._tasks.setdefault(session.id, [])
        tasks[:] = [old for old in tasks if any(old[key] != task[key] for key in same)]
        tasks.append(task)
        del tasks[:-TASKS_LIMIT]

    def tasks(self, session: Session, context_id: str, path: str, kind: str) -> str:
        """The tasks of a session as GetContextInfo tells them; empty arguments match all."""
        wanted = {"contextId": context_id, "path": path, "taskType": kind}
        found = [
            task
            for task in self._tasks.get(session.id, [])
            if all(value in ("", task[key]) for key, value in wanted.items())
        ]
        return json.dumps([{"type": "data", "data": json.dumps(found)}])

    def forget(self, session_id: str) -> None:
        """Drop what was kept for a session that ended."""
        self._tasks.pop(session_id, None)
        context = self.get_or_make(f"transfer-{session_id}", make=False)
        if context is not None:
            self.delete(context.id)


async def _bring_in(session: Session, path: str, place: Path) -> None:
    loop = asyncio.get_running_loop()
    with place.open("rb") as file:
        async with _copying(session, "receive_file", path) as ours:
            # A read of a piece that is in memory takes less than a change of thread.
            while piece := file.read(CHUNK):
                await loop.sock_sendall(ours, piece)
                async with bulk:
                    await asyncio.sleep(0)
            ours.shutdown(socket.SHUT_WR)


async def _copy_out(session: Session, path: str, place: Path) -> None:
    loop = asyncio.get_running_loop()
    with place.open("wb") as file:
        async with _copying(session, "send_file", path) as ours:
            while piece := await loop.sock_recv(ours, CHUNK):
                file.write(piece)
                if file.tell() > FILE_LIMIT:
                    raise ContextsFull(f"{path} has more than {FILE_LIMIT:,} bytes.")
                async with bulk:
                    await asyncio.sleep(0)


@asynccontextmanager
async def _copying(session: Session, do: str, path: str) -> AsyncGenerator[socket.socket]:
    """The socket that the bytes of a file go through, while the session's agent copies them.

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
            # Whoever waits at our end sees the end of the call.
            theirs.close()

    calling = asyncio.ensure_future(call())
    try:
        # A connection that breaks does so because the call failed, which says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            yield ours
        await calling
    finally:
        ours.close()
        # It ends soon: its other end is closed.
        await asyncio.wait([calling])
        if not calling.cancelled():
            calling.exception()


def _now() -> str:
    return _as_time(time.time())


def _as_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
