"""Bridged execution of JavaScript: a Node worker inside the sandbox, reached through the bridge.

A cell is rewritten before it is sent, so that it can be run again (see `execution/javascript`). The
worker keeps its state between cells, also if a cell is interrupted.
"""

from __future__ import annotations

from typing import Any

from agentbay_kernel.errors import BridgeError, InvalidResponseError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.execution import BridgedExecution
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.javascript import rewrite
from agentbay_kernel.execution.messages import Message

# The name that the sandbox's end uses to report that no timer is left.
_LISTENER = "node"


class BridgedJavaScript(BridgedExecution):
    """Runs JavaScript cells in a Node worker of one session.

    If an interrupted cell has not ended after 2 s, the sandbox's end kills it with the worker.

    Arguments:
        client: the connection to the session's bridge, which is installed.
    """

    channel = interrupt_channel = input_channel = "node"

    def __init__(self, client: BridgeClient) -> None:
        super().__init__(client)
        self._alive = False

    def start(self) -> None:
        """Start the worker.

        Raises:
            BridgeError: the sandbox can't run Node; the message shows why.
            CommandError: the service or the bridge failed.
        """
        reply = self._ask("start_request", {})
        if reply.get("status") != "ok":
            raise BridgeError(f"the sandbox can't run Node: {reply.get('evalue')}")

    def _content(self, cell: Cell) -> dict[str, Any]:
        script = rewrite(cell.code, strict_const=cell.strict_const)
        return {
            "code": script.code,
            "await": script.is_async,
            "offset": script.column_offset,
            "define": script.define,
            "shifts": script.shifts,
            # The code that a syntax error shows.
            "source": cell.code,
            # The cell's name in stack traces.
            "name": "cell.js" if cell.count is None else f"In[{cell.count}]",
            "expressions": cell.user_expressions,
            "asks": cell.allow_stdin,
        }

    def _note_reply(self, reply: Message) -> None:
        self._alive = bool(reply.content.pop("alive", False))

    def _listen(self, seconds: float) -> None:
        if seconds and self._alive:
            self._client.listen(_LISTENER, seconds)

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Return the worker's completions: the content of a complete_reply."""
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
            # JupyterLab shows the type of each match, as IPython's kernel sends it.
            "metadata": {"_jupyter_types_experimental": typed},
        }

    def variables(self, source: str) -> dict[str, Any]:
        """Return the worker's variables, as the script `source` lists them.

        Raises:
            InvalidResponseError: the worker is busy, or could not list them.
        """
        reply = self._ask("variables_request", {"source": source})
        if "rows" not in reply:
            raise InvalidResponseError(
                "JavaScript is busy, so its variables could not be listed. Wait for its cell to "
                "end, or interrupt it."
            )
        return reply

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any]:
        """Return the worker's information about a name: the content of an inspect_reply."""
        around = {"before": code[:cursor_pos], "after": code[cursor_pos:], "detail": detail_level}
        reply = self._ask("inspect_request", around)
        found = bool(reply.get("found"))
        data = {"text/plain": str(reply.get("text"))} if found else {}
        return {"status": "ok", "found": found, "data": data, "metadata": {}}
