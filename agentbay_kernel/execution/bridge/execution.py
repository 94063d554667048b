"""Running a cell of any language in a kernel inside the sandbox: the base of both languages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from agentbay_kernel.errors import InvalidResponseError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.requests import OUTPUTS, Request, as_message
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.execution.output_limit import InSandbox, OutputLimit, replied


class BridgedExecution:
    """Runs cells of one language in a kernel of one session.

    Arguments:
        client: the connection to the session's bridge, which is installed.
    """

    kind = "bridged"
    # The bridge's channels to that kernel: for cells, for interrupts, for the user's input.
    channel = "shell"
    interrupt_channel = "control"
    input_channel = "stdin"

    def __init__(self, client: BridgeClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        # Cells that were sent and have not ended.
        self._cells: set[Cell] = set()
        # Since when a debugger halts code (monotonic clock), and the seconds of earlier halts.
        self._halted_at: float | None = None
        self._halted_before_s = 0.0

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell and yield its messages as they come; the last one is an `execute_reply`.

        Raises:
            CommandError: the service or the bridge failed.
        """
        return (message for message in self.execute_within(cell, None) if message is not None)

    def execute_within(self, cell: Cell, seconds: float | None) -> Generator[Message | None]:
        """Run one cell as `execute` does, and also yield None after `seconds` without a message.

        So the reader regularly gets control while it waits. With None, it waits for each message.
        """
        content = self._content(cell)
        whole = InSandbox(self._client.output_path)
        limit = OutputLimit(cell.output_limit, cell.display_limit, whole=whole.told)
        with self._lock:
            if cell.stopped.is_set():
                return
            self._cells.add(cell)
            request = self._send(cell, content, limit)
        try:
            stop = lambda: self.interrupt(cell)  # noqa: E731
            with _Overdue(cell.timeout, stop, lambda: self.halted_s) as overdue:
                for carried in request.answers_within(seconds):
                    if carried is None:
                        yield None
                        continue
                    message = as_message(carried)
                    # A silent cell does not report its start, so any message shows it.
                    if message.type == "execute_input" or cell.silent:
                        overdue.begin()
                    if message.type == "execute_reply":
                        self._note_reply(message)
                        for kind, closing in limit.closing():
                            yield Message(kind, closing)
                        if overdue.fired:
                            yield overdue.note()
                        self._listen(cell.late_output_s)
                        yield replied(message, whole if limit.folded else None)
                    elif message.type in OUTPUTS and (
                        message.type != "input_request" or cell.allow_stdin
                    ):
                        self._note_output(message.type, message.content)
                        yield message
        finally:
            with self._lock:
                self._cells.discard(cell)

    def interrupt(self, cell: Cell) -> InterruptResult:
        """Interrupt a cell, also one that waits in the sandbox; cancel one that was not sent."""
        with self._lock:
            if cell not in self._cells:
                cell.stopped.set()
                return InterruptResult.UNSENT
        self._interrupt(cell.message_id)
        return InterruptResult.ENDING

    def note_halt(self, halted: bool) -> None:
        """Note that a debugger has halted the kernel's code, or lets it continue."""
        now = time.monotonic()
        if self._halted_at is not None:
            self._halted_before_s += now - self._halted_at
        self._halted_at = now if halted else None

    @property
    def halted_s(self) -> float:
        """The total seconds for which a debugger has halted code."""
        since = self._halted_at
        return self._halted_before_s + (time.monotonic() - since if since is not None else 0.0)

    def answer_input(self, value: str) -> None:
        """Send what the user typed for an `input_request`."""
        content = {"value": value, "status": "ok"}
        self._client.post(self.input_channel, "input_reply", content, awaited=False)

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Return the kernel's completions: the content of a complete_reply."""
        raise NotImplementedError

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any]:
        """Return the kernel's information about a name: the content of an inspect_reply."""
        raise NotImplementedError

    def _content(self, cell: Cell) -> dict[str, Any]:
        """Return the content of the cell's execute_request."""
        raise NotImplementedError

    def _send(self, cell: Cell, content: dict[str, Any], limit: OutputLimit) -> Request:
        return self._client.post(
            self.channel,
            "execute_request",
            content,
            limit=limit,
            message_id=cell.message_id,
            metadata=self._metadata(cell),
        )

    def _metadata(self, cell: Cell) -> dict[str, Any]:
        """Return the metadata of the cell's execute_request."""
        return {"cellId": cell.cell_id} if cell.cell_id else {}

    def _note_reply(self, reply: Message) -> None:
        """Read, and remove from the reply, what is only for this client."""

    def _note_output(self, kind: str, content: dict[str, Any]) -> None:
        """Note whether an output shows that something continues after the cell."""

    def _listen(self, seconds: float) -> None:
        """Collect output after the cell's end for so long, if there can be any."""

    def _interrupt(self, message_id: str) -> None:
        # The bridge decides what to do: it knows which cell the kernel runs. The request arrives
        # after its cell.
        content = {"cell": message_id}
        self._client.post(self.interrupt_channel, "interrupt_request", content, awaited=False)

    def _ask(self, kind: str, content: dict[str, Any], subshell: str = "") -> dict[str, Any]:
        reply: dict[str, Any] | None = None
        for carried in self._client.post(self.channel, kind, content, subshell=subshell).answers():
            reply = carried["b"]
        if not isinstance(reply, dict):
            raise InvalidResponseError("The sandbox's kernel sent a reply without content.")
        return reply


# Minimum seconds between checks whether halted code runs again.
_LOOK_AGAIN_S = 0.5


class _Overdue:
    """A context manager that interrupts a cell at its timeout; `fired` is true afterwards.

    The time counts from `begin`. The start of a kernel, the end of an earlier cell and the time for
    which a debugger halts the cell do not count.

    Arguments:
        seconds: the timeout; None for no timeout.
        interrupt: interrupts the cell.
        halted_s: returns the seconds for which a debugger has halted code, earlier cells included.
    """

    def __init__(
        self,
        seconds: float | None,
        interrupt: Callable[[], object],
        halted_s: Callable[[], float],
    ) -> None:
        self.fired = False
        self._seconds = seconds
        self._interrupt = interrupt
        self._halted_s = halted_s
        self._ends_at = 0.0
        self._over = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> _Overdue:
        return self

    def begin(self) -> None:
        """Start the cell's time, now that its code runs; later calls do nothing."""
        if self._seconds is not None and self._timer is None:
            self._ends_at = time.monotonic() + self._seconds - self._halted_s()
            self._wait(self._seconds)

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def note(self) -> Message:
        """Return the message that shows that the cell was stopped."""
        return stream("stderr", f"Stopped: it ran longer than {self._seconds:g} s.\n")

    def _fire(self) -> None:
        left_s = self._ends_at + self._halted_s() - time.monotonic()
        if left_s > 0 and not self._over:
            self._wait(max(left_s, _LOOK_AGAIN_S))
            return
        self.fired = True
        self._interrupt()
