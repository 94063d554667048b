"""The sessions of a local runtime: their statuses, labels, tokens and times.

Statuses follow the service (AgentBay wire protocol, statuses and delete sequence): RUNNING,
DELETING for a moment, FINISH for a few seconds in which only GetSessionDetail finds the session. A
paused session refuses calls; its processes continue.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.local.parsing import read_object
from agentbay_kernel.local.sandbox import Sandbox, Sandboxes

DELETING_S = 0.3
FINISHED_S = 5.0
CHANGING_S = 0.3
REAP_INTERVAL_S = 0.5
# The service's documented default.
DEFAULT_IDLE_S = 300.0
ALPHABET = string.ascii_lowercase + string.digits


class SessionGone(Exception):
    """The session does not exist, or is being deleted."""


class WrongStatus(Exception):
    """The session can't do this in its present status."""


class QuotaExceeded(Exception):
    """The runtime's limit of sessions is reached."""


@dataclass(eq=False)
class Session:
    """One session."""

    id: str
    image: str
    labels: dict[str, str]
    token: str
    sandbox: Sandbox
    idle_s: float | None
    ends_at: float | None
    status: str = "RUNNING"
    end_reason: str = ""
    used_at: float = field(default_factory=time.monotonic)
    busy: int = 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Count the session as busy; its idle time starts at the end."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self.used_at = time.monotonic()

    def touch(self) -> None:
        """Restart the idle time."""
        self.used_at = time.monotonic()


@dataclass(frozen=True)
class Lifetime:
    """How long a session may idle and run, in seconds; None is no limit."""

    idle_s: float | None = DEFAULT_IDLE_S
    run_s: float | None = None

    @classmethod
    def of(
        cls,
        timeout: str,
        max_runtime: str,
        manual: bool,
        default_idle_s: float | None = DEFAULT_IDLE_S,
    ) -> Lifetime:
        """Read a request's fields: `Timeout` is in seconds, or in minutes beside `MaxRuntime`."""
        if manual:
            return cls(None, None)
        if max_runtime:
            return cls(float(timeout or 5) * 60, float(max_runtime) * 60)
        return cls(float(timeout) if timeout else default_idle_s)


