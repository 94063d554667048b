"""What comes out of a sandbox, read with suspicion: the bridge's answers, the messages in them.

In: text that the sandbox printed. Out: bytes at an offset, then messages of the types that a
kernel sends (Jupyter messaging protocol 5.4), whose content has the types that the protocol says.
What is none is left out, or ends the request that it was to answer. Everything that runs in the
sandbox can write here whatever it likes, so nothing is taken for granted, and sizes are bounded.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import BridgeError, InvalidAnswerError
from agentbay_kernel.execution.claims import Claims
from agentbay_kernel.service.envelope import decode_json, nests_deeper
from agentbay_kernel.service.log import get_logger

# A message on its way: {"c": channel, "h": header, "p": parent header, "m": metadata,
# "b": content, "x": [buffers]}. On the wire, buffers are in base64.
Carried = dict[str, Any]

# Characters of one line of answer: the largest piece that is asked for, packed, with room.
LARGEST_LINE = 16 * 1024 * 1024
# Bytes of one answer once unpacked; the bridge packs at most half of this.
LARGEST_PIECE = 32 * 1024 * 1024
# Bytes of one message, buffers included.
LARGEST_MESSAGE = 256 * 1024 * 1024
# Deeper values break the encoders between here and the page.
DEEPEST = 128
_LONGEST_ID = 1_000
# Requests under way when a bridge is taken up again.
_MOST_UNDER_WAY = 1_000
# Larger whole numbers are not exact in a page.
_LARGEST_COUNT = 2**53

_log = get_logger("incoming")


@dataclass(frozen=True)
class Answer:
    """An answer of the bridge.

    `known` is how many inward bytes it has, `start` where its outward `data` stands, `heard`
    whether its pipe works.
    """

    known: int
    start: int
    data: bytes
    heard: bool


def read_answer(line: str) -> Answer:
    """Read a line of answer.

    Raises:
        InvalidAnswerError: it is none.
    """
    try:
        answer = json.loads(line)
        known, start, heard = answer["known"], answer["from"], answer["heard"]
        if type(known) is not int or type(start) is not int or known < 0 or start < 0:
            raise TypeError("an offset is not a number")
        data = _unpack(answer["out"])
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise InvalidAnswerError(
            f"The bridge's answer was not readable ({type(error).__name__})."
        ) from None
    return Answer(known, start, data, heard is True)


@dataclass(frozen=True)
class Start:
    """A bridge that runs.

    `pid` is its kernel's process, `pipe` the path of its pipe, `known` and `start` where its
    streams stand, `under_way` the ids of the requests that are, `output` the path of the file that
    has all that the cell before the running one printed.
    """

    pid: int
    pipe: str
    known: int
    start: int
    under_way: tuple[str, ...]
    output: str


def read_start(text: str) -> Start:
    """Read what a bridge says of itself.

    Raises:
        InvalidAnswerError: it is none.
    """
    try:
        told = json.loads(text)
        pid, known, start = (told[name] for name in ("pid", "known", "from"))
        pipe, under_way, output = told["pipe"], told["open"], told["output"]
        whole = all(type(value) is int and value >= 0 for value in (pid, known, start))
        named = isinstance(pipe, str) and isinstance(output, str)
        if not whole or not named or not isinstance(under_way, list):
            raise TypeError("a value is of another type")
        if len(under_way) > _MOST_UNDER_WAY or not all(map(_is_id, under_way)):
            raise ValueError("requests are named by ids")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidAnswerError(
            f"The bridge's start was not readable ({type(error).__name__})."
        ) from None
    return Start(pid, pipe, known, start, tuple(under_way), output)


def _unpack(text: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST_PIECE)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("too large, or cut off")
    return data


class Lines:
    """Puts lines together from the pieces that a stream of text comes in."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def feed(self, text: str) -> Iterator[str]:
        """The lines that end in this piece.

        Raises:
            InvalidAnswerError: a line does not end.
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
            raise InvalidAnswerError("The bridge's answer has a line that does not end.")
        self._parts.append(text)


@dataclass(frozen=True)
class Refused:
    """A message that was not taken.

    `reply_to` is the id of the request that waits for it in vain, empty where none does.
    """

    why: str
    reply_to: str


class Incoming:
    """Turns the outward bytes of one sandbox into its messages.

    Arguments:
        claims: the ids that the notebook's sandboxes hold.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[Carried | Refused]:
        """The messages that end in this piece of the stream.

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
        for line in filter(None, lines):
            message = read_message(line)
            if isinstance(message, dict) and not self._is_own(message):
                message = Refused("it names a display or a comm of another sandbox", "")
            if isinstance(message, Refused):
                _log.info("A message of a sandbox was left out: %s", message.why)
            yield message

    @property
    def begun(self) -> int:
        """Bytes that are here of a message that has not ended."""
        return len(self._begun)

    def note_opened(self, comm_id: str) -> None:
        """The page has opened a comm to this sandbox."""
        self._claims.claim(f"comm {comm_id}", self)

    def close(self) -> None:
        """This sandbox is gone."""
        self._claims.release(self)

    def _is_own(self, message: Carried) -> bool:
        if message["c"] != "iopub":
            return True
        kind, content = message["h"]["msg_type"], message["b"]
        if kind.startswith("comm_"):
            return self._claims.claim(f"comm {content['comm_id']}", self)
        display_id = content.get("transient", {}).get("display_id")
        return display_id is None or self._claims.claim(f"display {display_id}", self)


def read_message(line: bytes) -> Carried | Refused:
    """Read one message."""
    try:
        message: Carried = decode_json(line.decode("utf-8"))
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
    awaited = kind.endswith("_reply") and kind in _SCHEMAS.get(channel, {})
    return Refused(f"{kind[:100]!r}: {problem}", reply_to if awaited else "")


def _bridge_word(message: Carried) -> Carried | Refused:
    for name, kind in (("died", int), ("dropped", int), ("quiet", str)):
        if not isinstance(message.get(name, kind()), kind):
            return Refused(f"the bridge's word {name!r} is of another type", "")
    return message


def _problem(message: Carried, channel: str, kind: str) -> str:
    """What is wrong with a message, or nothing. Buffers become bytes, on the way."""
    is_content = _SCHEMAS.get(channel, {}).get(kind)
    if is_content is None:
        return "a kernel has nothing of this type to say here"
    if nests_deeper(message, DEEPEST):
        return "it is too deeply nested"
    content, metadata, buffers = message.get("b"), message.get("m"), message.get("x", [])
    if not isinstance(content, dict) or not isinstance(metadata, dict):
        return "its content or metadata is no object"
    if not is_content(content):
        return "its content is not what the protocol says"
    try:
        message["x"] = [base64.b64decode(part, validate=True) for part in buffers]
    except (TypeError, ValueError, binascii.Error):
        return "its buffers are no base64"
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < _LARGEST_COUNT)


def _is_stream(content: dict[str, Any]) -> bool:
    return content.get("name") in ("stdout", "stderr") and _is_text(content.get("text"))


def _is_display(content: dict[str, Any]) -> bool:
    data, metadata = (content.setdefault(name, {}) for name in ("data", "metadata"))
    transient = content.get("transient", {})
    if not (isinstance(data, dict) and isinstance(metadata, dict) and isinstance(transient, dict)):
        return False
    for mime, value in data.items():
        # Only JSON may be anything (Jupyter's notebook format): else the notebook can't be saved.
        if not isinstance(value, str) and not mime.endswith("json"):
            data[mime] = _as_text(value)
    return transient.get("display_id") is None or _is_id(transient["display_id"])


def _as_text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return str(value)


def _is_update(content: dict[str, Any]) -> bool:
    return _is_display(content) and _is_id(content.get("transient", {}).get("display_id"))


def _is_result(content: dict[str, Any]) -> bool:
    return _is_display(content) and _is_count(content.get("execution_count"))


def _is_error(content: dict[str, Any]) -> bool:
    lines = content.get("traceback")
    return (
        _is_text(content.get("ename"))
        and _is_text(content.get("evalue"))
        and isinstance(lines, list)
        and all(map(_is_text, lines))
    )


def _is_clear(content: dict[str, Any]) -> bool:
    return isinstance(content.get("wait", False), bool)


def _is_comm(content: dict[str, Any]) -> bool:
    return _is_id(content.get("comm_id")) and isinstance(content.setdefault("data", {}), dict)


def _is_comm_open(content: dict[str, Any]) -> bool:
    return _is_comm(content) and _is_text(content.get("target_name"))


def _is_status(content: dict[str, Any]) -> bool:
    return _is_text(content.get("execution_state"))


def _is_input(content: dict[str, Any]) -> bool:
    # JavaScript's has the process that runs the cell.
    return _is_text(content.get("code", "")) and _is_count(content.get("pid"))


def _is_question(content: dict[str, Any]) -> bool:
    return _is_text(content.get("prompt")) and isinstance(content.get("password", False), bool)


def _is_reply(content: dict[str, Any]) -> bool:
    # Some kernels' replies to subshell requests have a status alone.
    if content.get("status") == "error":
        return _is_text(content.get("ename", "")) and _is_text(content.get("evalue", ""))
    return content.get("status") in ("ok", "aborted", "abort")


# What a kernel asks of the page beside its outputs. Others (`edit_magic`, `ask_exit`) would act.
_PAYLOADS = ("page", "set_next_input")


def _is_execute_reply(content: dict[str, Any]) -> bool:
    payload = content.get("payload", [])
    if not _is_reply(content) or not isinstance(payload, list):
        return False
    if content["status"] == "error" and not _is_error({"traceback": [], **content}):
        return False
    if "payload" in content:
        content["payload"] = [part for part in payload if _is_payload(part)]
    return _is_table(content.get("user_expressions", {})) and _is_count(
        content.get("execution_count")
    )


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _is_payload(part: object) -> bool:
    if not isinstance(part, dict) or part.get("source") not in _PAYLOADS:
        return False
    if part["source"] == "page":
        return isinstance(part.get("data"), dict)
    return _is_text(part.get("text")) and isinstance(part.get("replace", False), bool)


def _is_complete_reply(content: dict[str, Any]) -> bool:
    if content.get("status") != "ok":
        return _is_reply(content)
    matches, metadata = content.get("matches"), content.get("metadata", {})
    places = (content.get("cursor_start"), content.get("cursor_end"))
    are_matches = isinstance(matches, list) and all(map(_is_text, matches))
    return are_matches and isinstance(metadata, dict) and all(map(_is_count, places))


def _is_inspect_reply(content: dict[str, Any]) -> bool:
    bundle = content.get("data", {}), content.get("metadata", {})
    return _is_reply(content) and all(isinstance(part, dict) for part in bundle)


def _is_history_reply(content: dict[str, Any]) -> bool:
    entries = content.get("history", [])
    are_entries = isinstance(entries, list) and all(
        isinstance(entry, list) and len(entry) == 3 for entry in entries
    )
    return _is_reply(content) and are_entries


def _is_word_reply(content: dict[str, Any]) -> bool:
    lists = content.get("matches", []), content.get("types", [])
    return all(isinstance(part, list) and all(map(_is_text, part)) for part in lists)


_Schema = Callable[[dict[str, Any]], bool]
_REPLIES: dict[str, _Schema] = dict.fromkeys(
    (
        "comm_info_reply",
        "create_subshell_reply",
        "delete_subshell_reply",
        "interrupt_reply",
        "is_complete_reply",
        "kernel_info_reply",
        "list_subshell_reply",
        "shutdown_reply",
    ),
    _is_reply,
)
_SCHEMAS: dict[str, dict[str, _Schema]] = {
    "iopub": {
        "clear_output": _is_clear,
        "comm_close": _is_comm,
        "comm_msg": _is_comm,
        "comm_open": _is_comm_open,
        "display_data": _is_display,
        "error": _is_error,
        "execute_input": _is_input,
        "execute_result": _is_result,
        "status": _is_status,
        "stream": _is_stream,
        "update_display_data": _is_update,
    },
    "stdin": {"input_request": _is_question},
    "shell": {
        "complete_reply": _is_complete_reply,
        "execute_reply": _is_execute_reply,
        "history_reply": _is_history_reply,
        "inspect_reply": _is_inspect_reply,
        **_REPLIES,
    },
    "control": _REPLIES,
    # The Node worker's, in words of the bridge's own (sandbox/bridge.py).
    "node": {
        "complete_reply": _is_word_reply,
        "execute_reply": _is_execute_reply,
        "inspect_reply": _is_word_reply,
        "interrupt_reply": _is_reply,
        "start_reply": _is_reply,
    },
}
