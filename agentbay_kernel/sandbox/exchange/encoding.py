"""Values as tagged JSON: scalars, containers, dates. Never pickle, never source text.

In: a value. Out: a tree of JSON in which whatever JSON does not know is an object {"$": tag, ...},
and files beside it, called blobs, for what is large.

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
import uuid
from typing import Any, Callable

from agentbay_kernel.sandbox.exchange.values import (
    ARROW_LACKS_HERE,
    MOST_DEPTH,
    SAFE_INTEGER,
    TAG,
    TOO_LARGE,
    UNSUPPORTED,
    ZONE_NAME,
    Refused,
    shown,
    with_article,
)

# Bytes and texts longer than this are files of their own.
MOST_INLINE = 32 * 1024


class Encoder:
    """Makes JSON and blobs of values.

    Arguments:
        folder: where blobs are written, as files b0, b1, ...
        limit: most bytes of all blobs together.
        lacking_arrow: which side has no pyarrow, as the reason to refuse what needs it; empty if
            both have it. Asked when there is a table.
        extensions: each is asked for a value that is not known here: (encoder, value, depth),
            and returns a node, or None if it does not know it either.
    """

    def __init__(
        self,
        folder: str,
        limit: int,
        lacking_arrow: Callable[[], str] = lambda: ARROW_LACKS_HERE,
        extensions: tuple[Callable[[Encoder, Any, int], Any], ...] = (),
    ) -> None:
        self.folder = folder
        self.limit = limit
        self.lacking_arrow = lacking_arrow
        self.extensions = extensions
        self.blobs: list[str] = []
        self.notes: dict[str, None] = {}
        self._sizes: list[int] = []
        self._size = 0

    def note(self, text: str) -> None:
        """Say what changes on the way, once."""
        self.notes[text] = None

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
            if not _is_whole(value):
                return self.broken_text(value)
            if len(value) <= MOST_INLINE:
                return value
            return self.bytes("str", value.encode())
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

    def broken_text(self, value: str) -> Any:
        """The node of a text with halves of surrogate pairs: JSON would join two of them."""
        return self.bytes("str", value.encode("utf-8", "surrogatepass"))

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
                self.note("%s arrives as %s" % (with_article(name), base.__name__))
                return self.encode(_plain(base, value), depth)
        if isinstance(value, memoryview):
            self.note("a memoryview arrives as bytes")
            return self.encode(value.tobytes(), depth)
        name = "%s.%s" % (type(value).__module__, type(value).__qualname__)
        raise Refused(
            UNSUPPORTED,
            "is %s, which can't be transferred" % with_article(name.replace("builtins.", "")),
        )

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
        plain = TAG not in value and all(type(key) is str and _is_whole(key) for key in value)
        nodes: Any = {} if plain else []
        for key, item in value.items():
            try:
                node = self.encode(item, depth + 1)
            except Refused as refusal:
                raise refusal.below("[%s]" % shown(key)) from None
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
            raise Refused(UNSUPPORTED, "has the time zone %r, which can't be transferred" % (zone,))
        self.note("the time zone %r arrives as a fixed offset" % (zone,))
        return ["offset", known, None]


def _is_whole(text: str) -> bool:
    """Is it made of whole characters?"""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
