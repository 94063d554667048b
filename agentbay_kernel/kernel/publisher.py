"""The front end of one request: publishes messages to it and asks it for input.

Messages of a cell or a widget go to the kernel's sockets, under the request that caused them. They
are sent at a pace at which a notebook server drops none.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ipykernel.iostream import OutStream
from ipykernel.kernelbase import Kernel
from jupyter_client.jsonutil import json_clean, json_default

from agentbay_kernel.execution.messages import Message, stream

if TYPE_CHECKING:
    from agentbay_kernel.containment.messages import Containment


_LOOK_FOR_INPUT_S = 0.05
# Seconds of silence after which a front end has handled its messages, and the longest wait.
_SETTLED_S, _SETTLE_WITHIN_S = 0.1, 1.0


class Comms:
    """The comms that are open between a notebook page and the sandbox: id and target."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        #: When the page last sent a message (monotonic clock, seconds).
        self.last_message_at = 0.0

    def note(self, kind: str, content: dict[str, Any]) -> None:
        """Note a message of either side."""
        if kind == "comm_open":
            self._targets[content["comm_id"]] = content.get("target_name", "")
        elif kind == "comm_close":
            self._targets.pop(content["comm_id"], None)

    def of_target(self, wanted: str | None) -> dict[str, dict[str, str]]:
        """Return the open comms as in a comm_info_reply: those of one target, or all."""
        return {
            comm_id: {"target_name": target}
            for comm_id, target in self._targets.items()
            if wanted in (None, target)
        }


class FrontEnd:
    """The front end of one request.

    Arguments:
        kernel: the kernel; it has the sockets.
        pace: shared by all requests of the kernel.
        comms: shared by all requests of the kernel.
        containment: shared by all requests of the kernel.
        silent: publish nothing.
    """

    def __init__(
        self,
        kernel: Kernel,
        pace: Pace,
        comms: Comms,
        containment: Containment,
        silent: bool = False,
    ) -> None:
        self._kernel = kernel
        self._pace = pace
        self._comms = comms
        self._silent = silent
        # Read now: in a subshell, "the current parent" can be another cell's.
        self._parent = kernel.get_parent("shell")
        self._contain = containment.for_cell(self._parent.get("metadata", {}).get("cellId"))
        self._ident = kernel._parent_ident["shell"]
        #: Whether anything has been published.
        self.has_shown = False
        # Whether a widget of the page keeps published output.
        self._captured = False

    @property
    def request_id(self) -> str:
        """The request's own id."""
        identity: str = self._parent["header"]["msg_id"]
        return identity

    def publish(self, message: Message) -> None:
        """Send one of the kernel's own messages at once, unchanged."""
        kernel = self._kernel
        if self._silent or kernel.session is None:
            return
        self.has_shown = True
        self._captured = self._captured or _captures(message)
        self._comms.note(message.type, message.content)
        content = message.content
        if message.type == "execute_result":
            content = {"execution_count": kernel.execution_count, **content}
        kernel.session.send(
            kernel.iopub_socket,
            message.type,
            content,
            parent=self._parent,
            ident=kernel._topic(message.type),
            metadata=message.metadata,
            buffers=list(message.buffers),
        )

    async def pass_on(self, message: Message) -> None:
        """Send a message from the sandbox: contained, in pieces, and with waits.

        Without pieces and waits, messages would be dropped on the way.
        """
        for contained in self._contain(message):
            for piece in in_pieces(contained):
                if wait_s := self._pace.wait_s(piece):
                    await asyncio.sleep(wait_s)
                self.publish(piece)

    def reply(self, message: Message) -> Message:
        """Return the sandbox's execute_reply, contained; publish notes on what is not shown."""
        *notes, reply = self._contain(message)
        for note in notes:
            self.publish(note)
        return reply

    async def settle(self) -> None:
        """Wait, before the reply to a cell, until the front end has handled captured output.

        nbclient sends a comm message for each piece of captured output, on the socket that receives
        the reply. If the reply arrives meanwhile, nbclient misses it: the socket's file descriptor
        is ready only once, and sending uses that up. The cell then ends at its timeout or never.
        The stock kernel takes longer from the output to the reply.
        """
        if not self._captured:
            return
        began = now = time.monotonic()
        while now < began + _SETTLE_WITHIN_S:
            quiet_s = now - max(began, self._comms.last_message_at)
            if quiet_s >= _SETTLED_S:
                return
            await asyncio.sleep(_SETTLED_S - quiet_s)
            now = time.monotonic()

    async def ask(self, question: dict[str, Any]) -> str:
        """Ask for a line of text.

        Arguments:
            question: the content of an input_request: `prompt`, `password`.
        """
        *notes, asked = self._contain(Message("input_request", question))
        for note in notes:
            self.publish(note)
        session, socket = self._kernel.session, self._kernel.stdin_socket
        assert session is not None
        # Drop what was typed for an earlier, interrupted question.
        while socket.poll(0):
            socket.recv_multipart()
        session.send(socket, "input_request", asked.content, self._parent, ident=self._ident)
        # The socket has no asynchronous version; a person types slower than this polls.
        while True:
            while not socket.poll(0):
                await asyncio.sleep(_LOOK_FOR_INPUT_S)
            _, reply = session.recv(socket)
            if reply is not None:
                return str(reply["content"].get("value", ""))


