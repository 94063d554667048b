"""The sessions of one notebook: opened, kept by name, reclaimed, and ended with the notebook.

A session is created when it is first needed, and used again under its name. However the process
ends, it leaves no session behind.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    AgentBayError,
    CommandError,
    SessionError,
    SessionNotFoundError,
)
from agentbay_kernel.execution.messages import Message, notice, stream
from agentbay_kernel.service import find_credentials, get_logger
from agentbay_kernel.sessions.audit_log import AuditLog
from agentbay_kernel.sessions.backend import Backend, open_backend
from agentbay_kernel.sessions.ending import Pruned, end_now, end_record, prune
from agentbay_kernel.sessions.opening import Opener
from agentbay_kernel.sessions.recipe import Recipe, find_recipe
from agentbay_kernel.sessions.registry import Registry, open_state_file
from agentbay_kernel.sessions.session import LiveSession, PastCell
from agentbay_kernel.sessions.setup import set_up
from agentbay_kernel.sessions.statefile import HANDED, Attachments, Record

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

DEFAULT_SESSION = "default"
# Jupyter kills a kernel that has not ended 2 seconds after the shutdown request.
_CLOSE_WITHIN_S = 1.5

_log = get_logger("sessions")


@dataclass(frozen=True)
class Lost:
    """A session that is gone: its id, the reason, and the cells that were run in it."""

    session_id: str
    why: str
    cells: tuple[PastCell, ...]


class SessionStore:
    """Opens, holds and ends the sessions of one notebook. Thread-safe.

    Arguments:
        settings: the settings in force.
        notebook: path of the kernel's connection file. A restarted kernel has the same path, and
            reclaims its sessions by it. Empty if there is none.
        folder: the notebook's directory, which may hold a recipe; by default the working directory.
    """

    def __init__(
        self, settings: AgentBaySettings, notebook: str = "", folder: Path | None = None
    ) -> None:
        self.settings = settings
        self._folder = folder or Path.cwd()
        self.registry = Registry(open_state_file(settings), notebook, settings.max_sessions)
        self._attachments = Attachments(self.registry.folder, notebook)
        self._opener = Opener(settings, self.registry)
        self.audit = AuditLog(settings.audit_log) if settings.audit_log else None
        self._lock = threading.Lock()
        self._turns: dict[str, threading.RLock] = {}
        self._live: dict[str, LiveSession] = {}
        self._lost: dict[str, Lost] = {}
        self._opening = threading.Lock()
        self._backend: Backend | None = None
        self._tidied = False
        self._recipe: Recipe | None = None
        self._notes: list[Message] = []
        self._notice_due = True
        self._closed = False
        # Seconds of this notebook's own sessions that have ended.
        self._used_s = 0.0
        # Sessions of this notebook's earlier kernel that wait to be used again, by name.
        self._claimed: dict[str, Record] = {}
        self._claim()

    @property
    def backend(self) -> Backend | None:
        """The location of the sessions; None before the first is requested."""
        return self._backend

    def sessions(self) -> list[LiveSession]:
        """Return the sessions in use, oldest first."""
        with self._lock:
            return list(self._live.values())

    @property
    def used_s(self) -> float:
        """Seconds that this notebook's own sessions have lived, including those that ended."""
        with self._lock:
            own = [live for live in self._live.values() if not live.attached]
            return self._used_s + sum(live.age_s for live in own)

    def open(self, name: str = DEFAULT_SESSION, language: str = "") -> LiveSession:
        """Return the session of that name, created if there is none, ready for cells of a language.

        Raises:
            NoBackendError: there is no key, and the local runtime was not requested.
            SessionError, CommandError: it could not be created; the next call tries again.
            SetupError: it was created, but its recipe failed; the next call tries again.
            RecipeError, StateFileError: nothing was created.
            LocalRuntimeError: the local runtime did not start.
        """
        with self.turn(name):
            with self._lock:
                live = self._live.get(name)
            if live is not None:
                self.check_runtime()
            else:
                live = self._find_or_create(name)
                with self._lock:
                    if not self._closed:
                        self._live[name] = live
                if self._closed:
                    # Nothing else knows this session, so it is ended here.
                    self._end(live)
                    raise SessionError(
                        "The notebook's kernel was shut down while its session was being created; "
                        "the session is deleted, and this cell did not run."
                    )
            while live.recipes:
                if told := set_up(live.session, live.recipes[0], self.audit):
                    with self._lock:
                        self._notes.append(notice(told))
                live.recipes.pop(0)
            if language:
                # The cell that needs it reports an error.
                with contextlib.suppress(CommandError):
                    live.execution_of(language)
            live.unused = False
            return live

    def open_ahead(self, language: str) -> None:
        """Create the notebook's own session before anything requests it; see `open`."""
        began_at = time.time()
        with self.turn(DEFAULT_SESSION):
            live = self.open(language=language)
            # A reclaimed session has files.
            live.unused = live.created_at >= began_at

    def opened(self, name: str, language: str) -> LiveSession | None:
        """Return the session of that name, if a cell of that language can run in it without delay.

        It is None if anything must be done or awaited first. Returns at once.
        """
        turn = self.turn(name)
        if not turn.acquire(blocking=False):
            return None
        try:
            live, backend = self.find(name), self._backend
            if live is None or live.recipes or backend is None or not backend.alive:
                return None
            if live.execution_in_use(language) is None:
                return None
            live.unused = False
            return live
        finally:
            turn.release()

    def attach(self, session_id: str, name: str, *, bridged: bool) -> LiveSession:
        """Use another owner's session under that name; see `SessionManager.attach`.

        Raises:
            SessionError: a session is in use under that name.
            SessionNotFoundError: there is none with that id.
            CommandError: the service refused, or was not reached.
        """
        with self.turn(name):
            present = self.find(name)
            if present is not None and present.unused:
                present.session.delete(wait=False)
                self.forget(present, "another session was attached in its place")
            elif present is not None:
                raise SessionError(
                    f"{name!r} is in use: {present.session.session_id}. "
                    + ("`%agentbay detach`" if present.attached else "`%agentbay delete`")
                    + " first, or attach under another name with --session NAME."
                )
            wanted = "bridged" if bridged else "direct"
            backend = self._open_backend()
            live = self._opener.attach(backend, session_id, name, wanted)
            self._tidy()
            with self._lock:
                self._live[name] = live
            self._attachments.note(
                name, backend.client.endpoint.url, live.session.session_id, bridged=bridged
            )
            return live

    def detach(self, name: str) -> str:
        """Leave an attached session as it is; return its id.

        Raises:
            SessionError: there is none of that name, or it is this notebook's own.
        """
        if self.find(name) is None and (before := self._attachments.find(name)) is not None:
            # The earlier kernel attached it; no cell has used it since.
            self._attachments.forget(name)
            return before.session_id
        live = self.named(name)
        if not live.attached:
            raise SessionError(
                f"{name!r} is this notebook's own session {live.session.session_id}, and nobody "
                "else would end it. `%agentbay delete` deletes it."
            )
        with self._lock:
            self._live.pop(name, None)
        self._attachments.forget(name)
        if live.is_bridged:
            # Remove the bridge; if it can't be reached now, it ends with the session.
            with contextlib.suppress(AgentBayError):
                live.renew()
        live.close("it was detached from here")
        return live.session.session_id

    def lost(self, name: str = DEFAULT_SESSION) -> Lost | None:
        """Return the lost session of that name, if its cells were not run again."""
        return self._lost.get(name)

    def lose(self, live: LiveSession, why: str) -> None:
        """Keep the cells of a session whose variables are lost, to run them again."""
        if live.past:
            self._lost[live.name] = Lost(live.session.session_id, why, tuple(live.past))

    def found_again(self, name: str) -> None:
        """Note that the cells of the lost session were run again."""
        self._lost.pop(name, None)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe for new sessions: the one that was set, otherwise that of `agentbay.toml`.

        If cells are untrusted, it has nothing of this machine.

        Raises:
            RecipeError: it is not valid.
        """
        recipe = self.full_recipe
        return recipe.without_this_machine() if recipe and self.settings.untrusted else recipe

    @property
    def full_recipe(self) -> Recipe | None:
        """The same recipe, including the parts of this machine that untrusted cells don't get.

        Raises:
            RecipeError: it is not valid.
        """
        return self._recipe or find_recipe(self._folder, self.settings.setup_env)

    @property
    def configured(self) -> Recipe:
        """The recipe of the user's own configuration, also for untrusted cells.

        Raises:
            RecipeError: a file is out of reach, or they are too large.
        """
        names = tuple(self.settings.session_files)
        recipe = Recipe(self._folder, "session_files", files=names, is_configured=True)
        recipe.local_files()
        return recipe

    def set_recipe(self, recipe: Recipe | None) -> None:
        """Apply this recipe to every new session, and to the present ones before their next cell.

        Attached sessions don't get it.
        """
        self._recipe = recipe
        for live in self.sessions():
            if not live.attached:
                waiting = [one for one in live.recipes if one.is_configured]
                live.recipes = [*waiting, recipe] if recipe else waiting

    def own_records(self) -> list[Record]:
        """Return the records of the user's state file, oldest first."""
        return self.registry.records()

    def listed(self) -> list[dict[str, str]]:
        """Return the service's list of sessions for this key: `sessionId`, `sessionStatus`, ...

        Raises:
            CommandError: the service refused, or was not reached.
        """
        return list(self._open_backend().client.list_all())

    def delete_by_id(self, session_id: str) -> None:
        """Delete a session by its id, whoever owns it.

        Raises:
            CommandError: the service could not do it.
        """
        answer = self._open_backend().client.delete_by_id(session_id)
        create_labels = [
            one.create_label for one in self.registry.records() if one.session_id == session_id
        ]
        if answer.success or isinstance(answer.failure, SessionNotFoundError):
            self.registry.forget(create_labels)
        if not answer.success:
            raise answer.failure or SessionError(answer.error_message)

    def close(self) -> None:
        """Delete all sessions of this notebook, or start a separate process that does.

        Returns within 1.5 seconds, even if the service does not respond.
        """
        if not self._closed:
            # Otherwise it is handed over already: the next kernel attaches again.
            threads.start(self._attachments.forget)
        self._close([])

    def hand_over(self) -> None:
        """Close because the kernel restarts; leave for the next kernel what it continues with.

        Returns within 1.5 seconds, even if the service does not respond.
        """
        keep: list[LiveSession] = []
        if self.settings.on_restart == "interpreter":
            keep = [one for one in self.sessions() if one.create_label and one.is_bridged]
            # Sessions that waited for this kernel wait for the next one.
            with contextlib.suppress(AgentBayError):
                self.registry.hand_over(one.create_label for one in self._claimed.values())
                self._claimed.clear()
        self._close(keep)

    def _close(self, keep: list[LiveSession]) -> None:
        with self._lock:
            self._closed = True
            guests = [one for one in self._live.values() if one.attached and one.is_bridged]
            self._live = {}
            backend = self._backend
        if backend is None or backend.runtime is not None:
            if backend is not None:
                # A runtime that this process started ends with its sessions.
                backend.close()
            self._give_back()
            return
        ends_at = time.monotonic() + _CLOSE_WITHIN_S
        ending = [threads.start(live.end_kernel) for live in [*keep, *guests]]
        with contextlib.suppress(AgentBayError):
            self.registry.hand_over(live.create_label for live in keep)
            mine = [one.create_label for one in self.registry.mine() if one.stage != HANDED]
            end_now(backend.client, self.registry, mine)
        for one in ending:
            with contextlib.suppress(Exception):
                one.result(max(0.0, ends_at - time.monotonic()))
        backend.close()

    def _give_back(self) -> None:
        # Claimed from an earlier kernel, but no cell ever ran: no client is open here.
        with contextlib.suppress(AgentBayError):
            if not self._claimed:
                return
            place = find_credentials().endpoint.url
            create_labels = [
                one.create_label for one in self._claimed.values() if one.place == place
            ]
            if create_labels:
                end_now(open_backend(self.settings).client, self.registry, create_labels)

    def turn(self, name: str) -> threading.RLock:
        """Return the lock of a name: held while its session is opened, attached or restarted."""
        with self._lock:
            return self._turns.setdefault(name, threading.RLock())

    def find(self, name: str) -> LiveSession | None:
        """Return the session in use under that name; None if there is none."""
        with self._lock:
            return self._live.get(name)

    def named(self, name: str) -> LiveSession:
        """Return the session in use under that name.

        Raises:
            SessionError: there is none.
        """
        with self._lock:
            live = self._live.get(name)
            names = ", ".join(sorted(self._live)) or "none"
        if live is None:
            raise SessionError(f"There is no session {name!r} in use here. In use: {names}.")
        return live

    def _claim(self) -> None:
        try:
            for record in self.registry.claim():
                self._claimed[record.name] = record
        except AgentBayError as error:
            _log.warning("Sessions of an earlier kernel could not be taken back: %s", error)

    def _find_or_create(self, name: str) -> LiveSession:
        backend = self._open_backend()
        self._tidy()
        if name == DEFAULT_SESSION and self.settings.session_id:
            return self._opener.attach(backend, self.settings.session_id, name, "direct")
        if (again := self._attach_again(backend, name)) is not None:
            return again
        record = self._claimed.get(name)
        if record is not None and record.place == backend.client.endpoint.url:
            opened = self._opener.reclaim(backend, record)
            self._claimed.pop(name, None)
            if opened is not None:
                self._notes += [notice(opened.note)] if opened.note else []
                return opened.live
            self._notes.append(
                stream(
                    "stderr",
                    "AgentBay: the session of this notebook's earlier kernel is gone, with its "
                    "variables and files. This is a new one.\n",
                )
            )
        recipes = [one for one in (self.configured, self.recipe) if one]
        live = self._opener.create(backend, name)
        live.recipes = recipes
        return live

    def _attach_again(self, backend: Backend, name: str) -> LiveSession | None:
        """Return the session that the earlier kernel attached under that name.

        Its cells must not go to another session without notice.
        """
        before = self._attachments.find(name)
        if before is None or before.place != backend.client.endpoint.url:
            return None
        wanted = "bridged" if before.bridged else "direct"
        try:
            live = self._opener.attach(backend, before.session_id, name, wanted)
        except SessionNotFoundError as error:
            self._attachments.forget(name)
            raise SessionNotFoundError(
                f"The session {before.session_id}, which this notebook was attached to before its "
                f"kernel was restarted, is gone. This cell did not run; the next cell of {name!r} "
                "gets a new session.",
                request_id=error.request_id,
            ) from error
        self._notes.append(
            notice(
                f"AgentBay: attached to {before.session_id} again, as before the kernel was "
                "restarted. `%agentbay detach` leaves it."
            )
        )
        return live

    def _open_backend(self) -> Backend:
        with self._opening:
            if self._backend is None or not self._backend.alive:
                self._backend = open_backend(self.settings)
            return self._backend

    def _tidy(self) -> None:
        """End, once and in the background, what dead kernels left and creates with unknown results.

        Commands that only list or prune don't call it: their reports would be incomplete.
        """
        with self._opening:
            if self._tidied or self._backend is None or self._backend.runtime is not None:
                return
            self._tidied = True

        def work() -> None:
            try:
                self.prune()
            except AgentBayError as error:
                _log.warning("Sessions that were left behind could not be deleted: %s", error)

        threads.start(work)

    def prune(self) -> Pruned:
        """Delete sessions of this user that provably dead kernels left and no kernel reclaimed.

        Raises:
            StateFileError: the state file can't be used.
        """
        client = self._open_backend().client
        return prune(client, self.registry, self.settings.grace_minutes * 60)

    def check_runtime(self, cell: str = "this cell did not run") -> None:
        """Raise a SessionError if the local runtime of this process has ended.

        Arguments:
            cell: what happened to the cell.
        """
        if self._backend is None or self._backend.alive:
            return
        with self._lock:
            lost, self._live = self._live, {}
            self._used_s += sum(live.age_s for live in lost.values() if not live.attached)
        why = "its local runtime ended"
        for live in lost.values():
            self.lose(live, why)
            live.close(why)
        raise SessionError(
            "The local runtime of this notebook has ended, and its sessions with it: variables "
            f"and files are lost, and {cell}. The next cell gets a new session"
            + ("; `%agentbay rerun` runs the lost ones again." if self._lost else ".")
        )

    def notices(self) -> Iterator[Message]:
        """Yield, once each, the notices that are due before the next cell."""
        with self._lock:
            due, self._notice_due = self._notice_due, False
            notes, self._notes = self._notes, []
        if due and self._backend is not None and self._backend.notice:
            # A warning: nothing isolates the cells, or they go to an unknown address.
            yield stream("stderr", self._backend.notice + "\n")
        yield from notes

    def forget(self, live: LiveSession, why: str) -> None:
        """Stop using a session that is gone; its cells may be run again in a new one."""
        with self._lock:
            if self._live.get(live.name) is not live:
                return
            del self._live[live.name]
            if live.attached:
                self._attachments.forget(live.name)
            else:
                self._used_s += live.age_s
        self.lose(live, why)
        live.close(why)
        if live.create_label:
            with contextlib.suppress(AgentBayError):
                self.registry.forget([live.create_label])

    def _end(self, live: LiveSession) -> None:
        if live.attached:
            return
        if not live.create_label or self._backend is None:
            with contextlib.suppress(Exception):
                live.session.delete(wait=False)
            return
        with contextlib.suppress(AgentBayError):
            for record in self.registry.give_up([live.create_label]):
                if end_record(self._backend.client, record):
                    self.registry.forget([record.create_label])
