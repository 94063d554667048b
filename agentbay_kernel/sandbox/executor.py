"""The sandbox's side of a pool of sandboxes: runs items one after the other, each at most once.

Two processes. The front is a module in the process that `run_code` runs in: it takes a chunk of
items, keeps it under the chunk's number, so that a call may be repeated when its response was lost,
and returns outcomes until they are acknowledged. The worker is a child process that runs the items:
it may crash, hang or print what it likes, and the front replaces it.

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

# Outcomes that are there are returned after so long, though the chunk has not ended (seconds).
PARTIAL_S = 0.5
# Items in the worker's pipe: the one that runs, and those behind it that take about so many
# seconds.
LEAST_AHEAD, MOST_AHEAD = 2, 64
AHEAD_S = 0.02
# Bytes of them. A pipe takes 64 KB: nothing waits for a worker that does not read.
MOST_PIPED = 32_000
# The worker's life is looked at so often: a forked process may keep its pipe open (seconds).
LOOK_S = 0.5
DRAIN_S = 2.0
# Workers that may end one after the other without a single item.
MOST_STILLBORN = 3
# Functions that a worker keeps loaded.
MOST_FUNCTIONS = 8
MOST_TRACEBACK = 20_000
MOST_MESSAGE = 4_000
MOST_ARGUMENTS = 8_000
# Asks a worker for what it has not begun.
RECALL = "recall\n"
MARK = "agentbay-items:"


class Front:
    """Takes chunks, feeds the worker, keeps outcomes.

    Arguments:
        folder: private directory: functions, large values.
        command: starts a worker.
    """

    def __init__(self, folder: str, command: list[str]) -> None:
        self.folder = folder
        self.command = command
        self.changed = threading.Condition()
        self.chunk = 0
        # Item lines that no worker has, by number; and those that one has, in order.
        self.waiting: collections.OrderedDict[int, str] = collections.OrderedDict()
        self.given: collections.OrderedDict[int, str] = collections.OrderedDict()
        # What was handed back of this chunk, and whether that is news.
        self.back: list[int] = []
        self.recalled = False
        # The item that runs, and since when.
        self.begun: tuple[int, float] | None = None
        self.timeout: float | None = None
        # Seconds that an item takes, about.
        self.pace = 1.0
        # The item whose worker was stopped because it took too long.
        self.overdue = 0
        # Outcomes from `first` on: number of the item, its text, when it came.
        self.first = 0
        self.outcomes: collections.deque[tuple[int, str, float]] = collections.deque()
        self.stillborn = 0
        self.broken = ""
        self.start()

    def start(self) -> None:
        """Start a worker."""
        self.begun = None
        self.worker = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.reader = threading.Thread(target=self.read, args=(self.worker,), daemon=True)
        self.reader.start()

    def read(self, worker: Any) -> None:
        """Take what a worker says, until it ends."""
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
        """A line of the worker: `begin N`, `N OUTCOME`, `back N` or `fault TEXT`."""
        head, _, rest = line.decode("ascii").partition(" ")
        if head == "begin":
            self.begun = (int(rest), time.monotonic())
        elif head == "back":
            # An item can write this too; what has begun does not go back.
            begun = self.begun is not None and self.begun[0] == int(rest)
            if not begun and self.given.pop(int(rest), None) is not None:
                self.hand_back([int(rest)])
        elif head == "fault":
            self.broken = rest
            self.changed.notify_all()
        else:
            self.stillborn = 0
            if self.begun is not None:
                self.pace += 0.3 * (time.monotonic() - self.begun[1] - self.pace)
            self.begun = None
            self.settle(int(head), rest.rstrip())

    def hand_back(self, numbers: list[int]) -> None:
        """These are not begun here."""
        if numbers:
            self.back += numbers
            self.recalled = True
            self.changed.notify_all()

    def settle(self, number: int, text: str) -> None:
        """An item has its outcome."""
        self.given.pop(number, None)
        self.outcomes.append((number, text, time.monotonic()))
        self.feed()
        # Whoever waits for more than this one would be woken for nothing.
        if not self.given and not self.waiting:
            self.changed.notify_all()

    def feed(self) -> None:
        """Give the worker what it has room for."""
        ahead = min(MOST_AHEAD, max(LEAST_AHEAD, int(AHEAD_S / max(self.pace, 1e-6))))
        # Not one by one: each time takes as long as a short item.
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
        # One that has ended is replaced.
        with contextlib.suppress(OSError):
            pipe.write(text.encode("ascii"))
            pipe.flush()

    def replace(self, worker: Any) -> None:
        """A worker has ended: the item that it ran is over, others have not begun."""
        worker.kill()
        status = worker.wait()
        with self.changed:
            if worker is not self.worker or self.broken:
                return
            begun = self.begun
            for number, line in reversed(self.given.items()):
                if begun is None or number != begun[0]:
                    self.waiting[number] = line
                    self.waiting.move_to_end(number, last=False)
            self.given.clear()
            if begun is None:
                self.stillborn += 1
                if self.stillborn >= MOST_STILLBORN:
                    self.broken = "its worker process ends at once (status %s)" % status
                    self.changed.notify_all()
                    return
            self.start()
            if begun is not None:
                how = "timeout" if begun[0] == self.overdue else "ended"
                spent = time.monotonic() - begun[1]
                self.settle(begun[0], json.dumps({"s": spent, how: status}))
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
        """Wait for the chunk's end, for outcomes that have waited, or for so long."""
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
                    and self.begun is not None
                    and now - self.begun[1] >= self.timeout
                ):
                    self.overdue = self.begun[0]
                    worker.kill()
                elif worker.poll() is None:
                    pause = min(LOOK_S, ends_at - now)
                    if self.outcomes:
                        pause = min(pause, self.outcomes[0][2] + PARTIAL_S - now)
                    if self.timeout is not None and self.begun is not None:
                        pause = min(pause, self.begun[1] + self.timeout - now)
                    self.changed.wait(max(0.001, pause))
                    continue
            # What it said last counts: the item may have ended before. A process that it forked
            # may keep the pipe open.
            reader.join(DRAIN_S)
            self.replace(worker)

    def forget(self, after: int) -> None:
        """Outcomes before this one have arrived."""
        while self.first < after and self.outcomes:
            number = self.outcomes.popleft()[0]
            self.first += 1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(result_path(self.folder, number))

    def reply(self, room: int) -> str:
        """What there is, in about `room` characters."""
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
    """Keep no request in IPython's history: it would grow with each chunk."""
    with contextlib.suppress(Exception):
        history = sys.modules["IPython"].get_ipython().history_manager
        history.input_hist_raw[-1] = history.input_hist_parsed[-1] = ""