def _captures(message: Message) -> bool:
    """Return whether an Output widget starts to take a cell's output."""
    data = message.content.get("data") if message.type == "comm_msg" else None
    state = data.get("state") if isinstance(data, dict) else None
    return isinstance(state, dict) and bool(state.get("msg_id"))


class QuietStream(OutStream):
    """The kernel's own stdout and stderr, to which cells don't print.

    ipykernel flushes both twice a cell. Each flush switches to another thread and back twice.
    """

    def flush(self) -> None:
        """Send what was printed, if anything was."""
        # Other versions of ipykernel store the printed text elsewhere.
        if getattr(self, "_buffers", True):
            super().flush()


_HALF_PAIR = re.compile("[\ud800-\udfff]")


def replacing_surrogates(pack: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return an encoder of messages that replaces half surrogate pairs by U+FFFD.

    Jupyter's own encoder raises for some of them, and encodes others to bytes that are not UTF-8.

    Arguments:
        pack: the encoder of a session.
    """

    def packed(value: Any) -> bytes:
        try:
            return pack(value).decode("utf-8", "replace").encode()
        except UnicodeEncodeError:
            text = json.dumps(json_clean(value), default=json_default, ensure_ascii=False)
            return _HALF_PAIR.sub("\ufffd", text).encode()

    return packed


# Characters in one stream message.
PIECE = 64 * 1024


def in_pieces(message: Message) -> Iterator[Message]:
    """Yield a message unchanged, or a long stream message as several."""
    text = message.content["text"] if message.type == "stream" else ""
    if len(text) <= PIECE:
        yield message
        return
    for start in range(0, len(text), PIECE):
        yield stream(message.content["name"], text[start : start + PIECE])


class Bucket:
    """Lets through a burst, then a steady rate.

    Arguments:
        burst: the amount that may pass at once.
        rate: the amount per second after that.
    """

    def __init__(self, burst: float, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._level, self._at = 0.0, time.monotonic()

    def pour(self, amount: float) -> float:
        """Return the seconds to wait before this amount may pass."""
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + amount
        self._at = now
        return max(0.0, (self._level - self._burst) / self._rate)


class Pace:
    """One front end's pace, over all its cells."""

    def __init__(self) -> None:
        # Below the server's limits, whose time window starts at another moment.
        self._bytes = Bucket(2_000_000, 800_000)
        self._messages = Bucket(2_000, 800)

    def wait_s(self, message: Message) -> float:
        """Return the seconds to wait before this message is sent."""
        size = len(message.content["text"]) if message.type == "stream" else 0
        return max(self._bytes.pour(size), self._messages.pour(1))
