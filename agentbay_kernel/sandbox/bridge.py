"""The far end of the bridge: runs inside a sandbox, in its persistent Python process.

It starts a Jupyter kernel in the sandbox, and a Node worker for JavaScript, and carries their
messages over single calls. Both directions are streams of bytes with offsets; every message is one
line of JSON:

- inwards, a call brings bytes and their offset. Bytes that have arrived before are skipped, so a
  call may be repeated and no message reaches the kernel twice.
- outwards, a call asks for the bytes from an offset on. They are kept until a later call asks for
  the bytes after them, so a lost answer can be sent again.

A call may wait for bytes and answer once, or stream: one line for each answer. What must come in
during a call is written to a named pipe in the bridge's private directory: lines of JSON,
{"holder", "at", "in", "forget"} as in a call, or {"return": id of the call to end; "*" for
whichever waits}.

A bridge has one holder at a time, by number: the last one that attached to it. Late bytes of an
earlier holder are not taken, because their offsets are no longer valid.

A line is {"c": channel, "h": header, "p": parent header, "m": metadata, "b": content,
"x": [buffers, base64]}; the channel "node" leads to the Node worker, the Jupyter channels to the
kernel, and the bridge itself sends lines of the channel "bridge". The user's code runs in their
processes, not in this one.

Needs Python 3.9; the modules that it imports are sent with it.
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

from agentbay_kernel.sandbox.full_output import FullOutput
from agentbay_kernel.sandbox.jupyter_kernel import JupyterKernel
from agentbay_kernel.sandbox.node_kernel import NodeKernel
from agentbay_kernel.sandbox.outbox import Outbox
from agentbay_kernel.sandbox.usage import Usage

# Pieces of inward bytes that are kept until those before them come.
MOST_EARLY = 1000
# Longest line of the pipe; POSIX writes up to 4096 bytes at once.
MOST_PIPED = 4096
# Bytes of the outbox in one answer, before compression; the near end accepts twice as many.
MOST_UNPACKED = 16 * 1024 * 1024
# A call that streams answers at least this often; one without requests in progress waits this long.
HEARTBEAT_S = 5.0
IDLE_S = 1.0


class BridgeTakenError(Exception):
    """Another front end is the bridge's holder now."""


