"""Values as tagged JSON and back: scalars, containers, dates. Never pickle, never source text.

In: a value. Out: a tree of JSON in which whatever JSON does not know is an object {"$": tag, ...},
and files beside it, called blobs, for what is large; and back. What is read may come from the
other side of a sandbox's wall: it is checked, and `Refused` if it is not what it claims.

Runs on both sides; needs Python 3.9.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import json
import math
import os
import re
import uuid
from typing import Any, Callable

TAG = "$"
# Deeper nesting is refused: it may hold itself.
MOST_DEPTH = 100
# Bytes and texts longer than this are files of their own.
MOST_INLINE = 32 * 1024
# What JSON's numbers are exact for on every side.
SAFE_INTEGER = 2**53 - 1
ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")

UNSUPPORTED, TOO_LARGE, MALFORMED, MISSING = "unsupported", "too large", "malformed", "missing"


class Refused(Exception):
    """A value that is not taken: the kind of reason, where in the value, why."""

    def __init__(self, kind: str, text: str, where: str = "") -> None:
        super().__init__(kind, text, where)
        self.kind = kind
        self.text = text
        self.where = where

    def below(self, step: str) -> Refused:
        """The same, told of a part of what holds it."""
        return Refused(self.kind, self.text, step + self.where)


class Encoder:
    """Makes JSON and blobs of values.

    Arguments:
        folder: where blobs are written, as files b0, b1, ...
        limit: most bytes of all blobs together.
        arrow: may tables travel as Arrow? Both sides must have it. Asked when there is one.
        extensions: each is asked for a value that is not known here: (encoder, value, depth),
            and returns a node, or None if it does not know it either.
    """

    def __init__(
        self,
        folder: str,
        limit: int,
        arrow: Callable[[], bool] = bool,
        extensions: tuple[Callable[[Encoder, Any, int], Any], ...] = (),
    ) -> None:
        self.folder = folder
        self.limit = limit
        self.arrow = arrow
        self.extensions = extensions
        self.blobs: list[str] = []
        self.notes: list[str] = []
        self._sizes: list[int] = []
        self._size = 0

    def note(self, text: str) -> None:
        """Say what changes on the way, once."""
        if text not in self.notes:
            self.notes.append(text)

    def blob(self) -> tuple[int, str]:
        """Number and path of a new blob; whoever asks writes it and calls `check`."""
        number = len(self.blobs)
        path = os.path.join(self.folder, "b%d" % number)
        self.blobs.append(path)
        self._sizes.append(0)
        return number, path

    def check(self, number: int) -> None:
        """A blob has grown: refuse to go beyond the limit."""
        size = os.path.getsize(self.blobs[number])
        self._size += size - self._sizes[number]
        self._sizes[number] = size
        if self._size > self.limit:
            raise Refused(TOO_LARGE, "has more than %s bytes" % format(self.limit, ","))

    def dumps(self, value: Any, depth: int = 0) -> str:
        """A value as a text of JSON."""
        return json.dumps(self.encode(value, depth), allow_nan=False, separators=(",", ":"))

    def encode(self, value: Any, depth: int = 0) -> Any:
        """A value as a tree of JSON."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            if -SAFE_INTEGER <= value <= SAFE_INTEGER:
                return value
            return self.large_integer(value)
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}
        if kind is str:
            if len(value) <= MOST_INLINE:
                return value
            return self.bytes("str", value.encode("utf-8", "surrogatepass"))
        if depth > MOST_DEPTH:
            raise Refused(
                UNSUPPORTED,
                "is nested deeper than %d levels; it may hold itself" % MOST_DEPTH,
            )
        if kind is list:
            return self.items(value, depth)
        if kind is dict:
            return self.pairs(value, depth)
        return self.rare(value, depth)

    def large_integer(self, value: int) -> Any:
        """The node of a whole number that is too large for JSON's numbers everywhere."""
        return {TAG: "int", "v": hex(value)}

    def rare(self, value: Any, depth: int) -> Any:
        """The node of what JSON does not know by itself."""
        kind = type(value)
        if kind in (tuple, set, frozenset):
            return {TAG: kind.__name__, "v": self.items(value, depth)}
        if kind in (bytes, bytearray):
            return self.bytes(kind.__name__, value)
        encode = _SIMPLE.get(kind)
        if encode is not None:
            return encode(self, value)
        for extension in self.extensions:
            node = extension(self, value, depth)
            if node is not None:
                return node
        return self._relative(value, depth)

    def _relative(self, value: Any, depth: int) -> Any:
        """What derives from something known arrives as that."""
        for base in _BASES:
            if isinstance(value, base):
                name = type(value).__qualname__
                self.note("%s arrives as %s" % (_a(name), base.__name__))
                return self.encode(_plain(base, value), depth)
        if isinstance(value, memoryview):
            self.note("a memoryview arrives as bytes")
            return self.encode(value.tobytes(), depth)
        name = "%s.%s" % (type(value).__module__, type(value).__qualname__)
        raise Refused(UNSUPPORTED, "is %s, which can't travel" % _a(name.replace("builtins.", "")))

    def items(self, values: Any, depth: int) -> list[Any]:
        """The nodes of what an iterable gives."""
        nodes: list[Any] = []
        try:
            for value in values:
                nodes.append(self.encode(value, depth + 1))
        except Refused as refusal:
            raise refusal.below("[%d]" % len(nodes)) from None
        return nodes

    def pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        """The node of a dict."""
        plain = TAG not in value and all(type(key) is str for key in value)
        nodes: Any = {} if plain else []
        for key, item in value.items():
            try:
                node = self.encode(item, depth + 1)
            except Refused as refusal:
                raise refusal.below("[%s]" % _shown(key)) from None
            if plain:
                nodes[key] = node
            else:
                nodes.append([self.encode(key, depth + 1), node])
        return nodes if plain else {TAG: "dict", "v": nodes}

    def bytes(self, tag: str, data: Any) -> dict[str, Any]:
        """A node of that tag with bytes, in the tree or in a blob."""
        if len(data) <= MOST_INLINE:
            return {TAG: tag, "v": base64.b64encode(data).decode()}
        number, path = self.blob()
        with open(path, "wb") as file:
            file.write(data)
        self.check(number)
        return {TAG: tag, "blob": number}

    def zone(self, zone: Any, offset: Any) -> list[Any] | None:
        """A time zone; `offset` is what it amounts to where it is used, None if unknown."""
        if zone is None:
            return None
        if type(zone) is datetime.timezone:
            if zone == datetime.timezone.utc:
                return ["utc"]
            name = zone.tzname(None)
            plain = datetime.timezone(zone.utcoffset(None)).tzname(None)
            seconds = zone.utcoffset(None).total_seconds()
            return ["offset", seconds, None if name == plain else name]
        key = getattr(zone, "key", None) or getattr(zone, "zone", None)
        known = offset.total_seconds() if offset is not None else None
        if isinstance(key, str) and ZONE_NAME.fullmatch(key):
            if type(zone).__module__.partition(".")[0] == "pytz":
                self.note("time zones of pytz arrive as zoneinfo's")
            return ["zone", key, known]
        if known is None:
            raise Refused(UNSUPPORTED, "has the time zone %r, which can't travel" % (zone,))
        self.note("the time zone %r arrives as a fixed offset" % (zone,))
        return ["offset", known, None]


