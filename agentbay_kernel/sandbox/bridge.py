"""The far end of the bridge: runs inside a sandbox, in its persistent Python process.

It starts a Jupyter kernel in the sandbox, and a Node worker when JavaScript is asked for, and
carries their messages over single calls. Both directions are streams of bytes with offsets; every
message is one line of JSON:

- inwards, a call brings bytes and the offset at which they stand. What is known already is
  skipped, so a call may be repeated and no message reaches the kernel twice.
- outwards, a call asks for the bytes from an offset on. They are kept until a later call asks
  for what comes behind them, so an answer that was lost can be had again.

A call may wait for what happens, and then answer once, or go on answering, a line for each thing
that happens. What must come in meanwhile is written to a named pipe in the bridge's private
folder: lines of JSON, {"holder", "at", "in", "forget"} as in a call, or {"return": id of the call
that is to end; "*" for whichever waits}.

A bridge has one holder at a time, by number: whoever asked last where it is. What an earlier one
had sent and comes late is not taken: its offsets are not those of now.

A line is {"c": channel, "h": header, "p": parent header, "m": metadata, "b": content,
"x": [buffers, base64]}; the channel "node" leads to the Node worker, the Jupyter channels to the
kernel, and lines of the channel "bridge" are this module's own words. The user's code runs in
their processes, not in this one.

Needs Python 3.9; the modules beside it that it imports are brought along with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import zlib
from typing import Any

from agentbay_kernel.sandbox.jupyter_kernel import JupyterKernel
from agentbay_kernel.sandbox.node_kernel import NodeKernel
from agentbay_kernel.sandbox.outbox import Outbox
from agentbay_kernel.sandbox.usage import Usage
from agentbay_kernel.sandbox.whole_output import WholeOutput

# Inward bytes that came too early are kept until those before them come, in so many pieces.
MOST_EARLY = 1000
# Longest line of the pipe; POSIX writes up to 4096 bytes as one.
MOST_PIPED = 4096
# Bytes of the outbox in one answer, however small they pack; the near end takes twice as many.
MOST_UNPACKED = 16 * 1024 * 1024
# A call that streams is heard of so often, and one that finds nothing under way waits so long.
HEARTBEAT_S = 5.0
IDLE_S = 1.0


class BridgeTakenError(Exception):
    """The caller is no longer the bridge's holder."""


