"""Runs cells in sessions: sends each to its session's execution, and watches it while it runs.

It adds warnings to the cell's messages. If the session is gone, it reports what happened to the
cell.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    AgentBayError,
    BridgeError,
    CommandError,
    ResponseLostError,
    ServiceUnreachableError,
    SessionNotFoundError,
    SilentSessionError,
)
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.sessions.session import Execution, LiveSession
from agentbay_kernel.sessions.store import SessionStore
from agentbay_kernel.sessions.waiting import wait_for_turn

# How often a running cell checks whether a warning is due.
_LOOK_AFTER_S = 1.0
# A cell reports a silence that lasts for so long.
_TELL_SILENCE_AFTER_S = 5.0
# How long the service may take to report whether a session exists.
_STATUS_WITHIN_S = 5.0
_NOT_FOLLOWED = (
    "This cell has run for as long as one cell keeps its session alive (keep_alive_minutes). It "
    "was not stopped, but it is followed no more, and the session {} is released when it has not "
    "been used for its idle time. Run another cell to wait for this one and see its output, or "
    "`%agentbay interrupt` to stop it. A longer AGENTBAY_TIMEOUT, or `%agentbay extend 2h` while "
    "it runs, follows a cell for longer."
)
_SILENT = (
    "AgentBay: the session has not responded for {:.0f} s. What runs in it continues; the "
    "connection is tried again.\n"
)
_LOST_TOO = "this cell ended with it, or its outcome was lost"
_ENDED_TOO = "this cell ended with them"
_ENDED = ("FINISH", "DELETED", "DELETING")


class SessionRunner:
    """Runs cells in the sessions of a store. Thread-safe."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def execute(self, cell: Cell, live: LiveSession) -> Iterator[Message]:
        """Run a cell in a session.

        Yields:
            Messages; an `execute_reply` comes last.

        Raises:
            AgentBayError: the cell could not be run; the message states what happened to it.
        """
        if cell.stopped.is_set():
            return
        if self._store.audit is not None:
            self._store.audit.code(live.session.session_id, cell.language, cell.code)
        yield from self._store.notices()
        live.note_start(cell)
        execution: Execution | None = None
        try:
            execution = live.execution_of(cell.language)
            if note := live.resolve_lost_cell():
                yield stream("stderr", note)
            if live.attached and isinstance(execution, DirectExecution):
                yield from wait_for_turn(live.session, cell)
                if cell.stopped.is_set():
                    return
            messages = execution.execute_within(cell, _LOOK_AFTER_S)
            yield from self._with_lifetime_warnings(live, cell, messages)
        except ServiceUnreachableError:
            live.note_not_run(cell)
            raise
        except SessionNotFoundError as error:
            live.note_not_run(cell)
            raise self._gone(live, error, "this cell did not run") from error
        except ResponseLostError as error:
            if self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            self._store.check_runtime(_ENDED_TOO)
            raise
        except BridgeError as error:
            if live.ended or self._has_ended(live):
                raise self._gone(live, error, _LOST_TOO) from error
            if isinstance(error, SilentSessionError):
                live.lost_cell = cell
            if execution is not None:
                live.give_up_bridge(execution, error)
            raise
        finally:
            live.note_end(cell)

    def _with_lifetime_warnings(
        self, live: LiveSession, cell: Cell, messages: Generator[Message | None]
    ) -> Iterator[Message]:
        """Yield a cell's messages, and the warnings that become due while it runs.

        Arguments:
            messages: the cell's messages; None if there was none for `_LOOK_AFTER_S`.
        """
        with contextlib.ExitStack() as held:
            # Also if the reader leaves or an error occurs here: later cells wait for it.
            held.enter_context(contextlib.closing(messages))
            warnings = None
            if live.lifetime is not None:
                warnings = held.enter_context(live.lifetime.used_by(cell, cell.timeout))
            told = False
            # Also once before the first message.
            for message in itertools.chain([None], messages):
                if message is not None:
                    yield message
                elif cell.stopped.is_set():
                    return
                else:
                    self._store.check_runtime(_ENDED_TOO)
                self._stamp(live)
                # Subtract the time between two checks, so that it is reported within 5 s.
                silent = live.silent_s > _TELL_SILENCE_AFTER_S - _LOOK_AFTER_S
                if silent and not told:
                    yield stream("stderr", _SILENT.format(live.silent_s))
                told = silent
                if warnings is not None:
                    yield from warnings.due(time.time())
                    if live.is_bridged and warnings.over(time.time()):
                        raise SilentSessionError(_NOT_FOLLOWED.format(live.session.session_id))

    def _stamp(self, live: LiveSession) -> None:
        if live.create_label:
            with contextlib.suppress(AgentBayError):
                self._store.registry.stamp(live.create_label)

    def _has_ended(self, live: LiveSession) -> bool:
        """Return whether the service reports, after an error, that the session is gone."""
        # A silent service must not delay the cell that failed because of the silence.
        asked = threads.start(live.session.get_status)
        try:
            status = asked.result(_STATUS_WITHIN_S)
        except (CommandError, TimeoutError):
            return False
        return isinstance(status.failure, SessionNotFoundError) or status.status in _ENDED

    def _gone(self, live: LiveSession, error: CommandError, cell: str) -> SessionNotFoundError:
        why = live.ended or _why_gone(live)
        self._store.forget(live, why)
        return SessionNotFoundError(
            f"The session {live.session.session_id} is gone ({why}), and its variables and files "
            f"with it; {cell}. The next cell gets a new session"
            + ("; `%agentbay rerun` runs the lost session's cells again." if live.past else "."),
            request_id=error.request_id,
        )


def _why_gone(live: LiveSession) -> str:
    """Return why a session is gone, as far as it is known here."""
    lifetime = live.lifetime
    if lifetime is None:
        return "it was deleted or released"
    if time.time() >= lifetime.ends_at:
        return "it had reached its maximum lifetime"
    if lifetime.idle_for_s >= lifetime.idle_s:
        return f"it had not been used for {lifetime.idle_for_s / 60:.0f} min"
    return "it was deleted from elsewhere, or the service was restarted"
