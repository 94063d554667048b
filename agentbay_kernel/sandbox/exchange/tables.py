"""pandas' frames, series, indexes and arrays, and Arrow's tables, as nodes of JSON and columns.

In: such a value. Out: a node that says what each column means - dtype, time zone, categories,
what stands for a missing cell - over columns of plain numbers and texts (see columns); and back.
What the other side's version can't have is said in a note.

Runs on both sides; needs Python 3.9 and pandas 1.5 or newer, and pyarrow for Arrow's own.
"""

from __future__ import annotations

import sys
from typing import Any

from agentbay_kernel.sandbox.exchange.arrow import open_stream, write_stream
from agentbay_kernel.sandbox.exchange.columns import ColumnReader, ColumnWriter
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.series import (
    decode_array,
    decode_index,
    decode_lone_index,
    encode_array_like,
    encode_index,
    encode_lone_index,
)
from agentbay_kernel.sandbox.exchange.values import (
    MALFORMED,
    TAG,
    Refused,
    need,
    whole,
)


def encode_table(encoder: Encoder, value: Any, depth: int) -> Any:
    """The node of what is pandas' or Arrow's; None for what is neither."""
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        node = _encode_pandas(encoder, pandas, value, depth)
        if node is not None:
            return node
    pyarrow = sys.modules.get("pyarrow")
    return _encode_arrow(encoder, pyarrow, value, depth) if pyarrow is not None else None


def _encode_pandas(encoder: Encoder, pandas: Any, value: Any, depth: int) -> Any:
    if isinstance(value, pandas.DataFrame):
        return _encode_frame(encoder, pandas, value, depth)
    if isinstance(value, pandas.Series):
        _note_plain(encoder, value, pandas.Series)
        writer = ColumnWriter(encoder, len(value))
        node = {
            TAG: "series",
            "name": encoder.encode(value.name, depth + 1),
            "index": encode_index(encoder, writer, value.index, depth),
            "data": encode_array_like(encoder, writer, value.array, depth),
        }
        return {**node, "store": writer.node()}
    if isinstance(value, pandas.Index):
        return {TAG: "index", "v": encode_lone_index(encoder, value, depth)}
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        writer = ColumnWriter(encoder, len(value))
        data = encode_array_like(encoder, writer, value, depth)
        return {TAG: "pdarray", "data": data, "store": writer.node()}
    return _encode_scalar(encoder, pandas, value, depth)


def _encode_scalar(encoder: Encoder, pandas: Any, value: Any, depth: int) -> Any:
    if value is pandas.NaT:
        return {TAG: "nat"}
    if value is pandas.NA:
        return {TAG: "na"}
    if isinstance(value, (pandas.Timestamp, pandas.Timedelta)):
        writer = ColumnWriter(encoder, 1)
        data = encode_array_like(encoder, writer, pandas.Series([value]).array, depth)
        return {TAG: "pdscalar", "data": data, "store": writer.node()}
    if isinstance(value, pandas.Period):
        return {TAG: "period", "v": value.ordinal, "f": value.freqstr}
    if isinstance(value, pandas.Interval):
        ends = [encoder.encode(end, depth + 1) for end in (value.left, value.right)]
        return {TAG: "interval", "v": ends, "c": value.closed}
    return None


def _note_plain(encoder: Encoder, value: Any, base: Any) -> None:
    if type(value) is not base:
        encoder.note("a %s arrives as a %s" % (type(value).__name__, base.__name__))
    if value.attrs:
        encoder.note("the attrs of a %s are left out" % base.__name__)


def _encode_frame(encoder: Encoder, pandas: Any, frame: Any, depth: int) -> Any:
    _note_plain(encoder, frame, pandas.DataFrame)
    writer = ColumnWriter(encoder, len(frame))
    index = encode_index(encoder, writer, frame.index, depth)
    columns = []
    for number in range(frame.shape[1]):
        column = frame.iloc[:, number]
        try:
            columns.append(encode_array_like(encoder, writer, column.array, depth))
        except Refused as refusal:
            raise refusal.below("[%r]" % (column.name,)) from None
    return {
        TAG: "frame",
        "index": index,
        "columns": encode_lone_index(encoder, frame.columns, depth),
        "data": columns,
        "store": writer.node(),
    }


