"""The sandbox's side of a pool of sandboxes: runs items one after the other, each at most once.

Two processes. The front is a module in the process that `run_code` runs in: it takes a chunk of
items, keeps it under the chunk's number, so that a call may be repeated when its response was lost,
and returns outcomes until they are acknowledged. The worker is a child process that runs the items:
it may crash, hang or print anything, and the front replaces it.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import functools
import glob
import hashlib
import importlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from typing import Any, Callable

# Outcomes are returned after this time, even if the chunk has not ended (seconds).
PARTIAL_S = 0.5
# Items that the worker has: the one that runs, and the next ones, for about this many seconds.
LEAST_AHEAD, MOST_AHEAD = 2, 64
AHEAD_S = 0.02
# Bytes of them. A pipe takes 64 KB, so a write never waits for the worker.
MOST_PIPED = 32_000
# The worker is polled this often: a forked process may keep its pipe open (seconds).
POLL_S = 0.5
DRAIN_S = 2.0
# Consecutive workers that may end before their first item.
MOST_FAILED_STARTS = 3
# Functions that a worker keeps loaded.
MOST_FUNCTIONS = 8
MOST_TRACEBACK = 20_000
MOST_MESSAGE = 4_000
MOST_ARGUMENTS = 8_000
# Makes a worker return the items that it has not begun.
RECALL = "recall\n"
MARK = "agentbay-items:"


class Front:
    """Takes chunks, feeds the worker, keeps outcomes.

    Arguments:
        folder: private directory for functions and large values.
        command: of a worker.
    """

    def __init__(self, folder: str, command: list[str]) -> None:
        self.folder = folder
        self.command = command
        self.changed = threading.Condition()
        self.chunk = 0
        # Lines of items by number: those that no worker has, and those that one has, in order.
        self.waiting: collections.OrderedDict[int, str] = collections.OrderedDict()
        self.given: collections.OrderedDict[int, str] = collections.OrderedDict()
        # Items of this chunk that were handed back; and whether that is not reported yet.
        self.back: list[int] = []
        self.recalled = False
        # The item that runs, and since when.
        self.running: tuple[int, float] | None = None
        self.timeout: float | None = None
        # About the seconds that an item takes.
        self.pace = 1.0
        # The item whose worker was stopped because it took too long.
        self.overdue = 0
        # Outcomes from `first` on: the item's number, the outcome's JSON, the time.
        self.first = 0
        self.outcomes: collections.deque[tuple[int, str, float]] = collections.deque()
        self.failed_starts = 0
        self.broken = ""
        self.start()

    def start(self) -> None:
        """Start a worker."""
        self.running = None
        self.worker = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.reader = threading.Thread(target=self.read, args=(self.worker,), daemon=True)
        self.reader.start()

    def read(self, worker: Any) -> None:
        """Read a worker's lines until it ends."""
        for line in worker.stdout:
            with self.changed:
                if worker is not self.worker:
                    return
                try:
                    self.take(line)
                except (ValueError, UnicodeError):
                    # An item wrote into the pipe.
                    self.broken = "its worker process sent something invalid"
                    self.changed.notify_all()
                    break
        self.replace(worker)

    def take(self, line: bytes) -> None:
        """Handle a line of the worker: `begin N`, `N OUTCOME`, `back N` or `fault TEXT`."""
        head, _, rest = line.decode("ascii").partition(" ")
        if head == "begin":
            self.running = (int(rest), time.monotonic())
        elif head == "back":
            # An item can write this too: the running one is not handed back.
            running = self.running is not None and self.running[0] == int(rest)
            if not running and self.given.pop(int(rest), None) is not None:
                self.hand_back([int(rest)])
        elif head == "fault":
            self.broken = rest
            self.changed.notify_all()
        else:
            self.failed_starts = 0
            if self.running is not None:
                self.pace += 0.3 * (time.monotonic() - self.running[1] - self.pace)
            self.running = None
            self.settle(int(head), rest.rstrip())

    def hand_back(self, numbers: list[int]) -> None:
        """Hand back items that have not begun."""
        if numbers:
            self.back += numbers
            self.recalled = True
            self.changed.notify_all()

    def settle(self, number: int, text: str) -> None:
        """Store an item's outcome."""
        self.given.pop(number, None)
        self.outcomes.append((number, text, time.monotonic()))
        self.feed()
        # A call waits for the end of the chunk, not for each outcome.
        if not self.given and not self.waiting:
            self.changed.notify_all()

    def feed(self) -> None:
        """Send the worker as many items as it has room for."""
        ahead = min(MOST_AHEAD, max(LEAST_AHEAD, int(AHEAD_S / max(self.pace, 1e-6))))
        # Not one by one: a write takes as long as a short item.
        if len(self.given) > ahead // 2:
            return
        lines = []
        size = sum(map(len, self.given.values()))
        while self.waiting and len(self.given) < ahead and (size < MOST_PIPED or not self.given):
            number, line = self.waiting.popitem(last=False)
            self.given[number] = line
            size += len(line)
            lines.append(line + "\n")
        self.write("".join(lines))

    def write(self, text: str) -> None:
        """Send to the worker."""
        pipe = self.worker.stdin
        assert pipe is not None
        # A worker that has ended is replaced elsewhere.
        with contextlib.suppress(OSError):
            pipe.write(text.encode("ascii"))
            pipe.flush()

    def replace(self, worker: Any) -> None:
        """Replace a worker that has ended: the item that it ran has failed, others wait."""
        worker.kill()
        status = worker.wait()
        with self.changed:
            if worker is not self.worker or self.broken:
                return
            running = self.running
            for number, line in reversed(self.given.items()):
                if running is None or number != running[0]:
                    self.waiting[number] = line
                    self.waiting.move_to_end(number, last=False)
            self.given.clear()
            if running is None:
                self.failed_starts += 1
                if self.failed_starts >= MOST_FAILED_STARTS:
                    self.broken = "its worker process ends at once (status %s)" % status
                    self.changed.notify_all()
                    return
            self.start()
            if running is not None:
                how = "timeout" if running[0] == self.overdue else "ended"
                spent = time.monotonic() - running[1]
                self.settle(running[0], json.dumps({"s": spent, how: status}))
            else:
                self.feed()
            self.changed.notify_all()

    def call(self, text: str) -> None:
        """Take a request and print its reply; a repeated request does no harm."""
        request = json.loads(zlib.decompress(base64.b64decode(text)))
        with self.changed:
            self.forget(request["after"])
            if request["chunk"] == self.chunk + 1:
                self.post(request)
            if request["back"]:
                self.hand_back(list(self.waiting))
                self.waiting.clear()
                self.write(RECALL)
        self.wait(request["wait"])
        with self.changed:
            reply = self.reply(request["room"])
        packed = base64.b64encode(zlib.compress(reply.encode("ascii"), 1)).decode()
        print(MARK + packed)
        forget_code()

    def post(self, request: dict[str, Any]) -> None:
        """Begin a chunk."""
        self.chunk = request["chunk"]
        self.timeout = request["timeout"]
        self.back, self.recalled = [], False
        for name in request["forget"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, name))
        for name, payload in request["functions"].items():
            path = os.path.join(self.folder, name)
            with open(path + ".new", "wb") as file:
                file.write(base64.b64decode(payload))
            os.replace(path + ".new", path)
        for number, line in request["items"]:
            self.waiting[number] = line
        self.feed()

    def wait(self, seconds: float) -> None:
        """Wait for the chunk's end or for outcomes that are due, at most that many seconds."""
        ends_at = time.monotonic() + seconds
        while True:
            with self.changed:
                now = time.monotonic()
                if self.broken or self.recalled or not (self.given or self.waiting):
                    self.recalled = False
                    return
                if now >= ends_at or (
                    self.outcomes and now - self.outcomes[0][2] >= min(PARTIAL_S, seconds)
                ):
                    return
                worker, reader = self.worker, self.reader
                if (
                    self.timeout is not None
                    and self.running is not None
                    and now - self.running[1] >= self.timeout
                ):
                    self.overdue = self.running[0]
                    worker.kill()
                elif worker.poll() is None:
                    pause = min(POLL_S, ends_at - now)
                    if self.outcomes:
                        pause = min(pause, self.outcomes[0][2] + PARTIAL_S - now)
                    if self.timeout is not None and self.running is not None:
                        pause = min(pause, self.running[1] + self.timeout - now)
                    self.changed.wait(max(0.001, pause))
                    continue
            # Read its last lines: the item may have ended before. Not for ever: a process that it
            # forked may keep the pipe open.
            reader.join(DRAIN_S)
            self.replace(worker)

    def forget(self, after: int) -> None:
        """Delete outcomes before this one, which have arrived."""
        while self.first < after and self.outcomes:
            number = self.outcomes.popleft()[0]
            self.first += 1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(result_path(self.folder, number))

    def reply(self, room: int) -> str:
        """Return outcomes as JSON, in about `room` characters."""
        parts: list[str] = []
        for number, text, _ in self.outcomes:
            if parts and len(text) > room:
                break
            room -= len(text)
            parts.append("[%d,%s]" % (number, text))
        return '{"chunk":%d,"first":%d,"left":%d,"back":%s,"broken":%s,"outcomes":[%s]}' % (
            self.chunk,
            self.first,
            len(self.given) + len(self.waiting),
            json.dumps(self.back),
            json.dumps(self.broken),
            ",".join(parts),
        )


