"""The way of items into one session and of their outcomes back.

One call of `run_code` posts a chunk of items and waits for outcomes. The sandbox knows a chunk by
its number, so a call whose response was lost is made again: no item runs twice. What comes back is
data, and is checked as such.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import sys
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from agentbay_kernel import threads
from agentbay_kernel.containment.text import one_line, visible
from agentbay_kernel.errors import (
    TRANSIENT_FAILURES,
    CommandError,
    ConfigurationError,
    ExchangeError,
    MalformedValueError,
    NotAllowedError,
    RemoteError,
    ServiceUnreachableError,
    SessionError,
    SessionLostError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.exchange.jobs import program as exchange_program
from agentbay_kernel.exchange.reports import raised
from agentbay_kernel.exchange.transfers import ByteTransfer, Source
from agentbay_kernel.execution.sources import read_source
from agentbay_kernel.executor.functions import Function, holds_key
from agentbay_kernel.sandbox.exchange.arrow import has_pyarrow
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS
from agentbay_kernel.sandbox.exchange.pieces import unpack
from agentbay_kernel.sandbox.exchange.values import ARROW_LACKS_HERE, Refused, parse
from agentbay_kernel.service import Session
from agentbay_kernel.service.responses import TIMEOUT
from agentbay_kernel.sessions.audit_log import AuditLog

MODULE = "_agentbay_items"
# A call waits so long for the one item that is left, and for the next of several (seconds).
_WAIT_ONE_S, _WAIT_S = 20.0, 2.0
_CALL_S = 60
# How long a session may be out of reach before its items are given up (seconds).
_PATIENCE_S = 60.0
# Characters of an item that go with its chunk; more is a stream of its own.
_MOST_WITH_CHUNK = 24_000
_PIECE = 1 << 20
_LARGEST_REPLY = 64 * 1024 * 1024
_MOST_NOTES = 20
# Seconds that an item can have taken.
_LONGEST_S = 1e7
# A reply without news does not come sooner than this (seconds).
_PAUSE_S = 0.1
_reply = re.compile(r"agentbay-items:(\S*)\s*")
# A remote exception of one of these names is raised as what it is. Those that mean something to
# whoever waits for a future are not among them: StopIteration, GeneratorExit, CancelledError.
_EXCEPTIONS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(ArithmeticError, AssertionError, AttributeError, BlockingIOError, BrokenPipeError),
        *(BufferError, BytesWarning, ChildProcessError, ConnectionAbortedError, ConnectionError),
        *(ConnectionRefusedError, ConnectionResetError, DeprecationWarning, EOFError),
        *(EncodingWarning, Exception, FileExistsError, FileNotFoundError, FloatingPointError),
        *(FutureWarning, ImportError, ImportWarning, IndentationError, IndexError),
        *(InterruptedError, IsADirectoryError, KeyError, LookupError, MemoryError),
        *(ModuleNotFoundError, NameError, NotADirectoryError, NotImplementedError, OSError),
        *(OverflowError, PendingDeprecationWarning, PermissionError, ProcessLookupError),
        *(RecursionError, ReferenceError, ResourceWarning, RuntimeError, RuntimeWarning),
        *(SyntaxError, SyntaxWarning, SystemError, TabError, TimeoutError, TypeError),
        *(UnboundLocalError, UnicodeDecodeError, UnicodeEncodeError, UnicodeError),
        *(UnicodeTranslateError, UnicodeWarning, UserWarning, ValueError, Warning),
        ZeroDivisionError,
    )
}


class RemoteTraceback(Exception):
    """The cause of an exception that an item raised: the sandbox's traceback, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ChannelBrokenError(SessionError):
    """Nothing can be run in the session any more."""


