"""SessionManager: the one object that has sessions; kernel, magics and command line use it.

The store keeps the sessions; the runner runs cells in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agentbay_kernel.errors import (
    AttachedSessionError,
    SessionError,
    SessionNotFoundError,
)
from agentbay_kernel.execution.bridge.execution import BridgedExecution
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.sessions.lifetime import Lifetime
from agentbay_kernel.sessions.runner import SessionRunner
from agentbay_kernel.sessions.session import LiveSession
from agentbay_kernel.sessions.store import DEFAULT_SESSION, SessionStore
from agentbay_kernel.sessions.top import TopReport, read_top
from agentbay_kernel.sessions.variables import Variables, read_variables

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings


class SessionManager:
    """Runs cells in sessions, and changes sessions at a user's request. Thread-safe.

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
        #: The sessions of the notebook.
        self.store = SessionStore(settings, notebook, folder)
        #: Runs cells in them.
        self.runner = SessionRunner(self.store)

    def execute(self, cell: Cell, name: str = DEFAULT_SESSION) -> Iterator[Message]:
        """Run a cell in the session of that name, created if there is none.

        See `SessionRunner.execute`.
        """
        yield from self.runner.execute(cell, self.open(name, cell.language))

    def interrupt(self, cell: Cell, name: str = DEFAULT_SESSION) -> InterruptResult:
        """Stop a cell; return the result of the interrupt."""
        live = self.store.find(name)
        if live is None:
            cell.stopped.set()
            return InterruptResult.UNSENT
        return live.interrupt(cell)

    def python_bridge(self, name: str = DEFAULT_SESSION) -> BridgedPython | None:
        """Return the bridge to that session's Python, if it has one; create none."""
        live = self.store.find(name)
        return live.python_bridge if live is not None else None

    def bridge(self, language: str, name: str = DEFAULT_SESSION) -> BridgedExecution | None:
        """Return the bridge to a language of that session, if it has one; create none."""
        live = self.store.find(name)
        return live.bridge(language) if live is not None else None

    def open(self, name: str = DEFAULT_SESSION, language: str = "") -> LiveSession:
        """Return the session of that name, created if there is none; see `SessionStore.open`."""
        return self.store.open(name, language)

    def sessions(self) -> list[LiveSession]:
        """Return the sessions in use, oldest first."""
        return self.store.sessions()

    def close(self) -> None:
        """Delete all sessions of this notebook; see `SessionStore.close`."""
        self.store.close()

    def delete(self, name: str = DEFAULT_SESSION, *, force: bool = False) -> str:
        """Delete a session; the next cell of that name gets a new one.

        Arguments:
            force: delete it even if it is attached.

        Returns:
            The id of the session.

        Raises:
            SessionError: there is none of that name.
            AttachedSessionError: it belongs to another owner.
            CommandError: the service could not do it.
        """
        live = self.store.named(name)
        if live.attached and not force:
            force_it = "`%agentbay delete --force` deletes it."
            if not self.settings.delete_attached:
                on_a_line = f"jupyter agentbay sessions delete {live.session.session_id}"
                force_it = f"To delete it, run `{on_a_line}` on the command line."
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached: it is not this notebook's, "
                f"and was not deleted. `%agentbay detach` leaves it. {force_it}"
            )
        answer = live.session.delete(wait=False)
        if not answer.success and not isinstance(answer.failure, SessionNotFoundError):
            raise answer.failure or SessionError(answer.error_message)
        self.store.forget(live, "it was deleted here")
        return live.session.session_id

    def restart(self, name: str = DEFAULT_SESSION, *, force: bool = False) -> bool:
        """Restart the interpreters of a session, or else replace the session.

        Arguments:
            force: restart even if a cell runs, which ends that cell.

        Returns:
            True if the session stays and has fresh interpreters; False if the next cell gets a new
            session.

        Raises:
            SessionError: there is no session of that name, or a cell runs in it.
            AttachedSessionError: it belongs to another owner.
            CommandError: the service could not do it.
        """
        live = self.store.named(name)
        if live.running and not force:
            raise SessionError(
                f"A cell runs in {name!r}, so nothing was restarted. `%agentbay interrupt` "
                "interrupts it; `%agentbay restart --force` ends it, and the variables are lost."
            )
        if live.attached and not live.is_bridged:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached, and its interpreters are its "
                "owner's: they were not restarted. `%agentbay detach` leaves it."
            )
        with self.store.turn(name):
            if (live.attached or self.settings.on_restart == "interpreter") and live.renew():
                self.store.lose(live, "it was restarted")
                live.past.clear()
                return True
            self.delete(name)
        return False

    def stop_cells(self, name: str = DEFAULT_SESSION) -> list[InterruptResult]:
        """Interrupt all code that runs in a session, even code that an earlier kernel started.

        Returns:
            The result for each cell.

        Raises:
            SessionError: there is none of that name.
            AttachedSessionError: the running code is the session owner's.
        """
        live = self.store.named(name)
        running = list(live.running)
        if running:
            return [self.interrupt(cell, name) for cell in running]
        if (bridge := live.python_bridge) is not None:
            return [InterruptResult.ENDING] if bridge.interrupt_kernel() else []
        if live.attached:
            raise AttachedSessionError(
                f"The session {live.session.session_id} is attached, and this notebook runs "
                "nothing in it. What its owner runs was not interrupted."
            )
        return []

    def attach(
        self, session: object, name: str = DEFAULT_SESSION, *, bridged: bool = False
    ) -> LiveSession:
        """Use another owner's session under that name.

        Nothing is installed in it, and neither its labels nor its lifetime change.

        Arguments:
            session: its id, or a `Session` object of the official SDK.
            bridged: install a bridge in it nevertheless.

        Raises:
            SessionError: a session is in use under that name.
            SessionNotFoundError: there is none with that id.
            CommandError: the service refused, or was not reached.
            CommandError: the service refused, or was not reached.
        """
        session_id = session if isinstance(session, str) else getattr(session, "session_id", "")
        if not isinstance(session_id, str) or not session_id.strip():
            raise SessionError(
                f"{type(session).__name__} names no session. Give a session's id, or a Session."
            )
        return self.store.attach(session_id.strip(), name, bridged=bridged)

    def detach(self, name: str = DEFAULT_SESSION) -> str:
        """Leave an attached session as it is; return its id.

        Raises:
            SessionError: there is none of that name, or it is this notebook's own.
        """
        return self.store.detach(name)

    def extend(self, seconds: float, name: str = DEFAULT_SESSION) -> Lifetime:
        """Keep a session alive for so many seconds, with or without a cell.

        The maximum lifetime limits it.

        Returns:
            Its lifetime: `extended_until`, and `ends_at`, beyond which it can't be extended.

        Raises:
            SessionError: there is none of that name, or this notebook can't change its lifetime.
        """
        live = self.store.named(name)
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

    def top(self, name: str = DEFAULT_SESSION) -> TopReport:
        """Return processes, files, metrics and variables of a session; don't wait for its code.

        Raises:
            SessionError: there is none of that name.
        """
        return read_top(self.store.named(name))

    def variables(self, name: str, language: str) -> Variables:
        """List the variables of a language in a session; create no session.

        Raises:
            SessionError: there is none of that name, or the language's interpreter is busy.
            CommandError: the service failed.
        """
        return read_variables(self.store.named(name), language)

    def rerun(self, name: str = DEFAULT_SESSION) -> Iterator[Message]:
        """Run the cells of the lost session again, in order, until one fails.

        Yields:
            Messages; the last cell's `execute_reply` comes last.

        Raises:
            SessionError: no session of that name was lost.
            AgentBayError: a cell could not be run.
        """
        lost = self.store.lost(name)
        if lost is None:
            raise SessionError(f"No session {name!r} of this kernel was lost: nothing to rerun.")
        reply: Message | None = None
        for number, past in enumerate(lost.cells, 1):
            first = past.code.strip().splitlines()[0]
            yield notice(f"[{number}/{len(lost.cells)}] {first[:70]}")
            cell = Cell(past.code, past.language, self.settings.timeout, self.settings.output_limit)
            reply = None
            for message in self.execute(cell, name):
                if message.type == "execute_reply":
                    reply = message
                else:
                    yield message
            if reply is None or reply.content.get("status") != "ok":
                break
        else:
            self.store.found_again(name)
        if reply is not None:
            yield reply
