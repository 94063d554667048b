"""A request to the kernel in a sandbox, and what comes back for it.

In: carried messages whose parent it is. Out: the same to whoever asked, until its reply and its
idle status are here.
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
        self._arrived: queue.SimpleQueue[WireMessage | CommandError | None] = queue.SimpleQueue()
        # An error stands for a reply that can't be used.
        self._reply: WireMessage | CommandError | None = None
        self._idle = False

    @property
    def is_cell(self) -> bool:
        """Is it a notebook's cell? Those have a limit of output."""
        return self._limit is not None

    @property
    def ended(self) -> bool:
        """Are its reply and its idle status here?"""
        return self._idle and (self._reply is not None or not self._replied)

    def deliver(self, message: WireMessage) -> None:
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
        self._end()

    def refuse_reply(self, error: CommandError) -> None:
        """Take an error in the reply's place. As for a reply, outputs may still be on their way."""
        self._reply = self._reply or error
        self._end()

    def _end(self) -> None:
        if self.ended:
            if self._reply is not None:
                self._arrived.put(self._reply)
            self._arrived.put(None)

    def fail(self, error: CommandError) -> None:
        """No more will come."""
        self._arrived.put(error)

    def answers(self) -> Iterator[WireMessage]:
        """What comes back, as it comes; the reply, if there is one, is the last.

        Raises:
            CommandError: the connection broke before the reply.
        """
        return (arrived for arrived in self.answers_within(None) if arrived is not None)

    def answers_within(self, seconds: float | None) -> Iterator[WireMessage | None]:
        """The same, and None whenever nothing came for so many seconds."""
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
    """A message as far as the limit lets it pass, and what is said instead."""
    for kind, content in limit.admit(message["h"]["msg_type"], message["b"], message["x"]):
        yield {**message, "h": {**message["h"], "msg_type": kind}, "b": content}


def as_message(carried: WireMessage) -> Message:
    """A carried message as this project's own."""
    return Message(
        carried["h"]["msg_type"],
        carried["b"],
        carried["m"],
        tuple(carried["x"]),
        carried.get("at", 0),
    )


def as_left_behind(carried: WireMessage) -> WireMessage | None:
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


def stderr_line(text: str) -> WireMessage:
    """A carried piece of stderr that says something of our own."""
    content = {"name": "stderr", "text": text}
    return {"c": "iopub", "h": {"msg_type": "stream"}, "p": {}, "m": {}, "b": content, "x": []}


def notice_line(text: str) -> WireMessage:
    """A carried notice of our own."""
    told = notice(text)
    header = {"msg_type": told.type}
    return {"c": "iopub", "h": header, "p": {}, "m": {}, "b": told.content, "x": []}


# Characters that may come unasked while nobody runs or asks anything.
_MOST_LATE = 20_000_000
_BEHIND_NOTE = "AgentBay: output of a cell that ran before the connection to it was lost:\n"
_BEHIND_OVER_NOTE = "AgentBay: end of that output; this cell's own output follows.\n"


class PendingRequests:
    """Requests under way, and all else that is waited for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._late: queue.SimpleQueue[WireMessage | None] = queue.SimpleQueue()
        self._late_wanted = False
        self._late_limit = OutputLimit(_MOST_LATE, keeps_end=False)
        # What cells of an earlier kernel published, until the first cell of ours has begun; None
        # when there were none.
        self._behind: list[WireMessage] | None = None
        self._behind_told = False

    def __bool__(self) -> bool:
        """Is anything awaited?"""
        return bool(self._requests)

    @property
    def awaited(self) -> list[Request]:
        """The requests under way."""
        with self._lock:
            return list(self._requests.values())

    def expect(self, request: Request) -> None:
        """Something will come for this request."""
        with self._lock:
            self._requests[request.id] = request

    def expect_left_behind(self) -> None:
        """The bridge served another kernel of this notebook before."""
        self._behind = []

    def listen(self) -> None:
        """As much as ever may come unasked from now on."""
        with self._lock:
            self._late_limit = OutputLimit(_MOST_LATE, keeps_end=False)

    def late(self) -> Iterator[WireMessage] | None:
        """What comes unasked: messages of no request that is under way. None for all who ask but
        the first: it is there once."""
        with self._lock:
            if self._late_wanted:
                return None
            self._late_wanted = True
        return iter(self._late.get, None)

    def close(self) -> None:
        """End what `late` gave."""
        self._late.put(None)

    def fail_all(self, error: CommandError, until: int | None = None) -> None:
        """Nothing more comes for what is under way.

        Arguments:
            until: only for requests that end at this offset of the inward stream or before it.
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
        """Hand a message over."""
        if isinstance(message, Refused):
            self._fail_answered(message)
            if message.output:
                note = notice_line(f"[AgentBay: left out, {message.why}.]")
                self._deliver_or_keep(note, message.request)
            return
        with self._lock:
            request = self._requests.get(message["p"].get("msg_id", ""))
            if self._behind is not None:
                self._pass_what_is_behind(request, message)
            elif request is None:
                self._keep_late(message)
            if request is not None:
                request.deliver(message)
                self._forget_ended(request)

    def tell(self, words: str) -> None:
        """Say something of our own where it is seen: in the running cell, else unasked."""
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
        """To the first cell of ours, which waits for it in the sandbox."""
        assert self._behind is not None
        if request is None and (shown := as_left_behind(message)) is not None:
            self._behind.append(shown)
        cell = self._running_cell()
        if cell is None:
            return
        if self._behind and not self._behind_told:
            self._behind_told = True
            cell.deliver(stderr_line(_BEHIND_NOTE))
        for one in self._behind:
            cell.deliver(one)
        if request is cell:
            if self._behind_told:
                cell.deliver(stderr_line(_BEHIND_OVER_NOTE))
            self._behind = None
        else:
            self._behind.clear()

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


# Who listens without a stream asks again after so long, at first and in the end.
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0


class LateOutputWindow:
    """Until when it is listened to whom. Its owner locks it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self.backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)

    def begin(self, what: str, seconds: float) -> None:
        """Listen to that for so long from now."""
        self._until[what] = time.monotonic() + seconds
        self.backoff.reset()

    def end(self, what: str) -> None:
        """From there nothing more will come."""
        self._until.pop(what, None)

    def end_all(self) -> None:
        """Nothing more will come."""
        self._until.clear()

    def heard(self, something: bool) -> None:
        """An answer has come; one that holds nothing makes the pauses longer."""
        if something:
            self.backoff.reset()
        else:
            self.backoff.grow()

    @property
    def left_s(self) -> float:
        """Seconds that are left, none if negative."""
        return max(self._until.values(), default=0.0) - time.monotonic()

    def __bool__(self) -> bool:
        return self.left_s > 0
