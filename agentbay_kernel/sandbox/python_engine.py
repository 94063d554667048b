"""The Python worker of a local session: IPython's shell in a process that the agent starts.

Run as a script. It reads requests from the socket that AGENTBAY_WORKER_FDS names and writes frames
to it, both as lines of JSON:

- in: {"id", "op": "run", "code", "silent", "head", "tail"}
- out: {"event": "ready"}, once; then for each run, with its id,
  {"event": "stdout" | "stderr", "text"},
  {"event": "display", "data", "metadata", "transient", "update"},
  {"event": "result", "data", "metadata"},
  {"event": "failing"}, {"event": "error", "name", "value", "stack"},
  and last {"event": "done", "count"}.

Of a run's output the first `head` bytes and the last `tail` bytes are sent. {"event": "cutting"}
comes after the first ones, and {"event": "cut", "stdout", "stderr", "displays", "displayed"}
before the last ones: the characters, the number of displays and the bytes that are left out.

A write blocks while nobody reads. Output belongs to the running cell; between cells it is dropped.
SIGINT only raises KeyboardInterrupt in the running cell's code (`interrupts.py`). Needs Python 3.9
and IPython, nothing else of Jupyter.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

if __name__ == "__main__":
    # Imports leave almost no garbage, and collections take a tenth of their time.
    gc.disable()
    # Until `Interrupts`, which needs IPython, installs its handler.
    signal.signal(signal.SIGINT, lambda *_: None)
    # Instead of the script's directory, import from the one that contains the package. Cells must
    # import from neither.
    sys.path[0] = os.path.abspath(f"{__file__}/../../..")  # noqa: PTH100
from agentbay_kernel.sandbox import prepared_kernel
from agentbay_kernel.sandbox.interrupts import Interrupts

if __name__ == "__main__":
    del sys.path[0]
    for name in [name for name in sys.modules if name.startswith("agentbay_kernel")]:
        del sys.modules[name]

import asyncio
import base64
import codecs
import contextlib
import datetime
import importlib
import io
import json
import math
import numbers
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

MISSING = """\
This Python has no usable IPython ({failure}).
Install ipython in it; ipykernel too, for bridged execution.
"""
try:
    from IPython.core import page
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.error import StdinNotImplementedError, UsageError
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Any as AnyTrait
    from traitlets import CBool, Type
    from traitlets.config import Config
except ImportError as missing:
    sys.exit(MISSING.format(failure=missing))

MEGABYTE = 1024 * 1024
# Larger displays are refused: the runtime must not hold them.
FRAME_LIMIT = 12 * MEGABYTE
# Of a display without its strings: that part takes more memory when parsed.
STRUCTURE_LIMIT = 2 * MEGABYTE
ERROR_LIMIT = 256 * 1024
OUTPUTS = ("stdout", "stderr", "display", "result")
# Counts of what is left out.
CUT = ("stdout", "stderr", "displays", "displayed")
# Bytes that a frame takes beside its line.
OVERHEAD = 128
# A piece of a stream is sent at this many characters, or after this many seconds.
PIECE = 64 * 1024
FLUSH_S = 0.1
# Most bytes of a pipe: draining one must end even if its writer continues.
PIPE_SIZE = MEGABYTE
# In a shorter time, a child process can't have written anything.
CHILD_S = 0.0001
TRACEBACK_MODULES = ("pygments.formatters.terminal256", "pygments.lexers.python", "stack_data")
# Idle time after the start, before `_warm_up`.
IDLE_S = 0.2
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SURROGATE = re.compile("[\ud800-\udfff]")
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def encode(frame: dict[str, Any]) -> bytes:
    """Return a frame as a line of JSON."""
    try:
        text = json.dumps(frame, ensure_ascii=False, allow_nan=False, default=plain)
    except (TypeError, ValueError):
        text = json.dumps(cleaned(frame), ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return SURROGATE.sub("\ufffd", text).encode() + b"\n"


def plain(value: Any) -> Any:
    """Return a JSON value for an object that JSON does not know."""
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def cleaned(value: Any) -> Any:
    """Return a value with everything replaced that JSON can't represent."""
    if isinstance(value, dict):
        return {str(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    try:
        return cleaned(plain(value))
    except TypeError:
        return repr(value)


def shortened(text: str) -> str:
    """Return a text whose middle is left out if it is too long."""
    if len(text) <= ERROR_LIMIT:
        return text
    half = ERROR_LIMIT // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n... {left_out:,} characters are left out here ...\n{text[-half:]}"


class Guard:
    """A lock that postpones interrupts of its holder until it is released."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._lock = threading.RLock()
        self._depth = 0
        # Does an interrupt wait?
        self.pending = False

    @property
    def held(self) -> bool:
        """Whether the main thread holds it, or waits for it."""
        return self._depth > 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._depth += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread() is threading.main_thread():
            self._depth -= 1
            if self._depth == 0 and self.pending:
                self.pending = False
                self._interrupt()


class Tail:
    """The end of a run's output; what is dropped before it is counted.

    Arguments:
        room: bytes that are kept.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: deque[tuple[str, int, int, bytes]] = deque()
        self._size = 0
        self._cut = dict.fromkeys(CUT, 0)

    def add(self, frame: dict[str, Any], size: int, data: bytes) -> None:
        """Add a frame; drop the oldest ones if there are too many bytes."""
        self._kept.append((frame["event"], len(frame.get("text", "")), size, data))
        self._size += size
        while self._size > self._room:
            event, characters, size, _ = self._kept.popleft()
            self._size -= size
            if event in self._cut:
                self._cut[event] += characters
            else:
                self._cut["displays"] += 1
                self._cut["displayed"] += size

    def end(self, run: int) -> bytes:
        """Return what must be sent, and reset."""
        lines = [data for _, _, _, data in self._kept]
        if any(self._cut.values()):
            lines.insert(0, encode({"id": run, "event": "cut", **self._cut}))
        self._kept.clear()
        self._size = 0
        self._cut = dict.fromkeys(CUT, 0)
        return b"".join(lines)


class Output:
    """The output of the process: sends frames in order, and collects text into pieces.

    Arguments:
        channel: the socket.
        interrupt: called when a postponed interrupt may be raised.
    """

    def __init__(self, channel: socket.socket, interrupt: Callable[[], None]) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self.guard = Guard(interrupt)
        # The run that output belongs to; None between runs.
        self.run: int | None = None
        self._room = 0
        self._tail = Tail(0)
        self._unsent = bytearray()
        self._sending = False
        self._name = ""
        self._parts: list[str] = []
        self._size = 0
        self._since = 0.0
        self._touched = 0.0
        self._pipes: list[tuple[str, int, codecs.IncrementalDecoder]] = []
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)

    @property
    def here(self) -> bool:
        """Whether this is the worker's process, and not one that a cell has forked."""
        return os.getpid() == self._pid

    def begin(self, request: dict[str, Any]) -> None:
        """Start a run, which output belongs to from now on."""
        self.run = request["id"]
        self._room = request.get("head", sys.maxsize)
        self._tail = Tail(request.get("tail", 0))

    def capture(self) -> None:
        """Capture descriptors 1 and 2, which child processes and C code write to."""
        for name, fd in (("stdout", 1), ("stderr", 2)):
            read_end, write_end = os.pipe()
            os.dup2(write_end, fd)
            os.close(write_end)
            os.set_blocking(read_end, False)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._pipes.append((name, read_end, decoder))
        threading.Thread(target=self._watch, name="agentbay-output", daemon=True).start()

    def _watch(self) -> None:
        # Interrupts are for the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        pipes = [fd for _, fd, _ in self._pipes]
        timeout: float | None = None
        while True:
            ready = select.select([*pipes, self._wake_read], [], [], timeout)[0]
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            with self.guard:
                if any(fd in ready for fd in pipes):
                    self._drain_pipes()
                age = time.monotonic() - self._since
                if self._parts and age >= FLUSH_S:
                    self._flush_text()
                timeout = FLUSH_S - age if self._parts else None

    def write(self, name: str, text: str) -> None:
        """Add text to a stream."""
        with self.guard:
            now = time.monotonic()
            if not self._parts or now - self._touched > CHILD_S:
                self._drain_pipes()
            self._add(name, text)
            self._touched = time.monotonic()

    def _add(self, name: str, text: str) -> None:
        if self.run is None or not text:
            return
        if name != self._name:
            self._flush_text()
            self._name = name
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            if not self._parts:
                self._since = time.monotonic()
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b"\0")
            self._parts.append(piece)
            self._size += len(piece)
            if self._size >= PIECE:
                self._flush_text()

    def _drain_pipes(self) -> None:
        for name, fd, decoder in self._pipes:
            room = PIPE_SIZE
            with contextlib.suppress(BlockingIOError):
                while room > 0 and (data := os.read(fd, 65536)):
                    room -= len(data)
                    self._add(name, decoder.decode(data))

    def _flush_text(self) -> None:
        if self._parts:
            text, self._parts, self._size = "".join(self._parts), [], 0
            self._send({"event": self._name, "text": text})

    def flush(self) -> None:
        """Send the text that has been collected."""
        if self.here:
            with self.guard:
                self._flush_text()

    def flush_all(self) -> None:
        """Send all that was written, by child processes too."""
        with self.guard:
            self._drain_pipes()
            self._flush_text()

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame of the current run, after the text before it."""
        if self.here:
            with self.guard:
                self._drain_pipes()
                self._flush_text()
                self._send(frame)

    def _send(self, frame: dict[str, Any]) -> None:
        if self.run is None:
            return
        frame = {"id": self.run, **frame}
        data = encode_display(frame) if "data" in frame else encode(frame)
        if frame["event"] in OUTPUTS:
            # As the runtime counts: a response is JSON in JSON in JSON, each escape doubles twice.
            size = len(data) - 1 + 2 * data.count(b"\\") + OVERHEAD
            if size > self._room >= 0:
                self.put({"id": self.run, "event": "cutting"})
                self._room = -1
            if self._room < 0:
                self._tail.add(frame, size, data)
                return
            self._room -= size
        elif self._room < 0 and frame["event"] in ("error", "done"):
            data = self._tail.end(self.run) + data
        self._put(data)

    def put(self, frame: dict[str, Any]) -> None:
        """Send a frame without limits."""
        self._put(encode(frame))

    def _put(self, data: bytes) -> None:
        with self.guard:
            self._unsent += data
            # A destructor can print while another frame is being sent.
            if not self._sending:
                self._sending = True
                try:
                    self._drain_unsent()
                finally:
                    self._sending = False

    def _drain_unsent(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        while self._unsent:
            try:
                sent = self._channel.send(bytes(self._unsent[:PIECE]), socket.MSG_DONTWAIT)
            except BlockingIOError:
                select.select([], [self._channel], [], FLUSH_S)
                if main and self.guard.pending:
                    # The rest is sent before the next frame: no line is left incomplete.
                    return
            except OSError:
                self._unsent.clear()
            else:
                del self._unsent[:sent]


def encode_display(frame: dict[str, Any]) -> bytes:
    """Return a display as a line, or a note in its place if it is too large."""
    # Checked first, so that a string that is too large is not copied.
    size = sum(len(value) for value in frame["data"].values() if isinstance(value, (str, bytes)))
    most = FRAME_LIMIT
    if size <= most:
        data = encode(frame)
        size = len(data)
        if STRUCTURE_LIMIT < size <= most:
            size, most = len(STRING.sub(b"", data)), STRUCTURE_LIMIT
        if size <= most:
            return data
    kinds = ", ".join(map(str, frame["data"]))
    note = (
        f"A display ({kinds}) of {size / MEGABYTE:.1f} MB is left out: the most is "
        f"{most // MEGABYTE} MB. Write it to a file instead.\n"
    )
    return encode({"id": frame["id"], "event": "stderr", "text": note})


class TextStream(io.TextIOBase):
    """A replacement of `sys.stdout` or `sys.stderr`."""

    def __init__(self, output: Output, name: str, fd: int) -> None:
        self._output = output
        self.name = f"<{name}>"
        self._stream = name
        self._fd = fd

    encoding = "utf-8"
    errors = "replace"

    def write(self, text: str) -> int:
        """Write text; in a process that a cell has forked, to the descriptor."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._output.here:
            self._output.write(self._stream, text)
        else:
            data = text.encode("utf-8", "replace")
            while data:
                data = data[os.write(self._fd, data) :]
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def flush(self) -> None:
        """Send what was written."""
        self._output.flush()

    def fileno(self) -> int:
        """Return the descriptor, which is captured too."""
        return self._fd

    def isatty(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: the next cell prints too."""


class ResultHook(DisplayHook):
    """Sends the value of a cell's last expression."""

    def start_displayhook(self) -> None:
        """Do nothing."""

    def write_output_prompt(self) -> None:
        """Do nothing: the front end numbers its cells."""

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        """Send the value."""
        shell: Any = self.shell
        shell.output.send({"event": "result", "data": format_dict, "metadata": md_dict or {}})

    def finish_displayhook(self) -> None:
        """Do nothing."""


class Publisher(DisplayPublisher):
    """Sends displays. A hook, as ipykernel's publisher has them, may change or drop one."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self._hooks: list[Callable[[dict[str, Any]], dict[str, Any] | None]] = []

    def register_hook(self, hook: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Call `hook` with each display's message."""
        self._hooks.append(hook)

    def unregister_hook(self, hook: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
        """Undo `register_hook`; return whether it was registered."""
        if hook not in self._hooks:
            return False
        self._hooks.remove(hook)
        return True

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        """Send a display."""
        self._validate_data(data, metadata)
        kind = "update_display_data" if update else "display_data"
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        message: dict[str, Any] | None = {
            "header": {"msg_type": kind},
            "msg_type": kind,
            "parent_header": {},
            "metadata": {},
            "content": content,
        }
        for hook in self._hooks:
            message = hook(message) if message is not None else None
        if message is not None:
            frame = {"event": "display", **message["content"], "update": update}
            self.shell.output.send(frame)

    def clear_output(self, wait: bool = False) -> None:
        """Do nothing: output that was sent can't be removed."""


class Kernel:
    """The value of `get_ipython().kernel`, for libraries that look for one."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    @property
    def comm_manager(self) -> Any:
        """The comm package's default manager, which sends nothing."""
        import comm

        return comm.get_comm_manager()


# Libraries recognise a notebook by this class name: pandas, rich, tqdm and others.
class ZMQInteractiveShell(InteractiveShell):
    """IPython's shell, whose output goes to an `Output`."""

    displayhook_class = Type(ResultHook)
    display_pub_class = Type(Publisher)
    autoindent = CBool(False)
    kernel = AnyTrait()
    output: Any = AnyTrait()
    interrupts: Any = AnyTrait()

    def init_environment(self) -> None:
        """Set variables that make programs write colours and use no pager."""
        os.environ.update(
            TERM="xterm-color",
            CLICOLOR="1",
            FORCE_COLOR="1",
            CLICOLOR_FORCE="1",
            PAGER="cat",
            GIT_PAGER="cat",
        )

    def init_completer(self) -> None:
        """Do nothing yet: requests ask for no completions, and it takes 10 ms."""

    def __getattr__(self, name: str) -> Any:
        if name != "Completer":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        super().init_completer()
        return self.__dict__[name]

    @property
    def configurables(self) -> list[Any]:
        """What `%config` finds, the completer too."""
        if self.kernel is not None:
            # Not while the shell is being made.
            _ = self.Completer
        return self._configurables

    @configurables.setter
    def configurables(self, all_of_them: list[Any]) -> None:
        self._configurables = all_of_them

    def init_hooks(self) -> None:
        """Show as a display what a terminal shows in a pager."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(page.display_page), 99)

    def enable_gui(self, gui: str | None = None) -> None:
        """Accept the event loops that need no screen."""
        if gui not in (None, "inline", "asyncio"):
            raise UsageError(f"There is no screen for the event loop {gui!r}.")

    def ask_exit(self) -> None:
        """End the process after this cell."""
        self.exit_now = True

    def showtraceback(self, *args: Any, **arguments: Any) -> None:
        """Report an error; first that it comes, because a traceback takes time."""
        self.output.send({"event": "failing"})
        super().showtraceback(*args, **arguments)

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        name = str(etype.__name__)
        if self.interrupts.cancelled and issubclass(etype, asyncio.CancelledError):
            # The name that an interrupt of a sync cell has.
            name = "KeyboardInterrupt"
        try:
            value = str(evalue)
        except Exception:
            value = f"<{name} that can't be shown>"
        stack = ANSI.sub("", "\n".join(map(str, stb)))
        self.output.send(
            {
                "event": "error",
                "name": name,
                "value": shortened(value),
                "stack": shortened(stack),
            }
        )


class Engine:
    """Runs the requests of the socket, one after the other, in one event loop.

    Arguments:
        channel: the socket.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._output = Output(channel, self._settle)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._received = bytearray()
        self._ended = False

    def start(self) -> None:
        """Make the shell, announce that it is ready, and run until the socket ends."""
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        config = Config()
        config.HistoryManager.enabled = False
        # tqdm reads it to recognise a notebook.
        config.IPKernelApp.engine = "agentbay"
        # Where IPython would find it too, after imports that take 5 ms.
        ipython_dir = os.environ.get("IPYTHONDIR")
        shell: Any = ZMQInteractiveShell.instance(
            config=config, output=self._output, ipython_dir=ipython_dir
        )
        shell.extension_manager.load_extension("storemagic")
        shell.kernel = Kernel(shell)
        self._shell = shell
        self._interrupts = Interrupts(shell, postponed=self._postponed)
        shell.interrupts = self._interrupts
        self._forbid_input()
        self._loop.add_reader(self._channel, self._receive)
        sys.stdout = TextStream(self._output, "stdout", 1)
        sys.stderr = TextStream(self._output, "stderr", 2)
        self._output.capture()
        self._serving = self._loop.create_task(self._serve())
        gc.enable()
        self._output.put({"event": "ready"})
        self._has_kernel = prepared_kernel.VARIABLE in os.environ
        self._loop.call_later(IDLE_S, self._warm_up)
        while not self._ended:
            # SystemExit in a user's task ends the loop, but must not end the session.
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self._loop.run_forever()

    def _forbid_input(self) -> None:
        import builtins
        import getpass

        def refused(name: str) -> Callable[..., str]:
            def refuse(*_: Any, **__: Any) -> str:
                raise StdinNotImplementedError(
                    f"{name} was called, but this frontend does not support input requests."
                )

            return refuse

        builtins.input = refused("raw_input")
        getpass.getpass = refused("getpass")

    def _receive(self) -> None:
        try:
            data = self._channel.recv(MEGABYTE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._received += data
        if b"\n" in data:
            *lines, rest = self._received.split(b"\n")
            self._received = rest
            for line in lines:
                self._requests.put_nowait(json.loads(line))

    def _end(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._channel)
        self._loop.stop()

    async def _serve(self) -> None:
        while not self._ended:
            await self._run(await self._requests.get())

    async def _run(self, request: dict[str, Any]) -> None:
        output, shell = self._output, self._shell
        output.begin(request)
        self._interrupts.begin(str(request["id"]))
        try:
            await self._execute(request["code"], request.get("silent", False))
        except BaseException:
            # Raised outside the code whose errors IPython shows.
            shell.showtraceback()
        if not output.here:
            # A child that the cell has forked, whose code has ended.
            os._exit(0)
        self._interrupts.end()
        output.guard.pending = False
        output.flush_all()
        output.send({"event": "done", "count": shell.execution_count - 1})
        output.run = None
        if shell.exit_now:
            self._end()

    async def _execute(self, code: str, silent: bool) -> None:
        # As ipykernel does: async cells in this loop, others at once.
        shell = self._shell
        failed = None
        try:
            transformed = shell.transform_cell(code)
        except Exception:
            transformed, failed = code, sys.exc_info()
        awaits = shell.loop_runner_map["asyncio"][
            0
        ] is shell.loop_runner and shell.should_run_async(
            code, transformed_cell=transformed, preprocessing_exc_tuple=failed
        )
        if not awaits:
            shell.run_cell(code, store_history=not silent, silent=silent)
            return
        cell = asyncio.ensure_future(
            shell.run_cell_async(
                code,
                store_history=not silent,
                silent=silent,
                transformed_cell=transformed,
                preprocessing_exc_tuple=failed,
            )
        )
        result = None
        try:
            with self._interrupts.cancelling(cell):
                result = await cell
        finally:
            shell.events.trigger("post_execute")
            if not silent:
                shell.events.trigger("post_run_cell", result)

    def _postponed(self) -> bool:
        """Return whether output is being written: no line may be left incomplete. The guard calls
        `_settle` afterwards."""
        guard = self._output.guard
        guard.pending = guard.pending or guard.held
        return guard.held

    def _settle(self) -> None:
        self._interrupts.settle()

    def _warm_up(self) -> None:
        """Do ahead what the first cell, and the first traceback, would wait for. An interrupted
        cell has little time for its traceback."""
        # With a prepared kernel, cells run there, and this would take 2 MB of memory here.
        if not self._has_kernel:
            with contextlib.suppress(ImportError):
                for name in TRACEBACK_MODULES:
                    importlib.import_module(name)
        # These compile regular expressions and find printers. A cell has done that itself, and may
        # have registered functions, which must not be called between cells.
        if self._output.run is None and self._shell.execution_count == 1:
            self._shell.transform_cell("0")
            self._shell.display_formatter.format(0)


def main() -> None:
    """Serve the socket that the environment names."""
    fd = int(os.environ.pop("AGENTBAY_WORKER_FDS").split(",")[0])
    os.set_inheritable(fd, False)
    if prepared_kernel.NO_KERNEL in sys.argv:
        sys.argv.remove(prepared_kernel.NO_KERNEL)
    else:
        prepared_kernel.prepare()
    # As in ipykernel, cells import from their directory. All of our modules have been imported.
    sys.path.insert(0, "")
    Engine(socket.socket(fileno=fd)).start()


if __name__ == "__main__":
    main()
