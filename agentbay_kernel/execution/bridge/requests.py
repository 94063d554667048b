"""Requests to the kernel in a sandbox, and the messages that come back for them.

A request delivers the messages whose parent it is to its reader, until its reply and its idle
status have arrived. `PendingRequests` sorts messages by request.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator

from agentbay_kernel.errors import CommandError, InvalidResponseError
from agentbay_kernel.execution.bridge.decoder import Refused
from agentbay_kernel.execution.bridge.decoder import WireMessage as WireMessage
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.execution.output_limit import OutputLimit
from agentbay_kernel.threads import Backoff

# The types of messages that a cell's kernel may publish; others are not passed on.
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
    """A request that was posted, and the messages that come back for it."""

    def __init__(self, channel: str, kind: str, limit: OutputLimit | None, id: str) -> None:
        self.id = id or uuid.uuid4().hex
        self.kind = kind
        self._channel = channel
        # Comm messages have no reply: they end with the idle status.
        self._replied = kind.endswith("_request")
        self._reply_kind = kind.removesuffix("_request") + "_reply"
        # Offset behind this request in the inward stream; when the sandbox has that many bytes, the
        # request has arrived.
        self.ends_at = 0
        # Applied when messages arrive, so that those that won't be shown use no memory.
        self._limit = limit
        self._arrived: queue.SimpleQueue[WireMessage | CommandError | None] = queue.SimpleQueue()
        # An error replaces an invalid reply.
        self._reply: WireMessage | CommandError | None = None
        self._idle = False

    @property
    def is_cell(self) -> bool:
        """Whether it is a notebook's cell; only cells have an output limit."""
        return self._limit is not None

    @property
    def ended(self) -> bool:
        """Whether its reply, if it has one, and its idle status have arrived."""
        return self._idle and (self._reply is not None or not self._replied)

    def deliver(self, message: WireMessage) -> None:
        """Deliver a message whose parent is this request."""
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
        self._end()

    def refuse_reply(self, error: CommandError) -> None:
        """Use an error in place of the reply. As after a reply, more outputs may come."""
        self._reply = self._reply or error
        self._end()

    def _end(self) -> None:
        if self.ended:
            if self._reply is not None:
                self._arrived.put(self._reply)
            self._arrived.put(None)

    def fail(self, error: CommandError) -> None:
        """End the request with an error: no more messages come."""
        self._arrived.put(error)

    def answers(self) -> Iterator[WireMessage]:
        """Return the messages as they come; the reply, if there is one, is the last.

        Raises:
            CommandError: the connection broke before the reply.
        """
        return (arrived for arrived in self.answers_within(None) if arrived is not None)

    def answers_within(self, seconds: float | None) -> Iterator[WireMessage | None]:
        """Yield the messages of `answers`, and None after `seconds` without a message."""
        while True:
            try:
                arrived = self._arrived.get(timeout=seconds)
            except queue.Empty:
                yield None
                continue
            if arrived is None:
                return
            if isinstance(arrived, CommandError):
                raise arrived
            yield arrived


def limited(message: WireMessage, limit: OutputLimit) -> Iterator[WireMessage]:
    """Yield the part of a message that the limit allows, and a notice of the rest."""
    for kind, content in limit.admit(message["h"]["msg_type"], message["b"], message["x"]):
        yield {**message, "h": {**message["h"], "msg_type": kind}, "b": content}


def as_message(carried: WireMessage) -> Message:
    """Return the bridge's message as a `Message`."""
    return Message(
        carried["h"]["msg_type"],
        carried["b"],
        carried["m"],
        tuple(carried["x"]),
        carried.get("at", 0),
    )


def as_left_behind(carried: WireMessage) -> WireMessage | None:
    """Return output of an earlier kernel's cell as output of a later cell; None if it is not one.

    Errors and results become other outputs: they are not those of the later cell.
    """
    kind, content = carried["h"]["msg_type"], carried["b"]
    if kind == "error":
        lines = content.get("traceback") or [f"{content.get('ename')}: {content.get('evalue')}"]
        return stderr_line("\n".join(map(str, lines)) + "\n")
    if kind == "execute_result":
        shown = {"data": content["data"], "metadata": content["metadata"], "transient": {}}
        return {**carried, "h": {**carried["h"], "msg_type": "display_data"}, "b": shown}
    return carried if kind in OUTPUTS else None


def stderr_line(text: str) -> WireMessage:
    """Return a text of this package as a piece of stderr, in the bridge's form."""
    content = {"name": "stderr", "text": text}
    return {"c": "iopub", "h": {"msg_type": "stream"}, "p": {}, "m": {}, "b": content, "x": []}


def notice_line(text: str) -> WireMessage:
    """Return a notice of this package in the bridge's form."""
    told = notice(text)
    header = {"msg_type": told.type}
    return {"c": "iopub", "h": header, "p": {}, "m": {}, "b": told.content, "x": []}


# Most characters of late output, until it is listened for again.
_MOST_LATE = 20_000_000
_BEHIND_NOTE = "AgentBay: output of a cell that ran before the connection to it was lost:\n"
_BEHIND_OVER_NOTE = "AgentBay: end of that output; this cell's own output follows.\n"


