"""What a kernel in a sandbox said and nobody has collected yet, and which requests are under way.

In: messages as lines of bytes, what came of each request. Out: the bytes from any offset that was
not forgotten; waiting for more, or for the end of requests. Bounded: what nobody collects is
dropped, and how much is said, before the end of the cell that lost it.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import collections
import json
import threading
import time
from typing import Any

from agentbay_kernel.sandbox.whole_output import WholeOutput

# Neighbouring pieces of one stream that nobody has asked for yet become one of this size.
MOST_JOINED = 64 * 1024
# What shows nothing is not missed by whoever reads a cell's output.
UNSEEN = ("status", "execute_input", "debug_event")
# Characters of a stream that are one message at most.
LONGEST_PIECE = 8 * 1024 * 1024
# Bytes of one message that are carried; the near end takes twice as many.
MOST_MESSAGE = 128 * 1024 * 1024


class Outbox:
    """The outward stream: lines are added at its end, bytes are forgotten at its start."""

    def __init__(self, bound: int, whole: WholeOutput) -> None:
        self.bound = bound
        self.whole = whole
        self.start = 0
        self.kept = bytearray()
        # The largest line that is kept: its size, and the offset behind it.
        self.largest, self.largest_ends = 0, 0
        self.growing: dict[str, Any] | None = None
        self.dropped = 0
        # Requests under way, by id, and what has not come of each: its reply, its idle status.
        self.open: dict[str, set[str]] = {}
        # Calls that are to end at once, the latest ones.
        self.returning: collections.deque[str] = collections.deque(maxlen=100)
        self.changed = threading.Condition()
        # The call that waits has something to answer, and waits only for the end of a request.
        self.lingers = False

    def end(self) -> int:
        """The offset behind the last byte."""
        return self.start + len(self.kept)

    def has(self, after: int) -> bool:
        """Is there something behind that offset?"""
        return self.end() > after or self.growing is not None

    def add(self, line: bytes, droppable: bool = False) -> None:
        """Append a message."""
        with self.changed:
            self.settle()
            if droppable and self.full():
                self.dropped += 1
            else:
                if not droppable:
                    self.say_dropped()
                self.keep(line)
            self.tell_call()

    def full(self) -> bool:
        """Is more kept than is kept for nobody? One large message alone is not too much: it would
        push out what follows it."""
        return len(self.kept) - self.largest > self.bound

    def keep(self, line: bytes) -> None:
        """Write down a message."""
        self.kept += line + b"\n"
        if len(line) >= self.largest:
            self.largest, self.largest_ends = len(line), self.end()

    def say_dropped(self) -> None:
        """Write down how many messages were dropped, if any were."""
        if self.dropped:
            self.keep(json.dumps({"c": "bridge", "dropped": self.dropped}).encode())
            self.dropped = 0

    def add_stream(self, message: dict[str, Any]) -> None:
        """Append what was printed."""
        text = message["b"]["text"]
        for start in range(0, len(text), LONGEST_PIECE):
            self.add_piece(message, text[start : start + LONGEST_PIECE])

    def add_piece(self, message: dict[str, Any], text: str) -> None:
        """Append a piece of a stream; the piece before it grows if it can."""
        with self.changed:
            self.whole.add(message["p"].get("msg_id", ""), text)
            last = self.growing
            if last is not None and (
                last["b"]["name"] == message["b"]["name"]
                and last["p"].get("msg_id") == message["p"].get("msg_id")
                and last["size"] < MOST_JOINED
            ):
                last["texts"].append(text)
                last["size"] += len(text)
            else:
                self.settle()
                if self.full():
                    self.dropped += 1
                else:
                    self.growing = {**message, "texts": [text], "size": len(text)}
            self.tell_call()

    def tell_call(self) -> None:
        """Wake the call that waits for something to answer. Each wake costs both threads."""
        if not self.lingers:
            self.changed.notify_all()

    def leave_out(self, message: dict[str, Any], why: str, size: str = "") -> str:
        """Say in the place of a message that it is not carried; returns the words.

        Arguments:
            why: it is not.
            size: its bytes in words, with a space before them, if they are the reason.
        """
        kind = message["h"]["msg_type"]
        words = f"a message{size} ({kind}) is left out, {why}. Show less, or write it to a file."
        if message["c"] in ("iopub", "stdin") and kind not in UNSEEN:
            data = {"text/plain": f"[AgentBay: {words}]"}
            note = {"data": data, "metadata": {}, "transient": {}}
            header = {"msg_type": "display_data"}
            line = json.dumps({**message, "c": "iopub", "h": header, "m": {}, "b": note, "x": []})
            self.add(line.encode(), True)
        return words

    def settle(self) -> None:
        """Write down the piece of a stream that could still grow."""
        last, self.growing = self.growing, None
        if last is not None:
            last["b"]["text"] = "".join(last.pop("texts"))
            del last["size"]
            self.keep(json.dumps(last).encode())

    def forget(self, before: int) -> None:
        """Bytes before that offset have arrived; say now what was dropped meanwhile."""
        with self.changed:
            del self.kept[: max(0, before - self.start)]
            self.start = max(self.start, before)
            if self.start >= self.largest_ends:
                self.largest = 0
            if len(self.kept) <= self.bound // 2:
                self.settle()
                self.say_dropped()

    def begin(self, message: dict[str, Any]) -> None:
        """A request is on its way to the kernel."""
        kind = message["h"]["msg_type"]
        with self.changed:
            if kind == "execute_request" and not message["b"].get("silent"):
                self.whole.begin(message["h"]["msg_id"])
            if kind.endswith("_request"):
                self.open[message["h"]["msg_id"]] = {"reply", "idle"}
            elif kind.startswith("comm_"):
                self.open[message["h"]["msg_id"]] = {"idle"}

    def note(self, identity: str, part: str) -> None:
        """Its "reply" or its "idle" status has come; with both, a request has ended."""
        with self.changed:
            missing = self.open.get(identity, set())
            missing.discard(part)
            if not missing:
                self.whole.flush(identity)
                self.open.pop(identity, None)
                self.changed.notify_all()

    def end_all(self) -> None:
        """No request will get an answer any more."""
        with self.changed:
            self.open.clear()
            self.changed.notify_all()

    def release(self, call: str) -> None:
        """Let that call end at once, should it wait."""
        with self.changed:
            self.returning.append(call)
            self.changed.notify_all()

    def wait(self, call: str, after: int, ends_at: float, until: list[str], linger: float) -> None:
        """Wait for something behind the offset; with `until`, rather for those requests' end.

        What is there is not held back for that longer than `linger` seconds.
        """
        with self.changed:
            self.lingers = False
            while call not in self.returning:
                if self.has(after):
                    if not any(identity in self.open for identity in until):
                        return
                    if not self.lingers:
                        self.lingers = True
                        ends_at = min(ends_at, time.monotonic() + linger)
                left = ends_at - time.monotonic()
                if left <= 0:
                    return
                self.changed.wait(left)

    def take(self, after: int, room: int) -> bytes:
        """At most `room` bytes from that offset on."""
        with self.changed:
            self.settle()
            at = max(0, after - self.start)
            return bytes(self.kept[at : at + room])