def _decode_frame(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    pandas = need("pandas", "a DataFrame")
    reader = ColumnReader(decoder, node["store"])
    index = decode_index(decoder, reader, node["index"], depth)
    columns = decode_lone_index(decoder, node["columns"], depth)
    data = {}
    for number, spec in enumerate(node["data"]):
        data[number] = _series(decoder, reader, spec, index, depth)
    if len(columns) != len(data):
        raise Refused(MALFORMED, "has not as many columns as it claims")
    frame = pandas.DataFrame(data, index=index, copy=False)
    frame.columns = columns
    return frame


def _series(decoder: Decoder, reader: ColumnReader, spec: Any, index: Any, depth: int) -> Any:
    import pandas

    array = decode_array(decoder, reader, spec, depth)
    dtype = object if array.dtype == object else None
    return pandas.Series(array, index=index, dtype=dtype, copy=False)


def _decode_series(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    need("pandas", "a Series")
    reader = ColumnReader(decoder, node["store"])
    index = decode_index(decoder, reader, node["index"], depth)
    series = _series(decoder, reader, node["data"], index, depth)
    series.name = decoder.decode(node["name"], depth + 1)
    return series


def _decode_index(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    need("pandas", "a pandas Index")
    return decode_lone_index(decoder, node["v"], depth)


def _decode_pdarray(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    pandas = need("pandas", "a pandas array")
    reader = ColumnReader(decoder, node["store"])
    array = decode_array(decoder, reader, node["data"], depth)
    return pandas.Series(array).array if not hasattr(array, "isna") else array


def _decode_pdscalar(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    array = _decode_pdarray(decoder, node, depth)
    if len(array) != 1:
        raise Refused(MALFORMED, "claims to be a scalar and is not one")
    return array[0]


def _decode_period(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    pandas = need("pandas", "a pandas Period")
    if type(node["f"]) is not str or len(node["f"]) > 100:
        raise Refused(MALFORMED, "its freq is invalid")
    return pandas.Period(ordinal=whole(node["v"]), freq=node["f"])


def _decode_interval(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    pandas = need("pandas", "a pandas Interval")
    left, right = [decoder.decode(end, depth + 1) for end in node["v"]]
    return pandas.Interval(left, right, closed=node["c"])


def _decode_nothing(name: str) -> Any:
    return lambda decoder, node, depth: getattr(need("pandas", "pandas' %s" % name), name)


# Arrow


def _encode_arrow(encoder: Encoder, pyarrow: Any, value: Any, depth: int) -> Any:
    kinds = {"table": pyarrow.Table, "batch": pyarrow.RecordBatch}
    arrays = {"chunked": pyarrow.ChunkedArray, "array": pyarrow.Array}
    kind = next((k for k, c in {**kinds, **arrays}.items() if isinstance(value, c)), None)
    if kind is None:
        if isinstance(value, pyarrow.Scalar):
            encoder.note("an Arrow scalar arrives as a value of Python")
            return encoder.encode(value.as_py(), depth)
        return None
    if encoder.lacking_arrow():
        if kind in arrays:
            encoder.note("an Arrow array arrives as a list: pyarrow is not on both sides")
            return encoder.encode(value.to_pylist(), depth)
        need("pandas", "an Arrow table without pyarrow on both sides")
        encoder.note("an Arrow table arrives as a DataFrame: pyarrow is not on both sides")
        return encoder.encode(value.to_pandas(), depth)
    if kind == "batch":
        value = pyarrow.Table.from_batches([value])
    elif kind in arrays:
        value = pyarrow.table({"": value})
    value = _without_extensions(encoder, pyarrow, value)
    width = max(1, value.nbytes // max(1, value.num_rows))
    batches = value.to_batches(max_chunksize=max(1, 4 * 1024 * 1024 // width))
    return {TAG: "arrow", "kind": kind, "blob": write_stream(encoder, value.schema, batches)}


def _without_extensions(encoder: Encoder, pyarrow: Any, table: Any) -> Any:
    """A table whose columns of an extension type are of what that is stored as."""
    for number, field in enumerate(table.schema):
        if isinstance(field.type, pyarrow.BaseExtensionType):
            storage = field.type.storage_type
            encoder.note("an Arrow column of %s arrives as %s" % (field.type, storage))
            plain = pyarrow.field(field.name, storage, field.nullable)
            table = table.set_column(number, plain, table.column(number).cast(storage))
    return table


def _decode_arrow(decoder: Decoder, node: dict[str, Any], depth: int) -> Any:
    with open_stream(decoder.path(node["blob"])) as (schema, batches):
        import pyarrow

        table = pyarrow.Table.from_batches(list(batches), schema)
    # Columns of no width can claim any number of rows.
    if table.num_rows > decoder.limit:
        raise Refused(MALFORMED, "claims to have %s rows" % format(table.num_rows, ","))
    kind = node["kind"]
    if kind == "table":
        return table
    if kind == "batch":
        batches = table.combine_chunks().to_batches()
        if len(batches) != 1:
            return pyarrow.RecordBatch.from_pylist([], schema=table.schema)
        return batches[0]
    if kind in ("chunked", "array") and table.num_columns == 1:
        return table.column(0) if kind == "chunked" else table.column(0).combine_chunks()
    raise Refused(MALFORMED, "claims to be %r of Arrow and is not" % (kind,))


TABLE_DECODERS = {
    "frame": _decode_frame,
    "series": _decode_series,
    "index": _decode_index,
    "pdarray": _decode_pdarray,
    "pdscalar": _decode_pdscalar,
    "period": _decode_period,
    "interval": _decode_interval,
    "nat": _decode_nothing("NaT"),
    "na": _decode_nothing("NA"),
    "arrow": _decode_arrow,
}