class PendingRequests:
    """The pending requests, and messages without one: late output and earlier cells' output.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._late: queue.SimpleQueue[WireMessage | None] = queue.SimpleQueue()
        self._late_wanted = False
        self._late_limit = OutputLimit(_MOST_LATE, keeps_end=False)
        # Output of an earlier kernel's cells, until the first cell of this one has started; None if
        # there was no earlier kernel.
        self._earlier_output: list[WireMessage] | None = None
        self._earlier_output_told = False

    def __bool__(self) -> bool:
        """Return whether a request is pending."""
        return bool(self._requests)

    @property
    def awaited(self) -> list[Request]:
        """The pending requests."""
        with self._lock:
            return list(self._requests.values())

    def expect(self, request: Request) -> None:
        """Add a request for which messages will come."""
        with self._lock:
            self._requests[request.id] = request

    def expect_left_behind(self) -> None:
        """Expect output of earlier cells: the bridge served another kernel of this notebook."""
        self._earlier_output = []

    def listen(self) -> None:
        """Start the limit of late output again."""
        with self._lock:
            self._late_limit = OutputLimit(_MOST_LATE, keeps_end=False)

    def late(self) -> Iterator[WireMessage] | None:
        """Return the late output: messages without a pending request.

        Only the first call returns it, because it has one reader; later calls return None.
        """
        with self._lock:
            if self._late_wanted:
                return None
            self._late_wanted = True
        return iter(self._late.get, None)

    def close(self) -> None:
        """End the iterator of `late`."""
        self._late.put(None)

    def fail_all(self, error: CommandError, until: int | None = None) -> None:
        """End pending requests with an error.

        Arguments:
            until: end only requests that end at or before this offset of the inward stream.
        """
        with self._lock:
            failed = [
                request
                for request in self._requests.values()
                if until is None or request.ends_at <= until
            ]
            for request in failed:
                del self._requests[request.id]
        for request in failed:
            request.fail(error)

    def sort(self, message: WireMessage | Refused) -> None:
        """Deliver a message to its request, or keep it as late output."""
        if isinstance(message, Refused):
            self._fail_answered(message)
            if message.output:
                note = notice_line(f"[AgentBay: left out, {message.why}.]")
                self._deliver_or_keep(note, message.request)
            return
        with self._lock:
            request = self._requests.get(message["p"].get("msg_id", ""))
            if self._earlier_output is not None:
                self._pass_what_is_behind(request, message)
            elif request is None:
                self._keep_late(message)
            if request is not None:
                request.deliver(message)
                self._forget_ended(request)

    def tell(self, words: str) -> None:
        """Show a text of this package in the running cell, or else as late output."""
        self._deliver_or_keep(stderr_line(words))

    def _deliver_or_keep(self, note: WireMessage, request: str = "") -> None:
        with self._lock:
            if (cell := self._requests.get(request) or self._running_cell()) is not None:
                cell.deliver(note)
            else:
                self._keep_late(note)

    def _running_cell(self) -> Request | None:
        return next((one for one in self._requests.values() if one.is_cell), None)

    def _pass_what_is_behind(self, request: Request | None, message: WireMessage) -> None:
        """Deliver earlier cells' output to this kernel's first cell, which waits in the sandbox."""
        assert self._earlier_output is not None
        if request is None and (shown := as_left_behind(message)) is not None:
            self._earlier_output.append(shown)
        cell = self._running_cell()
        if cell is None:
            return
        if self._earlier_output and not self._earlier_output_told:
            self._earlier_output_told = True
            cell.deliver(stderr_line(_BEHIND_NOTE))
        for one in self._earlier_output:
            cell.deliver(one)
        if request is cell:
            if self._earlier_output_told:
                cell.deliver(stderr_line(_BEHIND_OVER_NOTE))
            self._earlier_output = None
        else:
            self._earlier_output.clear()

    def _fail_answered(self, reply: Refused) -> None:
        error = InvalidResponseError(
            f"The sandbox sent an invalid reply: {reply.why}. The code ran; "
            "the content of its reply is lost."
        )
        with self._lock:
            request = self._requests.get(reply.reply_to)
            if request is not None:
                request.refuse_reply(error)
                self._forget_ended(request)

    def _forget_ended(self, request: Request) -> None:
        if request.ended:
            del self._requests[request.id]

    def _keep_late(self, message: WireMessage) -> None:
        kind = message["h"]["msg_type"]
        if not self._late_wanted or kind == "status" or kind.endswith("_reply"):
            return
        for part in limited(message, self._late_limit):
            self._late.put(part)


# Seconds between calls that collect late output without a stream: the first and longest pause.
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


class LateOutputWindow:
    """The sources of late output, and until when each is collected. The owner must lock it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self.backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)

    def begin(self, what: str, seconds: float) -> None:
        """Collect output of this source for so many seconds from now."""
        self._until[what] = time.monotonic() + seconds
        self.backoff.reset()

    def end(self, what: str) -> None:
        """Remove this source: no more output will come."""
        self._until.pop(what, None)

    def end_all(self) -> None:
        """Remove all sources."""
        self._until.clear()

    def heard(self, something: bool) -> None:
        """Note a response; one without output makes the pauses longer."""
        if something:
            self.backoff.reset()
        else:
            self.backoff.grow()

    @property
    def left_s(self) -> float:
        """The seconds that are left; not positive if the time is over."""
        return max(self._until.values(), default=0.0) - time.monotonic()

    def __bool__(self) -> bool:
        return self.left_s > 0
