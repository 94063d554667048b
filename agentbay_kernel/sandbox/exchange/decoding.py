"""Tagged JSON as values: the way back, where nothing is what it claims before it was looked at.

In: a tree of JSON and blobs, made by `encoding` or by whoever has taken its place in a sandbox.
Out: the value, or `Refused`. Time and memory are in proportion to the bytes that arrived: each
blob and each column is used once, no library is given what it needs more than a few steps a byte
for, and sets and dicts of keys that collide are refused.

Runs on both sides; needs Python 3.9.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import os
import re
import time
import uuid
from itertools import groupby
from typing import Any, Callable, Iterator

from agentbay_kernel.sandbox.exchange.values import (
    MALFORMED,
    MOST_DEPTH,
    MOST_EXPONENT,
    TAG,
    TOO_LARGE,
    UNSUPPORTED,
    ZONE_NAME,
    Refused,
    parse,
    shown,
    whole,
    with_article,
)

# Digits of a fraction's parts: the common divisor of two numbers takes steps of their square.
MOST_FRACTION = 10_000
# Notes of one value; each is shown.
_MOST_NOTES = 100
# Anybody can compute numbers that a hash table finds only after looking at all others: numbers of
# one hash, or of hashes that lead to the same places one after the other. Texts and bytes have a
# hash that is secret. So of other keys, few may share a hash; a set or dict of more than so many is
# made step by step, and given up when it takes more time of the processor than such ever need.
_MOST_ALIKE = 100
MOST_UNWATCHED = 20_000
_STEP = 2_000
_MOST_S, _MOST_S_A_KEY = 0.5, 10e-6


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
        self.notes: dict[str, None] = {}
        self._used: set[int] = set()

    def note(self, text: str) -> None:
        """Say what changed on the way, once."""
        if len(self.notes) < _MOST_NOTES:
            self.notes[text] = None

    def path(self, number: Any) -> str:
        """The file of a blob, which is used once: else few bytes could claim to be many values."""
        if type(number) is not int or not 0 <= number < self.blobs:
            raise Refused(MALFORMED, "names a file that was not sent")
        if number in self._used:
            raise Refused(MALFORMED, "names a file that is something else already")
        self._used.add(number)
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
                raise refusal.below("[%s]" % shown(key)) from None
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
            raise Refused(MALFORMED, "claims to be %s, which is not known" % shown(tag))
        try:
            return decode(self, node, depth)
        except Refused:
            raise
        except Exception as failure:
            # Whatever libraries say to nonsense, it is nonsense.
            raise Refused(
                MALFORMED,
                "claims to be %s and is not (%s: %s)"
                % (with_article(tag), type(failure).__name__, str(failure)[:200]),
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
            raise Refused(MALFORMED, "its time zone is invalid")
        if told == ["utc"]:
            return datetime.timezone.utc
        kind, value, more = told
        if kind == "offset":
            delta = datetime.timedelta(seconds=_real(value))
            if more is None:
                return datetime.timezone(delta)
            return datetime.timezone(delta, _text(more))
        if kind != "zone" or not ZONE_NAME.fullmatch(_text(value)):
            raise Refused(MALFORMED, "its time zone is invalid")
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


def _text(node: Any) -> str:
    if type(node) is not str:
        raise Refused(MALFORMED, "a string in it is invalid")
    return node


def _real(node: Any) -> float:
    if type(node) not in (int, float):
        raise Refused(MALFORMED, "a number in it is invalid")
    return float(node)


def _decode_int(decoder: Decoder, node: dict[str, Any], depth: int) -> int:
    text = _text(node["v"])
    if not re.fullmatch(r"-?0x[0-9a-f]+", text):
        raise Refused(MALFORMED, "a whole number in it is invalid")
    return int(text, 16)


def _decode_float(decoder: Decoder, node: dict[str, Any], depth: int) -> float:
    if node["v"] not in ("nan", "inf", "-inf", "-0.0"):
        raise Refused(MALFORMED, "a number in it is invalid")
    return float(node["v"])


def _decode_str(decoder: Decoder, node: dict[str, Any], depth: int) -> str:
    return decoder.data(node).decode("utf-8", "surrogatepass")


def _decode_dict(decoder: Decoder, node: dict[str, Any], depth: int) -> dict[Any, Any]:
    keys, values = [], []
    for key_node, value_node in node["v"]:
        key = decoder.decode(key_node, depth + 1)
        try:
            values.append(decoder.decode(value_node, depth + 1))
        except Refused as refusal:
            raise refusal.below("[%s]" % shown(key)) from None
        keys.append(key)
    made: dict[Any, Any] = {}
    for start, end in _steps(keys):
        made.update(zip(keys[start:end], values[start:end]))
    # 1, True and 1.0 are one key; NaN is none twice.
    if len(made) != len(keys):
        raise Refused(MALFORMED, "a key stands twice in a dict")
    return made


def _decode_set(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    values = decoder.items(node["v"], depth)
    made: set[Any] = set()
    for start, end in _steps(values):
        made.update(values[start:end])
    if len(made) != len(values):
        raise Refused(MALFORMED, "an item stands twice in a set")
    if node[TAG] == "set":
        return made
    # Made in one go, which nothing can watch.
    if len(values) > MOST_UNWATCHED and not _have_secret_hashes(values):
        text = "is a frozenset of %s items other than texts and bytes: send a set"
        raise Refused(UNSUPPORTED, text % format(len(values), ","))
    return frozenset(made)


def _have_secret_hashes(keys: list[Any]) -> bool:
    return all(type(key) in (str, bytes) for key in keys)


def _steps(keys: list[Any]) -> Iterator[tuple[int, int]]:
    """The stretches in which a set or dict of these keys is to be made.

    Raises:
        Refused: they collide.
    """
    if _have_secret_hashes(keys):
        yield 0, len(keys)
        return
    for _, alike in groupby(sorted(map(hash, keys))):
        if sum(1 for _ in alike) > _MOST_ALIKE:
            raise Refused(MALFORMED, "holds more than %d keys of one hash" % _MOST_ALIKE)
    if len(keys) <= MOST_UNWATCHED:
        yield 0, len(keys)
        return
    ends_at = time.thread_time() + _MOST_S + len(keys) * _MOST_S_A_KEY
    for start in range(0, len(keys), _STEP):
        yield start, start + _STEP
        if time.thread_time() > ends_at:
            raise Refused(MALFORMED, "holds keys that collide")


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
    text = _text(node["v"])
    value = decimal.Decimal(text) if len(text) <= 2 * MOST_EXPONENT else None
    if value is None or (value.is_finite() and abs(value.adjusted()) > MOST_EXPONENT):
        raise Refused(UNSUPPORTED, "is a Decimal of more than %d digits" % MOST_EXPONENT)
    return value


def _decode_range(decoder: Decoder, node: dict[str, Any], depth: int) -> range:
    value: range = _decode_parts(range)(decoder, node, depth)
    # `len` knows no more than a machine word.
    if (value.stop - value.start) // value.step > decoder.limit:
        raise Refused(TOO_LARGE, "is a range of more than %s numbers" % format(decoder.limit, ","))
    return value


def _decode_parts(kind: Any) -> Callable[[Decoder, dict[str, Any], int], Any]:
    def decode(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
        if kind is fractions.Fraction and len(str(node["v"])) > MOST_FRACTION:
            raise Refused(UNSUPPORTED, "is a fraction of more than %d digits" % MOST_FRACTION)
        parts = decoder.items(node["v"], depth)
        if kind is not slice and any(type(part) not in (int, float) for part in parts):
            raise Refused(MALFORMED, "a number in it is invalid")
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
    "range": _decode_range,
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