def _a(name: str) -> str:
    return ("an " if name[:1].lower() in "aeiou" else "a ") + name


def _shown(key: Any) -> str:
    text = repr(key) if isinstance(key, (str, int, float, tuple)) else type(key).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(base: Any, value: Any) -> Any:
    if base is datetime.datetime:
        return datetime.datetime.combine(
            datetime.date(value.year, value.month, value.day), value.timetz()
        )
    if base is datetime.date:
        return datetime.date(value.year, value.month, value.day)
    if base is datetime.timedelta:
        return datetime.timedelta(value.days, value.seconds, value.microseconds)
    if base is dict:
        return dict(value.items())
    return base(value)


def _encode_datetime(encoder: Encoder, value: datetime.datetime) -> dict[str, Any]:
    zone = encoder.zone(value.tzinfo, value.utcoffset())
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {TAG: "datetime", "v": naive, "z": zone, "f": value.fold}


def _encode_time(encoder: Encoder, value: datetime.time) -> dict[str, Any]:
    zone = encoder.zone(value.tzinfo, value.utcoffset())
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {TAG: "time", "v": naive, "z": zone, "f": value.fold}


_SIMPLE: dict[Any, Callable[[Encoder, Any], Any]] = {
    complex: lambda e, v: {TAG: "complex", "v": [e.encode(v.real), e.encode(v.imag)]},
    decimal.Decimal: lambda e, v: {TAG: "decimal", "v": str(v)},
    fractions.Fraction: lambda e, v: {
        TAG: "fraction",
        "v": [e.encode(v.numerator), e.encode(v.denominator)],
    },
    uuid.UUID: lambda e, v: {TAG: "uuid", "v": v.hex},
    range: lambda e, v: {TAG: "range", "v": [e.encode(n) for n in (v.start, v.stop, v.step)]},
    slice: lambda e, v: {TAG: "slice", "v": [e.encode(n) for n in (v.start, v.stop, v.step)]},
    type(Ellipsis): lambda e, v: {TAG: "ellipsis"},
    datetime.date: lambda e, v: {TAG: "date", "v": v.isoformat()},
    datetime.timedelta: lambda e, v: {TAG: "timedelta", "v": [v.days, v.seconds, v.microseconds]},
    datetime.datetime: _encode_datetime,
    datetime.time: _encode_time,
    datetime.timezone: lambda e, v: {TAG: "tz", "v": e.zone(v, None)},
}
_BASES: tuple[Any, ...] = (
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    set,
    frozenset,
    dict,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
)


