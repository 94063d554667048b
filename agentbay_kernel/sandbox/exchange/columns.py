"""Columns of equal length: a stream of Arrow, or lists of JSON if they are small.

In: columns of numbers, texts or bytes, given in slices of rows so that no whole copy is made. Out:
a node of JSON that is their schema, with the columns in it or in a blob; and back, as arrays of
NumPy. What a column means is its owner's affair (see tables).

Few cells are JSON always. More are Arrow, and without pyarrow on both sides JSON as long as one
call carries it; what is larger is refused, and the refusal names the side that lacks pyarrow.

Runs on both sides; needs Python 3.9 and NumPy.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Callable, Iterator

from agentbay_kernel.sandbox.exchange.arrow import open_stream, write_stream
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import MALFORMED, Refused, whole

# So many cells are JSON, whoever has pyarrow.
_MOST_INLINE = 200
# Bytes of JSON of a table without pyarrow: what one call carries to the sandbox, at most.
MOST_WITHOUT_ARROW = 1_000_000
# Bytes of the rows that are written at a time, about.
_PIECE = 4 * 1024 * 1024
_FLOATS, _WHOLE = ("f2", "f4", "f8"), ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
# A text or bytes, or nothing; the missing ones are None.
TEXT, BYTES = "text", "bytes"
KINDS = ("b1", *_FLOATS, *_WHOLE, TEXT, BYTES)

# Gives the rows from one number to before another.
Slices = Callable[[int, int], Any]


class ColumnWriter:
    """Collects columns of one length and writes them.

    Arguments:
        rows: their length.
    """

    def __init__(self, encoder: Encoder, rows: int) -> None:
        self._encoder = encoder
        self.rows = rows
        self._columns: list[tuple[str, Slices]] = []
        self._width = 0

    def add(self, kind: str, slices: Slices, width: int = 0) -> int:
        """Add a column; returns its number.

        Arguments:
            kind: one of KINDS.
            slices: gives its rows, as an array of that kind or of texts, bytes and None.
            width: bytes of a row, about, where the kind does not say.
        """
        self._columns.append((kind, slices))
        self._width += width or (int(kind[1:]) if kind not in (TEXT, BYTES) else 16)
        return len(self._columns) - 1

    def node(self) -> dict[str, Any]:
        """Write all columns; returns how they are stored."""
        kinds = [kind for kind, _ in self._columns]
        few = len(kinds) * self.rows <= _MOST_INLINE and self._width * self.rows <= 65536
        lacking = "" if few else self._encoder.lacking_arrow()
        if few or lacking:
            columns = self._as_json(lacking)
            return {"rows": self.rows, "kinds": kinds, "v": columns}
        return {"rows": self.rows, "kinds": kinds, "blob": self._write_arrow()}

    def _as_json(self, lacking: str) -> list[Any]:
        """All columns as lists.

        Raises:
            Refused: there are too many for want of pyarrow.
        """
        size = 0
        columns = []
        for kind, slices in self._columns:
            column: list[Any] = []
            for start, end in self._steps(self._width):
                cells = slices(start, end)
                if kind == BYTES:
                    cells = [None if c is None else base64.b64encode(c).decode() for c in cells]
                else:
                    cells = self._encoder.encode(cells.tolist())
                size += len(json.dumps(cells, separators=(",", ":"))) if lacking else 0
                if size > MOST_WITHOUT_ARROW:
                    told = format(MOST_WITHOUT_ARROW, ",")
                    raise Refused(lacking, "is a table of more than %s bytes" % told)
                column += cells
            columns.append(column)
        return columns

    def _steps(self, width: int) -> Iterator[tuple[int, int]]:
        step = max(1, _PIECE // max(1, width))
        for start in range(0, self.rows, step):
            yield start, min(self.rows, start + step)

    def _write_arrow(self) -> int:
        import pyarrow

        types = [_arrow_type(kind) for kind, _ in self._columns]
        schema = pyarrow.schema([(str(n), one) for n, one in enumerate(types)])

        def batches() -> Iterator[Any]:
            for start, end in self._steps(self._width):
                arrays = [
                    pyarrow.array(slices(start, end), one)
                    for (_, slices), one in zip(self._columns, types)
                ]
                yield pyarrow.record_batch(arrays, schema=schema)

        return write_stream(self._encoder, schema, batches())


class ColumnReader:
    """The columns that a node says, checked against the file that holds them."""

    def __init__(self, decoder: Decoder, node: dict[str, Any]) -> None:
        self.rows = whole(node["rows"])
        self._used: set[int] = set()
        self._kinds = node["kinds"]
        if type(self._kinds) is not list or not set(map(str, self._kinds)) <= set(KINDS):
            raise Refused(MALFORMED, "its columns have kinds that are not known")
        if not 0 <= self.rows <= decoder.limit:
            raise Refused(MALFORMED, "claims to have %s rows" % format(self.rows, ","))
        if "v" in node:
            self._columns = self._read_json(decoder, node["v"])
        else:
            self._columns = self._read_arrow(decoder.path(node["blob"]))

    def __getitem__(self, number: Any) -> Any:
        """The column of that number: an array, of objects where its kind is text or bytes.

        Each is used once: else a few bytes more could make it many columns.
        """
        if self._number(number) in self._used:
            raise Refused(MALFORMED, "uses a column twice")
        self._used.add(number)
        return self._columns[number]

    def kind(self, number: Any) -> str:
        """The kind of that column."""
        kind: str = self._kinds[self._number(number)]
        return kind

    def _number(self, number: Any) -> int:
        if type(number) is not int or not 0 <= number < len(self._columns):
            raise Refused(MALFORMED, "names a column that was not sent")
        return number

    def _check_size(self, size: int, bits: int) -> None:
        """Can so many bytes hold the rows, of which each takes so many bits at the least?"""
        if self.rows * bits > size * 8 or (self.rows and not bits):
            raise Refused(
                MALFORMED,
                "claims to have %s rows, which %s bytes can't hold"
                % (format(self.rows, ","), format(size, ",")),
            )

    def _read_json(self, decoder: Decoder, columns: Any) -> list[Any]:
        if type(columns) is not list or len(columns) != len(self._kinds):
            raise Refused(MALFORMED, "its columns are not as many as it claims")
        made = []
        for kind, nodes in zip(self._kinds, columns):
            cells = decoder.decode(nodes, 1)
            if type(cells) is not list or len(cells) != self.rows:
                raise Refused(MALFORMED, "a column has not the length that it claims")
            if kind == BYTES:
                cells = [None if c is None else base64.b64decode(c, validate=True) for c in cells]
            made.append(_array(kind, cells))
        return made

    def _read_arrow(self, path: str) -> list[Any]:
        import numpy

        self._check_size(
            os.path.getsize(path),
            sum(
                64 if kind in (TEXT, BYTES) else 1 if kind == "b1" else 8 * int(kind[1:])
                for kind in self._kinds
            ),
        )
        done = end = 0
        with open_stream(path) as (schema, batches):
            if [field.type for field in schema] != [_arrow_type(kind) for kind in self._kinds]:
                raise Refused(MALFORMED, "its columns have other kinds than it claims")
            columns = [
                numpy.empty(self.rows, object if kind in (TEXT, BYTES) else kind)
                for kind in self._kinds
            ]
            for batch in batches:
                end = done + batch.num_rows
                if end > self.rows:
                    break
                for kind, column, cells in zip(self._kinds, columns, batch.columns):
                    if kind not in (TEXT, BYTES) and cells.null_count:
                        raise Refused(MALFORMED, "a column of numbers has holes")
                    column[done:end] = cells.to_numpy(zero_copy_only=False)
                done = end
        if done != self.rows or end != done:
            raise Refused(MALFORMED, "has not the rows that it claims")
        return columns


def _array(kind: str, cells: list[Any]) -> Any:
    import numpy

    if kind in (TEXT, BYTES):
        wanted: Any = str if kind == TEXT else bytes
        if not all(cell is None or type(cell) is wanted for cell in cells):
            raise Refused(MALFORMED, "a cell is not of the kind that its column claims")
        array = numpy.empty(len(cells), object)
        array[:] = cells
        return array
    numbers = (int, float) if kind in _FLOATS else (bool,) if kind == "b1" else (int,)
    if not all(type(cell) in numbers for cell in cells):
        raise Refused(MALFORMED, "a cell is not of the kind that its column claims")
    return numpy.array(cells, kind)


def _arrow_type(kind: str) -> Any:
    import pyarrow

    if kind in (TEXT, BYTES):
        return pyarrow.large_utf8() if kind == TEXT else pyarrow.large_binary()
    if kind == "b1":
        return pyarrow.bool_()
    letter, bits = kind[0], 8 * int(kind[1:])
    return getattr(pyarrow, {"i": "int", "u": "uint", "f": "float"}[letter] + str(bits))()
