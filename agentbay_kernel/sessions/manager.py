"""SessionManager: the one object that owns sessions; kernel, magics and command line use it.

In: cells, and the name of the session each is for. Out: Jupyter messages. A session is created
when it is first asked for, is used again under its name, and is deleted when the manager closes,
however the process ends.
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
from agentbay_kernel.audit import AuditLog
from agentbay_kernel.backend import Backend, open_backend
from agentbay_kernel.errors import (
    AgentBayError,
    AnswerLostError,
    AttachedSessionError,
    BridgeError,
    CommandError,
    SessionError,
    SessionNotFoundError,
    SilentSessionError,
)
from agentbay_kernel.execution.bridged import BridgedExecution
from agentbay_kernel.execution.bridged_javascript import BridgedJavaScript
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.execution.request import OUTPUTS, Carried, as_message
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.service import find_credentials, get_logger
from agentbay_kernel.sessions.ending import end_now, end_record
from agentbay_kernel.sessions.lifetime import Lifetime
from agentbay_kernel.sessions.live import Execution, LiveSession, PastCell
from agentbay_kernel.sessions.look import Look, look_into
from agentbay_kernel.sessions.opening import Opener
from agentbay_kernel.sessions.recipe import Recipe, find_recipe
from agentbay_kernel.sessions.registry import Registry, open_state_file
from agentbay_kernel.sessions.setup import set_up
from agentbay_kernel.sessions.statefile import Record
from agentbay_kernel.sessions.sweeping import Swept, sweep
from agentbay_kernel.sessions.waiting import wait_for_turn

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

DEFAULT_SESSION = "default"
# Jupyter kills a kernel that has not ended 2 seconds after it was told to shut down.
_CLOSE_WITHIN_S = 1.5
# How often a running cell looks whether a warning is due.
_LOOK_AFTER_S = 1.0
_LOST_TOO = "this cell ended with it, or its outcome was lost"
_ENDED = ("FINISH", "DELETED", "DELETING")

_log = get_logger("sessions")


@dataclass(frozen=True)
class Lost:
    """A session that is gone: its id, why, and the cells that had been run in it."""

    session_id: str
    why: str
    cells: tuple[PastCell, ...]


class SessionManager:
    """Creates, reuses, takes back and deletes sessions. Thread-safe.

    Arguments:
        settings: the settings in force.
        notebook: path of the kernel's connection file: a restarted kernel has the same one, and
            by it takes its sessions back. Empty when there is none.
    """

    def __init__(self, settings: AgentBaySettings, notebook: str = "") -> None:
        self.settings = settings
        self.registry = Registry(open_state_file(settings), notebook, settings.max_sessions)
        self._opener = Opener(settings, self.registry)
        self.audit = AuditLog(settings.audit_log)
        self._lock = threading.Lock()
        self._turns: dict[str, threading.RLock] = {}
        self._live: dict[str, LiveSession] = {}
        self._lost: dict[str, Lost] = {}
        self._opening = threading.Lock()
        self._backend: Backend | None = None
        self._recipe: Recipe | None = None
        self._notes: list[str] = []
        self._notice_due = True
        self._closed = False
        # Sessions of this notebook's earlier kernel that wait to be used again, by name.
        self._claimed: dict[str, Record] = {}
        self._claim()

    @property
    def backend(self) -> Backend | None:
        """Where sessions live; None before the first is asked for."""
        return self._backend

    def sessions(self) -> list[LiveSession]:
        """The sessions in use, oldest first."""
        with self._lock:
            return list(self._live.values())

    # A session is opened, a cell runs in it

    def open(self, name: str = DEFAULT_SESSION, language: str = "") -> LiveSession:
        """The session of that name, created if there is none, ready for cells of a language.

        Raises:
            NoBackendError: neither a key nor the local runtime was chosen.
            SessionError, CommandError: it could not be created; asked again, it is tried again.
            SetupError: it was created, but its recipe failed; asked again, it is tried again.
            RecipeError, StateFileError: nothing was created.
            LocalRuntimeError: the local runtime did not start.
        """
        with self._turn(name):
            with self._lock:
                live = self._live.get(name)
            if live is not None:
                self._check_runtime()
            else:
                live = self._find_or_create(name)
                with self._lock:
                    if not self._closed:
                        self._live[name] = live
                if self._closed:
                    # Nobody else knows of it, so it is ended here.
                    self._end(live)
                    raise SessionError(
                        "The notebook was closed while its session was being created."
                    )
            if live.recipe is not None:
                set_up(live.session, live.recipe)
                live.recipe = None
            if language:
                # What fails here is told by the cell that needs it.
                with contextlib.suppress(CommandError):
                    live.execution_of(language)
            return live

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
        live.note_begin(cell)
        try:
            execution = live.execution_of(cell.language)
            if note := live.settle():
                yield stream("stderr", note)
            if live.attached and isinstance(execution, DirectExecution):
                yield from wait_for_turn(live.session, cell)
                if cell.stopped.is_set():
                    return
            yield from self._looked_after(live, cell, execution.execute(cell))
        except SessionNotFoundError as error:
            raise self._gone(live, error, "this cell did not run") from error
        except AnswerLostError as error:
            if self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            raise
        except BridgeError as error:
            if self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            if isinstance(error, SilentSessionError):
                live.unsettled = cell
            live.give_up_bridge(error)
            raise
        finally:
            live.note_end(cell)

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

    # What is done to a session by name

    def stop(self, name: str = DEFAULT_SESSION, *, force: bool = False) -> str:
        """Delete a session; the next cell of that name gets a new one.

        Arguments:
            force: also when it is attached.

        Returns:
            The id of the session.

        Raises:
            SessionError: there is none of that name.
            AttachedSessionError: it is another's.
            CommandError: the service could not do it.
        """
        live = self._named(name)
        if live.attached and not force:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached: it is not this notebook's, "
                f"and was not deleted. `%agentbay detach` leaves it; --force deletes it."
            )
        answer = live.session.delete(wait=False)
        if not answer.success and not isinstance(answer.failure, SessionNotFoundError):
            raise answer.failure or SessionError(answer.error_message)
        self._forget(live, "it was stopped here")
        return live.session.session_id

    def restart(self, name: str = DEFAULT_SESSION) -> bool:
        """Begin anew: with fresh interpreters in the same session where that is possible (True),
        else with a new session (False).

        Raises:
            SessionError: there is no session of that name.
            AttachedSessionError: it is another's.
            CommandError: the service could not do it.
        """
        live = self._named(name)
        if live.attached and not live.is_bridged:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached, and its interpreters are its "
                "owner's: they were not restarted. `%agentbay detach` leaves it."
            )
        with self._turn(name):
            if live.attached or self.settings.on_restart == "interpreter":
                cells = tuple(live.past)
                if live.renew():
                    live.past.clear()
                    self._lost[name] = Lost(live.session.session_id, "it was restarted", cells)
                    return True
            self.stop(name)
        return False

    def stop_cells(self, name: str = DEFAULT_SESSION) -> list[Stop]:
        """Interrupt whatever runs in a session, also what was begun by an earlier kernel of this
        notebook; says what became of each cell.

        Raises:
            SessionError: there is none of that name.
            AttachedSessionError: what runs there is its owner's.
        """
        live = self._named(name)
        running = list(live.running)
        if running:
            return [self.interrupt(cell, name) for cell in running]
        execution = live.execution_in_use(PYTHON.name)
        if isinstance(execution, BridgedExecution):
            execution.interrupt_kernel()
            return [Stop.ENDING]
        if live.attached:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached, and this notebook runs "
                "nothing in it. What its owner runs was not interrupted."
            )
        return []

    def attach(
        self, session: object, name: str = DEFAULT_SESSION, *, bridged: bool = False
    ) -> LiveSession:
        """Use another's session under that name: nothing is installed in it, and neither its
        labels nor its life are changed.

        Arguments:
            session: its id, or a `Session` object of the official SDK.
            bridged: install a bridge in it all the same.

        Raises:
            SessionError: a session is in use under that name.
            SessionNotFoundError: there is none with that id.
            CommandError: the service refused, or was not reached.
        """
        session_id = session if isinstance(session, str) else getattr(session, "session_id", "")
        if not isinstance(session_id, str) or not session_id.strip():
            raise SessionError(
                f"{type(session).__name__} names no session. Give a session's id, or a Session."
            )
        with self._turn(name):
            with self._lock:
                present = self._live.get(name)
            if present is not None:
                raise SessionError(
                    f"{name!r} is in use: {present.session.session_id}. "
                    + ("`%agentbay detach`" if present.attached else "`%agentbay stop`")
                    + " first, or attach under another name with --session NAME."
                )
            wanted = "bridged" if bridged else "direct"
            live = self._opener.attach(self._open_backend(), session_id.strip(), name, wanted)
            with self._lock:
                self._live[name] = live
            return live

    def detach(self, name: str = DEFAULT_SESSION) -> str:
        """Leave an attached session as it is; returns its id.

        Raises:
            SessionError: there is none of that name, or it is this notebook's own.
        """
        live = self._named(name)
        if not live.attached:
            raise SessionError(
                f"{name!r} is this notebook's own session {live.session.session_id}, and nobody "
                "else would end it. `%agentbay stop` deletes it."
            )
        with self._lock:
            self._live.pop(name, None)
        return live.session.session_id

    def extend(self, seconds: float, name: str = DEFAULT_SESSION) -> Lifetime:
        """Keep a session alive for so long, with or without a cell; at most to its greatest age.

        Returns:
            Its life: `extended_until`, and `ends_at`, beyond which it can't be extended.

        Raises:
            SessionError: there is none of that name, or its life is not this notebook's to change.
        """
        live = self._named(name)
        if live.attached:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached: its life is not changed here."
            )
        if live.lifetime is None:
            raise SessionError("This session lives as long as the notebook's kernel.")
        live.lifetime.extend(seconds)
        return live.lifetime

    def look(self, name: str = DEFAULT_SESSION) -> Look:
        """Processes, files, metrics and variables of a session; running code is not waited for.

        Raises:
            SessionError: there is none of that name.
        """
        return look_into(self._named(name))

    # Recipes, and cells of lost sessions

    @property
    def recipe(self) -> Recipe | None:
        """What new sessions are given: the recipe that was set, else that of `agentbay.toml`.

        Raises:
            RecipeError: it is not valid.
        """
        return self._recipe or find_recipe(Path.cwd(), self.settings.setup_env)

    def set_recipe(self, recipe: Recipe | None) -> None:
        """Give this to every new session, and to this notebook's own before their next cell."""
        self._recipe = recipe
        for live in self.sessions():
            if not live.attached:
                live.recipe = recipe or None

    def lost(self, name: str = DEFAULT_SESSION) -> Lost | None:
        """The session of that name that was lost, if one was and its cells were not run again."""
        return self._lost.get(name)

    def replay(self, name: str = DEFAULT_SESSION) -> Iterator[Message]:
        """Run the cells of the lost session again, in order, until one fails; yields messages,
        the last cell's `execute_reply` last.

        Raises:
            SessionError: no session of that name was lost.
            AgentBayError: a cell could not be run.
        """
        lost = self._lost.get(name)
        if lost is None:
            raise SessionError(f"No session {name!r} of this kernel was lost: nothing to replay.")
        reply: Message | None = None
        for number, past in enumerate(lost.cells, 1):
            first = past.code.strip().splitlines()[0]
            yield stream("stderr", f"[{number}/{len(lost.cells)}] {first[:70]}\n")
            cell = Cell(past.code, past.language, self.settings.timeout, self.settings.output_limit)
            for message in self.execute(cell, name):
                if message.type == "execute_reply":
                    reply = message
                else:
                    yield message
            if reply is None or reply.content.get("status") != "ok":
                break
        else:
            self._lost.pop(name, None)
        if reply is not None:
            yield reply

    # All sessions of the user

    def own_records(self) -> list[Record]:
        """The sessions that stand in the user's state file, oldest first."""
        return self.registry.records()

    def listed(self) -> list[dict[str, str]]:
        """The sessions that the service lists for this key: `sessionId`, `sessionStatus`, ...

        Raises:
            CommandError: the service refused, or was not reached.
        """
        return list(self._open_backend().client.list_all())

    def delete(self, session_id: str) -> None:
        """Delete a session by its id, whosever it is.

        Raises:
            CommandError: the service could not do it.
        """
        answer = self._open_backend().client.delete_by_id(session_id)
        marks = [one.mark for one in self.registry.records() if one.session_id == session_id]
        if answer.success or isinstance(answer.failure, SessionNotFoundError):
            self.registry.forget(marks)
        if not answer.success:
            raise answer.failure or SessionError(answer.error_message)

    def sweep(self) -> Swept:
        """Delete what provably dead kernels of this user left behind and nobody took back.

        Raises:
            StateFileError: the state file can't be used.
        """
        client = self._open_backend().client
        return sweep(client, self.registry, self.settings.grace_minutes * 60)

    # The end

    def close(self) -> None:
        """Delete all sessions of this notebook, or let a process of its own do it.

        Returns within 1.5 seconds, also when the service does not answer.
        """
        self._close([])

    def hand_over(self) -> None:
        """Close because the kernel restarts: what it begins with again is left for it.

        Returns within 1.5 seconds, also when the service does not answer.
        """
        keep = []
        if self.settings.on_restart == "interpreter":
            keep = [one for one in self.sessions() if one.mark and one.is_bridged]
        self._close(keep)

    def _close(self, keep: list[LiveSession]) -> None:
        with self._lock:
            self._closed = True
            self._live = {}
            backend = self._backend
        if backend is None or backend.runtime is not None:
            if backend is not None:
                # A runtime of our own takes its sessions with it.
                backend.close()
            self._give_back()
            return
        ends_at = time.monotonic() + _CLOSE_WITHIN_S
        ending = [threads.start(live.end_kernel) for live in keep]
        kept = {live.mark for live in keep}
        with contextlib.suppress(AgentBayError):
            self.registry.hand_over(kept)
            mine = [one.mark for one in self.registry.mine() if one.mark not in kept]
            end_now(backend.client, self.registry, mine)
        for one in ending:
            with contextlib.suppress(Exception):
                one.result(max(0.0, ends_at - time.monotonic()))
        backend.close()

    def _give_back(self) -> None:
        # Taken over from an earlier kernel, but no cell ever ran: nobody knows the service here.
        with contextlib.suppress(AgentBayError):
            if not self._claimed:
                return
            place = find_credentials().endpoint.url
            marks = [one.mark for one in self._claimed.values() if one.place == place]
            if marks:
                end_now(open_backend(self.settings).client, self.registry, marks)

    # Inside

    def _turn(self, name: str) -> threading.RLock:
        with self._lock:
            return self._turns.setdefault(name, threading.RLock())

    def _execution_in_use(self, language: str, name: str) -> Execution | None:
        with self._lock:
            live = self._live.get(name)
        return live.execution_in_use(language) if live is not None else None

    def _named(self, name: str) -> LiveSession:
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
        if name == DEFAULT_SESSION and self.settings.session_id:
            return self._opener.attach(backend, self.settings.session_id, name, "direct")
        record = self._claimed.get(name)
        if record is not None and record.place == backend.client.endpoint.url:
            opened = self._opener.take_back(backend, record)
            self._claimed.pop(name, None)
            if opened is not None:
                self._notes += [opened.note] if opened.note else []
                return opened.live
            self._notes.append(
                "AgentBay: the session of this notebook's earlier kernel is gone, with its "
                "variables and files. This is a new one.\n"
            )
        recipe = self.recipe
        live = self._opener.create(backend, name)
        live.recipe = recipe or None
        return live

    def _open_backend(self) -> Backend:
        with self._opening:
            if self._backend is None or not self._backend.alive:
                self._backend = open_backend(self.settings)
                if self._backend.runtime is None:
                    threads.start(self._tidy)
            return self._backend

    def _tidy(self) -> None:
        """End what dead kernels left behind, and creates of ours whose fate was unknown."""
        try:
            self.sweep()
        except AgentBayError as error:
            _log.warning("Sessions that were left behind could not be swept: %s", error)

    def _looked_after(
        self, live: LiveSession, cell: Cell, messages: Iterator[Message]
    ) -> Iterator[Message]:
        """A cell's messages, and the warnings that become due while it runs."""
        lifetime = live.lifetime
        if lifetime is None:
            yield from messages
            return
        enough = threading.Event()
        with (
            lifetime.used_by(cell, cell.timeout) as warnings,
            threads.Feed(messages, enough) as feed,
        ):
            while True:
                self._stamp(live)
                yield from warnings.due(time.time())
                try:
                    yield feed.next_within(_LOOK_AFTER_S)
                except TimeoutError:
                    if cell.stopped.is_set():
                        return
                except StopIteration:
                    return

    def _stamp(self, live: LiveSession) -> None:
        if live.mark:
            with contextlib.suppress(AgentBayError):
                self.registry.stamp(live.mark)

    def _has_ended(self, live: LiveSession) -> bool:
        """After a fault: does the service say that the session is gone?"""
        try:
            status = live.session.get_status()
        except CommandError:
            return False
        return isinstance(status.failure, SessionNotFoundError) or status.status in _ENDED

    def _gone(self, live: LiveSession, error: CommandError, cell: str) -> SessionNotFoundError:
        why = _why_gone(live)
        self._forget(live, why)
        return SessionNotFoundError(
            f"The session {live.session.session_id} is gone ({why}), and its variables and files "
            f"with it; {cell}. The next cell gets a new session"
            + ("; `%agentbay replay` runs the lost session's cells again." if live.past else "."),
            request_id=error.request_id,
        )

    def _check_runtime(self) -> None:
        if self._backend is None or self._backend.alive:
            return
        with self._lock:
            lost, self._live = self._live, {}
        for name, live in lost.items():
            self._lost[name] = Lost(live.session.session_id, "its runtime ended", tuple(live.past))
        raise SessionError(
            "The local runtime of this notebook has ended, and its sessions with it: variables "
            "and files are lost, and this cell did not run. Run it again: it gets a new session."
        )

    def _notices(self) -> Iterator[Message]:
        with self._lock:
            due, self._notice_due = self._notice_due, False
            notes, self._notes = self._notes, []
        if due and self._backend is not None and self._backend.notice:
            yield stream("stderr", self._backend.notice + "\n")
        for note in notes:
            yield stream("stderr", note)

    def _forget(self, live: LiveSession, why: str) -> None:
        with self._lock:
            if self._live.get(live.name) is not live:
                return
            del self._live[live.name]
            if live.past:
                self._lost[live.name] = Lost(live.session.session_id, why, tuple(live.past))
        if live.mark:
            with contextlib.suppress(AgentBayError):
                self.registry.forget([live.mark])

    def _end(self, live: LiveSession) -> None:
        if live.attached:
            return
        if not live.mark or self._backend is None:
            with contextlib.suppress(Exception):
                live.session.delete(wait=False)
            return
        with contextlib.suppress(AgentBayError):
            for record in self.registry.give_up([live.mark]):
                if end_record(self._backend.client, record):
                    self.registry.forget([record.mark])


def _why_gone(live: LiveSession) -> str:
    """Why a session is gone, as far as it can be told from here."""
    lifetime = live.lifetime
    if lifetime is None:
        return "it was deleted or released"
    if time.time() >= lifetime.ends_at:
        return "it had reached its greatest age"
    if lifetime.idle_for_s >= lifetime.idle_s:
        return f"it had not been used for {lifetime.idle_for_s / 60:.0f} min"
    return "it was deleted from elsewhere, or the service was restarted"


def _late_messages(late: Iterator[Carried]) -> Iterator[tuple[str, Message]]:
    for carried in late:
        message = as_message(carried)
        if message.type in OUTPUTS and message.type != "input_request":
            yield str(carried["p"].get("msg_id", "")), message