class Decoder:
    """Makes values of JSON and blobs.

    Arguments:
        folder: where the blobs are.
        blobs: how many there are.
        limit: most bytes of a value.
        decoders: of further tags: (decoder, node, depth) returns a value.
    """

    def __init__(
        self,
        folder: str,
        blobs: int,
        limit: int,
        decoders: dict[str, Callable[[Decoder, dict[str, Any], int], Any]] | None = None,
    ) -> None:
        self.folder = folder
        self.blobs = blobs
        self.limit = limit
        self.decoders = {**_DECODERS, **(decoders or {})}
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Say what changed on the way, once."""
        if text not in self.notes:
            self.notes.append(text)

    def path(self, number: Any) -> str:
        """The file of a blob."""
        if type(number) is not int or not 0 <= number < self.blobs:
            raise Refused(MALFORMED, "names a file that was not sent")
        return os.path.join(self.folder, "b%d" % number)

    def loads(self, text: str | bytes, depth: int = 0) -> Any:
        """The value of a text of JSON."""
        return self.decode(parse(text), depth)

    def decode(self, node: Any, depth: int = 0) -> Any:
        """The value of a tree of JSON."""
        kind = type(node)
        if kind is list:
            if depth > MOST_DEPTH + 1:
                raise Refused(MALFORMED, "is nested deeper than %d levels" % MOST_DEPTH)
            return self.items(node, depth)
        if kind is not dict:
            return node
        if depth > MOST_DEPTH + 1:
            raise Refused(MALFORMED, "is nested deeper than %d levels" % MOST_DEPTH)
        if TAG in node:
            return self._tagged(node, depth)
        values = {}
        for key, item in node.items():
            try:
                values[key] = self.decode(item, depth + 1)
            except Refused as refusal:
                raise refusal.below("[%s]" % _shown(key)) from None
        return values

    def items(self, nodes: Any, depth: int) -> list[Any]:
        """The values of a list of nodes."""
        if type(nodes) is not list:
            raise Refused(MALFORMED, "its items are no list")
        values: list[Any] = []
        try:
            for node in nodes:
                values.append(self.decode(node, depth + 1))
        except Refused as refusal:
            raise refusal.below("[%d]" % len(values)) from None
        return values

    def _tagged(self, node: dict[str, Any], depth: int) -> Any:
        tag = node[TAG]
        decode = self.decoders.get(tag) if isinstance(tag, str) else None
        if decode is None:
            raise Refused(MALFORMED, "claims to be %s, which is not known" % _shown(tag))
        try:
            return decode(self, node, depth)
        except Refused:
            raise
        except Exception as failure:
            # Whatever libraries say to nonsense, it is nonsense.
            raise Refused(
                MALFORMED,
                "claims to be %s and is none (%s: %s)"
                % (_a(tag), type(failure).__name__, str(failure)[:200]),
            ) from failure

    def data(self, node: dict[str, Any]) -> bytes:
        """The bytes of a node, from the tree or from a blob."""
        if "blob" not in node:
            return base64.b64decode(node["v"], validate=True)
        with open(self.path(node["blob"]), "rb") as file:
            return file.read()

    def zone(self, told: Any) -> Any:
        """The time zone that was told."""
        if told is None:
            return None
        if type(told) is not list or not told:
            raise Refused(MALFORMED, "its time zone is none")
        if told == ["utc"]:
            return datetime.timezone.utc
        kind, value, more = told
        if kind == "offset":
            delta = datetime.timedelta(seconds=_real(value))
            if more is None:
                return datetime.timezone(delta)
            return datetime.timezone(delta, _text(more))
        if kind != "zone" or not ZONE_NAME.fullmatch(_text(value)):
            raise Refused(MALFORMED, "its time zone is none")
        try:
            import zoneinfo

            return zoneinfo.ZoneInfo(value)
        except Exception:
            # No such zone here: old data, or none at all.
            if more is None:
                self.note("the time zone %s is not known there: it arrives as UTC" % value)
                return datetime.timezone.utc
            self.note("the time zone %s is not known there: it arrives as a fixed offset" % value)
            return datetime.timezone(datetime.timedelta(seconds=_real(more)))


def parse(text: str | bytes) -> Any:
    """A text of JSON as a tree; strict: no NaN, no name twice, no endless numbers."""
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer
        )
    except RecursionError:
        raise Refused(MALFORMED, "is nested too deep") from None
    except ValueError as failure:
        raise Refused(MALFORMED, "is no JSON (%s)" % str(failure)[:200]) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Refused(MALFORMED, "a name stands twice in an object")
    return made


def _constant(text: str) -> Any:
    raise Refused(MALFORMED, "holds %s, which is no JSON" % text)


def _integer(text: str) -> int:
    if len(text) > 17:
        raise Refused(MALFORMED, "holds a number of %d digits" % len(text))
    return int(text)


def _text(node: Any) -> str:
    if type(node) is not str:
        raise Refused(MALFORMED, "a text in it is none")
    return node


def _real(node: Any) -> float:
    if type(node) not in (int, float):
        raise Refused(MALFORMED, "a number in it is none")
    return float(node)


def whole(node: Any) -> int:
    """A number of JSON that must be whole."""
    if type(node) is not int:
        raise Refused(MALFORMED, "a whole number in it is none")
    return node


def _decode_int(decoder: Decoder, node: dict[str, Any], depth: int) -> int:
    text = _text(node["v"])
    if not re.fullmatch(r"-?0x[0-9a-f]+", text):
        raise Refused(MALFORMED, "a whole number in it is none")
    return int(text, 16)


def _decode_float(decoder: Decoder, node: dict[str, Any], depth: int) -> float:
    if node["v"] not in ("nan", "inf", "-inf", "-0.0"):
        raise Refused(MALFORMED, "a number in it is none")
    return float(node["v"])


def _decode_str(decoder: Decoder, node: dict[str, Any], depth: int) -> str:
    return decoder.data(node).decode("utf-8", "surrogatepass")


def _decode_dict(decoder: Decoder, node: dict[str, Any], depth: int) -> dict[Any, Any]:
    values = {}
    for key_node, value_node in node["v"]:
        key = decoder.decode(key_node, depth + 1)
        try:
            values[key] = decoder.decode(value_node, depth + 1)
        except Refused as refusal:
            raise refusal.below("[%s]" % _shown(key)) from None
    # 1, True and 1.0 are one key; NaN is none twice.
    if len(values) != len(node["v"]):
        raise Refused(MALFORMED, "a key stands twice in a dict")
    return values


def _decode_set(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    values = decoder.items(node["v"], depth)
    made = (set if node[TAG] == "set" else frozenset)(values)
    if len(made) != len(values):
        raise Refused(MALFORMED, "an item stands twice in a set")
    return made


def _decode_datetime(decoder: Decoder, node: dict[str, Any], depth: int) -> datetime.datetime:
    value = datetime.datetime.fromisoformat(_text(node["v"]))
    if value.tzinfo is not None:
        raise ValueError(node["v"])
    return value.replace(tzinfo=decoder.zone(node["z"]), fold=whole(node["f"]))


def _decode_time(decoder: Decoder, node: dict[str, Any], depth: int) -> datetime.time:
    value = datetime.time.fromisoformat(_text(node["v"]))
    if value.tzinfo is not None:
        raise ValueError(node["v"])
    return value.replace(tzinfo=decoder.zone(node["z"]), fold=whole(node["f"]))


def _decode_decimal(decoder: Decoder, node: dict[str, Any], depth: int) -> decimal.Decimal:
    # Exact: a context's precision does not round what is made of text.
    return decimal.Decimal(_text(node["v"]))


def _decode_parts(kind: Any) -> Callable[[Decoder, dict[str, Any], int], Any]:
    def decode(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
        parts = decoder.items(node["v"], depth)
        if kind is not slice and any(type(part) not in (int, float) for part in parts):
            raise Refused(MALFORMED, "a number in it is none")
        return kind(*parts)

    return decode


_DECODERS: dict[str, Callable[[Decoder, dict[str, Any], int], Any]] = {
    "int": _decode_int,
    "float": _decode_float,
    "str": _decode_str,
    "bytes": lambda d, n, depth: d.data(n),
    "bytearray": lambda d, n, depth: bytearray(d.data(n)),
    "tuple": lambda d, n, depth: tuple(d.items(n["v"], depth)),
    "set": _decode_set,
    "frozenset": _decode_set,
    "dict": _decode_dict,
    "complex": _decode_parts(complex),
    "fraction": _decode_parts(fractions.Fraction),
    "range": _decode_parts(range),
    "slice": _decode_parts(slice),
    "decimal": _decode_decimal,
    "uuid": lambda d, n, depth: uuid.UUID(hex=_text(n["v"])),
    "ellipsis": lambda d, n, depth: ...,
    "date": lambda d, n, depth: datetime.date.fromisoformat(_text(n["v"])),
    "timedelta": lambda d, n, depth: datetime.timedelta(*[whole(part) for part in n["v"]]),
    "datetime": _decode_datetime,
    "time": _decode_time,
    "tz": lambda d, n, depth: d.zone(n["v"]),
}
