"""Reads untrusted data of a sandbox: the bridge's responses, and the messages in them.

Text that the sandbox printed becomes bytes at an offset, then messages. They have the types that a
kernel sends, and content with the types that the protocol defines (Jupyter messaging protocol 5.4).
An invalid message is left out; an invalid reply ends its request. All code in the sandbox can write
anything here, so everything is checked, and sizes are bounded.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import BridgeError, InvalidResponseError
from agentbay_kernel.execution.bridge.schemas import SCHEMAS
from agentbay_kernel.service.envelope import decode_json, nests_deeper
from agentbay_kernel.service.log import get_logger

# A message as the bridge carries it: {"c": channel, "h": header, "p": parent header,
# "m": metadata, "b": content, "x": [buffers]}. On the wire, buffers are in base64.
WireMessage = dict[str, Any]

# Characters of one line of a response: more than the largest piece that is requested, packed.
LARGEST_LINE = 16 * 1024 * 1024
# Bytes of one response after unpacking; the bridge packs at most half of this.
LARGEST_PIECE = 32 * 1024 * 1024
# Bytes of one message, buffers included.
LARGEST_MESSAGE = 256 * 1024 * 1024
# Values that are nested more deeply break the encoders between here and the page.
DEEPEST = 128

_log = get_logger("decoder")


@dataclass(frozen=True)
class Answer:
    """A response of the bridge.

    `known` is the number of inward bytes that it has, `start` the offset of its outward `data`,
    `heard` whether its pipe works, `usage` the content of the kernel's usage_reply, if present.
    """

    known: int
    start: int
    data: bytes
    heard: bool
    usage: dict[str, Any] | None = None


def read_answer(line: str) -> Answer:
    """Read a line of a response.

    Raises:
        InvalidResponseError: the line is invalid.
    """
    try:
        answer = json.loads(line)
        known, start, heard = answer["known"], answer["from"], answer["heard"]
        if type(known) is not int or type(start) is not int or known < 0 or start < 0:
            raise TypeError("an offset is not a number")
        data = _unpack(answer["out"])
        usage = read_usage(answer["usage"]) if "usage" in answer else None
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise InvalidResponseError(
            f"The bridge's response can't be read ({type(error).__name__})."
        ) from None
    return Answer(known, start, data, heard is True, usage)


_LONGEST_NAME = 255
_LARGEST_FIGURE = 2**53
_FIGURES = ("pid", "cpu_count", "kernel_cpu", "kernel_memory")
_MEMORY_FIGURES = ("total", "available", "used", "percent")


def read_usage(told: Any) -> dict[str, Any]:
    """Read the content of a usage_reply: its known fields, with checked types.

    Raises:
        TypeError: it is invalid.
        KeyError: it has no host name.
    """
    name = told["hostname"]
    if not isinstance(name, str):
        raise TypeError("a name is not a string")
    memory = told.get("host_virtual_memory")
    usage: dict[str, Any] = {
        "hostname": name[:_LONGEST_NAME],
        **_numbers(told, _FIGURES),
    }
    if memory is not None:
        usage["host_virtual_memory"] = _numbers(memory, _MEMORY_FIGURES)
    return usage


def _numbers(told: Any, names: tuple[str, ...]) -> dict[str, float]:
    figures = {name: told[name] for name in names if name in told}
    for figure in figures.values():
        if type(figure) not in (int, float) or not 0 <= figure < _LARGEST_FIGURE:
            raise TypeError("a figure is not a number")
    return figures


@dataclass(frozen=True)
class Start:
    """The data of a running bridge.

    `holder` is the number that identifies the caller as its user, `pid` its kernel's process,
    `pipe` the path of its pipe. `known` and `start` are the offsets of its inward and outward
    stream. `output` is the path of the file with all that the cell before the running one printed.
    """

    holder: int
    pid: int
    pipe: str
    known: int
    start: int
    output: str


def read_start(text: str) -> Start:
    """Read the data of a bridge that was started or taken over.

    Raises:
        InvalidResponseError: it is invalid.
    """
    try:
        told = json.loads(text)
        holder, pid, known, start = (told[name] for name in ("holder", "pid", "known", "from"))
        pipe, output = told["pipe"], told["output"]
        whole = all(type(value) is int and value >= 0 for value in (holder, pid, known, start))
        named = isinstance(pipe, str) and isinstance(output, str)
        if not whole or not named:
            raise TypeError("a value is of another type")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidResponseError(
            f"The bridge's start was not readable ({type(error).__name__})."
        ) from None
    return Start(holder, pid, pipe, known, start, output)


def _unpack(text: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST_PIECE)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("too large, or cut off")
    return data


class Lines:
    """Joins the pieces of a stream of text into lines."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def feed(self, text: str) -> Iterator[str]:
        """Yield the lines that end in this piece.

        Raises:
            InvalidResponseError: a line is too long.
        """
        first, *others = text.split("\n")
        self._add(first)
        for other in others:
            line, self._parts, self._size = "".join(self._parts), [], 0
            yield line
            self._add(other)

    def _add(self, text: str) -> None:
        self._size += len(text)
        if self._size > LARGEST_LINE:
            raise InvalidResponseError("The bridge's response has a line without an end.")
        self._parts.append(text)


