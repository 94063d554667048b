"""The far end of the bridge: runs inside a sandbox, in its persistent Python process.

It starts a Jupyter kernel in the sandbox and carries that kernel's messages over single calls.
Both directions are streams of bytes with offsets; every message is one line of JSON:

- inwards, a call brings bytes and the offset at which they stand. What is known already is
  skipped, so a call may be repeated and no message reaches the kernel twice.
- outwards, a call asks for the bytes from an offset on. They are kept until a later call asks
  for what comes behind them, so an answer that was lost can be had again.

A line is {"c": channel, "h": header, "p": parent header, "m": metadata, "b": content,
"x": [buffers, base64]}; lines of the channel "bridge" are this module's own words. The user's
code runs in the kernel's process, not in this one.

Needs Python 3.9 with pyzmq and ipykernel 6 or 7; nothing else of this project.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from typing import Any

import zmq

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
DELIMITER = b"<IDS|MSG>"
# Neighbouring pieces of one stream that nobody has asked for yet become one of this size.
MOST_JOINED = 64 * 1024
# What is not dropped when nobody collects: without these a front end can't tell what happened.
ALWAYS_KEPT = ("status", "error", "execute_input")


class Outbox:
    """The outward stream: lines are added at its end, bytes are forgotten at its start."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.start = 0
        self.kept = bytearray()
        self.growing: dict[str, Any] | None = None
        self.dropped = 0
        # Requests whose reply and idle status are both here, the latest ones.
        self.ended: collections.deque[str] = collections.deque(maxlen=1000)
        self.half_ended: set[tuple[str, str]] = set()
        self.changed = threading.Condition()

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
            if droppable and len(self.kept) > self.bound:
                self.dropped += 1
            else:
                self.kept += line + b"\n"
            self.changed.notify_all()

    def add_stream(self, message: dict[str, Any]) -> None:
        """Append a piece of a stream; the piece before it grows if it can."""
        with self.changed:
            text = message["b"]["text"]
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
                if len(self.kept) > self.bound:
                    self.dropped += 1
                else:
                    self.growing = {**message, "texts": [text], "size": len(text)}
            self.changed.notify_all()

    def settle(self) -> None:
        """Write down the piece of a stream that could still grow."""
        last, self.growing = self.growing, None
        if last is not None:
            last["b"]["text"] = "".join(last.pop("texts"))
            del last["size"]
            self.kept += json.dumps(last).encode() + b"\n"

    def forget(self, before: int) -> None:
        """Bytes before that offset have arrived; say now what was dropped meanwhile."""
        with self.changed:
            del self.kept[: max(0, before - self.start)]
            self.start = max(self.start, before)
            if self.dropped and len(self.kept) <= self.bound // 2:
                self.settle()
                line = {"c": "bridge", "dropped": self.dropped}
                self.kept += json.dumps(line).encode() + b"\n"
                self.dropped = 0

    def wait(self, after: int, seconds: float, until: str | None, linger: float) -> None:
        """Wait for something behind the offset; with `until`, rather for that request's end.

        A request's output is not held back for its end longer than `linger` seconds.
        """
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                if until is None or until in self.ended:
                    if self.has(after):
                        return
                elif self.has(after):
                    deadline = min(deadline, time.monotonic() + linger)
                    linger = max(0.0, deadline - time.monotonic())
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self.changed.wait(left)

    def take(self, after: int, room: int) -> bytes:
        """At most `room` bytes from that offset on."""
        with self.changed:
            self.settle()
            at = max(0, after - self.start)
            return bytes(self.kept[at : at + room])


