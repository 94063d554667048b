"""The far end of the bridge: runs inside a sandbox, in its persistent Python process.

It starts a Jupyter kernel in the sandbox and carries that kernel's messages over single calls.
Both directions are streams of bytes with offsets; every message is one line of JSON:

- inwards, a call brings bytes and the offset at which they stand. What is known already is
  skipped, so a call may be repeated and no message reaches the kernel twice.
- outwards, a call asks for the bytes from an offset on. They are kept until a later call asks
  for what comes behind them, so an answer that was lost can be had again.

A call may wait for what happens, and then answer once, or go on answering, a line for each thing
that happens. What must come in meanwhile is written to a named pipe in the bridge's private
folder: lines of JSON, {"at", "in"} as in a call, or {"return": id of the call that is to end}.

A line is {"c": channel, "h": header, "p": parent header, "m": metadata, "b": content,
"x": [buffers, base64]}; lines of the channel "bridge" are this module's own words. The user's
code runs in the kernel's process, not in this one.

Needs Python 3.9 with pyzmq and ipykernel 6 or 7, and `outbox`, which is brought along with it.
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

from agentbay_kernel.sandbox.outbox import Outbox

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
DELIMITER = b"<IDS|MSG>"
# What is not dropped when nobody collects: without these a front end can't tell what happened.
ALWAYS_KEPT = ("status", "error", "execute_input")
# Inward bytes that came too early are kept until those before them come, in so many pieces.
MOST_EARLY = 1000
# Longest line of the pipe; POSIX writes up to 4096 bytes as one.
MOST_PIPED = 4096
# A call that streams is heard of so often, and one that finds nothing under way waits so long.
HEARTBEAT_S = 5.0
IDLE_S = 1.0


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
        self.outbox.begin(message)
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
                self.outbox.end_all()
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
        """Tell the outbox of replies and of idle statuses."""
        idle = kind == "status" and json.loads(content).get("execution_state") == "idle"
        if idle or (channel in ("shell", "control") and kind.endswith("_reply")):
            identity = json.loads(parent).get("msg_id", "")
            self.outbox.note(identity, "idle" if idle else "reply")


class Bridge:
    """The two streams, the kernel between them, and the pipe that wakes a call."""

    def __init__(self, bound: int) -> None:
        self.outbox = Outbox(bound)
        self.kernel = Kernel(self.outbox)
        self.inward = bytearray()
        self.known = 0
        # Bytes that came before those in front of them, by offset.
        self.early: dict[int, bytes] = {}
        self.lock = threading.Lock()
        # Has anything come by the pipe? Not every sandbox lets its shell write there.
        self.heard = False
        self.pipe = ""
        with contextlib.suppress(AttributeError, OSError):  # not every system has such pipes
            path = os.path.join(self.kernel.folder, "wake")
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
        if "in" in line:
            self.accept(line["at"], unpack(line["in"]))
        if "return" in line:
            self.outbox.release(line["return"])

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
                self.kernel.post(json.loads(line))

    def exchange(self, call: dict[str, Any]) -> None:
        """One call: take what it brings, wait, answer what there is, a line of JSON on stdout.

        In: "id" (of the call), "at" and "in" (offset and bytes brought, zlib in base64), "after"
        (offset wanted; what is before it has arrived), "room" (most bytes in a line), "wait" and
        "linger" (seconds), "until" (ids of requests to wait for). With "most" the call streams:
        it answers on and on, until no request is under way, its time is over, or so many bytes
        were answered. Out: "known" (inward bytes that have arrived), "from", "out" and "size"
        (offset, bytes, their number), "heard" (did the pipe work?).
        """
        self.accept(call["at"], unpack(call["in"]))
        after = call["after"]
        self.outbox.forget(after)
        ends_at = time.monotonic() + call["wait"]
        if "most" not in call:
            self.outbox.wait(call["id"], after, ends_at, call["until"], call["linger"])
            self.answer(after, call["room"])
            return
        most_after, heard_at = after + call["most"], time.monotonic()
        while True:
            # A call that finds nothing under way does not stay for long.
            under_way = list(self.outbox.open)
            until = min(ends_at, heard_at + (HEARTBEAT_S if under_way else IDLE_S))
            self.outbox.wait(call["id"], after, until, under_way, call["linger"])
            after += self.answer(after, call["room"])
            heard_at = time.monotonic()
            # What ends a request is in the outbox before the request counts as ended.
            ended = not self.outbox.open and not self.outbox.has(after)
            over = heard_at >= ends_at or after >= most_after
            if ended or over or call["id"] in self.outbox.returning:
                return

    def answer(self, after: int, room: int) -> int:
        """Print one line of answer; returns how many bytes of the outbox it holds."""
        packed = self.pack(after, room)
        facts = {"known": self.known, "from": after, "heard": self.heard}
        print(json.dumps({**facts, **packed}), flush=True)
        return int(packed["size"])

    def pack(self, after: int, room: int) -> dict[str, Any]:
        """As many bytes as fit into `room` when packed."""
        size = room * 3 // 4 - 64
        data = self.outbox.take(after, size)
        packed = base64.b64encode(zlib.compress(data, 1)).decode()
        # Text packs to a fraction, pictures hardly; base64 adds a third.
        if len(data) == size and len(packed) < room // 2:
            larger = self.outbox.take(after, size * room // len(packed) * 9 // 10)
            repacked = base64.b64encode(zlib.compress(larger, 1)).decode()
            if len(repacked) <= room:
                data, packed = larger, repacked
        return {"out": packed, "size": len(data)}

    def close(self) -> None:
        """End the kernel."""
        self.kernel.process.kill()
        shutil.rmtree(self.kernel.folder, ignore_errors=True)


bridge: Bridge | None = None


def unpack(text: str) -> bytes:
    """Bytes that travelled as text."""
    return zlib.decompress(base64.b64decode(text))


def start(bound: int) -> None:
    """Start the bridge, unless it runs already; prints where it is, as a line of JSON."""
    global bridge
    if bridge is None:
        bridge = Bridge(bound)
    print(json.dumps({"pid": bridge.kernel.process.pid, "pipe": bridge.pipe}), flush=True)


def exchange(call: str) -> None:
    """Answer one call: JSON in, lines of JSON on stdout."""
    assert bridge is not None
    bridge.exchange(json.loads(call))