class Sessions:
    """All sessions of the runtime.

    Arguments:
        sandboxes: makes sessions' sandboxes.
        limit: most sessions at once; None is no limit.
        default_idle_s: longest idle time, in seconds, if a request does not set it.
        on_end: called with the id of each session that has ended.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        limit: int | None = None,
        default_idle_s: float | None = DEFAULT_IDLE_S,
        on_end: Callable[[str], None] = lambda session_id: None,
    ) -> None:
        self._sandboxes = sandboxes
        self._limit = limit
        self.default_idle_s = default_idle_s
        self._on_end = on_end
        self._sessions: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._creating = 0

    def running(self) -> list[Session]:
        """Return the sessions that are not ending, oldest first."""
        return [s for s in self._sessions.values() if s.status not in ("DELETING", "FINISH")]

    async def create(self, image: str, labels: dict[str, str], lifetime: Lifetime) -> Session:
        """Create a session.

        Raises:
            QuotaExceeded: there are too many.
            LocalRuntimeError: its sandbox could not be made.
        """
        if self._limit is not None and len(self.running()) + self._creating >= self._limit:
            raise QuotaExceeded(self._limit)
        self._creating += 1
        try:
            sandbox = await self._sandboxes.take()
        finally:
            self._creating -= 1
        name = "session-04bdw" + "".join(secrets.choice(ALPHABET) for _ in range(12))
        now = time.monotonic()
        session = Session(
            id=name,
            image=image,
            labels=labels,
            token=secrets.token_urlsafe(24),
            sandbox=sandbox,
            idle_s=lifetime.idle_s,
            ends_at=None if lifetime.run_s is None else now + lifetime.run_s,
        )
        self._sessions[name] = session
        sandbox.agent.on("closed", lambda _: self._spawn(self._end(session, "SANDBOX_ENDED")))
        return session

    def find(self, session_id: str) -> Session:
        """Return a session that is not ending.

        Raises:
            SessionGone: it does not exist, or is ending.
        """
        session = self._sessions.get(session_id)
        if session is None or session.status in ("DELETING", "FINISH"):
            raise SessionGone(session_id)
        return session

    def detail(self, session_id: str) -> Session:
        """Return a session, also one that is ending.

        Raises:
            SessionGone: it does not exist.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionGone(session_id)
        return session

    def select(self, labels: dict[str, str], status: str, image: str) -> list[Session]:
        """Return the sessions with all these labels and, unless empty, this status and image."""
        return [
            session
            for session in self.running()
            if all(session.labels.get(key) == value for key, value in labels.items())
            and status in ("", session.status)
            and image in ("", session.image)
        ]

    def delete(self, session_id: str) -> None:
        """Start to delete a session.

        Raises:
            SessionGone: it does not exist, or is ending already.
            WrongStatus: it is paused.
        """
        session = self._find_in("RUNNING", session_id)
        session.status = "DELETING"
        self._spawn(self._finish(session, "API_CALL"))

    def pause(self, session_id: str) -> None:
        """Start to pause a session.

        Raises:
            SessionGone: it does not exist, or is ending already.
            WrongStatus: it is not running.
        """
        self._change_status("PAUSING", "PAUSED", self._find_in("RUNNING", session_id))

    def resume(self, session_id: str) -> None:
        """Start to resume a session.

        Raises:
            SessionGone: it does not exist, or is ending already.
            WrongStatus: it is not paused.
        """
        self._change_status("RESUMING", "RUNNING", self._find_in("PAUSED", session_id))

    def _find_in(self, status: str, session_id: str) -> Session:
        session = self.find(session_id)
        if session.status != status:
            raise WrongStatus(f"The session is {session.status}, not {status}.")
        return session

    def _change_status(self, first: str, then: str, session: Session) -> None:
        session.status = first

        async def complete() -> None:
            await asyncio.sleep(CHANGING_S)
            if session.status == first:
                session.status = then
                session.touch()

        self._spawn(complete())

    def expire(self, session_id: str) -> None:
        """Start to end a session as if its idle time were over.

        Raises:
            SessionGone: it does not exist, or is ending already.
        """
        session = self.find(session_id)
        session.status = "DELETING"
        self._spawn(self._finish(session, "IDLE_TIMEOUT"))

    async def _end(self, session: Session, reason: str) -> None:
        if session.status not in ("DELETING", "FINISH"):
            session.status = "DELETING"
            await self._finish(session, reason)

    async def _finish(self, session: Session, reason: str) -> None:
        started_at = time.monotonic()
        await session.sandbox.end()
        self._on_end(session.id)
        await asyncio.sleep(max(0.0, DELETING_S - (time.monotonic() - started_at)))
        session.status, session.end_reason = "FINISH", reason
        await asyncio.sleep(FINISHED_S)
        self._sessions.pop(session.id, None)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reap(self) -> None:
        """Release idle and overdue sessions until cancelled."""
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            self.release_overdue()

    def release_overdue(self) -> None:
        """Start to end each session whose idle time or runtime is over."""
        now = time.monotonic()
        for session in self.running():
            idle = session.idle_s is not None and not session.busy and session.status == "RUNNING"
            if idle and now - session.used_at > (session.idle_s or 0):
                self._spawn(self._end(session, "IDLE_TIMEOUT"))
            elif session.ends_at is not None and now > session.ends_at:
                self._spawn(self._end(session, "MAX_RUNTIME"))

    async def end(self) -> None:
        """End every session at once; the runtime is closing."""
        await asyncio.gather(*(s.sandbox.end() for s in self._sessions.values()))
        for task in self._tasks:
            task.cancel()


def read_labels(text: str) -> dict[str, str]:
    """Return the labels of a request: a JSON object of strings, or nothing.

    Raises:
        ValueError: it is not a JSON object.
    """
    labels = read_object(text) if text else {}
    return {str(key): str(value) for key, value in labels.items()}
