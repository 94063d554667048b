"""The lifetime of one cell, from its options to its end, shared by the kernel and the magics.

They differ in how they wait (an event loop, a thread that a KeyboardInterrupt ends) and in how
they publish. Everything else about a cell is here: its session, its limits, its result.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel import threads
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.languages import JAVASCRIPT
from agentbay_kernel.sessions import DEFAULT_SESSION, LiveSession, SessionManager
from agentbay_kernel.sessions.packages import installed_packages
from agentbay_kernel.verbs.cells import check_commands
from agentbay_kernel.verbs.hints import (
    Here,
    find_hint,
    find_javascript_hint,
    is_missing_module,
)

if TYPE_CHECKING:
    from agentbay_kernel.verbs.cell_options import CellOptions

# A session that opens faster than this needs no notice.
NOTICE_AFTER_S = 1.0
_STARTING = "Starting an AgentBay session ..."
_CONNECTING = "Connecting to the AgentBay session again ..."


class RunningCell:
    """One cell that runs, or is about to run.

    Arguments:
        manager: the session manager.
        cell: the cell as the front end sent it; the settings' limits are added.
        options: the options of its first line.
        folder: the notebook's directory.
        variables: names in the notebook that could be sent; none in an AgentBay kernel.

    Raises:
        VerbError: its code has a command below the first lines.
    """

    def __init__(
        self,
        manager: SessionManager,
        cell: Cell,
        options: CellOptions,
        folder: Path,
        variables: Container[str] = (),
    ) -> None:
        check_commands(cell.code, cell.language)
        settings = manager.settings
        self.manager = manager
        self.options = options
        self.session = options.session or DEFAULT_SESSION
        if options.ephemeral:
            self.session = f"once-{uuid.uuid4().hex[:12]}"
        self.cell = replace(
            cell,
            timeout=options.timeout or settings.timeout,
            output_limit=settings.output_limit,
            display_limit=settings.display_limit,
            strict_const=settings.strict_const,
        )
        #: The cell's result.
        self.result = CellResult(cell.language, self.session, cell.message_id)
        offline = settings.backend == "local" and not settings.local_network
        python = settings.local_python if offline else ""
        self._here = Here(folder, variables, settings.untrusted, python)
        #: The notice to show if opening the session takes longer than `NOTICE_AFTER_S`.
        self.opening_notice = _STARTING
        self._opening: Future[LiveSession] | None = None

    def open(self) -> Future[LiveSession]:
        """Start to open its session, on a thread unless it is ready at once."""
        store = self.manager.store
        live = store.opened(self.session, self.cell.language)
        if live is not None:
            self._opening = Future()
            self._opening.set_result(live)
            return self._opening
        self.opening_notice = _STARTING if store.find(self.session) is None else _CONNECTING
        self._opening = threads.start(lambda: store.open(self.session, self.cell.language))
        return self._opening

    @property
    def live(self) -> LiveSession | None:
        """Its session; None until it is open."""
        opening = self._opening
        if opening is None or not opening.done() or opening.exception() is not None:
            return None
        return opening.result()

    def messages(self) -> Iterator[Message]:
        """Run it in its session, once that is open.

        Yields:
            Its messages as they arrive; an `execute_reply` comes last.

        Raises:
            AgentBayError: it could not be run; the message states what happened to it.
        """
        live = (self._opening or self.open()).result()
        yield from self.manager.runner.execute(self.cell, live)

    def interrupt(self) -> InterruptResult:
        """Stop it; code that has not been sent is never sent."""
        if (live := self.live) is None:
            self.cell.stopped.set()
            return InterruptResult.UNSENT
        try:
            return live.interrupt(self.cell)
        except AgentBayError:
            return InterruptResult.CONTINUES

    def answer_input(self, typed: str) -> None:
        """Send what the user typed for an `input_request`."""
        if (live := self.live) is None:
            return
        if (bridge := live.bridge(self.cell.language)) is not None:
            bridge.answer_input(typed)

    def hint(self, error: dict[str, Any]) -> str | None:
        """Return a line or two on how to fix an error, or None; may ask the session."""
        name, message = error["ename"], error["evalue"]
        if self.cell.language == JAVASCRIPT.name:
            live = self.live
            direct = live is None or live.bridge(JAVASCRIPT.name) is None
            found = find_javascript_hint(name, message, self.cell.code, direct=direct)
            if found is not None:
                return found
        here, live = self._here, self.live
        if is_missing_module(name, message) and live is not None and not live.packages_named:
            live.packages_named = True
            here = replace(here, sandbox_has=installed_packages(live))
        return find_hint(name, message, here)

    def end(self) -> None:
        """Note that it has ended, however it did."""
        self.result.end()
        if self.options.ephemeral:
            threads.start(self._delete_session)

    def _delete_session(self) -> None:
        # It may still be opening when the cell was interrupted.
        if self._opening is not None and self._opening.exception() is None:
            self.manager.delete(self.session)
