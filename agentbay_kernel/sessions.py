"""SessionManager: the one object that owns sessions; the kernel and the magics both use it.

In: cells, and the name of the session each is for. Out: Jupyter messages. A session is created
when it is first asked for, is used again under its name, and is deleted when the manager closes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from agentbay_kernel import __version__
from agentbay_kernel.audit import AuditLog
from agentbay_kernel.backend import Backend, open_backend
from agentbay_kernel.errors import (
    BridgeError,
    CommandError,
    KernelEndedError,
    SessionError,
    SessionNotFoundError,
)
from agentbay_kernel.execution.bridged import BridgedExecution
from agentbay_kernel.execution.bridged_javascript import BridgedJavaScript
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.execution.ownership import Ownership
from agentbay_kernel.execution.request import OUTPUTS, Carried, as_message
from agentbay_kernel.execution.tunnel import Tunnel
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.service import CreateSessionParams, Session

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

Execution = DirectExecution | BridgedExecution | BridgedJavaScript

DEFAULT_SESSION = "default"
# Jupyter kills a kernel that has not ended 2 seconds after it was told to shut down.
_CLOSE_WITHIN_S = 1.5


class LiveSession:
    """A session in use: its name here, its place at the service, how its cells are run."""

    def __init__(self, name: str, session: Session, wanted: str, ownership: Ownership) -> None:
        self.name = name
        self.session = session
        self._created = time.monotonic()
        self._wanted = wanted
        self._ownership = ownership
        self._direct = DirectExecution(session)
        self._tunnel: Tunnel | None = None
        self._bridged: dict[str, BridgedExecution | BridgedJavaScript] = {}
        # Why a language has no bridge, where one was wanted.
        self.unbridged: dict[str, str] = {}
        self._choosing = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since it was created."""
        return time.monotonic() - self._created

    def execution_in_use(self, language: str) -> Execution | None:
        """How cells of that language are run; None as long as that is not known."""
        if self._wanted == "direct" or language in self.unbridged:
            return self._direct
        return self._bridged.get(language)

    def execution_of(self, language: str) -> Execution:
        """How cells of that language are run. The first time, a bridge is tried if wanted.

        Raises:
            CommandError: a bridge was insisted on and can't be had, or the service failed.
        """
        if self._wanted == "direct":
            return self._direct
        with self._choosing:
            if language not in self._bridged and language not in self.unbridged:
                try:
                    self._bridged[language] = self._bridge(language)
                except BridgeError as error:
                    if self._wanted == "bridged":
                        raise
                    self.unbridged[language] = str(error)
            return self._bridged.get(language, self._direct)

    def _bridge(self, language: str) -> BridgedExecution | BridgedJavaScript:
        if self._tunnel is None:
            tunnel = Tunnel(self.session, self._ownership)
            tunnel.install()
            self._tunnel = tunnel
        if language == PYTHON.name:
            return BridgedExecution(self.session, self._tunnel)
        javascript = BridgedJavaScript(self.session, self._tunnel)
        javascript.start()
        return javascript

    def give_up_bridge(self, error: BridgeError) -> None:
        """Use this bridge no more. The next cell gets a new one if the sandbox is well or if a
        bridge is insisted on, else it runs directly."""
        with self._choosing:
            lost, self._bridged = self._bridged, {}
            if self._tunnel is not None:
                self._tunnel.close()
                self._tunnel = None
            if self._wanted != "bridged" and not isinstance(error, KernelEndedError):
                self.unbridged.update(dict.fromkeys(lost, str(error)))

    def late(self) -> Iterator[Carried] | None:
        """What comes unasked through the bridge, as it comes; ends with the bridge."""
        return self._tunnel.late() if self._tunnel is not None else None


