"""Bridged execution of JavaScript: a Node worker inside the sandbox, reached through the bridge.

In: a JavaScript `Cell`. Out: what the worker published for it, as it comes. A cell is made one
that can be run again before it is sent (see `execution/javascript`); state stays in the worker
from cell to cell, also when a cell is interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from agentbay_kernel.errors import BridgeError, InvalidAnswerError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.requests import OUTPUTS, as_message
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.interrupts import Overdue
from agentbay_kernel.execution.javascript import rewrite
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.output_limit import InSandbox, OutputLimit, replied

_CHANNEL = "node"
# The name by which the far end says that no timer is left.
_LISTENER = "node"


class BridgedJavaScript:
    """Runs JavaScript cells in a Node worker of one session.

    Arguments:
        client: leads to it; installed.
    """

    kind = "bridged"

    def __init__(self, client: BridgeClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        # What was sent and has not ended.
        self._cells: set[Cell] = set()

    def start(self) -> None:
        """Start the worker.

        Raises:
            BridgeError: the sandbox can't run one; says why.
            CommandError: the service or the bridge failed.
        """
        reply = self._ask("start_request", {})
        if reply.get("status") != "ok":
            raise BridgeError(f"the sandbox can't run Node: {reply.get('evalue')}")

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell; yields its messages as they come, the last one an `execute_reply`.

        Raises:
            CommandError: the service or the bridge could not do it.
        """
        script = rewrite(cell.code, strict_const=cell.strict_const)
        content = {
            "code": script.code,
            "await": script.is_async,
            "offset": script.column_offset,
            # What stacks call the cell.
            "name": "cell.js" if cell.count is None else f"In[{cell.count}]",
            "expressions": cell.user_expressions,
        }
        whole = InSandbox(self._client.output_path)
        limit = OutputLimit(cell.output_limit, cell.display_limit, whole=whole.told)
        with self._lock:
            if cell.stopped.is_set():
                return
            self._cells.add(cell)
            request = self._client.post(
                _CHANNEL, "execute_request", content, limit=limit, message_id=cell.message_id
            )
        try:
            with Overdue(cell.timeout, lambda: self.interrupt(cell)) as overdue:
                for carried in request.answers():
                    message = as_message(carried)
                    if message.type == "execute_input":
                        overdue.begin()
                    elif message.type == "execute_reply":
                        alive = message.content.pop("alive", False)
                        for kind, content in limit.closing():
                            yield Message(kind, content)
                        if overdue.fired:
                            yield overdue.note()
                        if alive and cell.listen_s:
                            self._client.listen(_LISTENER, cell.listen_s)
                        yield replied(message, whole if limit.folded else None)
                    elif message.type in OUTPUTS and message.type != "input_request":
                        yield message
        finally:
            with self._lock:
                self._cells.discard(cell)

    def interrupt(self, cell: Cell) -> InterruptResult:
        """Interrupt the script; what that does not end is killed by the far end after 2 s. One
        that was not sent yet never will be."""
        with self._lock:
            if cell not in self._cells:
                cell.stopped.set()
                return InterruptResult.UNSENT
        content = {"cell": cell.message_id}
        self._client.post(_CHANNEL, "interrupt_request", content, awaited=False)
        return InterruptResult.ENDING

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """The worker's completions: the content of a complete_reply."""
        around = {"before": code[:cursor_pos], "after": code[cursor_pos:]}
        reply = self._ask("complete_request", around)
        start = cursor_pos - len(str(reply.get("word", "")))
        matches, kinds = list(reply.get("matches", ())), list(reply.get("types", ()))
        typed = [
            {"text": text, "type": kind, "start": start, "end": cursor_pos}
            for text, kind in zip(matches, kinds, strict=False)
        ]
        return {
            "status": "ok",
            "matches": matches,
            "cursor_start": start,
            "cursor_end": cursor_pos,
            # JupyterLab shows the kind of each (as IPython's kernel tells it).
            "metadata": {"_jupyter_types_experimental": typed},
        }

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any]:
        """What the worker knows of a name: the content of an inspect_reply."""
        around = {"before": code[:cursor_pos], "after": code[cursor_pos:], "detail": detail_level}
        reply = self._ask("inspect_request", around)
        found = bool(reply.get("found"))
        data = {"text/plain": str(reply.get("text"))} if found else {}
        return {"status": "ok", "found": found, "data": data, "metadata": {}}

    def _ask(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] | None = None
        for carried in self._client.post(_CHANNEL, kind, content).answers():
            reply = carried["b"]
        if not isinstance(reply, dict):
            raise InvalidAnswerError("The sandbox's Node worker answered without content.")
        return reply
