"""Bridged execution of Python: a real Jupyter kernel inside the sandbox, reached by the bridge.

That kernel provides long cells, the order of prints and displays, display updates, input(),
interrupts and completion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from agentbay_kernel.errors import CommandError, InvalidResponseError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.execution import BridgedExecution
from agentbay_kernel.execution.bridge.requests import OUTPUTS, Request, as_message
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import Session

_QUICK_S = 10
# The key of the cell's number in its metadata (`sandbox/jupyter_kernel.py`).
_COUNT = "agentbay_count"
# The number of threads and tasks, beyond the kernel's own, that run after a cell. It is requested
# as one of the cell's user_expressions, so it costs no message.
_ALIVE = "agentbay.alive"
_ALIVE_CODE = "__import__('threading')._agentbay_alive()"
_LISTENER = "python"


class BridgedPython(BridgedExecution):
    """Runs Python cells in a kernel of one session.

    Arguments:
        client: the connection to the session's bridge, which is installed.
    """

    def __init__(self, client: BridgeClient) -> None:
        super().__init__(client)
        # The subshell's id; None until one is needed, empty if the kernel has no subshells.
        self._subshell: str | None = None
        # The number that the sandbox's kernel gives to its next cell.
        self._next_count = 1
        self._comms: set[str] = set()
        self._alive = False

    def _content(self, cell: Cell) -> dict[str, Any]:
        return {
            "code": cell.code,
            "silent": cell.silent,
            "store_history": cell.store_history,
            "user_expressions": {**cell.user_expressions, _ALIVE: _ALIVE_CODE},
            "allow_stdin": cell.allow_stdin,
            # The front end's own kernel aborts the cells behind a failed one.
            "stop_on_error": False,
        }

    def _metadata(self, cell: Cell) -> dict[str, Any]:
        metadata = super()._metadata(cell)
        # The number never decreases, because the history has a line for each one. Two magics in one
        # cell get its number and the next one.
        if (cell.count or 0) > self._next_count and not cell.silent:
            metadata[_COUNT] = cell.count
        return metadata

    def _note_reply(self, reply: Message) -> None:
        self._next_count = reply.content.get("execution_count", 0) + 1
        found = reply.content.get("user_expressions", {}).pop(_ALIVE, None)
        # The reply of a failed cell does not contain it.
        if isinstance(found, dict) and isinstance(found.get("data"), dict):
            self._alive = found["data"].get("text/plain") != "0"

    def _note_output(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "comm_open":
            self._comms.add(str(content.get("comm_id")))
        elif kind == "comm_close":
            self._comms.discard(str(content.get("comm_id")))

    def _listen(self, seconds: float) -> None:
        # A debugger may report after a cell's end that its code continues.
        if seconds and (self._alive or self._comms or self._client.has_debugger):
            self._client.listen(_LISTENER, seconds)
        else:
            self._client.stop_listening(_LISTENER)

    def comm(
        self,
        kind: str,
        content: dict[str, Any],
        metadata: dict[str, Any],
        buffers: tuple[bytes, ...],
        message_id: str,
        late_output_s: float,
    ) -> Iterator[Message]:
        """Send a front end's comm_open, comm_msg or comm_close; return the messages that it causes.

        It is sent before this returns. The result yields the messages as they come.
        """
        self._note_output(kind, content)
        request = self._client.post(
            "shell", kind, content, metadata=metadata, buffers=buffers, message_id=message_id
        )
        return self._caused(request, late_output_s)

    def _caused(self, request: Request, late_output_s: float) -> Iterator[Message]:
        for carried in request.answers():
            message = as_message(carried)
            if message.type in OUTPUTS and message.type != "input_request":
                self._note_output(message.type, message.content)
                yield message
        self._listen(late_output_s)

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Return the kernel's completions: the content of a complete_reply."""
        return self._ask("complete_request", {"code": code, "cursor_pos": cursor_pos})

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any]:
        """Return the kernel's information about a name: the content of an inspect_reply."""
        content = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail_level}
        return self._ask("inspect_request", content)

    def history(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return the kernel's history: the content of the history_reply to a history_request.

        Arguments:
            wanted: the content of the request.
        """
        return self._ask("history_request", wanted)

    def evaluate(self, expression: str) -> str:
        """Return the text of an expression's value, also while a cell runs if the kernel can.

        Raises:
            InvalidResponseError: the expression failed.
        """
        content = {
            "code": "",
            "silent": True,
            "store_history": False,
            "user_expressions": {"it": expression},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        value = self._ask("execute_request", content).get("user_expressions", {}).get("it", {})
        if value.get("status") != "ok":
            raise InvalidResponseError(
                f"The sandbox's kernel reports: {value.get('evalue', 'no reason given')}."
            )
        return str(value["data"]["text/plain"])

    def debug(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request of the Debug Adapter Protocol, without a timeout.

        Returns:
            The content of the debug_reply; empty if the kernel has no debugger.

        Raises:
            CommandError: the connection broke before the reply.
        """
        *_, reply = self._client.post("control", "debug_request", request).answers()
        content: dict[str, Any] = reply["b"]
        return content

    def debug_events(self) -> Iterator[dict[str, Any]]:
        """Return the contents of the kernel's debug_event messages from now on.

        They end with the connection, or when another reader calls this.
        """
        return self._client.debug_events()

    def interrupt_kernel(self) -> bool:
        """Interrupt the kernel's running cell of any sender; return False if there is no cell."""
        request = self._client.post("control", "interrupt_request", {"cell": None})
        *_, reply = request.answers()
        # The reply of a kernel that interrupts itself does not contain it.
        return bool(reply["b"].get("interrupted", True))

    @property
    def kernel_pid(self) -> int | None:
        """The id of the kernel's process in the sandbox."""
        return self._client.kernel_pid

    def _ask(self, kind: str, content: dict[str, Any], subshell: str = "") -> dict[str, Any]:
        return super()._ask(kind, content, subshell or self._subshell_beside_cells())

    def _subshell_beside_cells(self) -> str:
        """Return the id of a subshell (ipykernel 7), so that a request need not wait for a cell.

        It is empty if no cell runs, or if the kernel has no subshells.
        """
        with self._lock:
            if not self._cells:
                return ""
            if self._subshell is not None:
                return self._subshell
            self._subshell = ""
        for carried in self._client.post("control", "create_subshell_request", {}).answers():
            self._subshell = str(carried["b"].get("subshell_id") or "")
        return self._subshell


def signal_by_shell(session: Session, group: int | None, signal: str = "INT") -> bool:
    """Send a signal to a process group in the sandbox; return False if its shell can't.

    The signal arrives at once, also while a `run_code` call waits, because `shell` is another tool.
    It goes to the whole group, so that processes of a cell are interrupted as in a terminal.
    """
    if group is None:
        return False
    command = f"kill -{signal} -- -{int(group)}"
    with contextlib.suppress(CommandError):
        arguments = {"command": command, "timeout_ms": 5000}
        return session.call_mcp_tool("shell", arguments, _QUICK_S).success
    return False