def result_path(folder: str, number: int) -> str:
    """The file of a result that does not fit into a reply."""
    return os.path.join(folder, "r-%d" % number)


def start(folder: str, program: str, exchange: str) -> None:
    """Begin in this process; prints which Python it is. Started already, nothing is started."""
    here = sys.modules[__name__]
    if getattr(here, "front", None) is None:
        here.front = Front(folder, [sys.executable, program, exchange, folder])  # type: ignore[attr-defined]
    print(MARK + json.dumps(list(sys.version_info[:3]), separators=(",", ":")))


class Worker:
    """Runs items, in a process of its own.

    Arguments:
        folder: the private directory.
        say: sends lines to the front.
    """

    arrow: Any
    decoding: Any
    encoding: Any
    named: Any
    pieces: Any
    values: Any

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.functions: dict[str, Any] = {}
        # Made by the exchange's program, in this process.
        package = "agentbay_kernel.sandbox.exchange."
        for name in ("arrow", "decoding", "encoding", "named", "pieces", "values"):
            setattr(self, name, importlib.import_module(package + name))

    def run(self, line: str, before: str) -> str:
        """Run one item; returns what is to be said of it.

        Arguments:
            before: what is to be said first.
        """
        item = json.loads(line)
        number = item["n"]
        self.say("%sbegin %d\n" % (before, number))
        began = time.perf_counter()
        try:
            outcome = self.outcome(item)
        except BaseException as failure:
            outcome = _text({"error": described(failure)})
        return '%d {"s":%.6f,%s\n' % (number, time.perf_counter() - began, outcome[1:])

    def outcome(self, item: dict[str, Any]) -> str:
        """Run an item; returns its outcome, an object of JSON."""
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
        """The function of that name, loaded once."""
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
            # They may hold much.
            while len(self.functions) > MOST_FUNCTIONS:
                del self.functions[next(iter(self.functions))]
        return self.functions[name]

    def arguments(self, item: dict[str, Any]) -> Any:
        """What the function is called with."""
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
        """The outcome with a value: in itself, or as a file beside it."""
        path = result_path(self.folder, item["n"])
        encoder = _with_folder(self.encoding.Encoder)(
            path + ".d", item["limit"], self.lacking(item["arrow"]), self.named.ENCODERS
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
        """Write a result to a file; returns what is to be known of it."""
        if len(text) > encoder.limit:
            told = "has more than %s bytes" % format(encoder.limit, ",")
            raise self.values.Refused(self.values.TOO_LARGE, told)
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

    def lacking(self, there: bool) -> Callable[[], str]:
        """Which side has no pyarrow."""
        if not there:
            return lambda: self.values.ARROW_LACKS_HERE
        return lambda: "" if self.arrow.has_pyarrow() else self.values.ARROW_LACKS_THERE


@functools.lru_cache(maxsize=None)
def _with_folder(encoder: Any) -> Any:
    """An encoder whose folder is made when it is needed."""

    class LazyEncoder(encoder):  # type: ignore[misc]
        def blob(self) -> tuple[int, str]:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            return super().blob()  # type: ignore[no-any-return]

    return LazyEncoder


_dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _text(value: Any) -> str:
    return _dumps(value)


def described(failure: BaseException) -> dict[str, Any]:
    """An exception as data: its name, arguments, message and traceback."""
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

    # A value that can't be transferred, or would be a file of its own, stays away.
    with contextlib.suppress(Exception):
        encoder = Encoder("", 0)
        encoder.blob = no_blob  # type: ignore[method-assign]
        # An OSError's do not have the file.
        given = failure.__reduce__()[1] if isinstance(failure, OSError) else failure.args
        nodes = encoder.encode(list(given))
        if len(json.dumps(nodes)) <= MOST_ARGUMENTS:
            arguments = nodes
    # The first frame is ours.
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
    # Halves of surrogate pairs have no encoding.
    return text.encode("utf-8", "backslashreplace").decode()


def _provide(name: str, sources: dict[str, str]) -> None:
    """Make a package that functions are unpickled with importable, in the version that sent them.

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
    """Be the worker: run what comes from the standard input until it ends.

    Arguments:
        exchange: the program that makes the exchange's modules.
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

    saying = threading.Lock()

    def say(text: str) -> None:
        with saying:
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
                        say("back %d\n" % json.loads(lines.get_nowait())["n"])
        # The front is gone: nobody wants an outcome.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    try:
        runpy.run_path(exchange)
        _provide("cloudpickle", pickler)
    except BaseException as failure:
        say("fault " + json.dumps("%s: %s" % (type(failure).__name__, failure))[1:-1] + "\n")
        return
    # Whoever stops items ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What functions define stands in the main module, as it did where they come from.
    worker = Worker(folder, say)
    said = ""
    while True:
        # The end of one item and the beginning of the next are said together if one waits.
        if lines.empty():
            say(said)
            said = ""
        said = worker.run(lines.get(), said)