class SessionManager:
    """Creates, reuses and deletes sessions. Thread-safe.

    Arguments:
        settings: the settings in force.
    """

    def __init__(self, settings: AgentBaySettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._creating: dict[str, threading.Lock] = {}
        self._live: dict[str, LiveSession] = {}
        self._opening = threading.Lock()
        self._backend: Backend | None = None
        self._notice_due = True
        self.audit = AuditLog(settings.audit_log)
        # One notebook's: what one session shows, another one can't change.
        self._ownership = Ownership()
        self._closed = False

    @property
    def backend(self) -> Backend | None:
        """Where sessions live; None before the first is asked for."""
        return self._backend

    def sessions(self) -> list[LiveSession]:
        """The sessions in use, oldest first."""
        with self._lock:
            return list(self._live.values())

    def open(self, name: str = DEFAULT_SESSION, language: str = "") -> LiveSession:
        """The session of that name, created if there is none, ready for cells of a language.

        Raises:
            NoBackendError: neither a key nor the local runtime was chosen.
            SessionError, CommandError: it could not be created; asked again, it is tried again.
            LocalRuntimeError: the local runtime did not start.
        """
        with self._lock:
            turn = self._creating.setdefault(name, threading.Lock())
        with turn:
            with self._lock:
                live = self._live.get(name)
            if live is not None:
                self._check_runtime()
                return live
            live = self._create(name)
            # What fails here is told by the cell that needs it.
            if language:
                with contextlib.suppress(CommandError):
                    live.execution_of(language)
            with self._lock:
                if not self._closed:
                    self._live[name] = live
                    return live
        # Closed while it was being created: nobody else knows of it, so it is deleted here.
        with contextlib.suppress(Exception):
            live.session.delete(wait=False)
        raise SessionError("The notebook was closed while its session was being created.")

    def execute(self, cell: Cell, name: str = DEFAULT_SESSION) -> Iterator[Message]:
        """Run a cell in the session of that name; yields messages, an `execute_reply` last.

        Raises:
            AgentBayError: the cell could not be run; the message says what became of it.
        """
        live = self.open(name, cell.language)
        if cell.stopped.is_set():
            return
        self.audit.code(live.session.session_id, cell.language, cell.code)
        yield from self._notices()
        try:
            yield from live.execution_of(cell.language).execute(cell)
        except SessionNotFoundError as error:
            self._forget(live)
            raise SessionNotFoundError(
                f"The session {live.session.session_id} is gone: it was released because it was "
                "not used or had reached its age, or it was deleted. Its variables and files are "
                "lost, and this cell did not run. Run it again: it gets a new session.",
                request_id=error.request_id,
            ) from error
        except BridgeError as error:
            live.give_up_bridge(error)
            raise

    def interrupt(self, cell: Cell, name: str = DEFAULT_SESSION) -> Stop:
        """Stop a cell; says what became of it."""
        with self._lock:
            live = self._live.get(name)
        if live is None:
            cell.stopped.set()
            return Stop.UNSENT
        return live.execution_of(cell.language).interrupt(cell)

    def bridged(self, name: str = DEFAULT_SESSION) -> BridgedExecution | None:
        """The bridge to that session's Python, if it has one; none is created."""
        execution = self._execution_in_use(PYTHON.name, name)
        return execution if isinstance(execution, BridgedExecution) else None

    def bridged_language(
        self, language: str, name: str = DEFAULT_SESSION
    ) -> BridgedExecution | BridgedJavaScript | None:
        """The bridge to a language of that session, if it has one; none is created."""
        execution = self._execution_in_use(language, name)
        return None if isinstance(execution, DirectExecution) else execution

    def late(self, name: str = DEFAULT_SESSION) -> Iterator[tuple[str, Message]] | None:
        """What a session's code publishes when no cell of it runs, and the id of the request that
        caused it; None where there is no bridge."""
        with self._lock:
            live = self._live.get(name)
        carried = live.late() if live is not None else None
        return None if carried is None else _late_messages(carried)

    def _execution_in_use(self, language: str, name: str) -> Execution | None:
        with self._lock:
            live = self._live.get(name)
        return live.execution_in_use(language) if live is not None else None

    def close(self) -> None:
        """Delete all sessions: each delete is sent, its end is not waited for.

        Returns within 1.5 seconds, also when the service does not answer.
        """
        with self._lock:
            self._closed = True
            sessions, self._live = list(self._live.values()), {}
            backend = self._backend
        if backend is None:
            return
        if backend.runtime is None:
            threads = [
                threading.Thread(target=_delete, args=(live.session,), daemon=True)
                for live in sessions
            ]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + _CLOSE_WITHIN_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        # A runtime of our own takes its sessions with it.
        backend.close()

    def _create(self, name: str) -> LiveSession:
        backend = self._open_backend()
        settings = self.settings
        params = CreateSessionParams(
            image_id=settings.image,
            labels={"tool": "agentbay-kernel", "version": __version__, "session": name},
        )
        if backend.releases_sessions:
            params = replace(
                params,
                idle_release_timeout_min=settings.idle_minutes,
                max_runtime_min=settings.max_minutes,
            )
        answer = backend.client.create(params)
        if not answer.success or answer.session is None:
            raise answer.failure or SessionError(answer.error_message)
        return LiveSession(name, answer.session, settings.execution, self._ownership)

    def _open_backend(self) -> Backend:
        with self._opening:
            if self._backend is None or not self._backend.alive:
                self._backend = open_backend(self.settings)
            return self._backend

    def _check_runtime(self) -> None:
        if self._backend is None or self._backend.alive:
            return
        with self._lock:
            self._live.clear()
        raise SessionError(
            "The local runtime of this notebook has ended, and its sessions with it: variables "
            "and files are lost, and this cell did not run. Run it again: it gets a new session."
        )

    def _notices(self) -> Iterator[Message]:
        with self._lock:
            due, self._notice_due = self._notice_due, False
        if due and self._backend is not None and self._backend.notice:
            yield stream("stderr", self._backend.notice + "\n")

    def _forget(self, live: LiveSession) -> None:
        with self._lock:
            if self._live.get(live.name) is live:
                del self._live[live.name]


def _late_messages(late: Iterator[Carried]) -> Iterator[tuple[str, Message]]:
    for carried in late:
        message = as_message(carried)
        if message.type in OUTPUTS and message.type != "input_request":
            yield str(carried["p"].get("msg_id", "")), message


def _delete(session: Session) -> None:
    # What is not deleted now is released by the service after its idle time.
    with contextlib.suppress(Exception):
        session.delete(wait=False, timeout_s=_CLOSE_WITHIN_S)
