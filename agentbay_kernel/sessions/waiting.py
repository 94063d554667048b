"""Waits until the interpreter of another owner's session is free.

A cell in an attached session waits for its owner's code: notes are shown meanwhile, and the cell is
sent when the interpreter is free. The test is an empty piece of code. It leaves nothing behind, and
may be sent again, which a cell may not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

from agentbay_kernel import threads
from agentbay_kernel.errors import ResponseLostError, ServiceFaultError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.service import CodeExecutionResult, Session

# A free interpreter responds sooner, even from far away.
PATIENCE_S = 1.5
_CALL_S = 55
_LOOK_EVERY_S = 0.5
_EMPTY = {"python": "pass", "javascript": "undefined"}
_NOTE = (
    "AgentBay: the session {id} is attached, and its owner's code runs in it: this cell waits for "
    "that, and has not been sent. `%agentbay top` shows what runs; interrupt the cell to leave.\n"
)


def ask(session: Session, language: str) -> Future[CodeExecutionResult]:
    """Send empty code; the future is done when its response arrives."""
    code = _EMPTY[language]
    return threads.start(lambda: session.code.run_code(code, language, _CALL_S))


def wait_for_turn(session: Session, cell: Cell) -> Iterator[Message]:
    """Wait until the session's interpreter is free or the cell is no longer wanted.

    Raises:
        CommandError: the session can't be used.
    """
    told_at = time.monotonic() + PATIENCE_S
    told = False
    while not cell.stopped.is_set():
        asked = ask(session, cell.language)
        while not cell.stopped.is_set():
            try:
                result = asked.result(_LOOK_EVERY_S)
            except NotYet:
                if not told and time.monotonic() >= told_at:
                    told = True
                    yield notice(_NOTE.format(id=session.session_id))
                continue
            except (ResponseLostError, ServiceFaultError):
                if not told:
                    raise
                # The gateway ends each request after a minute; the owner's work takes longer.
                break
            if result.success or not told:
                return
            break
