"""The sessions of one pool: created when a worker needs one, deleted however the pool ends."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from uuid import uuid4

from agentbay_kernel import threads
from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import AgentBayError, SessionError
from agentbay_kernel.service import get_logger
from agentbay_kernel.sessions import LiveSession, Recipe
from agentbay_kernel.sessions.backend import Backend, open_backend
from agentbay_kernel.sessions.ending import end_now, end_record, prune
from agentbay_kernel.sessions.opening import Opener
from agentbay_kernel.sessions.registry import Registry, open_state_file
from agentbay_kernel.sessions.setup import set_up

_log = get_logger("executor")


class PoolSessions:
    """Creates and deletes sessions. Thread-safe.

    Arguments:
        settings: those in force for the pool.
        recipe: what every session gets first.
        tell: called with what a person should know of where the sessions are.
    """

    def __init__(
        self, settings: AgentBaySettings, recipe: Recipe | None, tell: Callable[[str], None]
    ) -> None:
        self._settings, self._recipe, self._tell = settings, recipe, tell
        self._registry = Registry(open_state_file(settings), "", settings.max_sessions)
        self._opener = Opener(settings, self._registry)
        # In the state file, the pool's sessions are known by it, those of unknown fate too.
        self._name = f"pool-{uuid4().hex[:8]}"
        self._numbers = itertools.count(1)
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._backend: Backend | None = None
        self._live: set[LiveSession] = set()
        self._used_s = 0.0
        self._closed = False

    @property
    def used_s(self) -> float:
        """Seconds that all sessions have lived."""
        with self._lock:
            return self._used_s + sum(live.age_s for live in self._live)

    @property
    def count(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._live)

    def open(self) -> LiveSession:
        """Create a session and set it up.

        Raises:
            AgentBayError: it could not be; there is none then.
        """
        backend = self._open_backend()
        live = self._opener.create(backend, f"{self._name}-{next(self._numbers)}")
        with self._lock:
            self._live.add(live)
            closed = self._closed
        try:
            if closed:
                raise SessionError("The pool was ended while a session was being created.")
            if self._recipe:
                set_up(live.session, self._recipe)
        except BaseException:
            self.end(live)
            raise
        return live

    def end(self, live: LiveSession) -> None:
        """Delete a session. What can't be done now is done later: the state file has it."""
        with self._lock:
            if live not in self._live:
                return
            self._live.discard(live)
            self._used_s += live.age_s
            backend = self._backend
        live.close("the pool needs it no more")
        with contextlib.suppress(AgentBayError):
            if not live.create_label or backend is None:
                live.session.delete(wait=False)
                return
            for record in self._registry.give_up([live.create_label]):
                if end_record(backend.client, record):
                    self._registry.forget([record.create_label])

    def close(self) -> None:
        """Delete all, also those that are being created. Returns within 2 seconds; a process of
        its own does what is left."""
        with self._lock:
            self._closed = True
            self._used_s += sum(live.age_s for live in self._live)
            self._live.clear()
        with self._opening:
            backend = self._backend
        if backend is None:
            return
        if backend.runtime is None:
            with contextlib.suppress(AgentBayError):
                mine = [one for one in self._registry.mine() if one.name.startswith(self._name)]
                if mine:
                    labels = [one.create_label for one in mine]
                    end_now(backend.client, self._registry, labels)
        # A runtime of our own takes its sessions with it.
        backend.close()

    def _open_backend(self) -> Backend:
        with self._opening:
            if self._closed:
                raise SessionError("The pool was ended.")
            if self._backend is None or not self._backend.alive:
                first = self._backend is None
                self._backend = open_backend(self._settings)
                if self._backend.notice:
                    self._tell(self._backend.notice.removeprefix("AgentBay: "))
                if first and self._backend.runtime is None:
                    threads.start(self._prune)
            return self._backend

    def _prune(self) -> None:
        """Delete what dead processes of this user left behind."""
        backend = self._backend
        try:
            if backend is not None:
                prune(backend.client, self._registry, self._settings.grace_minutes * 60)
        except AgentBayError as error:
            _log.warning("Sessions that were left behind could not be deleted: %s", error)
