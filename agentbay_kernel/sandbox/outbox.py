"""The messages of a sandbox's kernels that the front end has not collected yet, and the requests in
progress.

Messages are a stream of lines with byte offsets. If nobody collects them, output beyond a limit is
dropped; how much is reported before the end of the cell that lost it.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import collections
import json
import threading
import time
from typing import Any

from agentbay_kernel.sandbox.full_output import FullOutput

# Consecutive pieces of one stream are joined up to this size.
MOST_JOINED = 64 * 1024
# Messages that show nothing in a cell's output.
UNSEEN = ("status", "execute_input", "debug_event")
# Most characters of a stream in one message.
LONGEST_PIECE = 8 * 1024 * 1024
# Most bytes of one message; the near end accepts twice as many.
MOST_MESSAGE = 128 * 1024 * 1024


class Outbox:
    """The outward stream: lines are added at its end, bytes are forgotten at its start."""

    def __init__(self, bound: int, full_output: FullOutput) -> None:
        self.bound = bound
        self.full_output = full_output
        self.start = 0
        self.kept = bytearray()
        # The largest line that is kept: its size, and the offset after it.
        self.largest, self.largest_ends = 0, 0
        self.growing: dict[str, Any] | None = None
        self.dropped = 0
        # Requests in progress, by id, and what is missing of each: its reply, its idle status.
        self.open: dict[str, set[str]] = {}
        # The latest calls that must end at once.
        self.returning: collections.deque[str] = collections.deque(maxlen=100)
        self.changed = threading.Condition()
        # Has the waiting call bytes to answer, and waits only for the end of a request?
        self.lingers = False

    def end(self) -> int:
        """Return the offset after the last byte."""
        return self.start + len(self.kept)

    def has(self, after: int) -> bool:
        """Return whether there is anything after that offset."""
        return self.end() > after or self.growing is not None

    def add(self, line: bytes, droppable: bool = False) -> None:
        """Append a message."""
        with self.changed:
            self.settle()
            if droppable and self.full():
                self.dropped += 1
            else:
                if not droppable:
                    self.report_dropped()
                self.keep(line)
            self.wake_call()

    def full(self) -> bool:
        """Return whether the limit is exceeded. The largest message does not count: alone, it must
        not cause others to be dropped."""
        return len(self.kept) - self.largest > self.bound

    def keep(self, line: bytes) -> None:
        """Append a message to the stream."""
        self.kept += line + b"\n"
        if len(line) >= self.largest:
            self.largest, self.largest_ends = len(line), self.end()

    def report_dropped(self) -> None:
        """Append how many messages were dropped, if any."""
        if self.dropped:
            self.keep(json.dumps({"c": "bridge", "dropped": self.dropped}).encode())
            self.dropped = 0

    def add_stream(self, message: dict[str, Any]) -> None:
        """Append printed text."""
        text = message["b"]["text"]
        for start in range(0, len(text), LONGEST_PIECE):
            self.add_piece(message, text[start : start + LONGEST_PIECE])

    def add_piece(self, message: dict[str, Any], text: str) -> None:
        """Append a piece of a stream; the piece before it grows if it can."""
        with self.changed:
            self.full_output.add(message["p"].get("msg_id", ""), text)
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
            self.wake_call()

    def wake_call(self) -> None:
        """Wake the call that waits for bytes, unless it lingers: each wake costs both threads."""
        if not self.lingers:
            self.changed.notify_all()

    def leave_out(self, message: dict[str, Any], why: str, size: str = "") -> str:
        """Append a note in place of a message that is too large or invalid; return the note.

        Arguments:
            why: the reason.
            size: its size, with a space before it, if that is the reason.
        """
        kind = message["h"]["msg_type"]
        note = f"a message{size} ({kind}) is left out, {why}. Show less, or write it to a file."
        if message["c"] in ("iopub", "stdin") and kind not in UNSEEN:
            data = {"text/plain": f"[AgentBay: {note}]"}
            shown = {"data": data, "metadata": {}, "transient": {}}
            header = {"msg_type": "display_data"}
            line = json.dumps({**message, "c": "iopub", "h": header, "m": {}, "b": shown, "x": []})
            self.add(line.encode(), True)
        return note

    def settle(self) -> None:
        """Append the piece of a stream that could still grow."""
        last, self.growing = self.growing, None
        if last is not None:
            last["b"]["text"] = "".join(last.pop("texts"))
            del last["size"]
            self.keep(json.dumps(last).encode())

    def forget(self, before: int) -> None:
        """Delete bytes before that offset, which have arrived; report dropped messages if there is
        room."""
        with self.changed:
            del self.kept[: max(0, before - self.start)]
            self.start = max(self.start, before)
            if self.start >= self.largest_ends:
                self.largest = 0
            if len(self.kept) <= self.bound // 2:
                self.settle()
                self.report_dropped()

    def begin(self, message: dict[str, Any]) -> None:
        """Note that a request is sent to the kernel."""
        kind = message["h"]["msg_type"]
        with self.changed:
            if kind == "execute_request" and not message["b"].get("silent"):
                self.full_output.begin(message["h"]["msg_id"])
            if kind.endswith("_request"):
                self.open[message["h"]["msg_id"]] = {"reply", "idle"}
            elif kind.startswith("comm_"):
                self.open[message["h"]["msg_id"]] = {"idle"}

    def note(self, identity: str, part: str) -> None:
        """Note that a request's "reply" or its "idle" status has come; with both it has ended."""
        with self.changed:
            missing = self.open.get(identity, set())
            missing.discard(part)
            if not missing:
                self.full_output.flush(identity)
                self.open.pop(identity, None)
                self.changed.notify_all()

    def end_all(self) -> None:
        """End all requests: none will get a reply any more."""
        with self.changed:
            self.open.clear()
            self.changed.notify_all()

    def release(self, call: str) -> None:
        """End that call at once, if it waits."""
        with self.changed:
            self.returning.append(call)
            self.changed.notify_all()

    def wait(self, call: str, after: int, ends_at: float, until: list[str], linger: float) -> None:
        """Wait for bytes after the offset; with `until`, for the end of those requests too, but at
        most `linger` seconds longer."""
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
        """Return at most `room` bytes from that offset on."""
        with self.changed:
            self.settle()
            at = max(0, after - self.start)
            return bytes(self.kept[at : at + room])
