"""Bridged execution: a real Jupyter kernel inside the sandbox, reached through the bridge.

In: a Python `Cell`. Out: what that kernel published for it, as it comes. Cells of any length, the
order of prints and displays, display updates, input(), interrupts and completion are its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from agentbay_kernel.errors import CommandError, InvalidAnswerError
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.limit import OutputLimit
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.execution.request import as_message
from agentbay_kernel.execution.tunnel import Tunnel
from agentbay_kernel.service import Session

# What a cell's kernel may publish; anything else is not passed on.
_OUTPUTS = frozenset(
    (
        "stream",
        "display_data",
        "update_display_data",
        "execute_result",
        "error",
        "clear_output",
        "comm_open",
        "comm_msg",
        "comm_close",
        "input_request",
    )
)
_QUICK_S = 10
# Cells that never reached this kernel have numbers too: `In` holds nothing in their places.
_COUNT_FROM = """(lambda shell, number: (
    setattr(shell, "execution_count", number),
    [inputs.extend([""] * (number - len(inputs))) for inputs in (
        shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw)],
))(__import__("IPython").get_ipython(), {number:d})"""


class BridgedExecution:
    """Runs Python cells in a kernel of one session."""

    kind = "bridged"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tunnel = Tunnel(session)
        self._lock = threading.Lock()
        self._running: set[Cell] = set()
        self._begun: set[Cell] = set()
        self._stop_when_begun: set[Cell] = set()
        # None until one is needed, empty where the kernel has none.
        self._subshell: str | None = None
        # The number that the sandbox's kernel gives to its next cell.
        self._next_count = 1

    def start(self) -> None:
        """Install the bridge.

        Raises:
            BridgeError: the sandbox can't have one; says why.
            CommandError: the service failed.
        """
        self._tunnel.install()

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell; yields its messages as they come, the last one an `execute_reply`.

        Raises:
            CommandError: the service or the bridge could not do it.
        """
        content = {
            "code": cell.code,
            "silent": cell.silent,
            "store_history": cell.store_history,
            "user_expressions": cell.user_expressions,
            "allow_stdin": cell.allow_stdin,
            # What is queued behind a failed cell is aborted by the front end's own kernel.
            "stop_on_error": False,
        }
        limit = OutputLimit(cell.output_limit)
        with self._lock:
            if cell.stopped.is_set():
                return
            self._running.add(cell)
            if cell.count not in (None, self._next_count) and not cell.silent:
                self._count_from(cell.count)
            request = self._tunnel.post(
                "shell",
                "execute_request",
                content,
                limit=limit,
                message_id=cell.message_id,
                metadata={"cellId": cell.cell_id} if cell.cell_id else None,
            )
        overdue = self._overdue_timer(cell)
        try:
            for carried in request.answers():
                self._note_begin(cell)
                message = as_message(carried)
                if message.type == "execute_reply":
                    self._next_count = message.content.get("execution_count", 0) + 1
                    if (note := limit.note()) is not None:
                        yield note
                    if overdue is not None and overdue.fired:
                        yield stream("stderr", f"Stopped: it ran longer than {cell.timeout:g} s.\n")
                    yield message
                elif message.type in _OUTPUTS:
                    yield message
        finally:
            if overdue is not None:
                overdue.cancel()
            with self._lock:
                for cells in (self._running, self._begun, self._stop_when_begun):
                    cells.discard(cell)

    def interrupt(self, cell: Cell) -> Stop:
        """Send SIGINT to the cell's kernel; a cell that was not sent yet never will be."""
        with self._lock:
            if cell not in self._running:
                cell.stopped.set()
                return Stop.UNSENT
            if cell not in self._begun:
                # The signal would come before the cell: kept until the kernel has begun with it.
                self._stop_when_begun.add(cell)
                return Stop.ENDING
        self._signal()
        return Stop.ENDING

    def answer_input(self, value: str) -> None:
        """What the user typed for an `input_request`."""
        self._tunnel.post("stdin", "input_reply", {"value": value, "status": "ok"}, awaited=False)

    def comm(
        self,
        kind: str,
        content: dict[str, Any],
        metadata: dict[str, Any],
        buffers: tuple[bytes, ...],
        message_id: str,
    ) -> Iterator[Message]:
        """Pass on a front end's comm_open, comm_msg or comm_close; yields what it causes."""
        request = self._tunnel.post(
            "shell", kind, content, metadata=metadata, buffers=buffers, message_id=message_id
        )
        for carried in request.answers():
            message = as_message(carried)
            if message.type in _OUTPUTS:
                yield message

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """The kernel's completions: the content of a complete_reply."""
        return self._ask("complete_request", {"code": code, "cursor_pos": cursor_pos})

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any]:
        """What the kernel knows of a name: the content of an inspect_reply."""
        content = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail_level}
        return self._ask("inspect_request", content)

    def history(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The kernel's history: the content of a history_reply for that of a history_request."""
        return self._ask("history_request", wanted)

    def _ask(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] | None = None
        for carried in self._tunnel.post(
            "shell", kind, content, subshell=self._subshell_beside_cells()
        ).answers():
            reply = carried["b"]
        if not isinstance(reply, dict):
            raise InvalidAnswerError("The sandbox's kernel answered without content.")
        return reply

    def _subshell_beside_cells(self) -> str:
        """A subshell of the kernel (ipykernel 7), so that a running cell is not waited for.

        Empty where there is none, or none is needed.
        """
        with self._lock:
            if not self._running:
                return ""
            if self._subshell is not None:
                return self._subshell
            self._subshell = ""
        for carried in self._tunnel.post("control", "create_subshell_request", {}).answers():
            self._subshell = str(carried["b"].get("subshell_id") or "")
        return self._subshell

    def _count_from(self, number: int) -> None:
        # Travels in the same call as the cell behind it.
        content = {"code": _COUNT_FROM.format(number=number), "silent": True}
        self._tunnel.post("shell", "execute_request", content)

    def _note_begin(self, cell: Cell) -> None:
        with self._lock:
            self._begun.add(cell)
            due = cell in self._stop_when_begun
            self._stop_when_begun.discard(cell)
        if due:
            self._signal()

    def _signal(self) -> None:
        pid = self._tunnel.kernel_pid
        if pid is not None:
            # At once, also while a call waits: another tool is not held up by it. The whole
            # group: what the cell started is interrupted as in a terminal.
            with contextlib.suppress(CommandError):
                done = self._session.call_mcp_tool(
                    "shell", {"command": f"kill -INT -- -{int(pid)}", "timeout_ms": 5000}, _QUICK_S
                )
                if done.success:
                    return
        self._tunnel.post("control", "interrupt_request", {}, awaited=False)

    def _overdue_timer(self, cell: Cell) -> _Overdue | None:
        if cell.timeout is None:
            return None
        timer = _Overdue(cell.timeout, lambda: self.interrupt(cell))
        timer.start()
        return timer


class _Overdue(threading.Timer):
    """Interrupts a cell at its timeout; `fired` tells afterwards."""

    fired = False

    def __init__(self, seconds: float, interrupt: Any) -> None:
        super().__init__(seconds, self._fire)
        self.daemon = True
        self._interrupt = interrupt

    def _fire(self) -> None:
        self.fired = True
        self._interrupt()