@dataclass(eq=False)
class Arguments:
    """What an item is called with, encoded when it was submitted.

    `text` is JSON; `blobs` are files of `folder`, which exists if there are any.
    """

    text: str
    blobs: list[str] = field(default_factory=list)
    folder: tempfile.TemporaryDirectory[str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of an item: a value, or an error. `seconds` is what it took in the sandbox."""

    value: Any = None
    error: BaseException | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sent:
    """An item as the channel sees it; its number is the session's."""

    number: int
    function: Function
    arguments: Arguments


def encode_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], limit: int, key: str = ""
) -> Arguments:
    """Arguments as they are now.

    Arguments:
        args, kwargs: they.
        limit: most bytes.
        key: the service's key, which is not sent.

    Raises:
        NotAllowedError: they hold the key.
        ExchangeError: one can't be transferred; says which and why.
    """
    encoder = _LazyEncoder(limit)
    nodes: list[Any] = []
    named: dict[str, Any] = {}
    try:
        for number, value in enumerate(args):
            nodes.append(_encoded(encoder, value, f"argument {number + 1}"))
        for name, value in kwargs.items():
            named[name] = _encoded(encoder, value, name)
        text = json.dumps([nodes, named], allow_nan=False, separators=(",", ":"))
    except Refused as refusal:
        raise raised(refusal) from None
    if len(text) > limit:
        raise raised(Refused("too large", f"has more than {limit:,} bytes", "the arguments"))
    if holds_key(text.encode("ascii"), key) or any(
        holds_key(piece, key) for path in encoder.blobs for piece in _pieces(path, len(key))
    ):
        raise NotAllowedError("They hold the service's key.")
    return Arguments(text, encoder.blobs, encoder.directory, tuple(encoder.notes))


def _pieces(path: str, overlap: int) -> Iterator[bytes]:
    """A file in pieces that overlap, so that a text of `overlap` bytes is whole in one of them."""
    before = b""
    with Path(path).open("rb") as file:
        while read := file.read(_PIECE):
            yield before + read
            # In base64 it takes a third more.
            before = read[-2 * overlap :]


def _encoded(encoder: Encoder, value: Any, name: str) -> Any:
    try:
        return encoder.encode(value, 1)
    except Refused as refusal:
        raise refusal.below(name) from None


class _LazyEncoder(Encoder):
    """An encoder whose directory is made when something needs it."""

    def __init__(self, limit: int) -> None:
        # Whether the sandbox has pyarrow shows there.
        super().__init__("", limit, lambda: "" if has_pyarrow() else ARROW_LACKS_HERE, ENCODERS)
        self.directory: tempfile.TemporaryDirectory[str] | None = None

    def blob(self) -> tuple[int, str]:
        if self.directory is None:
            self.directory = tempfile.TemporaryDirectory(prefix="agentbay-")
            self.folder = self.directory.name
        return super().blob()


