"""A request to the kernel in a sandbox, and what comes back for it.

In: carried messages whose parent it is. Out: the same to whoever asked, until its reply and its
idle status are here.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator

from agentbay_kernel.errors import CommandError
from agentbay_kernel.execution.bridge.decoder import Carried as Carried
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.execution.output_limit import OutputLimit

# What a cell's kernel may publish; anything else is not passed on.
OUTPUTS = frozenset(
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


class Request:
    """A request that was posted, and what comes back for it."""

    def __init__(self, channel: str, kind: str, limit: OutputLimit | None, id: str) -> None:
        self.id = id or uuid.uuid4().hex
        self.kind = kind
        self._channel = channel
        # Comm messages have no reply: they end with the idle status alone.
        self._replied = kind.endswith("_request")
        self._reply_kind = kind.removesuffix("_request") + "_reply"
        # Offset of the inward stream behind this request: the sandbox has it when that arrived.
        self.ends_at = 0
        # Applied where messages arrive, so that none that won't be shown waits in memory.
        self._limit = limit
        self._arrived: queue.SimpleQueue[Carried | CommandError | None] = queue.SimpleQueue()
        self._reply: Carried | None = None
        self._idle = False

    @property
    def is_cell(self) -> bool:
        """Is it a notebook's cell? Those have a limit of output."""
        return self._limit is not None

    @property
    def ended(self) -> bool:
        """Are its reply and its idle status here?"""
        return self._idle and (self._reply is not None or not self._replied)

    def deliver(self, message: Carried) -> None:
        """Take a message whose parent this request is."""
        kind = message["h"]["msg_type"]
        if kind.endswith("_reply"):
            if message["c"] == self._channel and kind == self._reply_kind:
                self._reply = self._reply or message
        elif kind == "status":
            self._idle = self._idle or message["b"].get("execution_state") == "idle"
        elif self._limit is None:
            self._arrived.put(message)
        else:
            for part in limited(message, self._limit):
                self._arrived.put(part)
        if self.ended:
            if self._reply is not None:
                self._arrived.put(self._reply)
            self._arrived.put(None)

    def fail(self, error: CommandError) -> None:
        """No more will come."""
        self._arrived.put(error)

    def answers(self) -> Iterator[Carried]:
        """What comes back, as it comes; the reply, if there is one, is the last.

        Raises:
            CommandError: the tunnel broke before the reply.
        """
        while (arrived := self._arrived.get()) is not None:
            if isinstance(arrived, CommandError):
                raise arrived
            yield arrived


def limited(message: Carried, limit: OutputLimit) -> Iterator[Carried]:
    """A message as far as the limit lets it pass, and what is said instead."""
    for kind, content in limit.admit(message["h"]["msg_type"], message["b"], message["x"]):
        yield {**message, "h": {**message["h"], "msg_type": kind}, "b": content}


def as_message(carried: Carried) -> Message:
    """A carried message as this project's own."""
    return Message(carried["h"]["msg_type"], carried["b"], carried["m"], tuple(carried["x"]))


def as_left_behind(carried: Carried) -> Carried | None:
    """What a cell of an earlier kernel published, as it can be shown in a later cell: its error
    is not that one's, and neither is its result. None for what is no output."""
    kind, content = carried["h"]["msg_type"], carried["b"]
    if kind == "error":
        lines = content.get("traceback") or [f"{content.get('ename')}: {content.get('evalue')}"]
        return stderr_line("\n".join(map(str, lines)) + "\n")
    if kind == "execute_result":
        shown = {"data": content["data"], "metadata": content["metadata"], "transient": {}}
        return {**carried, "h": {**carried["h"], "msg_type": "display_data"}, "b": shown}
    return carried if kind in OUTPUTS else None


def stderr_line(text: str) -> Carried:
    """A carried piece of stderr that says something of our own."""
    content = {"name": "stderr", "text": text}
    return {"c": "iopub", "h": {"msg_type": "stream"}, "p": {}, "m": {}, "b": content, "x": []}


def notice_line(text: str) -> Carried:
    """A carried notice of our own."""
    told = notice(text)
    header = {"msg_type": told.type}
    return {"c": "iopub", "h": header, "p": {}, "m": {}, "b": told.content, "x": []}
