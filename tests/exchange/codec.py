"""Both sides of an exchange in one process: encode, decode, compare."""

from __future__ import annotations

import datetime
import math
import tempfile
from typing import Any

from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS, decode_named, encode_named
from agentbay_kernel.sandbox.exchange.values import ARROW_LACKS_THERE

LIMIT = 100_000_000
# Code for a Python that is to have no pyarrow.
WITHOUT_ARROW = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
"""


def there_and_back(value: Any, arrow: bool = True) -> tuple[Any, list[str]]:
    """A value after its way to the other side, and what was noted."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder(folder, LIMIT, lambda: "" if arrow else ARROW_LACKS_THERE, ENCODERS)
        text, told = encode_named([("x", value)], encoder)
        decoder = Decoder(folder, len(encoder.blobs), LIMIT, DECODERS)
        values, noted = decode_named(text, decoder)
        return values["x"], [note for _, note in told + noted]


def same(one: Any, other: Any, ordered: bool = True) -> bool:
    """Are two values alike, in type too? NaN is like NaN, 0.0 is not like -0.0.

    `ordered`: must dicts have their keys in the same order?
    """
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            same(item, other_item, ordered) for item, other_item in zip(one, other, strict=True)
        )
    if isinstance(one, dict):
        in_order = all(map(same, one, other)) if ordered else one.keys() == other.keys()
        return (
            len(one) == len(other)
            and in_order
            and all(same(one[key], other[key], ordered) for key in one)
        )
    if isinstance(one, set | frozenset):
        return _ordered(one) == _ordered(other)
    if isinstance(one, datetime.datetime):
        return (
            one.replace(tzinfo=None) == other.replace(tzinfo=None)
            and one.fold == other.fold
            and same_zone(one.tzinfo, other.tzinfo)
        )
    if isinstance(one, datetime.time):
        return (
            one.replace(tzinfo=None) == other.replace(tzinfo=None)
            and one.fold == other.fold
            and same_zone(one.tzinfo, other.tzinfo)
        )
    if isinstance(one, int):
        return bool(one == other)
    return repr(one) == repr(other)


def _ordered(value: Any) -> str:
    """A text that sets alike have in common, whatever their order."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(_ordered, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_ordered, value))})"
    return repr(value)


def same_zone(one: Any, other: Any) -> bool:
    """Are two time zones the same kind and name?"""
    return type(one) is type(other) and repr(one) == repr(other)