@dataclass(frozen=True)
class Refused:
    """An invalid message, which is left out for the reason `why`.

    If it is a reply, `reply_to` is the id of the request that waits for it, else empty. `output` is
    true if it would have shown something for `request`, `question` if a cell waits for the user's
    input.
    """

    why: str
    reply_to: str
    output: bool = False
    request: str = ""
    question: bool = False


class Decoder:
    """Turns the outward bytes of one sandbox into its messages.

    Arguments:
        id_owners: the owners of the notebook's display and comm ids.
    """

    def __init__(self, id_owners: IdOwners) -> None:
        self._id_owners = id_owners
        self._begun = bytearray()
        #: Offset behind the last whole message in the outward stream.
        self.offset = 0

    def feed(self, data: bytes) -> Iterator[WireMessage | Refused]:
        """Yield the messages that end in this piece, with the offsets of their ends (`at`).

        Raises:
            BridgeError: a message is too large.
        """
        self._begun += data
        if len(self._begun) > LARGEST_MESSAGE and b"\n" not in data:
            self._begun.clear()
            raise BridgeError(
                f"The sandbox sent a message of more than {LARGEST_MESSAGE // 2**20} MB, which is "
                "not taken. Show less at once, or write it to a file."
            )
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._begun).split(b"\n")
        self._begun[:] = rest
        for line in lines:
            self.offset += len(line) + 1
            if not line:
                continue
            message = read_message(line)
            if isinstance(message, dict) and not self._is_own(message):
                message = Refused("it names a display or a comm of another sandbox", "")
            if isinstance(message, Refused):
                _log.info("A message of a sandbox was left out: %s", message.why)
            else:
                message["at"] = self.offset
            yield message

    @property
    def begun(self) -> int:
        """The number of bytes of a message that is not complete."""
        return len(self._begun)

    def note_opened(self, comm_id: str) -> None:
        """Note that the page has opened a comm to this sandbox."""
        self._id_owners.claim(f"comm {comm_id}", self)

    def close(self) -> None:
        """Release the ids of this sandbox, which has ended."""
        self._id_owners.release(self)

    def _is_own(self, message: WireMessage) -> bool:
        if message["c"] != "iopub":
            return True
        kind, content = message["h"]["msg_type"], message["b"]
        if kind.startswith("comm_"):
            return self._id_owners.claim(f"comm {content['comm_id']}", self)
        display_id = content.get("transient", {}).get("display_id")
        return display_id is None or self._id_owners.claim(f"display {display_id}", self)


def read_message(line: bytes) -> WireMessage | Refused:
    """Read one message."""
    try:
        message: WireMessage = decode_json(line.decode("utf-8", "replace"))
        channel = message["c"]
        if channel == "bridge":
            return _bridge_word(message)
        kind, parent = message["h"]["msg_type"], message["p"]
        reply_to = parent.get("msg_id", "")
        if not all(isinstance(name, str) for name in (channel, kind, reply_to)):
            return Refused("its channel, type or parent is not named by a text", "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Refused(f"it is not readable ({type(error).__name__})", "")
    problem = _problem(message, channel, kind)
    if not problem:
        return message
    known = kind in SCHEMAS.get(channel, {})
    awaited, question = known and kind.endswith("_reply"), known and channel == "stdin"
    output = known and channel == "iopub" and kind not in _UNSEEN
    return Refused(
        f"{kind[:100]!r}: {problem}",
        reply_to if awaited else "",
        output or question,
        reply_to,
        question,
    )


def _bridge_word(message: WireMessage) -> WireMessage | Refused:
    for name, kind in (("died", int), ("dropped", int), ("quiet", str)):
        if not isinstance(message.get(name, kind()), kind):
            return Refused(f"the bridge's word {name!r} is of another type", "")
    return message


# Messages that show nothing.
_UNSEEN = ("status", "execute_input", "debug_event")
_TOO_DEEP = "its data are nested too deeply"


def _problem(message: WireMessage, channel: str, kind: str) -> str:
    """Return the problem of a message, or ""; decode its buffers to bytes."""
    is_content = SCHEMAS.get(channel, {}).get(kind)
    if is_content is None:
        return "a kernel sends nothing of this type here"
    if nests_deeper(message, DEEPEST):
        return _TOO_DEEP
    content, metadata, buffers = message.get("b"), message.get("m"), message.get("x", [])
    if not isinstance(content, dict) or not isinstance(metadata, dict):
        return "its content or metadata is no object"
    if not is_content(content):
        return "its content does not follow the protocol"
    try:
        message["x"] = [base64.b64decode(part, validate=True) for part in buffers]
    except (TypeError, ValueError, binascii.Error):
        return "its buffers are no base64"
    return ""


# Most ids that one sandbox may own. Beyond that, it loses the one that it used longest ago.
MOST_IDS = 100_000


class IdOwners:
    """The owners of the ids of one notebook's displays and comms. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, object] = {}
        self._held: dict[object, OrderedDict[str, None]] = {}

    def claim(self, name: str, owner: object) -> bool:
        """Give a free id to this owner; return False if another owner has it."""
        with self._lock:
            if self._owners.setdefault(name, owner) is not owner:
                return False
            held = self._held.setdefault(owner, OrderedDict())
            held[name] = None
            held.move_to_end(name)
            if len(held) > MOST_IDS:
                oldest, _ = held.popitem(last=False)
                del self._owners[oldest]
            return True

    def release(self, owner: object) -> None:
        """Free the ids of this owner, which has ended."""
        with self._lock:
            for name in self._held.pop(owner, ()):
                del self._owners[name]
