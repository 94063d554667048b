"""What arrives from one sandbox, sorted by who waits for it.

In: messages, in their order. Out: each handed to the request that caused it, to who listens for
what comes unasked, or, where an earlier kernel of this notebook left it behind, to the first cell
of this one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from agentbay_kernel.errors import CommandError, InvalidAnswerError
from agentbay_kernel.execution.bridge.decoder import Carried, Refused
from agentbay_kernel.execution.bridge.requests import (
    Request,
    as_left_behind,
    limited,
    notice_line,
    stderr_line,
)
from agentbay_kernel.execution.output_limit import OutputLimit

# Characters that may come unasked while nobody runs or asks anything.
_MOST_LATE = 20_000_000
_BEHIND_NOTE = "AgentBay: output of a cell that ran before the connection to it was lost:\n"
_BEHIND_OVER_NOTE = "AgentBay: end of that output; this cell's own begins.\n"


class Arrivals:
    """Requests under way, and all else that is waited for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._late: queue.SimpleQueue[Carried | None] = queue.SimpleQueue()
        self._late_wanted = False
        self._late_limit = OutputLimit(_MOST_LATE, keeps_end=False)
        # What cells of an earlier kernel published, until the first cell of ours has begun; None
        # when there were none.
        self._behind: list[Carried] | None = None
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

    def late(self) -> Iterator[Carried] | None:
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

    def sort(self, message: Carried | Refused) -> None:
        """Hand a message over."""
        if isinstance(message, Refused):
            self._fail_answered(message)
            if message.output:
                self._deliver_or_keep(notice_line(f"[AgentBay: left out, {message.why}.]"))
            return
        with self._lock:
            request = self._requests.get(message["p"].get("msg_id", ""))
            if self._behind is not None:
                self._pass_what_is_behind(request, message)
            elif request is None:
                self._keep_late(message)
            if request is not None:
                request.deliver(message)
                if request.ended:
                    del self._requests[request.id]

    def tell(self, words: str) -> None:
        """Say something of our own where it is seen: in the running cell, else unasked."""
        self._deliver_or_keep(stderr_line(words))

    def _deliver_or_keep(self, note: Carried) -> None:
        with self._lock:
            if (cell := self._running_cell()) is not None:
                cell.deliver(note)
            else:
                self._keep_late(note)

    def _running_cell(self) -> Request | None:
        return next((one for one in self._requests.values() if one.is_cell), None)

    def _pass_what_is_behind(self, request: Request | None, message: Carried) -> None:
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
        with self._lock:
            failed = self._requests.pop(reply.reply_to, None)
        if failed is not None:
            failed.fail(
                InvalidAnswerError(
                    f"The sandbox answered with a reply that is none: {reply.why}. The code ran; "
                    "what its reply said is lost."
                )
            )

    def _keep_late(self, message: Carried) -> None:
        kind = message["h"]["msg_type"]
        if not self._late_wanted or kind == "status" or kind.endswith("_reply"):
            return
        for part in limited(message, self._late_limit):
            self._late.put(part)
