"""Direct execution: one cell is one `run_code`.

It yields the response as Jupyter messages: streams, displays, the main result, the error, the
reply. If the session can stream, they come while the cell runs, in the order in which they
happened. Else they come at its end, streams first. It needs only what the Code API and the wire
protocol document, and has their limit: 60 seconds for each request.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import wait

from agentbay_kernel import threads
from agentbay_kernel.errors import CommandError, ServiceUnreachableError
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.messages import Message, error, reply_error, reply_ok, stream
from agentbay_kernel.execution.output_limit import KeptHere, OutputLimit, replied
from agentbay_kernel.execution.sources import display_hooks_code
from agentbay_kernel.languages import JAVASCRIPT, PYTHON
from agentbay_kernel.service import CodeExecutionResult, CodeOutput, CodeStream, Session

# One request to the service ends after 60 seconds (Code API reference, run_code).
LONGEST_CALL_S = 60
# A cell with one of these names may show a chart that needs preparation in the session's Python.
_CHARTS = re.compile(
    r"\b(?:altair|bokeh|holoviews|hvplot|itables|panel|plotly|pyvis|FigureWidget|IFrame|Video)\b"
)
_PREPARE_S = 20


class DirectExecution:
    """Runs cells in one session, one `run_code` a cell."""

    kind = "direct"

    def __init__(self, session: Session) -> None:
        self._session = session
        # The sandbox runs one cell of a language at a time. A cell waits for its turn here, so that
        # it has the request's 60 seconds for itself.
        self._turns: dict[str, threading.Lock] = {}
        self._sent: set[Cell] = set()
        self._prepared = False
        self._lock = threading.Lock()

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell and yield its messages; the last one is an `execute_reply`.

        Raises:
            CommandError: the service could not run it, or its response was lost.
        """
        return (message for message in self.execute_within(cell, None) if message is not None)

    def execute_within(self, cell: Cell, seconds: float | None) -> Generator[Message | None]:
        """Run one cell as `execute` does, and also yield None after `seconds` without a message.

        So the reader regularly gets control while it waits. With None, it waits for each message.
        """
        with self._lock:
            turn = self._turns.setdefault(cell.language, threading.Lock())
        kept = KeptHere()
        limit = OutputLimit(cell.output_limit, cell.display_limit, whole=kept.told)
        while not turn.acquire(timeout=-1 if seconds is None else seconds):
            yield None
        try:
            with self._lock:
                if cell.stopped.is_set():
                    return
                self._sent.add(cell)
            self._prepare(cell)
            stream = self._stream(cell)
            if stream is not None:
                yield from _live_messages(stream, limit, kept, seconds)
                return
            result = yield from self._call(cell, seconds)
        finally:
            self._sent.discard(cell)
            turn.release()
        yield from messages_of(result, limit, kept)

    def _call(
        self, cell: Cell, seconds: float | None
    ) -> Generator[None, None, CodeExecutionResult]:
        code, timeout_s = _sent_code(cell), _timeout_s(cell)
        call = threads.start(lambda: self._session.code.run_code(code, cell.language, timeout_s))
        try:
            while not wait([call], seconds).done:
                yield None
        finally:
            # The reader may have stopped, but the sandbox is busy until the call's end.
            wait([call])
        return call.result()

    def _prepare(self, cell: Cell) -> None:
        """Prepare the session's Python to show charts, before the first cell that may have one."""
        if self._prepared or cell.language != PYTHON.name or not _CHARTS.search(cell.code):
            return
        self._prepared = True
        # The cell can run without the preparation.
        with contextlib.suppress(CommandError):
            self._session.code.run_code(display_hooks_code(), cell.language, _PREPARE_S)

    def _stream(self, cell: Cell) -> CodeStream | None:
        # A prepared chart contains its scripts, and so may be too large for a frame of the stream.
        if not self._session.can_stream or (self._prepared and cell.language == PYTHON.name):
            return None
        try:
            return self._session.code.stream_code(_sent_code(cell), cell.language, _timeout_s(cell))
        except ServiceUnreachableError:
            # Nothing was sent; the other routes may work.
            return None

    def interrupt(self, cell: Cell) -> InterruptResult:
        """Stop a cell that waits for its turn. The service has no call that stops a running one."""
        with self._lock:
            cell.stopped.set()
            return InterruptResult.CONTINUES if cell in self._sent else InterruptResult.UNSENT