def forget_code() -> None:
    """Remove the request from IPython's history, which would grow with each chunk."""
    with contextlib.suppress(Exception):
        history = sys.modules["IPython"].get_ipython().history_manager
        history.input_hist_raw[-1] = history.input_hist_parsed[-1] = ""


def result_path(folder: str, number: int) -> str:
    """Return the path of a result that does not fit into a reply."""
    return os.path.join(folder, "r-%d" % number)


def start(folder: str, program: str, exchange: str) -> None:
    """Start the front in this process, unless it has started; print Python's version."""
    here = sys.modules[__name__]
    if getattr(here, "front", None) is None:
        here.front = Front(folder, [sys.executable, program, exchange, folder])  # type: ignore[attr-defined]
    print(MARK + json.dumps(list(sys.version_info[:3]), separators=(",", ":")))


class Worker:
    """Runs items, in a separate process.

    Arguments:
        folder: the private directory.
        send: sends lines to the front.
    """

    arrow: Any
    decoding: Any
    encoding: Any
    named: Any
    pieces: Any
    values: Any

    def __init__(self, folder: str, send: Callable[[str], None]) -> None:
        self.folder = folder
        self.send = send
        self.functions: dict[str, Any] = {}
        # The exchange's program has made these modules in this process.
        package = "agentbay_kernel.sandbox.exchange."
        for name in ("arrow", "decoding", "encoding", "named", "pieces", "values"):
            setattr(self, name, importlib.import_module(package + name))

    def run(self, line: str, before: str) -> str:
        """Run one item; return its outcome's line.

        Arguments:
            before: lines to send first.
        """
        item = json.loads(line)
        number = item["n"]
        self.send("%sbegin %d\n" % (before, number))
        began = time.perf_counter()
        try:
            outcome = self.outcome(item)
        except BaseException as failure:
            outcome = _text({"error": described(failure)})
        return '%d {"s":%.6f,%s\n' % (number, time.perf_counter() - began, outcome[1:])

    def outcome(self, item: dict[str, Any]) -> str:
        """Run an item; return its outcome, an object of JSON."""
        refused = self.values.Refused
        try:
            function = self.function(item["f"])
        except BaseException as failure:
            return _text({"unloaded": described(failure)})
        try:
            args, kwargs = self.arguments(item)
        except refused as refusal:
            return _text({"refused": [refusal.kind, refusal.text, refusal.where]})
        try:
            value = function(*args, **kwargs)
        except BaseException as failure:
            return _text({"error": described(failure)})
        try:
            return self.result(item, value)
        except refused as refusal:
            return _text({"refused": [refusal.kind, refusal.text, "result" + refusal.where]})

    def function(self, name: str) -> Any:
        """Return the function of that name, loaded once."""
        if name not in self.functions:
            import pickle

            path = os.path.join(self.folder, name)
            if not os.path.exists(path):
                with open(path + ".new", "wb") as made:
                    for piece in self.pieces.joined(path):
                        made.write(piece)
                os.replace(path + ".new", path)
            with open(path, "rb") as file:
                self.functions[name] = pickle.load(file)
            # A limit: functions may contain large values.
            while len(self.functions) > MOST_FUNCTIONS:
                del self.functions[next(iter(self.functions))]
        return self.functions[name]

    def arguments(self, item: dict[str, Any]) -> Any:
        """Return the function's arguments."""
        if "base" not in item:
            return self.decoder("", 0, item["limit"]).decode(item["v"])
        base, sizes = item["base"], item["sizes"]
        os.mkdir(base + ".d", 0o700)
        try:
            text = self.pieces.unpack(self.pieces.joined(base), base + ".d", sizes, item["sha256"])
            return self.decoder(base + ".d", len(sizes) - 1, item["limit"]).loads(text)
        finally:
            shutil.rmtree(base + ".d", ignore_errors=True)
            for path in glob.glob(glob.escape(base) + ".p-*"):
                os.unlink(path)

    def decoder(self, folder: str, blobs: int, limit: int) -> Any:
        return self.decoding.Decoder(folder, blobs, limit, self.named.DECODERS)

    def result(self, item: dict[str, Any], value: Any) -> str:
        """Return the outcome with a value: in the outcome itself, or in a file."""
        path = result_path(self.folder, item["n"])
        encoder = _with_folder(self.encoding.Encoder)(
            path + ".d", item["limit"], self.lacking_arrow(item["arrow"]), self.named.ENCODERS
        )
        try:
            text = _text(encoder.encode(value))
            notes = _text(list(encoder.notes))
            if not encoder.blobs and len(text) <= item["inline"]:
                return '{"ok":%s,"notes":%s}' % (text, notes)
            return '{"notes":%s,%s' % (notes, _text(self.pack(path, text, encoder))[1:])
        finally:
            if encoder.blobs:
                shutil.rmtree(path + ".d", ignore_errors=True)

    def pack(self, path: str, text: str, encoder: Any) -> dict[str, Any]:
        """Write a result to a file; return its sizes and hash."""
        if len(text) > encoder.limit:
            reason = "has more than %s bytes" % format(encoder.limit, ",")
            raise self.values.Refused(self.values.TOO_LARGE, reason)
        digest, sizes = hashlib.sha256(text.encode("ascii")), [len(text)]
        with open(path, "wb") as pack:
            pack.write(text.encode("ascii"))
            for name in encoder.blobs:
                sizes.append(os.path.getsize(name))
                with open(name, "rb") as file:
                    for piece in iter(lambda: file.read(1024 * 1024), b""):
                        digest.update(piece)
                        pack.write(piece)
        return {"sizes": sizes, "sha256": digest.hexdigest()}

    def lacking_arrow(self, there: bool) -> Callable[[], str]:
        """Return a function that returns which side has no pyarrow."""
        if not there:
            return lambda: self.values.ARROW_LACKS_HERE
        return lambda: "" if self.arrow.has_pyarrow() else self.values.ARROW_LACKS_THERE