class Kernel:
    """The sandbox's Jupyter kernel: its process, its sockets, the thread that serves them."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.folder = tempfile.mkdtemp(prefix="ab-")
        self.key = uuid.uuid4().hex.encode()
        self.connection = os.path.join(self.folder, "kernel.json")
        self.addresses = self.write_connection()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A group of its own: an interrupt reaches what a cell started, and not us.
            start_new_session=True,
        )
        self.context = zmq.Context()
        self.waiting: collections.deque[dict[str, Any]] = collections.deque()
        self.known: set[str] = set()
        self.ready = threading.Event()
        self.bell = self.context.socket(zmq.PULL)
        self.bell_address = "inproc://" + uuid.uuid4().hex
        self.bell.bind(self.bell_address)
        threading.Thread(target=self.serve, name="agentbay-bridge", daemon=True).start()

    def write_connection(self) -> dict[str, str]:
        """Choose the sockets' places, tell the kernel by its connection file."""
        if os.name == "posix":
            transport, ip, joint = "ipc", os.path.join(self.folder, "s"), "-"
            ports = {channel: number + 1 for number, channel in enumerate(CHANNELS)}
        else:
            transport, ip, joint = "tcp", "127.0.0.1", ":"
            with contextlib.ExitStack() as held:
                free = [held.enter_context(socket.create_server((ip, 0))) for _ in CHANNELS]
                ports = {name: one.getsockname()[1] for name, one in zip(CHANNELS, free)}
        facts = {
            "transport": transport,
            "ip": ip,
            "key": self.key.decode(),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "",
            **{name + "_port": port for name, port in ports.items()},
        }
        descriptor = os.open(self.connection, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(facts, file)
        return {name: f"{transport}://{ip}{joint}{port}" for name, port in ports.items()}

    def post(self, message: dict[str, Any]) -> None:
        """Hand a message to the kernel, in order; one whose id is known is ignored."""
        identity = message["h"]["msg_id"]
        if identity in self.known:
            return
        self.known.add(identity)
        self.waiting.append(message)
        with self.context.socket(zmq.PUSH) as ring:
            ring.connect(self.bell_address)
            ring.send(b"")

    def serve(self) -> None:
        """Carry messages between the sockets and the queues until the kernel ends."""
        sockets = self.connect()
        self.shake_hands(sockets)
        poller = zmq.Poller()
        for one in [self.bell, *sockets.values()]:
            poller.register(one, zmq.POLLIN)
        while True:
            while self.waiting:
                self.send(sockets, self.waiting.popleft())
            arrived = dict(poller.poll(500))
            if self.bell in arrived:
                self.bell.recv()
            for channel, one in sockets.items():
                if one in arrived:
                    self.receive(channel, one)
            if not arrived and self.process.poll() is not None:
                died = {"c": "bridge", "died": self.process.returncode}
                self.outbox.add(json.dumps(died).encode())
                return

    def connect(self) -> dict[str, Any]:
        """Open the client's sockets."""
        sockets = {}
        identity = uuid.uuid4().hex.encode()
        for channel in ("shell", "iopub", "stdin", "control"):
            one = self.context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            one.linger = 0
            # Nothing may be lost between two reads, however much a cell prints.
            one.rcvhwm = 0
            if channel == "iopub":
                one.subscribe(b"")
            else:
                # The kernel asks for input under the identity that the cell came from.
                one.identity = identity
            one.connect(self.addresses[channel])
            sockets[channel] = one
        return sockets

    def shake_hands(self, sockets: dict[str, Any]) -> None:
        """Ask until both channels answer: a subscription is not in force at once."""
        answered: set[str] = set()
        while len(answered) < 2 and self.process.poll() is None:
            header = {
                "msg_id": uuid.uuid4().hex,
                "msg_type": "kernel_info_request",
                "username": "",
                "session": self.key.decode()[:8],
                "date": "2000-01-01T00:00:00Z",
                "version": "5.3",
            }
            self.send(sockets, {"c": "shell", "h": header})
            until = time.monotonic() + 1
            while len(answered) < 2 and time.monotonic() < until:
                for channel in ("shell", "iopub"):
                    if sockets[channel].poll(20):
                        sockets[channel].recv_multipart()
                        answered.add(channel)
        self.ready.set()

    def send(self, sockets: dict[str, Any], message: dict[str, Any]) -> None:
        """Sign and send one message."""
        frames = [json.dumps(message.get(part, {})).encode() for part in "hpmb"]
        signature = hmac.new(self.key, b"".join(frames), hashlib.sha256).hexdigest().encode()
        buffers = [base64.b64decode(one) for one in message.get("x", ())]
        sockets[message["c"]].send_multipart([DELIMITER, signature, *frames, *buffers])

    def receive(self, channel: str, one: Any) -> None:
        """Put all that has arrived on a socket into the outbox."""
        while True:
            try:
                frames = one.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            at = frames.index(DELIMITER)
            header, parent, metadata, content = (part.decode() for part in frames[at + 2 : at + 6])
            kind = json.loads(header)["msg_type"]
            if kind == "stream":
                parts = zip("hpmb", (header, parent, metadata, content))
                message = {name: json.loads(part) for name, part in parts}
                self.outbox.add_stream({"c": channel, **message})
                continue
            buffers = json.dumps([base64.b64encode(part).decode() for part in frames[at + 6 :]])
            line = (
                f'{{"c":"{channel}","h":{header},"p":{parent},"m":{metadata},'
                f'"b":{content},"x":{buffers}}}'
            )
            self.outbox.add(line.encode(), channel == "iopub" and kind not in ALWAYS_KEPT)
            self.note_end(channel, kind, parent, content)

    def note_end(self, channel: str, kind: str, parent: str, content: str) -> None:
        """A request has ended when its reply and its idle status are both there."""
        idle = kind == "status" and json.loads(content).get("execution_state") == "idle"
        if not idle and not (channel in ("shell", "control") and kind.endswith("_reply")):
            return
        identity = json.loads(parent).get("msg_id", "")
        mine, other = ("idle", "reply") if idle else ("reply", "idle")
        with self.outbox.changed:
            if (other, identity) in self.outbox.half_ended:
                self.outbox.half_ended.discard((other, identity))
                self.outbox.ended.append(identity)
            else:
                self.outbox.half_ended.add((mine, identity))
            self.outbox.changed.notify_all()


class Bridge:
    """The two streams and the kernel between them."""

    def __init__(self, bound: int) -> None:
        self.outbox = Outbox(bound)
        self.kernel = Kernel(self.outbox)
        self.inward = bytearray()
        self.known = 0
        self.lock = threading.Lock()

    def accept(self, offset: int, data: bytes) -> int:
        """Take inward bytes that stand at that offset; returns how many are known now."""
        with self.lock:
            if offset <= self.known < offset + len(data):
                fresh = data[self.known - offset :]
                self.known += len(fresh)
                self.inward += fresh
                *lines, rest = bytes(self.inward).split(b"\n")
                self.inward[:] = rest
                for line in lines:
                    self.kernel.post(json.loads(line))
            return self.known

    def exchange(self, call: dict[str, Any]) -> dict[str, Any]:
        """One call: take what it brings, wait, answer what there is.

        In: "at" and "in" (offset and bytes brought, zlib in base64), "after" (offset wanted; what
        is before it has arrived), "room" (most bytes to answer), "wait" and "linger" (seconds),
        "until" (id of the request to wait for). Out: "known" (inward bytes that have arrived),
        "from" and "out" (offset and bytes), "more" (is there more?), "pid".
        """
        known = self.accept(call["at"], zlib.decompress(base64.b64decode(call["in"])))
        after = call["after"]
        self.outbox.forget(after)
        self.outbox.wait(after, call["wait"], call.get("until"), call["linger"])
        data = self.pack(after, call["room"])
        return {"known": known, "from": after, **data, "pid": self.kernel.process.pid}

    def pack(self, after: int, room: int) -> dict[str, Any]:
        """As many bytes as fit into `room` when packed."""
        # Text packs to a fraction, pictures hardly; base64 adds a third.
        for raw in (room * 8, room * 2, room * 3 // 4 - 64):
            data = self.outbox.take(after, raw)
            packed = base64.b64encode(zlib.compress(data, 1)).decode()
            if len(packed) <= room:
                break
        return {"out": packed, "size": len(data), "more": self.outbox.has(after + len(data))}

    def close(self) -> None:
        """End the kernel."""
        self.kernel.process.kill()
        shutil.rmtree(self.kernel.folder, ignore_errors=True)


bridge: Bridge | None = None


def start(bound: int) -> None:
    """Start the bridge, unless it runs already."""
    global bridge
    if bridge is None:
        bridge = Bridge(bound)


def exchange(call: str) -> None:
    """Answer one call: JSON in, one line of JSON on stdout."""
    assert bridge is not None
    print(json.dumps(bridge.exchange(json.loads(call))), flush=True)