def _timeout_s(cell: Cell) -> float:
    return min(cell.timeout or LONGEST_CALL_S, LONGEST_CALL_S)


def _sent_code(cell: Cell) -> str:
    if cell.language != JAVASCRIPT.name:
        return cell.code
    # A notebook runs a cell several times, but a script can declare a name only once.
    from agentbay_kernel.execution.javascript import rewrite

    return rewrite(cell.code, strict_const=cell.strict_const, awaited=False).code


def _live_messages(
    events: CodeStream, limit: OutputLimit, kept: KeptHere, seconds: float | None
) -> Iterator[Message | None]:
    main_shown = False
    try:
        while True:
            try:
                event = events.next_within(seconds)
            except StopIteration:
                return
            if event is None:
                yield None
            elif isinstance(event, CodeExecutionResult):
                yield from _ending(event, limit, kept)
            elif isinstance(event, CodeOutput):
                is_main = event.is_main_result and not main_shown
                main_shown = main_shown or is_main
                yield from _limited(_output(event, is_main, None), limit)
            else:
                kept.add(event.text)
                yield from _limited(stream(event.name, event.text), limit)
    finally:
        # The reader may have stopped, but the sandbox is busy until the cell's end, and the next
        # cell's time must not start earlier.
        with events, contextlib.suppress(CommandError):
            for _ in events:
                pass


def messages_of(
    result: CodeExecutionResult, limit: OutputLimit, kept: KeptHere
) -> Iterator[Message]:
    """Yield a result as the messages that a kernel would have published, and the reply."""
    for name, text in (("stdout", "".join(result.logs.stdout)), ("stderr", _stderr(result))):
        if text:
            kept.add(text)
            yield from _limited(stream(name, text), limit)
    main_shown = False
    for item in result.results:
        is_main = item.is_main_result and not main_shown
        main_shown = main_shown or is_main
        yield from _limited(_output(item, is_main, result.execution_count), limit)
    yield from _ending(result, limit, kept)


def _limited(message: Message, limit: OutputLimit) -> Iterator[Message]:
    for kind, content in limit.admit(message.type, message.content):
        yield Message(kind, content, message.metadata)


def _output(item: CodeOutput, is_main: bool, count: int | None) -> Message:
    content = {"data": dict(item.data), "metadata": dict(item.metadata)}
    if is_main:
        return Message("execute_result", {**content, "execution_count": count})
    return Message("display_data", {**content, "transient": {}})


def _ending(result: CodeExecutionResult, limit: OutputLimit, kept: KeptHere) -> Iterator[Message]:
    for kind, content in limit.closing():
        yield Message(kind, content)
    whole = kept if limit.folded else None
    if result.success:
        yield replied(reply_ok(result.execution_count), whole, result.request_id)
        return
    if result.error is not None:
        ename, evalue = result.error.name, result.error.value
        traceback = result.error.traceback.splitlines()
    else:
        ename, evalue, traceback = "CommandError", result.error_message, []
    failure = error(ename, evalue, traceback or [f"{ename}: {evalue}"])
    yield failure
    yield replied(reply_error(failure, result.execution_count), whole, result.request_id)


def _stderr(result: CodeExecutionResult) -> str:
    # The stderr of a failing cell ends with its error, which the error output shows already.
    text = "".join(result.logs.stderr)
    if result.error is None:
        return text
    shown = result.error.traceback.strip() or f"{result.error.name}: {result.error.value}"
    printed, found, after = text.rpartition(shown)
    return printed if found and not after.strip() else text