class Channel:
    """Items into one session, and outcomes back. Used by one thread.

    Arguments:
        limit: bytes that one value may have.
        timeout: seconds that an item may run; None for no limit.
        audit: is told what is sent, before it is.

    Raises:
        ConfigurationError: the sandbox has another Python.
        CommandError, ExchangeError: the session can't be used.
    """

    def __init__(
        self, session: Session, limit: int, timeout: float | None, audit: AuditLog | None
    ) -> None:
        self.session = session
        self._limit, self._timeout, self._audit = limit, timeout, audit
        self._transfer = ByteTransfer(session)
        self._folder = self._transfer.folder()
        # The functions that the sandbox has, by id.
        self._there: dict[str, weakref.ref[Function]] = {}
        self._chunk = 0
        self._after = 0
        self._start()

    def _start(self) -> None:
        exchange, program = f"{self._folder}/exchange.py", f"{self._folder}/items.py"
        self._transfer.write(exchange, exchange_program())
        self._transfer.write(program, _program())
        code = (
            f'__import__("runpy").run_path({json.dumps(program)})["start"]('
            f"{json.dumps(self._folder)}, {json.dumps(program)}, {json.dumps(exchange)})"
        )
        text = self._call(code, lambda: False)
        try:
            version = json.loads(text)
            there = (version[0], version[1])
        except (ValueError, TypeError, LookupError):
            raise MalformedValueError("The sandbox did not report which Python it has.") from None
        here = sys.version_info[:2]
        if there != here:
            raise ConfigurationError(
                f"The sandbox has Python {there[0]}.{there[1]}, and this is Python "
                f"{here[0]}.{here[1]}: functions can't be sent. Use Python "
                f"{there[0]}.{there[1]} here, or an image with Python {here[0]}.{here[1]}."
            )

    @property
    def room(self) -> int:
        """Characters of items that go well into one chunk."""
        # Compressed, then in base64, which adds a third.
        return min(1_000_000, self.session.capacity("run_code").sent * 5 // 8)

    def run(
        self, items: list[Sent], stopped: Callable[[], bool], give_back: Callable[[], bool]
    ) -> Iterator[tuple[Sent, Outcome | None]]:
        """Run items; yields each with its outcome, or with None if it was not begun.

        Arguments:
            stopped: nobody wants outcomes any more.
            give_back: others could run what waits here.

        Raises:
            SessionNotFoundError: the session is gone; no item ran that was not yielded.
            SessionLostError: the same, but items that were not yielded may have run.
            ChannelBrokenError: the sandbox can't run items.
        """
        pending = {item.number: item for item in items}
        lines = []
        functions: dict[str, str] = {}
        forgotten = [known for known, function in self._there.items() if function() is None]
        room = self.room
        for item in items:
            try:
                self._bring_function(item.function, functions, room)
                lines.append([item.number, self._line(item)])
            except ExchangeError as error:
                del pending[item.number]
                yield item, Outcome(error=error)
            except CommandError as error:
                raise self._lost(one_line(str(error)), posted=False) from error
        if not pending:
            return
        # Unless it was sent again just now.
        forgotten = [known for known in forgotten if self._there[known]() is None]
        for known in forgotten:
            del self._there[known]
        self._chunk += 1
        request: dict[str, Any] = {
            "chunk": self._chunk,
            "timeout": self._timeout,
            "functions": functions,
            "forget": forgotten,
            "items": lines,
            "back": False,
            "room": self.session.capacity("run_code").received // 2,
        }
        posted = False
        # Items have their time one after the other.
        longest_s = len(pending) * (self._timeout or math.inf) + _PATIENCE_S
        ends_at = time.monotonic() + longest_s
        while pending:
            request |= {
                "after": self._after,
                "back": bool(request["back"]) or (posted and len(pending) > 1 and give_back()),
                "wait": _WAIT_ONE_S if len(pending) == 1 else _WAIT_S,
            }
            asked_at = time.monotonic()
            reply = self._exchange(request, stopped, posted)
            if not posted:
                posted = True
                request |= {"functions": {}, "items": [], "forget": []}
                for item in items:
                    self._there[item.function.id] = weakref.ref(item.function)
            settled = list(self._settled(reply, pending))
            yield from settled
            for number in reply["back"]:
                if number in pending:
                    yield pending.pop(number), None
            if reply["broken"]:
                raise ChannelBrokenError(
                    f"The sandbox can't run functions: {one_line(reply['broken'][:500])}."
                )
            if pending and not settled:
                if time.monotonic() > ends_at:
                    raise self._lost(f"it holds items beyond their timeout of {self._timeout:g} s")
                if not reply["left"]:
                    raise MalformedValueError("The sandbox returned no outcome of some items.")
                time.sleep(max(0.0, asked_at + _PAUSE_S - time.monotonic()))

    def _bring_function(self, function: Function, inline: dict[str, str], room: int) -> None:
        known = self._there.get(function.id)
        if (known is not None and known() is not None) or function.id in inline:
            return
        self._note(f"function {function.name}", len(function.payload))
        text = base64.b64encode(function.payload).decode()
        if len(text) + sum(map(len, inline.values())) <= room // 4:
            inline[function.id] = text
            return
        payload = function.payload
        self._transfer.write_stream(
            f"{self._folder}/{function.id}",
            [(0, len(payload))],
            lambda at, size: payload[at : at + size],
            lambda size: None,
        )
        self._there[function.id] = weakref.ref(function)

    def _line(self, item: Sent) -> str:
        """An item as the sandbox reads it; what is large is sent here."""
        arguments = item.arguments
        head: dict[str, Any] = {
            "n": item.number,
            "f": item.function.id,
            "limit": self._limit,
            "inline": _MOST_WITH_CHUNK,
            "arrow": has_pyarrow() if arguments.blobs else _arrow_here(),
        }
        size = len(arguments.text)
        if not arguments.blobs and size <= _MOST_WITH_CHUNK:
            self._note(f"arguments of {item.function.name}", size)
            return json.dumps(head, separators=(",", ":"))[:-1] + f',"v":{arguments.text}}}'
        source = Source([arguments.text.encode("ascii"), *map(Path, arguments.blobs)])
        if source.size > self._limit:
            raise raised(Refused("too large", f"has {source.size:,} bytes", "the arguments"))
        self._note(f"arguments of {item.function.name}", source.size)
        base = f"{self._folder}/a-{item.number}"
        self._transfer.write_stream(base, [(0, source.size)], source.read, lambda size: None)
        head |= {"base": base, "sizes": source.sizes, "sha256": source.sha256()}
        return json.dumps(head)

    def _note(self, name: str, size: int) -> None:
        if self._audit is not None:
            self._audit.data(self.session.session_id, name, size)

    def _exchange(
        self, request: dict[str, Any], stopped: Callable[[], bool], posted: bool
    ) -> dict[str, Any]:
        """Post a request and return its reply, checked."""
        data = zlib.compress(json.dumps(request, separators=(",", ":")).encode("ascii"), 1)
        text = base64.b64encode(data).decode()
        code = (
            f'(lambda m: m.front.call("{text}") if m else print("agentbay-items:"))'
            f'(__import__("sys").modules.get("{MODULE}"))'
        )
        packed = self._call(code, stopped, posted)
        if not packed:
            raise self._lost("its Python was restarted", posted)
        unpacker = zlib.decompressobj()
        try:
            reply = parse(
                unpacker.decompress(base64.b64decode(packed, validate=True), _LARGEST_REPLY)
            )
        except (ValueError, zlib.error, Refused):
            raise MalformedValueError(_NONSENSE) from None
        if not _is_reply(reply):
            raise MalformedValueError(_NONSENSE)
        if reply["chunk"] != self._chunk:
            raise self._lost("its Python was restarted", posted)
        if reply["first"] != self._after:
            raise MalformedValueError(_NONSENSE)
        self._after += len(reply["outcomes"])
        return dict(reply)

    def _lost(self, why: str, posted: bool = True) -> SessionNotFoundError:
        kind = SessionLostError if posted else SessionNotFoundError
        return kind(f"The session {self.session.session_id} was lost: {why}")

    def _call(self, code: str, stopped: Callable[[], bool], posted: bool = True) -> str:
        """Run code that may be run again, until it has responded; returns what it printed."""
        backoff = threads.Backoff(0.1, 5.0)
        gives_up_at = time.monotonic() + _PATIENCE_S
        began = posted
        while True:
            try:
                result = self.session.code.run_code(code, "python", _CALL_S)
            except TRANSIENT_FAILURES as error:
                failure: Exception = error
            except CommandError as error:
                # It was refused: this time nothing ran.
                raise self._lost(one_line(str(error)), began) from error
            else:
                if result.success:
                    found = _reply.fullmatch("".join(result.logs.stdout).strip("\n"))
                    if found is None:
                        raise MalformedValueError(_NONSENSE)
                    return found[1]
                if result.error is None or result.error.name != TIMEOUT:
                    raise self._lost(one_line(result.error_message[:300]), posted=True)
                failure = SessionError(result.error_message[:300])
            began = began or not isinstance(failure, ServiceUnreachableError | ThrottledError)
            if stopped() or not backoff.sleep(gives_up_at):
                why = f"it did not respond for {_PATIENCE_S:.0f} s: {one_line(str(failure))}"
                raise self._lost(why, began) from failure

    def _settled(
        self, reply: dict[str, Any], pending: dict[int, Sent]
    ) -> Iterator[tuple[Sent, Outcome]]:
        for number, told in reply["outcomes"]:
            item = pending.pop(number, None)
            if item is not None:
                yield item, self._outcome(item, told)

    def _outcome(self, item: Sent, told: dict[str, Any]) -> Outcome:
        spent: Any = told.get("s")
        known = type(spent) in (int, float) and 0 <= spent < _LONGEST_S
        seconds = float(spent) if known else None
        try:
            notes = _texts(told.get("notes", []))
            if "ok" in told:
                value, more = _decode(Decoder("", 0, self._limit, DECODERS), told["ok"])
                return Outcome(value, None, seconds, (*notes, *more))
            if "sizes" in told:
                value, more = self._fetch(item, told)
                return Outcome(value, None, seconds, (*notes, *more))
            return Outcome(error=_error_of(item, told, self._timeout), seconds=seconds)
        except Refused as refusal:
            return Outcome(error=raised(refusal), seconds=seconds)
        except ExchangeError as error:
            return Outcome(error=error, seconds=seconds)
        except CommandError as error:
            lost = SessionLostError(f"The item ran, and its result could not be fetched: {error}")
            return Outcome(error=lost, seconds=seconds)

    def _fetch(self, item: Sent, told: dict[str, Any]) -> tuple[Any, list[str]]:
        """A result that is a file of its own; the sandbox removes it when the next call comes."""
        sizes = told["sizes"]
        if type(sizes) is not list or not sizes or any(type(n) is not int or n < 0 for n in sizes):
            raise Refused("malformed", "has no sizes", "result")
        if sum(sizes) > self._limit:
            raise Refused("too large", f"has {sum(sizes):,} bytes", "result")
        with tempfile.TemporaryDirectory(prefix="agentbay-") as folder:
            path = f"{self._folder}/r-{item.number}"
            pieces = self._transfer.read_stream(path, 0, sum(sizes))
            text = unpack(pieces, folder, sizes, str(told.get("sha256")))
            decoder = Decoder(folder, len(sizes) - 1, self._limit, DECODERS)
            return _decode(decoder, parse(text))


_NONSENSE = "The sandbox's response is invalid; nothing of it is used."


def _decode(decoder: Decoder, node: Any) -> tuple[Any, list[str]]:
    try:
        return decoder.decode(node), list(decoder.notes)
    except Refused as refusal:
        raise refusal.below("result") from None


def _is_reply(reply: Any) -> bool:
    return (
        isinstance(reply, dict)
        and all(type(reply.get(name)) is int for name in ("chunk", "first", "left"))
        and type(reply.get("broken")) is str
        and type(reply.get("back")) is list
        and all(type(number) is int for number in reply["back"])
        and type(reply.get("outcomes")) is list
        and all(
            type(pair) is list and len(pair) == 2 and type(pair[0]) is int and type(pair[1]) is dict
            for pair in reply["outcomes"]
        )
    )


def _texts(told: Any) -> list[str]:
    items = told if type(told) is list else []
    return [text[:500] for text in items[:_MOST_NOTES] if type(text) is str]


def _error_of(item: Sent, told: dict[str, Any], timeout: float | None) -> BaseException:
    """The error that an outcome tells of."""
    name = item.function.name
    if "timeout" in told:
        return TimeoutError(f"{name} ran longer than {timeout:g} s and was stopped.")
    if "ended" in told:
        return RemoteError(
            "ProcessEnded",
            f"The process that ran {name} ended ({_how(told['ended'])}). Other items continue in "
            "a new one.",
            [],
        )
    refused = told.get("refused")
    if type(refused) is list and len(refused) == 3:
        return raised(Refused(*[_plain(str(part)[:2000]) for part in refused]))
    if type(failure := told.get("unloaded")) is dict:
        error = _rebuilt(failure)
        error.add_note(
            f"{name} could not be loaded in the sandbox. A package or module that it uses goes "
            "there by the setup recipe."
        )
        return error
    if type(failure := told.get("error")) is dict:
        return _rebuilt(failure)
    return MalformedValueError(_NONSENSE)


def _how(status: Any) -> str:
    if type(status) is int and status < 0:
        return f"signal {-status}, " + ("out of memory?" if status == -9 else "a crash")
    return f"exit status {status}" if type(status) is int else "unknown status"


def _rebuilt(failure: dict[str, Any]) -> Exception:
    """A remote exception: a builtin one by its name, else a `RemoteError`."""
    name = one_line(str(failure.get("name"))[:200])
    message = _plain(str(failure.get("message"))[:4000])
    trace = _plain(str(failure.get("traceback"))[:20_000])
    error: Exception | None = None
    kind = _EXCEPTIONS.get(name) if failure.get("builtin") is True else None
    if kind is not None:
        error = _made(kind, failure.get("args"), message)
    if error is None:
        error = RemoteError(name, message, trace.splitlines())
    error.__cause__ = RemoteTraceback(trace)
    return error


def _plain(text: str) -> str:
    """A text of a sandbox as a terminal may show it. A page keeps colours; a terminal would also
    do what other sequences say."""
    return visible(text.replace("\x1b", "\u241b"))


def _cleaned(value: Any) -> Any:
    """An argument of an exception, whose texts are printed with it."""
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_cleaned(item) for item in value)
    return value


