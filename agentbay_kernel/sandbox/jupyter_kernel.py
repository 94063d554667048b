"""The Python kernel at the far end of the bridge: a real Jupyter kernel in the sandbox.

It gets messages from the bridge, and its own go to the bridge's outbox. The user's code runs in the
kernel's process, not in this one.

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
# Errors of reading an invalid message.
INVALID = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
# Never dropped: a front end needs these to know how a cell ended.
ALWAYS_KEPT = ("status", "error", "execute_input", "debug_event")
# Without it, the debugger warns that it may miss breakpoints in frozen modules.
OPTIONS = ("-Xfrozen_modules=off",) if sys.version_info >= (3, 11) else ()
# A reply may come this much later than its request's idle status: they have different sockets.
REPLY_WITHIN_S = 3.0
NO_REPLY = (
    "The sandbox's kernel ended this request without a reply. The code ran; its result is lost."
)
# Adds `threading._agentbay_alive()`, which counts what continues after a cell: threads and tasks
# that the kernel did not have before any cell. Skips flushes of stdout and stderr without output:
# ipykernel flushes four times a cell, each time through another thread. Sets a cell's number from
# its metadata: other cells of the notebook, which did not run here, have numbers too, and are empty
# in `In`.
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
# Before any cell, in a separate namespace: `display_hooks.py`.
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
    """The sandbox's Jupyter kernel: its process, its sockets, and the thread that serves them."""

    def __init__(self, outbox: Outbox, folder: str, hooks: str, interrupts_source: str) -> None:
        self.outbox = outbox
        self.folder = folder
        self.register = CellRegister(os.path.join(folder, "cell"))
        # What the kernel runs before any cell.
        self.preparations = [PREPARE, REPLACE_SURROGATES, RUN_HOOKS.format(hooks)]
        if os.name == "posix":
            install = INSTALL_INTERRUPTS.format(interrupts_source, self.register.path)
            self.preparations.insert(0, install)
        # Can an interrupt name a cell? Not if the kernel could not install its handler.
        self.addressed = os.name == "posix"
        # Requests without a reply: channel and type; and the time of their idle status.
        self.asked: dict[str, tuple[str, str]] = {}
        self.idle_since: dict[str, float] = {}
        # Cells that were sent to the kernel and have not reported their start, by key.
        self.not_begun: dict[bytes, str] = {}
        self.key = uuid.uuid4().hex.encode()
        self.connection = os.path.join(self.folder, "kernel.json")
        self.addresses = self.write_connection()
        self.process = self.start()
        self.completion_cache = CompletionCache(folder)
        self.preparations += self.completion_cache.preparations
        self.context = zmq.Context()
        self.waiting: collections.deque[dict[str, Any]] = collections.deque()
        # Ids of the preparations; the first installs the handler of interrupts.
        self.preparing: list[str] = []
        # Ids of our own requests: their messages are not sent on.
        self.own: set[str] = set()
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.wake_write.setblocking(False)
        threading.Thread(target=self.serve, name="agentbay-bridge", daemon=True).start()

    def start(self) -> subprocess.Popen[bytes] | PreparedKernel:
        """Start the kernel's process; use the one that this Python has prepared, if any."""
        with contextlib.suppress(OSError, ValueError):
            return PreparedKernel(self.connection)
        return subprocess.Popen(
            [sys.executable, *OPTIONS, "-m", "ipykernel_launcher", "-f", self.connection],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # If this process is killed, nobody can reach the kernel: it must end too.
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
            # A separate group: an interrupt must reach the cell's child processes, but not us.
            start_new_session=True,
        )

    def write_connection(self) -> dict[str, str]:
        """Choose the sockets' addresses and write the kernel's connection file."""
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
        """Send a message to the kernel, in order."""
        kind = message["h"]["msg_type"]
        if kind.endswith("_request"):
            self.asked[message["h"]["msg_id"]] = message["c"], kind
        if kind == "execute_request":
            self.not_begun[key_of(message["h"]["msg_id"])] = message["h"]["msg_id"]
        self.waiting.append(message)
        # If it is full, the thread wakes anyway.
        with contextlib.suppress(BlockingIOError):
            self.wake_write.send(b" ")

    def interrupt(self, message: dict[str, Any]) -> None:
        """Interrupt the cell that a request names, now or when it begins; with None, whichever
        runs, and reply whether one did."""
        cell = message["b"]["cell"]
        # Not one that has ended: its key would stay in the register.
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

    def report_begun(self) -> None:
        """Report a cell's start for a kernel that can't: C code may block it."""
        cell = self.not_begun.pop(self.register.running(), "") if self.not_begun else ""
        if cell:
            self.add_own("iopub", "execute_input", cell, {})

    def serve(self) -> None:
        """Transfer messages between the sockets and the queues until the kernel ends."""
        sockets = self.connect()
        try:
            self.carry(sockets)
        finally:
            # Open sockets would try to connect again and again.
            for one in sockets.values():
                one.close()

    def carry(self, sockets: dict[str, Any]) -> None:
        """Do the work of `serve` with these sockets."""
        self.wait_for_kernel(sockets)
        self.preparing = [
            self.ask(sockets, "execute_request", {"code": code, "silent": True})
            for code in self.preparations
        ]
        poller = zmq.Poller()
        for one in [self.wake_read, *sockets.values()]:
            poller.register(one, zmq.POLLIN)
        while True:
            # After `wake_read` was read: later messages wake it again.
            while self.waiting:
                self.send(sockets, self.waiting.popleft())
            arrived = dict(poller.poll(500))
            if self.wake_read.fileno() in arrived:
                self.wake_read.recv(4096)
            for channel, one in sockets.items():
                if one in arrived:
                    self.receive(channel, one)
            if not arrived:
                self.report_begun()
            self.reply_for_kernel()
            if self.completion_cache.just_filled():
                self.ask(sockets, "execute_request", {"code": WITH_JEDI, "silent": True})
            if not arrived and self.process.poll() is not None:
                died = {"c": "bridge", "died": self.process.returncode}
                self.outbox.add(json.dumps(died).encode())
                self.outbox.end_all()
                return

    def close(self) -> None:
        """End the kernel's process and the one that fills its completion cache."""
        self.process.kill()
        self.completion_cache.close()

    def reply_for_kernel(self) -> None:
        """Reply to requests that the kernel has ended without a reply."""
        now = time.monotonic()
        for request, since in list(self.idle_since.items()):
            # The code of a cell can send an idle status too: only the cell's end counts.
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
        """Add a message of our own to the outbox."""
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
            # Milliseconds between two attempts to connect, until the kernel listens.
            one.reconnect_ivl = 10
            if channel == "iopub":
                one.subscribe(b"")
            else:
                # The kernel sends input requests to the identity that sent the cell.
                one.identity = identity
            one.connect(self.addresses[channel])
            sockets[channel] = one
        return sockets

    def wait_for_kernel(self, sockets: dict[str, Any]) -> None:
        """Send requests until both channels answer: a subscription takes a moment."""
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
        """Send a request of our own; return its id."""
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
        """Add all messages that have arrived on a socket to the outbox."""
        while True:
            try:
                frames = one.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            # Code in the kernel's process can send anything on its sockets. That must not end this
            # thread. A message without type or request is left out.
            with contextlib.suppress(*INVALID):
                try:
                    self.take(channel, frames)
                except INVALID as error:
                    deep = isinstance(error, RecursionError)
                    why = "its data are nested too deeply" if deep else "it can't be read"
                    self.take_unread(self.head(channel, frames), why)

    def head(self, channel: str, frames: list[bytes]) -> dict[str, Any]:
        """Read only a message's type and request."""
        at = frames.index(DELIMITER)
        header, parent = map(decoded, frames[at + 2 : at + 4])
        return {"c": channel, "h": header, "p": parent}

    def take(self, channel: str, frames: list[bytes]) -> None:
        """Add one message to the outbox, as one line."""
        at = frames.index(DELIMITER)
        header, parent, metadata, content = map(decoded, frames[at + 2 : at + 6])
        kind, request = header["msg_type"], parent.get("msg_id", "")
        if request in self.own:
            if request in self.preparing[:1] and content.get("status") == "error":
                self.addressed = False
            return
        if kind in ("execute_input", "execute_reply"):
            self.not_begun.pop(key_of(request), None)
        # The near end has the code and needs no busy status.
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
            # The outbox joins pieces of a stream.
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
        """Add a note or an error in place of a message that can't be sent, so that no request
        waits for it."""
        kind, request = message["h"]["msg_type"], message["p"].get("msg_id", "")
        if request in self.own:
            return
        note = self.outbox.leave_out(message, why, size)
        if message["c"] == "stdin":
            # Nobody will answer this input request: end its cell.
            header = request_header("interrupt_request", self.key.decode()[:8])
            self.interrupt({"c": "control", "h": header, "b": {"cell": request}})
        elif message["c"] in ("shell", "control") and kind.endswith("_reply"):
            failure = {"ename": "MessageTooLargeError", "evalue": note, "traceback": []}
            reply = {**message, "m": {}, "b": {"status": "error", **failure}}
            self.outbox.add(json.dumps(reply).encode())
            self.note_reply(request)

    def note_reply(self, request: str) -> None:
        """Note that the reply to a request is in the outbox."""
        self.asked.pop(request, None)
        self.idle_since.pop(request, None)
        self.outbox.note(request, "reply")


def decoded(part: bytes) -> Any:
    """Decode a part of a message; replace invalid bytes, as Jupyter's clients do."""
    return json.loads(part.decode("utf-8", "replace"))


def request_header(kind: str, session: str) -> dict[str, Any]:
    """Return the header of a request of our own."""
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "",
        "session": session,
        "date": "2000-01-01T00:00:00Z",
        "version": "5.3",
    }