@functools.lru_cache(maxsize=None)
def _with_folder(encoder: Any) -> Any:
    """Return a class of encoder whose directory is made when it is needed."""

    class LazyEncoder(encoder):  # type: ignore[misc]
        def blob(self) -> tuple[int, str]:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            return super().blob()  # type: ignore[no-any-return]

    return LazyEncoder


_dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _text(value: Any) -> str:
    return _dumps(value)


def described(failure: BaseException) -> dict[str, Any]:
    """Return an exception as data: its name, arguments, message and traceback."""
    from agentbay_kernel.sandbox.exchange.encoding import Encoder

    kind = type(failure)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = kind.__module__ + "." + name
    try:
        message = str(failure)
    except Exception:
        message = "its message can't be shown"
    arguments = None

    def no_blob() -> tuple[int, str]:
        raise ValueError("too large")

    # Without arguments that can't be transferred, or would need a file.
    with contextlib.suppress(Exception):
        encoder = Encoder("", 0)
        encoder.blob = no_blob  # type: ignore[method-assign]
        # An OSError's `args` do not have the file.
        given = failure.__reduce__()[1] if isinstance(failure, OSError) else failure.args
        nodes = encoder.encode(list(given))
        if len(json.dumps(nodes)) <= MOST_ARGUMENTS:
            arguments = nodes
    # Skip our own frames.
    trace = failure.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    try:
        lines = "".join(traceback.format_exception(kind, failure, trace))
    except Exception:
        lines = name + ": " + message
    return {
        "name": _ascii(name[:200]),
        "builtin": kind.__module__ == "builtins",
        "args": arguments,
        "message": _ascii(message[:MOST_MESSAGE]),
        "traceback": _ascii(lines[-MOST_TRACEBACK:]),
    }


