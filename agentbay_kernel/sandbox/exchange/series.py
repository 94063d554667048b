"""One array of pandas - a column, a level, an index - as plain columns, and back.

In: an ExtensionArray or what stands behind a Series. Out: a node that says what its columns mean,
and the columns themselves in a `ColumnWriter`; and back. A dtype that the other side's pandas
does not have is replaced by its nearest, and noted.

Runs on both sides; needs Python 3.9 and pandas 1.5 or newer.
"""

from __future__ import annotations

from typing import Any

from agentbay_kernel.sandbox.exchange.columns import BYTES, TEXT, ColumnReader, ColumnWriter
from agentbay_kernel.sandbox.exchange.decoding import MOST_UNWATCHED, Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import MALFORMED, UNSUPPORTED, Refused, whole

_MASKED = {
    **{
        "%s%d" % (name, bits): "%s%d" % (name[0].lower(), bits // 8)
        for name in ("Int", "UInt")
        for bits in (8, 16, 32, 64)
    },
    "Float32": "f4",
    "Float64": "f8",
    "boolean": "b1",
}
# pandas' own covers of NumPy arrays.
_THIN = ("PandasDtype", "NumpyEADtype")
_UNITS = ("s", "ms", "us", "ns")
_CLOSED = ("left", "right", "both", "neither")
# What stands for a missing cell among texts or bytes.
_NONE, _NAN, _NAT, _NA = "none", "nan", "nat", "na"
_SAMPLE = 1000


def encode_array_like(
    encoder: Encoder, writer: ColumnWriter, array: Any, depth: int
) -> dict[str, Any]:
    """The node of an array; its columns go to the writer."""
    if type(array.dtype).__name__ in _THIN:
        array = array.to_numpy()
    node = _encode(encoder, writer, array, depth)
    return {"t": str(array.dtype), **node}


def _encode(encoder: Encoder, writer: ColumnWriter, array: Any, depth: int) -> dict[str, Any]:
    import numpy
    import pandas

    dtype = array.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes = writer.add("i8", lambda a, b: array.codes[a:b].astype("i8"))
        side = encode_lone_index(encoder, dtype.categories, depth)
        return {"k": "category", "p": codes, "c": side, "o": bool(dtype.ordered)}
    if isinstance(dtype, pandas.DatetimeTZDtype):
        zone = encoder.zone(dtype.tz, None if not len(array) else _offset(array))
        return {"k": "tz", "u": _unit(dtype), "z": zone, "p": _add_times(writer, array)}
    if isinstance(dtype, pandas.PeriodDtype):
        number = writer.add("i8", lambda a, b: pandas.PeriodIndex(array[a:b]).asi8)
        return {"k": "period", "f": array.freqstr, "p": number}
    if isinstance(dtype, pandas.IntervalDtype):
        ends = [
            encode_array_like(encoder, writer, end.array, depth)
            for end in (pandas.Index(array.left), pandas.Index(array.right))
        ]
        return {"k": "interval", "v": ends, "c": array.closed}
    if isinstance(dtype, pandas.StringDtype):
        na = _NAN if dtype.na_value is not pandas.NA else _NA
        facts = {"k": "string", "s": dtype.storage, "na": na}
        if dtype.storage == "python":
            return {
                **facts,
                "v": _encode_objects(encoder, writer, numpy.asarray(array, object), depth),
            }
        return {**facts, "v": {"k": TEXT, "m": _NONE, "p": _add_texts(writer, TEXT, array)}}
    if dtype.name in _MASKED and not isinstance(dtype, numpy.dtype):
        kind = _MASKED[dtype.name]
        values = writer.add(kind, lambda a, b: array[a:b].to_numpy(kind, na_value=0))
        mask = writer.add("b1", lambda a, b: numpy.asarray(array[a:b].isna()))
        return {"k": "masked", "d": dtype.name, "p": [values, mask]}
    if isinstance(dtype, numpy.dtype) and dtype.kind != "O":
        return _encode_numpy(encoder, writer, array, dtype)
    if isinstance(dtype, numpy.dtype):
        return _encode_objects(encoder, writer, numpy.asarray(array, object), depth)
    return _encode_foreign(encoder, writer, array, depth)


def _encode_foreign(
    encoder: Encoder, writer: ColumnWriter, array: Any, depth: int
) -> dict[str, Any]:
    """Sparse, Arrow's and other packages' dtypes arrive as their nearest of pandas' own."""
    import numpy
    import pandas

    dtype = array.dtype
    nearest: Any
    if isinstance(dtype, pandas.SparseDtype):
        nearest = pandas.Series(numpy.asarray(array)).array
    else:
        try:
            nearest = pandas.Series(array).convert_dtypes(dtype_backend="numpy_nullable").array
        except (TypeError, ValueError, KeyError):
            nearest = array
        known = isinstance(nearest.dtype, numpy.dtype) or nearest.dtype.name in _MASKED
        if not known and not isinstance(nearest.dtype, pandas.StringDtype):
            nearest = pandas.Series(numpy.asarray(array, object), dtype=object).array
    if str(nearest.dtype) != str(dtype):
        encoder.note("a column of dtype %s arrives as %s" % (dtype, nearest.dtype))
    return encode_array_like(encoder, writer, nearest, depth)


def _encode_numpy(encoder: Encoder, writer: ColumnWriter, array: Any, dtype: Any) -> dict[str, Any]:
    import numpy

    if dtype.kind in "mM":
        return {"k": dtype.kind, "u": _unit(dtype), "p": _add_times(writer, array)}
    plain = numpy.asarray(array)
    if dtype.kind == "c":
        # A part has half the bytes of the whole.
        part = "f%d" % min(8, dtype.itemsize // 2)
        real = writer.add(part, lambda a, b: plain[a:b].real.astype(part))
        imag = writer.add(part, lambda a, b: plain[a:b].imag.astype(part))
        if dtype.itemsize > 16:
            encoder.note("a column of dtype %s arrives as complex128" % dtype)
        return {"k": "complex", "p": [real, imag]}
    kind = "%s%d" % (dtype.kind, dtype.itemsize)
    if dtype.kind == "f" and dtype.itemsize > 8:
        kind = "f8"
        encoder.note("a column of dtype %s arrives as float64" % dtype)
    if dtype.kind not in "biuf":
        return _encode_objects(encoder, writer, plain.astype(object), 0)
    return {"k": "number", "p": writer.add(kind, lambda a, b: plain[a:b].astype(kind))}


def _encode_objects(
    encoder: Encoder, writer: ColumnWriter, cells: Any, depth: int
) -> dict[str, Any]:
    """Texts or bytes as they are, anything else each cell as JSON."""
    import pandas

    found = pandas.api.types.infer_dtype(cells, skipna=True)
    if found in ("string", "bytes", "empty"):
        missing = {_missing(cell) for cell in cells[pandas.isna(cells)]}
        if len(missing) <= 1 and None not in missing:
            kind = BYTES if found == "bytes" else TEXT
            if _all_plain(cells, kind):
                mark = missing.pop() if missing else _NONE
                return {"k": kind, "m": mark, "p": _add_texts(writer, kind, cells)}

    def texts(start: int, end: int) -> Any:
        made = cells[start:end].copy()
        for number, cell in enumerate(cells[start:end]):
            try:
                made[number] = encoder.dumps(cell, depth + 1)
            except Refused as refusal:
                raise refusal.below("[%d]" % (start + number)) from None
        return made

    return {"k": "json", "p": writer.add(TEXT, texts, 64)}


def _missing(cell: Any) -> str | None:
    import pandas

    if cell is None:
        return _NONE
    if cell is pandas.NaT:
        return _NAT
    if cell is pandas.NA:
        return _NA
    return _NAN if type(cell) is float else None


def _all_plain(cells: Any, kind: str) -> bool:
    """Are all cells that are there of the very type, and texts of whole characters?"""
    import pandas

    wanted = bytes if kind == BYTES else str
    for start in range(0, len(cells), 65536):
        piece = cells[start : start + 65536]
        piece = piece[~pandas.isna(piece)]
        if any(type(cell) is not wanted for cell in piece):
            return False
        if kind == TEXT:
            try:
                "".join(piece).encode()
            except UnicodeEncodeError:
                return False
    return True


def _add_texts(writer: ColumnWriter, kind: str, cells: Any) -> int:
    import numpy
    import pandas

    def slices(start: int, end: int) -> Any:
        piece = numpy.array(cells[start:end], dtype=object)
        piece[numpy.asarray(pandas.isna(piece))] = None
        return piece

    sample = (
        slices(0, len(cells))
        if len(cells) <= _SAMPLE
        else numpy.array(cells[:: len(cells) // _SAMPLE], dtype=object)
    )
    lengths = [len(cell) for cell in sample if isinstance(cell, (str, bytes))]
    return writer.add(kind, slices, 8 + sum(lengths) // max(1, len(lengths)))


def _add_times(writer: ColumnWriter, array: Any) -> int:
    import numpy
    import pandas

    def slices(start: int, end: int) -> Any:
        piece = pandas.Series(array[start:end])
        if getattr(piece.dt, "tz", None) is not None:
            piece = piece.dt.tz_convert(None)
        return numpy.asarray(piece).view("i8")

    return writer.add("i8", slices)


def _unit(dtype: Any) -> str:
    import numpy

    return getattr(dtype, "unit", None) or str(numpy.datetime_data(dtype)[0])


def _offset(array: Any) -> Any:
    import pandas

    known = pandas.Series(array).dropna()
    return known.iloc[0].utcoffset() if len(known) else None


def decode_array(decoder: Decoder, reader: ColumnReader, node: Any, depth: int) -> Any:
    """The array that a node says."""
    array = _decode(decoder, reader, node, depth)
    told = str(node["t"])[:200]
    if str(array.dtype) != told:
        decoder.note("dtype %s arrives as %s" % (told, array.dtype))
    return array


def _decode(decoder: Decoder, reader: ColumnReader, node: Any, depth: int) -> Any:
    import numpy
    import pandas

    kind = node["k"]
    if depth > 100:
        raise Refused(MALFORMED, "is nested too deep")
    if kind == "number":
        if reader.kind(node["p"]) in (TEXT, BYTES):
            raise Refused(MALFORMED, "a column is not of the kind that it claims")
        return reader[node["p"]]
    if kind == "complex":
        real, imag = [_numbers(reader, number, "f") for number in node["p"]]
        made = numpy.empty(len(real), "c%d" % (2 * real.dtype.itemsize))
        made.real, made.imag = real, imag
        return made
    if kind in ("M", "m", "tz"):
        return _decode_times(decoder, reader, node)
    if kind in (TEXT, BYTES, "json"):
        return _decode_objects(decoder, reader, node, depth)
    if kind == "string":
        return _decode_strings(decoder, reader, node, depth)
    if kind == "masked":
        values, mask = _numbers(reader, node["p"][0], "biuf"), _numbers(reader, node["p"][1], "b")
        if _MASKED.get(node["d"]) is None or values.dtype != numpy.dtype(_MASKED[node["d"]]):
            raise Refused(MALFORMED, "a column is not of the kind that it claims")
        array = pandas.array(values, dtype=node["d"])
        array[mask] = pandas.NA
        return array
    if kind == "category":
        categories = decode_lone_index(decoder, node["c"], depth + 1)
        codes = _numbers(reader, node["p"], "i")
        if not is_cheaply_unique(categories):
            decoder.note("a category of very many unsorted items arrives as the items")
            return pandas.api.extensions.take(categories.array, codes, allow_fill=True)
        dtype = pandas.CategoricalDtype(categories, ordered=node["o"] is True)
        return pandas.Categorical.from_codes(codes, dtype=dtype)
    if kind == "period" and type(node["f"]) is str and len(node["f"]) < 100:
        dtype = pandas.PeriodDtype(node["f"])
        return pandas.arrays.PeriodArray(_numbers(reader, node["p"], "i"), dtype=dtype)
    if kind == "interval" and node["c"] in _CLOSED:
        left, right = [decode_array(decoder, reader, end, depth + 1) for end in node["v"]]
        return pandas.arrays.IntervalArray.from_arrays(left, right, closed=node["c"])
    raise Refused(MALFORMED, "a column is of a kind that is not known")


def _numbers(reader: ColumnReader, number: Any, kinds: str) -> Any:
    column = reader[number]
    if column.dtype.kind not in kinds:
        raise Refused(MALFORMED, "a column is not of the kind that it claims")
    return column


def _decode_times(decoder: Decoder, reader: ColumnReader, node: Any) -> Any:
    import pandas

    unit = node["u"]
    if unit not in _UNITS:
        raise Refused(MALFORMED, "its times have a unit that is not known")
    values = _numbers(reader, node["p"], "i")
    if values.dtype.itemsize != 8:
        raise Refused(MALFORMED, "its times are no whole numbers of 8 bytes")
    times = values.view("%s8[%s]" % ("m" if node["k"] == "m" else "M", unit))
    if node["k"] != "tz":
        return pandas.Series(times).array
    zone = decoder.zone(node["z"])
    series = pandas.Series(times).dt.tz_localize("UTC")
    return series.dt.tz_convert(zone).array


def _decode_objects(decoder: Decoder, reader: ColumnReader, node: Any, depth: int) -> Any:
    import numpy
    import pandas

    kind, number = node["k"], node["p"]
    if reader.kind(number) != (BYTES if kind == BYTES else TEXT):
        raise Refused(MALFORMED, "a column is not of the kind that it claims")
    cells = reader[number]
    if kind != "json":
        marks = {_NONE: None, _NAN: float("nan"), _NAT: pandas.NaT, _NA: pandas.NA}
        mark = marks[node["m"]]
        if mark is not None:
            cells[cells == numpy.array(None)] = mark
        return cells
    made = numpy.empty(len(cells), object)
    for place, text in enumerate(cells):
        if text is None:
            raise Refused(MALFORMED, "a cell of it is no JSON")
        try:
            made[place] = decoder.loads(text, depth + 1)
        except Refused as refusal:
            raise refusal.below("[%d]" % place) from None
    return made


def _decode_strings(decoder: Decoder, reader: ColumnReader, node: Any, depth: int) -> Any:
    import numpy
    import pandas

    cells = _decode_objects(decoder, reader, node["v"], depth)
    attempts: list[dict[str, Any]] = [{"storage": "python"}]
    if node["na"] == _NAN:
        # pandas' own texts: each side keeps them where it can, and they are one dtype.
        attempts = [{"na_value": numpy.nan}]
    elif node["s"] == "pyarrow":
        attempts.insert(0, {"storage": "pyarrow"})
    for attempt in attempts:
        try:
            dtype = pandas.StringDtype(**attempt)
        except (TypeError, ValueError, ImportError):
            # Older than pandas 3, or without pyarrow.
            continue
        cells[pandas.isna(cells)] = dtype.na_value
        return pandas.array(cells, dtype=dtype)
    # Before pandas 3, texts were objects.
    cells[pandas.isna(cells)] = numpy.nan
    return cells


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
