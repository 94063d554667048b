"""Columns of equal length as one file: Arrow where both sides have it, else CSV and a schema.

In: columns of numbers, texts or bytes, given in slices of rows so that no whole copy is made. Out:
a node of JSON that says how they are stored, with the columns in it if they are few, in a blob if
not; and back, as arrays of NumPy. What a column means is its owner's affair (see tables).

Runs on both sides; needs Python 3.9 and NumPy.
"""

from __future__ import annotations

import base64
import csv
import json
import struct
import sys
from typing import Any, Callable, Iterator

from agentbay_kernel.sandbox.exchange.values import MALFORMED, Decoder, Encoder, Refused, whole

# Fewer cells than this are written into the tree.
_MOST_INLINE = 200
# Bytes of the rows that are written or read at a time, about.
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
        if len(kinds) * self.rows <= _MOST_INLINE and self._width * self.rows <= 65536:
            return {
                "rows": self.rows,
                "kinds": kinds,
                "v": [self._inline(*c) for c in self._columns],
            }
        number, path = self._encoder.blob()
        how = "arrow" if self._encoder.arrow() else "csv"
        if how == "arrow":
            self._write_arrow(number, path)
        else:
            self._write_csv(number, path)
        return {"rows": self.rows, "kinds": kinds, "how": how, "blob": number}

    def _inline(self, kind: str, slices: Slices) -> list[Any]:
        cells = slices(0, self.rows)
        if kind == BYTES:
            return [None if c is None else base64.b64encode(c).decode() for c in cells]
        nodes: list[Any] = self._encoder.encode(cells.tolist())
        return nodes

    def _pieces(self) -> Iterator[list[Any]]:
        step = max(1, _PIECE // max(1, self._width))
        for start in range(0, self.rows, step):
            end = min(self.rows, start + step)
            yield [slices(start, end) for _, slices in self._columns]

    def _write_arrow(self, number: int, path: str) -> None:
        import pyarrow

        types = [_arrow_type(kind) for kind, _ in self._columns]
        schema = pyarrow.schema([(str(n), one) for n, one in enumerate(types)])
        with open(path, "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            for piece in self._pieces():
                arrays = [pyarrow.array(cells, one) for cells, one in zip(piece, types)]
                writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                self._encoder.check(number)

    def _write_csv(self, number: int, path: str) -> None:
        with open(path, "w", encoding="ascii", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for piece in self._pieces():
                columns = [_as_fields(kind, c) for (kind, _), c in zip(self._columns, piece)]
                writer.writerows(zip(*columns))
                self._encoder.check(number)


def _as_fields(kind: str, cells: Any) -> list[Any]:
    if kind == "b1":
        return [int(cell) for cell in cells.tolist()]
    if kind == TEXT:
        return ["" if cell is None else json.dumps(cell) for cell in cells]
    if kind == BYTES:
        # An empty field is missing, so bytes have a mark in front.
        return ["" if c is None else "=" + base64.b64encode(c).decode() for c in cells]
    cells = cells.tolist()
    return [repr(cell) for cell in cells] if kind in _FLOATS else cells


class ColumnReader:
    """The columns that a node says, checked against the file that holds them."""

    def __init__(self, decoder: Decoder, node: dict[str, Any]) -> None:
        self.rows = whole(node["rows"])
        self._kinds = node["kinds"]
        if type(self._kinds) is not list or not set(map(str, self._kinds)) <= set(KINDS):
            raise Refused(MALFORMED, "its columns have kinds that are not known")
        if not 0 <= self.rows <= decoder.limit:
            raise Refused(MALFORMED, "claims to have %s rows" % format(self.rows, ","))
        if "v" in node:
            self._columns = self._read_inline(decoder, node["v"])
            return
        path = decoder.path(node["blob"])
        with open(path, "rb") as file:
            self._check_size(file.seek(0, 2), node["how"])
            file.seek(0)
            if node["how"] == "arrow":
                self._columns = self._read_arrow(file)
        if node["how"] == "csv":
            self._columns = self._read_csv(path)

    def __getitem__(self, number: Any) -> Any:
        """The column of that number: an array, of objects where its kind is text or bytes."""
        return self._columns[self._number(number)]

    def kind(self, number: Any) -> str:
        """The kind of that column."""
        kind: str = self._kinds[self._number(number)]
        return kind

    def _number(self, number: Any) -> int:
        if type(number) is not int or not 0 <= number < len(self._columns):
            raise Refused(MALFORMED, "names a column that was not sent")
        return number

    def _check_size(self, size: int, how: Any) -> None:
        if how not in ("arrow", "csv"):
            raise Refused(MALFORMED, "its columns are stored in a way that is not known")
        # What a row takes at the least: in Arrow its numbers, in CSV its separators.
        bits = 0
        for kind in self._kinds:
            if how == "csv":
                bits += 8
            else:
                bits += 64 if kind in (TEXT, BYTES) else 1 if kind == "b1" else 8 * int(kind[1:])
        if self.rows * bits > size * 8 or (self.rows and not bits):
            raise Refused(
                MALFORMED,
                "claims to have %s rows, which %s bytes can't hold"
                % (format(self.rows, ","), format(size, ",")),
            )

    def _read_inline(self, decoder: Decoder, columns: Any) -> list[Any]:
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

    def _empty(self) -> list[Any]:
        import numpy

        return [
            numpy.empty(self.rows, object if kind in (TEXT, BYTES) else kind)
            for kind in self._kinds
        ]

    def _read_arrow(self, file: Any) -> list[Any]:
        import pyarrow

        refuse_compressed(file)
        columns = self._empty()
        done = end = 0
        types = [_arrow_type(kind) for kind in self._kinds]
        with pyarrow.ipc.open_stream(file) as reader:
            if [field.type for field in reader.schema] != types:
                raise Refused(MALFORMED, "its columns have other kinds than it claims")
            for batch in reader:
                batch.validate(full=True)
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

    def _read_csv(self, path: str) -> list[Any]:
        columns = self._empty()
        step = max(1, _PIECE // max(1, 8 * len(columns)))
        done = 0
        # A cell may be longer than what the module allows of itself.
        usual = csv.field_size_limit(sys.maxsize)
        try:
            with open(path, encoding="ascii", newline="") as file:
                reader = csv.reader(file, strict=True)
                rows: list[list[str]] = []
                for row in reader:
                    rows.append(row)
                    if len(rows) == step:
                        done = self._take(rows, columns, done)
                        rows = []
                done = self._take(rows, columns, done)
        finally:
            csv.field_size_limit(usual)
        if done != self.rows:
            raise Refused(MALFORMED, "has not the rows that it claims")
        return columns

    def _take(self, rows: list[list[str]], columns: list[Any], done: int) -> int:
        end = done + len(rows)
        if end > self.rows or any(len(row) != len(columns) for row in rows):
            raise Refused(MALFORMED, "has not the rows or columns that it claims")
        if rows:
            for kind, column, fields in zip(self._kinds, columns, zip(*rows)):
                column[done:end] = _array(kind, _from_fields(kind, fields))
        return end


def _from_fields(kind: str, fields: Any) -> list[Any]:
    if kind == TEXT:
        return [json.loads(field) if field else None for field in fields]
    if kind == BYTES:
        return [base64.b64decode(f[1:], validate=True) if f else None for f in fields]
    if kind == "b1":
        return [{"0": False, "1": True}[field] for field in fields]
    return [float(f) for f in fields] if kind in _FLOATS else [int(f) for f in fields]


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


def refuse_compressed(file: Any) -> None:
    """Read an Arrow stream's message headers: a compressed body could claim any size.

    Raises:
        Refused: it is no such stream, or a body in it is compressed (Arrow columnar format,
            "Encapsulated message format" and Message.fbs).
    """
    size = file.seek(0, 2)
    file.seek(0)
    while True:
        start = file.read(8)
        if len(start) < 8:
            break
        mark, length = struct.unpack("<Ii", start)
        if mark != 0xFFFFFFFF or length < 0 or length > size:
            raise Refused(MALFORMED, "claims to be Arrow and is none")
        if length == 0:
            break
        header = file.read(length)
        try:
            message = _Table(header, struct.unpack_from("<I", header, 0)[0])
            kind, body = message.scalar(1, "<B"), message.scalar(3, "<q")
            batch = message.table(2)
            if kind == 2 and batch is not None:  # a dictionary holds a batch
                batch = batch.table(1)
            if kind in (2, 3) and batch is not None and batch.table(3) is not None:
                raise Refused(MALFORMED, "is compressed Arrow, which is not taken")
        except (struct.error, IndexError):
            raise Refused(MALFORMED, "claims to be Arrow and is none") from None
        if body < 0 or file.tell() + body > size:
            raise Refused(MALFORMED, "claims to be Arrow and ends too early")
        file.seek(body, 1)
    file.seek(0)


class _Table:
    """A table of a flatbuffer: its fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - struct.unpack_from("<i", data, at)[0]
        if self._fields < 0:
            raise IndexError(at)
        self._size = struct.unpack_from("<H", data, self._fields)[0]

    def _place(self, number: int) -> int:
        slot = 4 + 2 * number
        if slot + 2 > self._size:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._fields + slot)[0]
        return self._at + offset if offset else 0

    def scalar(self, number: int, form: str) -> int:
        """A number, 0 where it is left out."""
        place = self._place(number)
        return int(struct.unpack_from(form, self._data, place)[0]) if place else 0

    def table(self, number: int) -> _Table | None:
        """A table, None where it is left out."""
        place = self._place(number)
        if not place:
            return None
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])
