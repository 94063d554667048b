"""Direct execution: one cell is one `run_code`.

In: a `Cell`. Out: the answer as Jupyter messages - streams, displays, the main result, the
error, the reply. It needs nothing but what the Code API documents, and has its limits: 60
seconds a request, and the order of prints against displays is not known.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.limit import OutputLimit
from agentbay_kernel.execution.messages import Message, error, reply_error, reply_ok, stream
from agentbay_kernel.languages import JAVASCRIPT

if TYPE_CHECKING:
    from agentbay_kernel.service import CodeExecutionResult, Session

# One request to the service ends after 60 seconds (Code API reference, run_code).
LONGEST_CALL_S = 60


class DirectExecution:
    """Runs cells in one session, one `run_code` a cell."""

    kind = "direct"

    def __init__(self, session: Session) -> None:
        self._session = session
        # The sandbox runs one cell of a language at a time. Waiting for one's turn here and not
        # there keeps the request's own 60 seconds for the cell.
        self._turns: dict[str, threading.Lock] = {}
        self._sent: set[Cell] = set()
        self._lock = threading.Lock()

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell; yields its messages, the last one an `execute_reply`.

        Raises:
            CommandError: the service could not do it.
        """
        with self._lock:
            turn = self._turns.setdefault(cell.language, threading.Lock())
        with turn:
            with self._lock:
                if cell.stopped.is_set():
                    return
                self._sent.add(cell)
            timeout_s = min(cell.timeout or LONGEST_CALL_S, LONGEST_CALL_S)
            try:
                result = self._session.code.run_code(_sent_code(cell), cell.language, timeout_s)
            finally:
                self._sent.discard(cell)
        yield from messages_of(result, cell.output_limit)

    def interrupt(self, cell: Cell) -> Stop:
        """Stop a cell that waits for its turn. The service has no call that stops a running one."""
        with self._lock:
            cell.stopped.set()
            return Stop.RUNS_ON if cell in self._sent else Stop.UNSENT


def _sent_code(cell: Cell) -> str:
    if cell.language != JAVASCRIPT.name:
        return cell.code
    # A notebook's cell is run again and again; a script may declare a name only once.
    from agentbay_kernel.execution.javascript import rewrite

    return rewrite(cell.code, awaited=False).code


def messages_of(result: CodeExecutionResult, output_limit: int) -> Iterator[Message]:
    """A result as the messages that a kernel would have published, and the reply."""
    limit = OutputLimit(output_limit)
    for name, text in (("stdout", "".join(result.logs.stdout)), ("stderr", _stderr(result))):
        if text and limit.admits(text):
            yield stream(name, text)
    main_shown = False
    for item in result.results:
        content = {"data": dict(item.data), "metadata": dict(item.metadata)}
        if item.is_main_result and not main_shown:
            main_shown = True
            count = result.execution_count
            yield Message("execute_result", {**content, "execution_count": count})
        else:
            yield Message("display_data", {**content, "transient": {}})
    if (note := limit.note()) is not None:
        yield note
    if result.success:
        yield reply_ok(result.execution_count)
        return
    if result.error is not None:
        ename, evalue = result.error.name, result.error.value
        traceback = result.error.traceback.splitlines()
    else:
        ename, evalue, traceback = "CommandError", result.error_message, []
    failure = error(ename, evalue, traceback or [f"{ename}: {evalue}"])
    yield failure
    yield reply_error(failure, result.execution_count)


def _stderr(result: CodeExecutionResult) -> str:
    # A failing cell's stderr ends with what the error output shows too; once is enough.
    text = "".join(result.logs.stderr)
    if result.error is None:
        return text
    shown = result.error.traceback.strip() or f"{result.error.name}: {result.error.value}"
    printed, found, after = text.rpartition(shown)
    return printed if found and not after.strip() else text