def _made(kind: type[Exception], nodes: Any, message: str) -> Exception | None:
    try:
        args = _cleaned(Decoder("", 0, _MOST_WITH_CHUNK, DECODERS).decode(nodes))
        # Where a SyntaxError points to is drawn with as many spaces as its arguments say.
        if type(args) is list and not issubclass(kind, SyntaxError):
            return kind(*args)
    except Exception:
        # What its constructor makes of them is not known: its message is.
        pass
    try:
        return kind(message)
    except TypeError:
        return None


@functools.cache
def _arrow_here() -> bool:
    return has_pyarrow()


@functools.cache
def _program() -> str:
    """The program of the sandbox's side: both the front and the worker load it."""
    package = Path(cloudpickle.__file__)
    sources = {
        "cloudpickle.cloudpickle": package.with_name("cloudpickle.py").read_text("utf-8"),
        # Its own `from . import` needs files.
        "cloudpickle": "from cloudpickle.cloudpickle import *\n"
        f"__version__ = {cloudpickle.__version__!r}\n",
    }

    def packed(source: str) -> str:
        return base64.b64encode(zlib.compress(source.encode(), 9)).decode()

    pickler = {name: packed(source) for name, source in sources.items()}
    return (
        "import base64, sys, types, zlib\n"
        "def unpacked(text):\n"
        "    return zlib.decompress(base64.b64decode(text)).decode()\n"
        f"source = {packed(read_source('executor.py'))!r}\n"
        f"pickler = {pickler!r}\n"
        f"module = sys.modules.get({MODULE!r})\n"
        "if module is None:\n"
        f"    module = sys.modules[{MODULE!r}] = types.ModuleType({MODULE!r})\n"
        f"    exec(compile(unpacked(source), {MODULE!r}, 'exec'), module.__dict__)\n"
        "start = module.start\n"
        "if __name__ == '__main__':\n"
        "    sys.path[0] = ''\n"
        "    sources = {name: unpacked(text) for name, text in pickler.items()}\n"
        "    module.work(sys.argv[1], sys.argv[2], sources)\n"
    )
