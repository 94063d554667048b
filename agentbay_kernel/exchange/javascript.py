"""Encodes values of Python for JavaScript.

The result is JSON and blobs, with the few tags that the sandbox's `jobs.js` knows:
int (BigInt), float, str, bytes (Uint8Array), dict (Map), set, jsdate (Date), typed (typed array).
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
import sys
import uuid
from typing import Any

from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import TAG, UNSUPPORTED, Refused

_TYPED = {
    "int8": "Int8Array",
    "int16": "Int16Array",
    "int32": "Int32Array",
    "int64": "BigInt64Array",
    "uint8": "Uint8Array",
    "uint16": "Uint16Array",
    "uint32": "Uint32Array",
    "uint64": "BigUint64Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
}
# Names that a JavaScript object sorts (ECMAScript, OrdinaryOwnPropertyKeys).
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


class JavaScriptEncoder(Encoder):
    """Encodes values as JSON and blobs for JavaScript."""

    def broken_text(self, value: str) -> Any:
        """Return a string with half surrogate pairs unchanged, as in JavaScript's strings."""
        return value

    def large_integer(self, value: int) -> Any:
        """Encode an integer as a BigInt."""
        self.note("whole numbers beyond 2**53 arrive as BigInt")
        return super().large_integer(value)

    def pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        """Encode a dict."""
        node = super().pairs(value, depth)
        if TAG not in node:
            numbers = [name for name in node if _INDEX.fullmatch(name)]
            if numbers and list(node)[: len(numbers)] != sorted(numbers, key=int):
                self.note("an object has the names that are whole numbers first")
        return node

    def rare(self, value: Any, depth: int) -> Any:
        """Encode a value that JSON itself does not support."""
        kind = type(value)
        if kind is tuple or kind is range:
            self.note(f"a {kind.__name__} arrives as an Array")
            return self.items(value, depth)
        if kind in (set, frozenset):
            return {TAG: "set", "v": self.items(value, depth)}
        if kind in (bytes, bytearray):
            return self.bytes("bytes", value)
        if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
            node = self._time(value, depth)
            if node is not None:
                return node
        if kind in (decimal.Decimal, fractions.Fraction, uuid.UUID):
            self.note(f"a {kind.__name__} arrives as a string")
            return self.encode(str(value), depth)
        if kind in (complex, slice, type(Ellipsis)):
            raise Refused(UNSUPPORTED, f"is a {kind.__name__}, which JavaScript has not")
        node = self._of_numpy(value, depth)
        if node is not None:
            return node
        is_known, plain = self._of_pandas(value)
        if is_known:
            return self.encode(plain, depth)
        return super().rare(value, depth)

    def _time(self, value: Any, depth: int) -> Any:
        pandas = sys.modules.get("pandas")
        if pandas is not None:
            if value is pandas.NaT:
                self.note("NaT arrives as null")
                return {TAG: "null"}
            if isinstance(value, pandas.Timestamp):
                if value.nanosecond:
                    self.note("a Date has milliseconds: what is finer is cut off")
                value = value.to_pydatetime(warn=False)
            elif isinstance(value, pandas.Timedelta):
                value = value.to_pytimedelta()
        if isinstance(value, datetime.timedelta):
            self.note("a timedelta arrives as its milliseconds")
            return self.encode(value / _MILLISECOND, depth)
        if isinstance(value, datetime.time):
            self.note("a time arrives as a string")
            return self.encode(value.isoformat(), depth)
        if not isinstance(value, datetime.datetime):
            self.note("a date arrives as a Date at its midnight in UTC")
            value = datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
        elif value.tzinfo is None:
            self.note("a datetime without a time zone arrives as a Date in UTC")
            value = value.replace(tzinfo=datetime.UTC)
        elif value.utcoffset():
            self.note("a Date keeps the moment and not the time zone")
        if value.microsecond % 1000:
            self.note("a Date has milliseconds: what is finer is cut off")
        return {TAG: "jsdate", "v": (value - _EPOCH) // _MILLISECOND}

    def _of_numpy(self, value: Any, depth: int) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray):
            return None
        if isinstance(value, numpy.ndarray) and value.ndim == 1 and value.dtype.name in _TYPED:
            plain = numpy.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            node = self.bytes("typed", memoryview(plain).cast("B") if plain.size else b"")
            return {**node, "type": _TYPED[value.dtype.name]}
        if isinstance(value, numpy.datetime64):
            value = numpy.array(value)
        if value.dtype.kind in "M":
            value = value.astype("M8[us]")
        if value.dtype.kind == "m":
            value = value.astype("m8[us]")
        if isinstance(value, numpy.ndarray) and value.ndim:
            self.note("an array of this shape or dtype arrives as Arrays of its items")
        if isinstance(value, numpy.ma.MaskedArray):
            self.note("what is masked arrives as null")
        return self.encode(value.tolist(), depth)

    def _of_pandas(self, value: Any) -> tuple[bool, Any]:
        pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
        if pyarrow is not None:
            if isinstance(value, pyarrow.Table | pyarrow.RecordBatch):
                self.note("a table arrives as an Array of objects, one a row")
                return True, value.to_pylist()
            if isinstance(value, pyarrow.Array | pyarrow.ChunkedArray):
                self.note("an Arrow array arrives as an Array")
                return True, value.to_pylist()
        if pandas is None:
            return False, None
        if value is pandas.NA:
            self.note("NA arrives as null")
            return True, None
        if isinstance(value, pandas.DataFrame):
            return True, self._rows(pandas, value)
        if isinstance(value, pandas.Series):
            self.note("a Series arrives as an Array, without its index")
            return True, _cells(value)
        if isinstance(value, pandas.Index):
            self.note("an Index arrives as an Array")
            return True, _cells(value.to_series())
        if isinstance(value, pandas.Period | pandas.Interval):
            self.note(f"a {type(value).__name__} arrives as a string")
            return True, str(value)
        return False, None

    def _rows(self, pandas: Any, frame: Any) -> list[dict[str, Any]]:
        self.note("a DataFrame arrives as an Array of objects, one a row")
        if not (isinstance(frame.index, pandas.RangeIndex) and frame.index.name is None):
            self.note("the index of a DataFrame arrives as properties of each row")
            frame = frame.reset_index()
        names = [str(name) for name in frame.columns]
        if len(set(names)) != len(names):
            raise Refused(UNSUPPORTED, "has two columns of one name, which an object has not")
        columns = [_cells(frame.iloc[:, number]) for number in range(len(names))]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _cells(series: Any) -> list[Any]:
    """Return its cells as values of Python; missing ones are None, except in a column of floats."""
    cells = series.astype(object)
    if getattr(series.dtype, "kind", "") != "f":
        cells = cells.where(series.notna().to_numpy(), None)
    listed: list[Any] = cells.tolist()
    return listed