class Bridge:
    """The two streams, the kernels between them, and the pipe that wakes a call."""

    def __init__(self, bound: int, worker: str, hooks: str, interrupts: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="ab-")
        self.outbox = Outbox(bound, WholeOutput(self.folder))
        self.kernel = JupyterKernel(self.outbox, self.folder, hooks, interrupts)
        self.usage = Usage(self.kernel.process.pid)
        # JavaScript's, once it is asked for; the worker's source until then.
        self.node: NodeKernel | None = None
        self.worker = worker
        # Messages by id that went to a kernel: none goes there twice.
        self.posted: set[str] = set()
        self.holder = 0
        self.inward = bytearray()
        self.known = 0
        # The call that is being answered.
        self.calling = ""
        # Bytes that came before those in front of them, by offset.
        self.early: dict[int, bytes] = {}
        self.lock = threading.Lock()
        # Has anything come by the pipe? Not every sandbox lets its shell write there.
        self.heard = False
        self.pipe = ""
        with contextlib.suppress(AttributeError, OSError):  # not every system has such pipes
            path = os.path.join(self.folder, "wake")
            os.mkfifo(path, 0o600)
            self.pipe = path
            threading.Thread(target=self.listen, name="agentbay-wake", daemon=True).start()

    def listen(self) -> None:
        """Take what is written to the pipe."""
        # Open for writing too: the pipe does not end when a writer goes.
        descriptor = os.open(self.pipe, os.O_RDWR)
        rest = b""
        while True:
            *lines, rest = (rest + os.read(descriptor, 65536)).split(b"\n")
            # A line is shorter than what a pipe takes in one go.
            rest = rest[-MOST_PIPED:]
            for line in lines:
                # A line that was torn is left out: the next call brings what it held.
                with contextlib.suppress(ValueError, KeyError, TypeError, zlib.error):
                    self.hear(json.loads(line))

    def hear(self, line: dict[str, Any]) -> None:
        """One line of the pipe."""
        self.heard = True
        if "in" in line and line["holder"] == self.holder:
            # First: what a cell before showed must not leave too little room for this one.
            self.outbox.forget(line["forget"])
            self.accept(line["at"], unpack(line["in"]))
        if "return" in line:
            self.outbox.release(self.calling if line["return"] == "*" else line["return"])

    def accept(self, offset: int, data: bytes) -> int:
        """Take inward bytes that stand at that offset; returns how many are known now."""
        with self.lock:
            if offset > self.known:
                if len(self.early) < MOST_EARLY:
                    self.early[offset] = data
                return self.known
            self.take_in(data[self.known - offset :])
            for at in sorted(self.early):
                if at > self.known:
                    break
                self.take_in(self.early.pop(at)[self.known - at :])
            return self.known

    def take_in(self, fresh: bytes) -> None:
        """Hand what is new to the kernel, line by line."""
        self.known += len(fresh)
        *lines, rest = (bytes(self.inward) + fresh).split(b"\n")
        self.inward[:] = rest
        for line in filter(None, lines):
            # Half a line is what is left of a message that was given up on its way.
            with contextlib.suppress(ValueError):
                self.post(json.loads(line))

    def post(self, message: dict[str, Any]) -> None:
        """Hand a message to the kernel that it is for; one whose id is known is ignored."""
        identity = message["h"]["msg_id"]
        if identity in self.posted:
            return
        self.posted.add(identity)
        if message["c"] == "control" and message["h"]["msg_type"] == "interrupt_request":
            # Behind the cell that it names, or behind its end.
            self.kernel.interrupt(message)
            return
        self.outbox.begin(message)
        if message["c"] != "node":
            self.kernel.post(message)
            return
        if self.node is None:
            self.node = NodeKernel(self.outbox, self.folder, self.worker)
        self.node.post(message)

    def exchange(self, call: dict[str, Any]) -> None:
        """One call: take what it brings, wait, answer what there is, a line of JSON on stdout.

        In: "id" (of the call), "holder" (the caller's number), "at" and "in" (offset and bytes
        brought, zlib in base64), "after" (offset wanted; what is before it has arrived), "room"
        (most bytes in a line), "wait" and "linger" (seconds), "until" (ids of requests to wait
        for), "forget" (offset before which nothing is asked for again, at a line's end). With
        "most" the call streams: it answers on and on, until no request is under way (with
        "listen" it stays for what comes unasked), its time is over, or so many bytes were
        answered. Out: "known" (inward bytes that have arrived), "from", "out" and "size" (offset,
        bytes, their number), "heard" (did the pipe work?), now and then "usage" (`usage.py`).
        """
        if call["holder"] != self.holder:
            raise BridgeTakenError("another front end has taken up this bridge")
        self.calling = call["id"]
        # First: what a cell before showed must not leave too little room for this one.
        self.outbox.forget(call["forget"])
        self.accept(call["at"], unpack(call["in"]))
        after = call["after"]
        ends_at = time.monotonic() + call["wait"]
        if "most" not in call:
            self.outbox.wait(call["id"], after, ends_at, call["until"], call["linger"])
            self.answer(after, call["room"])
            return
        most_after, heard_at = after + call["most"], time.monotonic()
        while True:
            # A call that finds nothing under way does not stay for long.
            under_way = list(self.outbox.open)
            stays = under_way or call["listen"]
            until = min(ends_at, heard_at + (HEARTBEAT_S if stays else IDLE_S))
            self.outbox.wait(call["id"], after, until, under_way, call["linger"])
            after += self.answer(after, call["room"])
            heard_at = time.monotonic()
            # What ends a request is in the outbox before the request counts as ended.
            ended = not self.outbox.open and not self.outbox.has(after) and not call["listen"]
            over = heard_at >= ends_at or after >= most_after
            if ended or over or call["id"] in self.outbox.returning:
                # What was answered may have been before the end of the last request.
                if ended and self.usage.is_due(is_last=True):
                    self.answer(after, call["room"])
                return

    def answer(self, after: int, room: int) -> int:
        """Print one line of answer; returns how many bytes of the outbox it holds."""
        packed = self.pack(after, room)
        facts: dict[str, Any] = {"known": self.known, "from": after, "heard": self.heard}
        if self.usage.is_due(is_last=not self.outbox.open):
            facts["usage"] = self.usage.read()
        # One piece: `print` would write the line's end by itself.
        sys.stdout.write(json.dumps({**facts, **packed}) + "\n")
        sys.stdout.flush()
        return int(packed["size"])

    def pack(self, after: int, room: int) -> dict[str, Any]:
        """As many bytes as fit into `room` when packed."""
        size = room * 3 // 4 - 64
        data = self.outbox.take(after, size)
        packed = base64.b64encode(zlib.compress(data, 1)).decode()
        # Text packs to a fraction, pictures hardly; base64 adds a third.
        if len(data) == size and len(packed) < room // 2:
            more = min(size * room // len(packed) * 9 // 10, MOST_UNPACKED)
            larger = self.outbox.take(after, more)
            repacked = base64.b64encode(zlib.compress(larger, 1)).decode()
            if len(repacked) <= room:
                data, packed = larger, repacked
        return {"out": packed, "size": len(data)}

    @property
    def alive(self) -> bool:
        """Does the kernel run?"""
        return self.kernel.process.poll() is None

    def close(self) -> None:
        """End the kernels."""
        self.kernel.close()
        if self.node is not None:
            self.node.close()
        shutil.rmtree(self.folder, ignore_errors=True)


bridge: Bridge | None = None


def unpack(text: str) -> bytes:
    """Bytes that travelled as text."""
    return zlib.decompress(base64.b64decode(text))


def start(bound: int, worker: str, hooks: str, interrupts: str) -> None:
    """Start a bridge. The other arguments are sources: of the Node worker, of what prepares the
    Python kernel to show charts, and of its handler of interrupts."""
    global bridge
    bridge = Bridge(bound, worker, hooks, interrupts)


def tell() -> None:
    """Make the caller the bridge's holder; print where the bridge is and where its streams stand,
    as a line of JSON."""
    assert bridge is not None
    bridge.holder += 1
    facts = {
        "holder": bridge.holder,
        "pid": bridge.kernel.process.pid,
        "pipe": bridge.pipe,
        "known": bridge.known,
        "from": bridge.outbox.start,
        "output": bridge.outbox.whole.before,
    }
    print(json.dumps(facts), flush=True)


def fate(identity: str) -> None:
    """Print what became of a request, as JSON: "unknown", "running" or "ended". One that is not
    known never runs from now on, should it still come."""
    assert bridge is not None
    known = "running" if identity in bridge.outbox.open else "ended"
    print(json.dumps(known if identity in bridge.posted else "unknown"), flush=True)
    bridge.posted.add(identity)


def exchange(call: str) -> None:
    """Answer one call: JSON in, lines of JSON on stdout."""
    assert bridge is not None
    bridge.exchange(json.loads(call))