def _ascii(text: str) -> str:
    # Half of a surrogate pair has no encoding.
    return text.encode("utf-8", "backslashreplace").decode()


def _provide(name: str, sources: dict[str, str]) -> None:
    """Make the pickler's package importable, in the version that has pickled the functions.

    Arguments:
        sources: of the package's modules; that of the package itself last.
    """
    import types

    for module_name, source in sources.items():
        module = sys.modules[module_name] = types.ModuleType(module_name)
        if module_name == name:
            module.__path__ = []
            module.cloudpickle = sys.modules[name + ".cloudpickle"]  # type: ignore[attr-defined]
        exec(compile(source, module_name, "exec"), module.__dict__)


def work(exchange: str, folder: str, pickler: dict[str, str]) -> None:
    """Run the worker: run items from the standard input until it ends.

    Arguments:
        exchange: path of the program that makes the exchange's modules.
        pickler: the sources of cloudpickle.
    """
    import runpy

    requests = os.dup(0)
    replies = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    out = os.fdopen(replies, "wb")

    sending = threading.Lock()

    def send(text: str) -> None:
        with sending:
            out.write(text.encode("ascii"))
            out.flush()

    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with os.fdopen(requests, "rb") as pipe:
            for line in pipe:
                text = line.decode("ascii")
                if text != RECALL:
                    lines.put(text)
                    continue
                with contextlib.suppress(queue.Empty):
                    while True:
                        send("back %d\n" % json.loads(lines.get_nowait())["n"])
        # The front is gone: nobody wants an outcome.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    try:
        runpy.run_path(exchange)
        _provide("cloudpickle", pickler)
    except BaseException as failure:
        send("fault " + json.dumps("%s: %s" % (type(failure).__name__, failure))[1:-1] + "\n")
        return
    # Items are stopped by killing this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Functions define their globals in the main module, as on the other side.
    worker = Worker(folder, send)
    unsent = ""
    while True:
        # An item's outcome and the next one's `begin` are sent together if the next one waits.
        if lines.empty():
            send(unsent)
            unsent = ""
        unsent = worker.run(lines.get(), unsent)
