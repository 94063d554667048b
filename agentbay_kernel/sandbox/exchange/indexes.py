"""Indexes of pandas as plain columns, and back.

In: an index, and the writer of the columns it goes along with; or one that has a length of its own,
such as a frame's column labels. Out: a node that says what it is; and back.

Runs on both sides; needs Python 3.9 and pandas 1.5 or newer.
"""

from __future__ import annotations

from typing import Any

from agentbay_kernel.sandbox.exchange.columns import ColumnReader, ColumnWriter
from agentbay_kernel.sandbox.exchange.decoding import MOST_UNWATCHED, Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.series import decode_array, encode_array_like
from agentbay_kernel.sandbox.exchange.values import MALFORMED, UNSUPPORTED, Refused, whole


def encode_lone_index(encoder: Encoder, index: Any, depth: int) -> dict[str, Any]:
    """An index with columns of its own, because it has a length of its own."""
    writer = ColumnWriter(encoder, len(index))
    node = encode_index(encoder, writer, index, depth)
    return {"i": node, "store": writer.node()}


def encode_index(encoder: Encoder, writer: ColumnWriter, index: Any, depth: int) -> dict[str, Any]:
    import pandas

    if isinstance(index, pandas.RangeIndex):
        name = encoder.encode(index.name, depth + 1)
        return {"k": "range", "v": [index.start, index.stop, index.step], "name": name}
    if isinstance(index, pandas.MultiIndex):
        codes = [writer.add("i8", _codes(index, n)) for n in range(index.nlevels)]
        return {
            "k": "multi",
            "levels": [encode_lone_index(encoder, level, depth) for level in index.levels],
            "codes": codes,
            "names": [encoder.encode(name, depth + 1) for name in index.names],
        }
    timed = isinstance(index, (pandas.DatetimeIndex, pandas.TimedeltaIndex))
    freq = index.freq if timed else None
    return {
        "k": "array",
        "a": encode_array_like(encoder, writer, index.array, depth),
        "freq": getattr(freq, "freqstr", None),
        "name": encoder.encode(index.name, depth + 1),
    }


def _codes(index: Any, level: int) -> Any:
    return lambda start, end: index.codes[level][start:end].astype("i8")


def decode_index(decoder: Decoder, reader: ColumnReader, node: Any, depth: int) -> Any:
    import pandas

    if node["k"] == "range":
        start, stop, step = [whole(part) for part in node["v"]]
        made = pandas.RangeIndex(start, stop, step, name=decoder.decode(node["name"], depth + 1))
        if len(made) != reader.rows:
            raise Refused(MALFORMED, "its index has another length than its rows")
        return made
    if node["k"] == "multi":
        levels = [decode_lone_index(decoder, level, depth) for level in node["levels"]]
        if not all(map(is_cheaply_unique, levels)):
            text = "is an index whose levels have more than %d items that are not sorted"
            raise Refused(UNSUPPORTED, text % MOST_UNWATCHED)
        return pandas.MultiIndex(
            levels=levels,
            codes=[reader[number] for number in node["codes"]],
            names=[decoder.decode(name, depth + 1) for name in node["names"]],
            verify_integrity=True,
        )
    if node["k"] != "array":
        raise Refused(MALFORMED, "its index is of a kind that is not known")
    array = decode_array(decoder, reader, node["a"], depth)
    dtype = object if array.dtype == object else None
    made = pandas.Index(array, dtype=dtype, name=decoder.decode(node["name"], depth + 1))
    if made.dtype != array.dtype:
        decoder.note("an index of %s arrives as one of %s" % (array.dtype, made.dtype))
    freq = node["freq"]
    timed = isinstance(made, (pandas.DatetimeIndex, pandas.TimedeltaIndex))
    if freq is not None and timed and made.freq is None:
        try:
            made.freq = freq if len(freq) < 100 else None
        except Exception:
            decoder.note("the freq %s of an index is left out" % freq[:100])
    return made


def is_cheaply_unique(index: Any) -> bool:
    """Does pandas see in a few steps an item that nothing stands twice in an index?

    Of what is not sorted, it makes a hash table, and anybody can compute numbers that collide
    in it.

    Raises:
        Refused: something stands twice in it.
    """
    import pandas

    if len(index) <= MOST_UNWATCHED or isinstance(index, pandas.RangeIndex):
        return True
    if isinstance(index, (pandas.IntervalIndex, pandas.MultiIndex)):
        return False
    if pandas.api.types.is_string_dtype(index.dtype) and all(type(item) is str for item in index):
        return True
    if not (index.is_monotonic_increasing or index.is_monotonic_decreasing):
        return False
    if (index[1:] == index[:-1]).any():
        raise Refused(MALFORMED, "an item stands twice in it")
    return True


def decode_lone_index(decoder: Decoder, node: Any, depth: int) -> Any:
    return decode_index(decoder, ColumnReader(decoder, node["store"]), node["i"], depth)
