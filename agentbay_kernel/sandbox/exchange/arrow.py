"""Streams of Arrow: write them, and read those that anybody could have written.

pyarrow alone is not safe with such bytes, so a stream's headers are read here before pyarrow sees
them. It gives a compressed buffer the memory that the buffer claims, up to 2**63 bytes for a few
(in the form of today and in that of 0.17, which is in the metadata of a message). It copies a
dictionary for each piece that is added to it. It hands the metadata of an extension type to
whatever Python class some library registered for that name. It has no limit of memory, and its
own messages tell nothing of this. So an allow list holds: messages of format V5 without metadata
of their own, which are a schema without extension types, a whole dictionary, or a batch; none of
them compressed or longer than the file. Types are on a list too: those whose buffers have bounds
that can be looked up, so no views, unions or run ends. What remains is left to pyarrow's own
`validate`: offsets, lengths and text are checked in full before anything else is asked of an array,
even its size (`nbytes` follows offsets that nobody has checked, and can end the process).

Runs on both sides; needs Python 3.9, and pyarrow for what is read or written.
"""

from __future__ import annotations

import contextlib
import importlib.util
import struct
from typing import Any, Iterable, Iterator

from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.values import (
    LACKING,
    MALFORMED,
    MOST_EXPONENT,
    UNSUPPORTED,
    Refused,
)

# Before this release, reading Arrow could run what a file says (CVE-2023-47248).
_SAFE = (14, 0, 1)
# Of Arrow's Message.fbs and Schema.fbs.
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_V5 = 4
_EXTENSION = b"ARROW:extension:"
# A shared dictionary is checked with each batch: so many bytes for each of the stream.
_MOST_DICTIONARIES = 1000
# Names of `pyarrow.types.is_...`.
_TEXTS = ("string", "large_string", "binary", "large_binary", "fixed_size_binary")
_PLAIN = ("null", "primitive", "decimal", *_TEXTS)
_NESTED = ("list", "large_list", "fixed_size_list", "struct", "map")


def has_pyarrow() -> bool:
    """Is there a pyarrow that reads what others wrote without running it?"""
    from importlib import metadata

    try:
        if importlib.util.find_spec("pyarrow") is None:
            return False
        numbers = metadata.version("pyarrow").split(".")[:3]
        return tuple(int(number) for number in numbers) >= _SAFE
    except (ImportError, ValueError):
        return False


def write_stream(encoder: Encoder, schema: Any, batches: Iterable[Any]) -> int:
    """Write batches to a new blob; returns its number.

    Raises:
        Refused: the schema has a type that is not taken, or the batches are too large.
    """
    import pyarrow

    if _EXTENSION in schema.serialize().to_pybytes():
        raise Refused(UNSUPPORTED, "holds an extension type of Arrow: cast it to its storage first")
    _check_types(schema.types)
    number, path = encoder.blob()
    with open(path, "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            encoder.check(number)
    return number


@contextlib.contextmanager
def open_stream(path: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a stream in a file, and its batches, each checked before it is given.

    Raises:
        Refused: it is not what it claims to be, would take more memory than it has bytes, or
            there is no pyarrow to read it with.
    """
    if not has_pyarrow():
        text = "is Arrow and needs pyarrow 14.0.1 or newer, which is not installed where it arrives"
        raise Refused(LACKING, text)
    import pyarrow

    with open(path, "rb") as file:
        size = _check_headers(file)
        with pyarrow.ipc.open_stream(file) as reader:
            _check_types(reader.schema.types)
            yield reader.schema, _checked(reader, size)


def _checked(reader: Any, size: int) -> Iterator[Any]:
    shared = _MOST_DICTIONARIES * size
    for batch in reader:
        for column in batch.columns:
            # Columns may name the same bytes, and then a few are many columns.
            size -= _held(column)
            shared -= _held(column.dictionary) if hasattr(column, "dictionary") else 0
        if size < 0:
            raise Refused(MALFORMED, "is Arrow whose columns share their bytes, which is not taken")
        if shared < 0:
            raise Refused(UNSUPPORTED, "has too many batches over one dictionary: combine_chunks()")
        batch.validate(full=True)
        yield batch


def _held(array: Any) -> int:
    """The bytes of all buffers of an array, but not of its dictionary."""
    return sum(buffer.size for buffer in array.buffers() if buffer is not None)


def _check_types(types: list[Any], inside: bool = False) -> None:
    """Hold types against the allow list: views of texts may all name the same bytes, for example.

    Raises:
        Refused: one is not on it.
    """
    from pyarrow import types as known

    for one in types:
        if known.is_dictionary(one) and not inside:
            one = one.value_type
        elif any(getattr(known, "is_" + name)(one) for name in _NESTED):
            _check_types([one.field(number).type for number in range(one.num_fields)], True)
            continue
        if known.is_decimal(one) and abs(one.scale) > MOST_EXPONENT:
            raise Refused(UNSUPPORTED, "holds numbers of more than %d digits" % MOST_EXPONENT)
        if not any(getattr(known, "is_" + name)(one) for name in _PLAIN):
            raise Refused(UNSUPPORTED, "holds the Arrow type %s: cast it first" % one)


def _check_headers(file: Any) -> int:
    """Hold a stream's headers against the allow list; returns its bytes, from the start of it.

    Raises:
        Refused: it is no such stream, or not one that is taken (Arrow columnar format,
            "Encapsulated message format" and Message.fbs).
    """
    size: int = file.seek(0, 2)
    file.seek(0)
    while True:
        start = file.read(8)
        if len(start) < 8:
            break
        mark, length = struct.unpack("<Ii", start)
        if mark != 0xFFFFFFFF or length < 0 or length > size:
            raise Refused(MALFORMED, "claims to be Arrow and is not")
        if length == 0:
            break
        header = file.read(length)
        try:
            body = _check_message(header)
        except (struct.error, IndexError):
            raise Refused(MALFORMED, "claims to be Arrow and is not") from None
        if body < 0 or file.tell() + body > size:
            raise Refused(MALFORMED, "claims to be Arrow and ends too early")
        file.seek(body, 1)
    file.seek(0)
    return size


def _check_message(header: bytes) -> int:
    """Hold one header against the allow list; returns the bytes of the body that it claims."""
    message = _Table(header, struct.unpack_from("<I", header, 0)[0])
    kind, content = message.scalar(1, "<B"), message.table(2)
    if message.scalar(0, "<h") != _V5 or message.has(4):
        raise Refused(MALFORMED, "is Arrow of a form that is not taken: format V5 is")
    if content is None or kind not in (_SCHEMA, _DICTIONARY, _BATCH):
        raise Refused(MALFORMED, "claims to be Arrow and is not")
    if kind == _SCHEMA and _EXTENSION in header:
        raise Refused(MALFORMED, "is Arrow with an extension type, which is not taken")
    if kind == _DICTIONARY:
        if content.scalar(2, "<B"):
            raise Refused(MALFORMED, "is Arrow whose dictionaries grow, which is not taken")
        content = content.table(1)
        if content is None:
            raise Refused(MALFORMED, "claims to be Arrow and is not")
    if kind != _SCHEMA and content.has(3):
        raise Refused(MALFORMED, "is compressed Arrow, which is not taken")
    return message.scalar(3, "<q")


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

    def has(self, number: int) -> bool:
        """Is there such a field?"""
        return self._place(number) != 0

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