class Bridge:
    """The two streams, the kernels, and the pipe that wakes a call."""

    def __init__(self, bound: int, worker: str, hooks: str, interrupts: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="ab-")
        self.outbox = Outbox(bound, FullOutput(self.folder))
        self.kernel = JupyterKernel(self.outbox, self.folder, hooks, interrupts)
        self.usage = Usage(self.kernel.process.pid)
        # Started with the first request for JavaScript, from the worker's source.
        self.node: NodeKernel | None = None
        self.worker = worker
        # Ids of messages that were sent to a kernel: none is sent twice.
        self.posted: set[str] = set()
        self.holder = 0
        self.inward = bytearray()
        self.known = 0
        # The call that is being answered.
        self.calling = ""
        # Bytes that came before earlier ones, by offset.
        self.early: dict[int, bytes] = {}
        self.lock = threading.Lock()
        # Has the pipe worked? In some sandboxes the shell can't write to it.
        self.heard = False
        self.pipe = ""
        with contextlib.suppress(AttributeError, OSError):  # not every system has such pipes
            path = os.path.join(self.folder, "wake")
            os.mkfifo(path, 0o600)
            self.pipe = path
            threading.Thread(target=self.read_pipe, name="agentbay-wake", daemon=True).start()

    def read_pipe(self) -> None:
        """Take what is written to the pipe."""
        # Open for writing too: the pipe does not end when a writer goes.
        descriptor = os.open(self.pipe, os.O_RDWR)
        rest = b""
        while True:
            *lines, rest = (rest + os.read(descriptor, 65536)).split(b"\n")
            # No line is longer.
            rest = rest[-MOST_PIPED:]
            for line in lines:
                # An incomplete line is skipped: the next call brings its bytes again.
                with contextlib.suppress(ValueError, KeyError, TypeError, zlib.error):
                    self.receive_line(json.loads(line))

    def receive_line(self, line: dict[str, Any]) -> None:
        """Handle a line of the pipe."""
        self.heard = True
        if "in" in line and line["holder"] == self.holder:
            # First, so that the outbox has room for the new cell's output.
            self.outbox.forget(line["forget"])
            self.accept(line["at"], unpack(line["in"]))
        if "return" in line:
            self.outbox.release(self.calling if line["return"] == "*" else line["return"])

    def accept(self, offset: int, data: bytes) -> int:
        """Take inward bytes at an offset; return how many have arrived without a gap."""
        with self.lock:
            if offset > self.known:
                if len(self.early) < MOST_EARLY:
                    self.early[offset] = data
                return self.known
            self.deliver(data[self.known - offset :])
            for at in sorted(self.early):
                if at > self.known:
                    break
                self.deliver(self.early.pop(at)[self.known - at :])
            return self.known

    def deliver(self, fresh: bytes) -> None:
        """Send new bytes to the kernel, line by line."""
        self.known += len(fresh)
        *lines, rest = (bytes(self.inward) + fresh).split(b"\n")
        self.inward[:] = rest
        for line in filter(None, lines):
            # An incomplete line is left of a message whose sending was given up.
            with contextlib.suppress(ValueError):
                self.post(json.loads(line))

    def post(self, message: dict[str, Any]) -> None:
        """Send a message to its kernel; ignore one whose id was sent before."""
        identity = message["h"]["msg_id"]
        if identity in self.posted:
            return
        self.posted.add(identity)
        if message["c"] == "control" and message["h"]["msg_type"] == "interrupt_request":
            # The cell that it names was sent before it, or has ended.
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
        """Serve a call: take its bytes, wait, and print a line of JSON with the outward bytes.

        In: "id" (of the call), "holder" (the caller's number), "at" and "in" (offset and inward
        bytes, zlib in base64), "after" (requested offset; all before it has arrived), "room" (most
        bytes in a line), "wait" and "linger" (seconds), "until" (ids of requests to wait for),
        "forget" (offset, at a line's end, before which nothing is requested again). With "most" the
        call streams: it prints lines until no request is in progress (with "listen" it also waits
        for late output), its time is over, or that many bytes were sent. Out: "known" (inward bytes
        that have arrived), "from", "out" and "size" (offset, bytes, their number), "heard" (has the
        pipe worked?), sometimes "usage" (`usage.py`).
        """
        if call["holder"] != self.holder:
            raise BridgeTakenError("another front end has taken up this bridge")
        self.calling = call["id"]
        # First, so that the outbox has room for the new cell's output.
        self.outbox.forget(call["forget"])
        self.accept(call["at"], unpack(call["in"]))
        after = call["after"]
        ends_at = time.monotonic() + call["wait"]
        if "most" not in call:
            self.outbox.wait(call["id"], after, ends_at, call["until"], call["linger"])
            self.answer(after, call["room"])
            return
        most_after, answered_at = after + call["most"], time.monotonic()
        while True:
            # Without requests in progress, a call waits only for a short time.
            in_progress = list(self.outbox.open)
            stays = in_progress or call["listen"]
            until = min(ends_at, answered_at + (HEARTBEAT_S if stays else IDLE_S))
            self.outbox.wait(call["id"], after, until, in_progress, call["linger"])
            after += self.answer(after, call["room"])
            answered_at = time.monotonic()
            # A request counts as ended only when its last message is in the outbox.
            ended = not self.outbox.open and not self.outbox.has(after) and not call["listen"]
            over = answered_at >= ends_at or after >= most_after
            if ended or over or call["id"] in self.outbox.returning:
                # The answer before this may have come before the end of the last request.
                if ended and self.usage.is_due(is_last=True):
                    self.answer(after, call["room"])
                return

    def answer(self, after: int, room: int) -> int:
        """Print one line; return how many bytes of the outbox it contains."""
        packed = self.pack(after, room)
        facts: dict[str, Any] = {"known": self.known, "from": after, "heard": self.heard}
        if self.usage.is_due(is_last=not self.outbox.open):
            facts["usage"] = self.usage.read()
        # At once: `print` would write the line's end separately.
        sys.stdout.write(json.dumps({**facts, **packed}) + "\n")
        sys.stdout.flush()
        return int(packed["size"])

    def pack(self, after: int, room: int) -> dict[str, Any]:
        """Return as many bytes as fit into `room` when packed."""
        size = room * 3 // 4 - 64
        data = self.outbox.take(after, size)
        packed = base64.b64encode(zlib.compress(data, 1)).decode()
        # Text becomes much smaller, images hardly; base64 adds a third.
        if len(data) == size and len(packed) < room // 2:
            more = min(size * room // len(packed) * 9 // 10, MOST_UNPACKED)
            larger = self.outbox.take(after, more)
            repacked = base64.b64encode(zlib.compress(larger, 1)).decode()
            if len(repacked) <= room:
                data, packed = larger, repacked
        return {"out": packed, "size": len(data)}

    @property
    def alive(self) -> bool:
        """Whether the kernel runs."""
        return self.kernel.process.poll() is None

    def close(self) -> None:
        """End the kernels."""
        self.kernel.close()
        if self.node is not None:
            self.node.close()
        shutil.rmtree(self.folder, ignore_errors=True)


bridge: Bridge | None = None


def unpack(text: str) -> bytes:
    """Return the bytes of a packed string."""
    return zlib.decompress(base64.b64decode(text))


def start(bound: int, worker: str, hooks: str, interrupts: str) -> None:
    """Start a bridge.

    Arguments:
        bound: most bytes in the outbox.
        worker: source of the Node worker.
        hooks: source of `display_hooks.py`.
        interrupts: source of `interrupts.py`.
    """
    global bridge
    bridge = Bridge(bound, worker, hooks, interrupts)


def attach() -> None:
    """Make the caller the bridge's holder; print a line of JSON with the pipe and the offsets."""
    assert bridge is not None
    bridge.holder += 1
    facts = {
        "holder": bridge.holder,
        "pid": bridge.kernel.process.pid,
        "pipe": bridge.pipe,
        "known": bridge.known,
        "from": bridge.outbox.start,
        "output": bridge.outbox.full_output.before,
    }
    print(json.dumps(facts), flush=True)


def request_status(identity: str) -> None:
    """Print the status of a request as JSON: "unknown", "running" or "ended". An unknown one never
    runs, even if it comes later."""
    assert bridge is not None
    known = "running" if identity in bridge.outbox.open else "ended"
    print(json.dumps(known if identity in bridge.posted else "unknown"), flush=True)
    bridge.posted.add(identity)


def exchange(call: str) -> None:
    """Serve one call, which is JSON; print lines of JSON."""
    assert bridge is not None
    bridge.exchange(json.loads(call))
