"""SessionManager: the one object that has sessions; kernel, magics and command line use it.

In: cells, names of sessions, what is to be done to them. Out: Jupyter messages, and what became
of the sessions. How they come and go is `keeper`'s.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    AgentBayError,
    AnswerLostError,
    AttachedSessionError,
    BridgeError,
    CommandError,
    ServiceUnreachableError,
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
from agentbay_kernel.sessions.keeper import DEFAULT_SESSION, Lost, SessionKeeper
from agentbay_kernel.sessions.lifetime import Lifetime
from agentbay_kernel.sessions.live import Execution, LiveSession
from agentbay_kernel.sessions.look import Look, look_into
from agentbay_kernel.sessions.waiting import wait_for_turn

# How often a running cell looks whether a warning is due.
_LOOK_AFTER_S = 1.0
# How long the service may take to say whether a session is there.
_STATUS_WITHIN_S = 5.0
_FOLLOWED_NO_MORE = (
    "This cell has run for as long as one cell keeps its session alive (keep_alive_minutes). It "
    "was not stopped, but it is followed no more, and the session {} is released when it has not "
    "been used for its idle time. Run another cell to wait for this one and see its output, or "
    "`%agentbay interrupt` to stop it. A longer AGENTBAY_TIMEOUT, or `%agentbay extend 2h` while "
    "it runs, follows a cell for longer."
)
_LOST_TOO = "this cell ended with it, or its outcome was lost"
_ENDED_TOO = "this cell ended with them"
_ENDED = ("FINISH", "DELETED", "DELETING")


class SessionManager(SessionKeeper):
    """Runs cells in sessions, and does to sessions what a user asks for. Thread-safe.

    Arguments:
        settings: the settings in force.
        notebook: path of the kernel's connection file; empty when there is none.
        folder: the notebook's folder; the working directory unless given.
    """

    # Cells

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
        execution: Execution | None = None
        try:
            execution = live.execution_of(cell.language)
            if note := live.settle():
                yield stream("stderr", note)
            if live.attached and isinstance(execution, DirectExecution):
                yield from wait_for_turn(live.session, cell)
                if cell.stopped.is_set():
                    return
            yield from self._looked_after(live, cell, execution.execute(cell))
        except ServiceUnreachableError:
            live.note_unrun(cell)
            raise
        except SessionNotFoundError as error:
            live.note_unrun(cell)
            raise self._gone(live, error, "this cell did not run") from error
        except AnswerLostError as error:
            if self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            self._check_runtime(_ENDED_TOO)
            raise
        except BridgeError as error:
            if live.ended or self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            if isinstance(error, SilentSessionError):
                live.unsettled = cell
            if execution is not None:
                live.give_up_bridge(execution, error)
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
        caused it; None where there is no bridge, and for all who ask but the first."""
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

    def restart(self, name: str = DEFAULT_SESSION, *, kill: bool = False) -> bool:
        """Begin anew: with fresh interpreters in the same session where that is possible (True),
        else with a new session (False).

        Arguments:
            kill: also when a cell runs, which is ended by it.

        Raises:
            SessionError: there is no session of that name, or a cell runs in it.
            AttachedSessionError: it is another's.
            CommandError: the service could not do it.
        """
        live = self._named(name)
        if live.running and not kill:
            raise SessionError(
                f"A cell runs in {name!r}, so nothing was restarted. `%agentbay interrupt` "
                "interrupts it; `%agentbay restart --kill` ends it, and the variables are lost."
            )
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
            backend = self._open_backend()
            live = self._opener.attach(backend, session_id.strip(), name, wanted)
            self._tidy()
            with self._lock:
                self._live[name] = live
            self._attachments.note(
                name, backend.client.endpoint.url, live.session.session_id, bridged=bridged
            )
            return live

    def detach(self, name: str = DEFAULT_SESSION) -> str:
        """Leave an attached session as it is; returns its id.

        Raises:
            SessionError: there is none of that name, or it is this notebook's own.
        """
        with self._lock:
            waits = name not in self._live
        if waits and (before := self._attachments.find(name)) is not None:
            # Of the kernel before; no cell has used it since.
            self._attachments.forget(name)
            return before.session_id
        live = self._named(name)
        if not live.attached:
            raise SessionError(
                f"{name!r} is this notebook's own session {live.session.session_id}, and nobody "
                "else would end it. `%agentbay stop` deletes it."
            )
        with self._lock:
            self._live.pop(name, None)
        self._attachments.forget(name)
        if live.is_bridged:
            # Nothing of ours stays in it; what can't be reached now ends with it.
            with contextlib.suppress(AgentBayError):
                live.renew()
        live.close("it was detached from here")
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
            raise SessionError(
                "This session lives as long as the notebook's kernel, and needs no extending."
            )
        live.lifetime.extend(seconds)
        return live.lifetime

    def look(self, name: str = DEFAULT_SESSION) -> Look:
        """Processes, files, metrics and variables of a session; running code is not waited for.

        Raises:
            SessionError: there is none of that name.
        """
        return look_into(self._named(name))

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

    # Inside

    def _execution_in_use(self, language: str, name: str) -> Execution | None:
        with self._lock:
            live = self._live.get(name)
        return live.execution_in_use(language) if live is not None else None

    def _looked_after(
        self, live: LiveSession, cell: Cell, messages: Iterator[Message]
    ) -> Iterator[Message]:
        """A cell's messages, and the warnings that become due while it runs."""
        with contextlib.ExitStack() as held:
            warnings = None
            if live.lifetime is not None:
                warnings = held.enter_context(live.lifetime.used_by(cell, cell.timeout))
            feed = held.enter_context(threads.Feed(messages, threading.Event()))
            while True:
                self._stamp(live)
                if warnings is not None:
                    yield from warnings.due(time.time())
                    if live.is_bridged and warnings.over(time.time()):
                        raise SilentSessionError(_FOLLOWED_NO_MORE.format(live.session.session_id))
                try:
                    yield feed.next_within(_LOOK_AFTER_S)
                except TimeoutError:
                    self._check_runtime(_ENDED_TOO)
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
        # A service that is silent must not hold up the cell that was given up for its silence.
        asked = threads.start(live.session.get_status)
        try:
            status = asked.result(_STATUS_WITHIN_S)
        except (CommandError, TimeoutError):
            return False
        return isinstance(status.failure, SessionNotFoundError) or status.status in _ENDED

    def _gone(self, live: LiveSession, error: CommandError, cell: str) -> SessionNotFoundError:
        why = live.ended or _why_gone(live)
        self._forget(live, why)
        return SessionNotFoundError(
            f"The session {live.session.session_id} is gone ({why}), and its variables and files "
            f"with it; {cell}. The next cell gets a new session"
            + ("; `%agentbay replay` runs the lost session's cells again." if live.past else "."),
            request_id=error.request_id,
        )


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
