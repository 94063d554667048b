"""The Python kernel at the far end of the bridge: a real Jupyter kernel in the sandbox.

In: messages for it, as the bridge carries them. Out: its own messages, in the bridge's outbox.
The user's code runs in that kernel's process, not in this one.

Runs inside a sandbox, with Python 3.9 or newer, pyzmq and ipykernel 6 or 7.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import zmq

from agentbay_kernel.sandbox.completion_cache import WITH_JEDI, CompletionCache
from agentbay_kernel.sandbox.interrupts import CellRegister, key_of
from agentbay_kernel.sandbox.outbox import MOST_MESSAGE, Outbox
from agentbay_kernel.sandbox.prepared_kernel import PreparedKernel

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
DELIMITER = b"<IDS|MSG>"
# How reading something fails that is no message.
NO_MESSAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
# What is not dropped when nobody collects: without these a front end can't tell what happened.
ALWAYS_KEPT = ("status", "error", "execute_input", "debug_event")
# A debugger misses breakpoints in frozen modules, and says so.
OPTIONS = ("-Xfrozen_modules=off",) if sys.version_info >= (3, 11) else ()
# Seconds by which a reply may come after its request's idle status: they have different sockets.
REPLY_WITHIN_S = 3.0
NO_REPLY = (
    "The sandbox's kernel ended this request without a reply. The code ran; its result is lost."
)
# What goes on after a cell, by `threading._agentbay_alive()`: threads and tasks that the kernel did
# not have before any cell. And ipykernel flushes stdout and stderr four times a cell, each time by
# two hand-overs to another thread and back, also when nothing was printed; then there is no need.
# And a cell's metadata can say its number: cells of the notebook that never came here have numbers
# too, and `In` holds nothing in their places.
PREPARE = """exec({0!r}, {{'__name__': '_agentbay'}})""".format(
    r"""
import asyncio, os, threading

from IPython import get_ipython
from ipykernel.iostream import OutStream

shell = get_ipython()

own = set(threading.enumerate())
packages = tuple(
    os.sep + package + os.sep
    for package in ("ipykernel", "IPython", "tornado", "zmq", "jupyter_client")
)


def is_own(task):
    file = getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "")
    return any(package in file for package in packages)


def alive():
    threads = sum(
        thread not in own and not thread.name.startswith("subshell-")
        for thread in threading.enumerate()
    )
    return threads + sum(not is_own(task) for task in asyncio.all_tasks())


def flush(stream):
    # Other versions keep what was printed elsewhere.
    if getattr(stream, "_buffers", True) or stream.echo is not None:
        flush_always(stream)


def init_metadata(request):
    number = request["metadata"].get("agentbay_count")
    if number:
        shell.execution_count = number
        inputs = shell.history_manager
        for kept in (inputs.input_hist_parsed, inputs.input_hist_raw):
            kept.extend([""] * (number - len(kept)))
    return init_any_metadata(request)


threading._agentbay_alive = alive
flush_always, OutStream.flush = OutStream.flush, flush
init_any_metadata = shell.kernel.init_metadata
shell.kernel.init_metadata = init_metadata
"""
)
# Before any cell, in a namespace of its own: `display_hooks.py`.
RUN_HOOKS = "exec(compile({0!r}, '<agentbay>', 'exec'), {{'__name__': '_agentbay'}})"
# The same for `interrupts.py`, whose first thread is not a cell's.
INSTALL_INTERRUPTS = """(lambda names: (
    exec(compile({0!r}, '<agentbay>', 'exec'), names), names['install']({1!r})
))({{'__name__': '_agentbay'}})"""

# Jupyter's encoder refuses half a surrogate pair, and its message would be lost.
REPLACE_SURROGATES = """exec({0!r}, {{'__name__': '_agentbay'}})""".format(
    r"""
import json, re
from IPython import get_ipython
from jupyter_client import jsonutil

session = get_ipython().kernel.session
pack = session.pack
default = getattr(jsonutil, "json_default", None) or jsonutil.date_default
half = re.compile("[\ud800-\udfff]")


