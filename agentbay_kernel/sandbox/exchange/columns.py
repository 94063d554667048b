"""Columns of equal length: as Arrow where both sides have it, else as `.npy` and CSV.

In: columns of numbers, texts or bytes, given in slices of rows so that no whole copy is made. Out:
a node of JSON that is their schema, with the columns in it if they are few, in blobs if not: one
Arrow stream, or a `.npy` file a column of numbers and a CSV file of all others; and back, as arrays
of NumPy. What a column means is its owner's affair (see tables).

Runs on both sides; needs Python 3.9 and NumPy.
"""

from __future__ import annotations

import base64
import csv
import json
import struct
import sys
from typing import Any, Callable, Iterator

from agentbay_kernel.sandbox.exchange.arrays import read_npy
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import MALFORMED, Refused, whole

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
        if self._encoder.arrow():
            return {"rows": self.rows, "kinds": kinds, "how": "arrow", "blob": self._write_arrow()}
        numbers = [
            None if kind in (TEXT, BYTES) else self._write_npy(kind, slices)
            for kind, slices in self._columns
        ]
        csv_number = self._write_csv() if None in numbers else None
        return {
            "rows": self.rows,
            "kinds": kinds,
            "how": "csv",
            "blob": csv_number,
            "npy": numbers,
        }

    def _inline(self, kind: str, slices: Slices) -> list[Any]:
        cells = slices(0, self.rows)
        if kind == BYTES:
            return [None if c is None else base64.b64encode(c).decode() for c in cells]
        nodes: list[Any] = self._encoder.encode(cells.tolist())
        return nodes

    def _steps(self, width: int) -> Iterator[tuple[int, int]]:
        step = max(1, _PIECE // max(1, width))
        for start in range(0, self.rows, step):
            yield start, min(self.rows, start + step)

    def _write_arrow(self) -> int:
        import pyarrow

        number, path = self._encoder.blob()
        types = [_arrow_type(kind) for kind, _ in self._columns]
        schema = pyarrow.schema([(str(n), one) for n, one in enumerate(types)])
        with open(path, "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            for start, end in self._steps(self._width):
                arrays = [
                    pyarrow.array(slices(start, end), one)
                    for (_, slices), one in zip(self._columns, types)
                ]
                writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                self._encoder.check(number)
        return number

    def _write_npy(self, kind: str, slices: Slices) -> int:
        import numpy

        number, path = self._encoder.blob()
        dtype = numpy.dtype(kind).newbyteorder("<")
        descr = numpy.lib.format.dtype_to_descr(dtype)
        facts = {"descr": descr, "fortran_order": False, "shape": (self.rows,)}
        with open(path, "wb") as file:
            numpy.lib.format.write_array_header_1_0(file, facts)
            for start, end in self._steps(dtype.itemsize):
                numpy.ascontiguousarray(slices(start, end), dtype).tofile(file)
                self._encoder.check(number)
        return number

    def _write_csv(self) -> int:
        number, path = self._encoder.blob()
        columns = [(kind, slices) for kind, slices in self._columns if kind in (TEXT, BYTES)]
        with open(path, "w", encoding="ascii", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for start, end in self._steps(self._width):
                fields = [_as_fields(kind, slices(start, end)) for kind, slices in columns]
                writer.writerows(zip(*fields))
                self._encoder.check(number)
        return number


def _as_fields(kind: str, cells: Any) -> list[str]:
    if kind == TEXT:
        return ["" if cell is None else json.dumps(cell) for cell in cells]
    # An empty field is missing, so bytes have a mark in front.
    return ["" if c is None else "=" + base64.b64encode(c).decode() for c in cells]


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
            self._columns = self._read_inline(decoder, node["v"])
            return
        if node["how"] == "arrow":
            with open(decoder.path(node["blob"]), "rb") as file:
                self._columns = self._read_arrow(file)
        elif node["how"] == "csv":
            self._columns = self._read_files(decoder, node)
        else:
            raise Refused(MALFORMED, "its columns are stored in a way that is not known")

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

    def _read_arrow(self, file: Any) -> list[Any]:
        import numpy
        import pyarrow

        size = file.seek(0, 2)
        self._check_size(
            size,
            sum(
                64 if kind in (TEXT, BYTES) else 1 if kind == "b1" else 8 * int(kind[1:])
                for kind in self._kinds
            ),
        )
        refuse_dear(file)
        columns = [
            numpy.empty(self.rows, object if kind in (TEXT, BYTES) else kind)
            for kind in self._kinds
        ]
        done = end = 0
        types = [_arrow_type(kind) for kind in self._kinds]
        with pyarrow.ipc.open_stream(file) as reader:
            if [field.type for field in reader.schema] != types:
                raise Refused(MALFORMED, "its columns have other kinds than it claims")
            held = 0
            for batch in reader:
                held += refuse_shared(batch.columns, size - held)
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

    def _read_files(self, decoder: Decoder, node: dict[str, Any]) -> list[Any]:
        columns: list[Any] = []
        numbers = node["npy"]
        if type(numbers) is not list or len(numbers) != len(self._kinds):
            raise Refused(MALFORMED, "its columns are not as many as it claims")
        texts = [kind for kind in self._kinds if kind in (TEXT, BYTES)]
        read = iter(self._read_csv(decoder.path(node["blob"]), texts) if texts else [])
        for kind, number in zip(self._kinds, numbers):
            columns.append(
                next(read) if kind in (TEXT, BYTES) else self._read_npy(decoder, number, kind)
            )
        return columns

    def _read_npy(self, decoder: Decoder, number: Any, kind: str) -> Any:
        import numpy

        with open(decoder.path(number), "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            column = read_npy(file, size)
        if column.dtype != numpy.dtype(kind) or column.shape != (self.rows,):
            raise Refused(MALFORMED, "a column is not of the kind or length that it claims")
        return column

    def _read_csv(self, path: str, kinds: list[str]) -> list[Any]:
        import numpy

        done = 0
        # A cell may be longer than what the module allows of itself.
        usual = csv.field_size_limit(sys.maxsize)
        try:
            with open(path, encoding="ascii", newline="") as file:
                self._check_size(file.seek(0, 2), 8 * len(kinds))
                file.seek(0)
                columns = [numpy.empty(self.rows, object) for _ in kinds]
                for row in csv.reader(file, strict=True):
                    if done == self.rows or len(row) != len(kinds):
                        raise Refused(MALFORMED, "has not the rows or columns that it claims")
                    for kind, column, field in zip(kinds, columns, row):
                        column[done] = _from_field(kind, field)
                    done += 1
        finally:
            csv.field_size_limit(usual)
        if done != self.rows:
            raise Refused(MALFORMED, "has not the rows that it claims")
        return columns


def _from_field(kind: str, field: str) -> Any:
    if not field:
        return None
    if kind == BYTES:
        return base64.b64decode(field[1:], validate=True)
    text = json.loads(field)
    if type(text) is not str:
        raise Refused(MALFORMED, "a cell is not of the kind that its column claims")
    return text


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


def refuse_shared(columns: Any, size: int) -> int:
    """The bytes of a batch's columns of Arrow, checked against those that there are.

    Columns may name the same bytes of a message, and then a few bytes are many columns.

    Raises:
        Refused: they have more.
    """
    held = 0
    for column in columns:
        # What a stretch of bytes claims to be is looked at before all of it is.
        column.validate()
        # Batches may share a dictionary.
        held += getattr(column, "indices", column).nbytes
    if held > size:
        raise Refused(MALFORMED, "is Arrow whose columns share their bytes, which is not taken")
    return held


def refuse_dear(file: Any) -> None:
    """Read an Arrow stream's message headers: a compressed body could claim any size, and a
    dictionary that grows by pieces is copied for each.

    Raises:
        Refused: it is no such stream, or a body in it is compressed, or a dictionary is a delta
            (Arrow columnar format, "Encapsulated message format" and Message.fbs).
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
                if batch.scalar(2, "<B"):
                    raise Refused(MALFORMED, "is Arrow whose dictionaries grow, which is not taken")
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