def replacing(message):
    try:
        return pack(message)
    except UnicodeEncodeError:
        text = json.dumps(jsonutil.json_clean(message), default=default, ensure_ascii=False)
        return half.sub("\ufffd", text).encode()


session.pack = replacing
"""
)


class JupyterKernel:
    """The sandbox's Jupyter kernel: its process, its sockets, the thread that serves them."""

    def __init__(self, outbox: Outbox, folder: str, hooks: str, interrupts_source: str) -> None:
        self.outbox = outbox
        self.folder = folder
        self.register = CellRegister(os.path.join(folder, "cell"))
        # What the kernel runs before any cell.
        self.preparations = [PREPARE, REPLACE_SURROGATES, RUN_HOOKS.format(hooks)]
        if os.name == "posix":
            install = INSTALL_INTERRUPTS.format(interrupts_source, self.register.path)
            self.preparations.insert(0, install)
        # Until the kernel says that it could not install its handler.
        self.addressed = os.name == "posix"
        # Requests without a reply so far: channel and type; and since when they are idle.
        self.asked: dict[str, tuple[str, str]] = {}
        self.idle_since: dict[str, float] = {}
        # Cells that the kernel was given and that have not begun, as far as is known, by key.
        self.not_begun: dict[bytes, str] = {}
        self.key = uuid.uuid4().hex.encode()
        self.connection = os.path.join(self.folder, "kernel.json")
        self.addresses = self.write_connection()
        self.process = self.start()
        self.completion_cache = CompletionCache(folder)
        self.preparations += self.completion_cache.preparations
        self.context = zmq.Context()
        self.waiting: collections.deque[dict[str, Any]] = collections.deque()
        # Of the preparations, the first of which installs the handler of interrupts.
        self.preparing: list[str] = []
        # Requests of our own: what comes of them is nobody else's.
        self.own: set[str] = set()
        self.bell, self.rope = socket.socketpair()
        self.bell.setblocking(False)
        self.rope.setblocking(False)
        threading.Thread(target=self.serve, name="agentbay-bridge", daemon=True).start()

    def start(self) -> subprocess.Popen[bytes] | PreparedKernel:
        """Start the kernel's process: at once where this Python has prepared one."""
        with contextlib.suppress(OSError, ValueError):
            return PreparedKernel(self.connection)
        return subprocess.Popen(
            [sys.executable, *OPTIONS, "-m", "ipykernel_launcher", "-f", self.connection],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Should this process be killed, nobody could reach the kernel: it ends too.
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
            # A group of its own: an interrupt reaches what a cell started, and not us.
            start_new_session=True,
        )

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
        """Hand a message to the kernel, in order."""
        kind = message["h"]["msg_type"]
        if kind.endswith("_request"):
            self.asked[message["h"]["msg_id"]] = message["c"], kind
        if kind == "execute_request":
            self.not_begun[key_of(message["h"]["msg_id"])] = message["h"]["msg_id"]
        self.waiting.append(message)
        # If it takes no more, it rings already.
        with contextlib.suppress(BlockingIOError):
            self.rope.send(b" ")

    def interrupt(self, message: dict[str, Any]) -> None:
        """Interrupt the cell that a request names if it runs, or else when it begins; with None,
        whichever runs, and say whether one did."""
        cell = message["b"]["cell"]
        # One that ends meanwhile is never met.
        if cell is not None and cell not in self.outbox.open:
            return
        if self.addressed:
            ran = False
            with contextlib.suppress(OSError):
                ran = self.register.interrupt(cell, self.process.pid)
            if cell is None:
                request = message["h"]["msg_id"]
                answer = {"status": "ok", "interrupted": ran}
                self.add_own("control", "interrupt_reply", request, answer)
                self.add_own("iopub", "status", request, {"execution_state": "idle"})
        else:
            self.post(message)

    def tell_begun(self) -> None:
        """Say that a cell has begun whose kernel can't: C code may keep it from sending."""
        cell = self.not_begun.pop(self.register.running(), "") if self.not_begun else ""
        if cell:
            self.add_own("iopub", "execute_input", cell, {})

    def serve(self) -> None:
        """Carry messages between the sockets and the queues until the kernel ends."""
        sockets = self.connect()
        try:
            self.carry(sockets)
        finally:
            # They would look for the kernel again and again.
            for one in sockets.values():
                one.close()

    def carry(self, sockets: dict[str, Any]) -> None:
        """The same, once there are sockets."""
        self.shake_hands(sockets)
        self.preparing = [
            self.ask(sockets, "execute_request", {"code": code, "silent": True})
            for code in self.preparations
        ]
        poller = zmq.Poller()
        for one in [self.bell, *sockets.values()]:
            poller.register(one, zmq.POLLIN)
        while True:
            # After the bell was read: what is put there later rings again.
            while self.waiting:
                self.send(sockets, self.waiting.popleft())
            arrived = dict(poller.poll(500))
            if self.bell.fileno() in arrived:
                self.bell.recv(4096)
            for channel, one in sockets.items():
                if one in arrived:
                    self.receive(channel, one)
            if not arrived:
                self.tell_begun()
            self.end_unanswered()
            if self.completion_cache.warmed():
                self.ask(sockets, "execute_request", {"code": WITH_JEDI, "silent": True})
            if not arrived and self.process.poll() is not None:
                died = {"c": "bridge", "died": self.process.returncode}
                self.outbox.add(json.dumps(died).encode())
                self.outbox.end_all()
                return

    def close(self) -> None:
        """End its process, and what was started for it."""
        self.process.kill()
        self.completion_cache.close()

    def end_unanswered(self) -> None:
        """Reply to requests that have ended without a reply."""
        now = time.monotonic()
        for request, since in list(self.idle_since.items()):
            # Code can send an idle status of its own. The cell's end counts, not that.
            if self.addressed and self.register.running() == key_of(request):
                self.idle_since[request] = now
                continue
            if now - since < REPLY_WITHIN_S:
                continue
            del self.idle_since[request]
            channel, kind = self.asked.pop(request)
            failure = {"ename": "ReplyLostError", "evalue": NO_REPLY, "traceback": []}
            self.add_own("iopub", "error", request, failure)
            kind = kind.replace("_request", "_reply")
            self.add_own(channel, kind, request, {"status": "error", **failure})
            self.outbox.note(request, "reply")

    def add_own(self, channel: str, kind: str, request: str, content: dict[str, Any]) -> None:
        """Put a message into the outbox that the kernel did not send."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind}
        parent = {"msg_id": request}
        message = {"c": channel, "h": header, "p": parent, "m": {}, "b": content, "x": []}
        self.outbox.add(json.dumps(message).encode())

    def connect(self) -> dict[str, Any]:
        """Open the client's sockets."""
        sockets = {}
        identity = uuid.uuid4().hex.encode()
        for channel in ("shell", "iopub", "stdin", "control"):
            one = self.context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            one.linger = 0
            # Nothing may be lost between two reads, however much a cell prints.
            one.rcvhwm = 0
            # Milliseconds between two looks whether the kernel is there already.
            one.reconnect_ivl = 10
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
            self.ask(sockets, "kernel_info_request", {})
            until = time.monotonic() + 1
            while len(answered) < 2 and time.monotonic() < until:
                for channel in ("shell", "iopub"):
                    if sockets[channel].poll(20):
                        sockets[channel].recv_multipart()
                        answered.add(channel)

    def ask(self, sockets: dict[str, Any], kind: str, content: dict[str, Any]) -> str:
        """Send a request of our own; returns its id."""
        header = request_header(kind, self.key.decode()[:8])
        identity: str = header["msg_id"]
        self.own.add(identity)
        self.send(sockets, {"c": "shell", "h": header, "b": content})
        return identity

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
            # Code in the kernel's process can put anything on its sockets. It must not end this
            # thread. What has no type and no request is left out.
            with contextlib.suppress(*NO_MESSAGE):
                try:
                    self.take(channel, frames)
                except NO_MESSAGE as error:
                    deep = isinstance(error, RecursionError)
                    why = "its data are nested too deeply" if deep else "it can't be read"
                    self.take_unread(self.head(channel, frames), why)

    def head(self, channel: str, frames: list[bytes]) -> dict[str, Any]:
        """A message of which only its type and its request are read."""
        at = frames.index(DELIMITER)
        header, parent = map(decoded, frames[at + 2 : at + 4])
        return {"c": channel, "h": header, "p": parent}

    def take(self, channel: str, frames: list[bytes]) -> None:
        """Put one message into the outbox, anew as one line: its parts may hold line ends."""
        at = frames.index(DELIMITER)
        header, parent, metadata, content = map(decoded, frames[at + 2 : at + 6])
        kind, request = header["msg_type"], parent.get("msg_id", "")
        if request in self.own:
            if request in self.preparing[:1] and content.get("status") == "error":
                self.addressed = False
            return
        if kind in ("execute_input", "execute_reply"):
            self.not_begun.pop(key_of(request), None)
        # The near end knows its requests, and that they are on their way.
        if kind == "execute_input":
            content["code"] = ""
        elif kind == "status" and content.get("execution_state") == "busy":
            return
        message = {
            "c": channel,
            "h": {"msg_type": kind},
            "p": {"msg_id": request},
            "m": metadata,
            "b": content,
        }
        if kind == "stream":
            # Pieces of a stream are joined with each other.
            if not (
                isinstance(message["b"]["text"], str) and isinstance(message["b"]["name"], str)
            ):
                raise TypeError("a stream without text")
            self.outbox.add_stream(message)
            return
        if sum(map(len, frames)) > MOST_MESSAGE:
            size = sum(map(len, frames)) / 1e6
            most = f"only {MOST_MESSAGE / 1e6:,.0f} MB are carried at once"
            self.take_unread(message, most, f" of {size:,.0f} MB")
            return
        message["x"] = [base64.b64encode(part).decode() for part in frames[at + 6 :]]
        line = json.dumps(message).encode()
        self.outbox.add(line, channel == "iopub" and kind not in ALWAYS_KEPT)
        if kind == "status" and message["b"].get("execution_state") == "idle":
            self.outbox.note(request, "idle")
            if request in self.asked:
                self.idle_since.setdefault(request, time.monotonic())
        elif channel in ("shell", "control") and kind.endswith("_reply"):
            self.note_reply(request)

    def take_unread(self, message: dict[str, Any], why: str, size: str = "") -> None:
        """Say in the place of a message that it is not carried; no request waits for it."""
        kind, request = message["h"]["msg_type"], message["p"].get("msg_id", "")
        if request in self.own:
            return
        words = self.outbox.leave_out(message, why, size)
        if message["c"] == "stdin":
            # Nobody will answer: the cell that asks ends.
            header = request_header("interrupt_request", self.key.decode()[:8])
            self.interrupt({"c": "control", "h": header, "b": {"cell": request}})
        elif message["c"] in ("shell", "control") and kind.endswith("_reply"):
            failure = {"ename": "MessageTooLargeError", "evalue": words, "traceback": []}
            reply = {**message, "m": {}, "b": {"status": "error", **failure}}
            self.outbox.add(json.dumps(reply).encode())
            self.note_reply(request)

    def note_reply(self, request: str) -> None:
        """The reply to a request is in the outbox."""
        self.asked.pop(request, None)
        self.idle_since.pop(request, None)
        self.outbox.note(request, "reply")


def decoded(part: bytes) -> Any:
    """A part of a message; bytes that don't decode are replaced, as Jupyter's clients do."""
    return json.loads(part.decode("utf-8", "replace"))


def request_header(kind: str, session: str) -> dict[str, Any]:
    """The header of a request of our own."""
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "",
        "session": session,
        "date": "2000-01-01T00:00:00Z",
        "version": "5.3",
    }
