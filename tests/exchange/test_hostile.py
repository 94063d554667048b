"""What comes out of a sandbox is data: what lies about itself is refused, by name."""

from __future__ import annotations

import datetime
import io
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS, encode_named
from agentbay_kernel.sandbox.exchange.pieces import Stream, unpack
from agentbay_kernel.sandbox.exchange.values import Refused
from tests.exchange.codec import WITHOUT_ARROW, there_and_back

LIMIT = 50_000_000


class Trap:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return (exit, (13,))


def decoded(folder: Path, text: str, *blobs: bytes) -> Any:
    """The value of a text, with blobs beside it."""
    for number, blob in enumerate(blobs):
        (folder / f"b{number}").write_bytes(blob)
    return Decoder(str(folder), len(blobs), LIMIT, DECODERS).loads(text)


def npy(header: dict[str, Any] | str, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with any header."""
    text = (header if isinstance(header, str) else repr(header)).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def pickled() -> bytes:
    return pickle.dumps(Trap())


def objects_npy() -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([Trap()], object), allow_pickle=True)
    return buffer.getvalue()


FLOATS = {"descr": "<f8", "fortran_order": False}
ARRAYS: dict[str, bytes] = {
    "a pickle": pickled(),
    "an array of pickles": objects_npy(),
    "objects by the header": npy({**FLOATS, "descr": "|O", "shape": (1,)}, b"\0" * 8),
    "objects in a field": npy({**FLOATS, "descr": [("a", "|O")], "shape": (1,)}, b"\0" * 8),
    "a huge claim": npy({**FLOATS, "shape": (10**12,)}, b"\0" * 80),
    "an overflowing claim": npy({**FLOATS, "shape": (2**62, 4, 2**62)}, b"\0" * 80),
    "a negative shape": npy({**FLOATS, "shape": (-1,)}, b"\0" * 80),
    "too little": npy({**FLOATS, "shape": (10,)}, b"\0" * 79),
    "too much": npy({**FLOATS, "shape": (10,)}, b"\0" * 81),
    "many of nothing": npy({**FLOATS, "descr": "|V0", "shape": (10**15,)}),
    "a call in the header": npy("{'descr': __import__('os').getcwd(), 'shape': ()}"),
    "a deep header": npy("(" * 9000 + ")" * 9000),
    "a long header": npy("{}" + " " * 60_000, version=2),
    "a zip file": b"PK\3\4" + b"\0" * 100,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_lie(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        decoded(tmp_path, '{"$": "npy", "blob": 0}', ARRAYS[kind])
    assert refusal.value.kind == "malformed"
    assert ("only pickle could read" in refusal.value.text) is ("object" in kind or "array" in kind)


TEXTS: dict[str, tuple[str, str]] = {
    "NaN": ("[1, NaN]", "NaN"),
    "Infinity": ('{"a": -Infinity}', "-Infinity"),
    "a name twice": ('{"a": 1, "a": 2}', "twice"),
    "a tag twice": ('{"$": "na", "$": "int", "v": "0x1"}', "twice"),
    "a key twice": ('{"$": "dict", "v": [[1, 2], [true, 3]]}', "twice"),
    "an item twice": ('{"$": "set", "v": [1, 1]}', "twice"),
    "endless digits": ("9" * 5000, "digits"),
    "deep lists": ("[" * 100_000 + "]" * 100_000, "deep"),
    "deep objects": ('{"a":' * 5_000 + "1" + "}" * 5_000, "deep"),
    "deep enough": ("[" * 150 + "]" * 150, "deeper than 100"),
    "deep tuples": ('{"$":"tuple","v":[' * 150 + "]}" * 150, "deeper than 100"),
    "no JSON": ("__import__('os')", "no JSON"),
    "half of it": ('{"a": [1, 2', "no JSON"),
    "an unknown tag": ('{"$": "pickle", "v": "gASVAAAA"}', "'pickle', which is not known"),
    "a tag that is none": ('{"$": ["int"], "v": 1}', "which is not known"),
    "no content": ('{"$": "tuple"}', "claims to be a tuple and is not"),
    "an int of source": ('{"$": "int", "v": "__import__"}', "whole number"),
    "a float of source": ('{"$": "float", "v": "1e5"}', "number"),
    "no base64": ('{"$": "bytes", "v": "%%%"}', "claims to be a bytes"),
    "a list in a set": ('{"$": "set", "v": [[1]]}', "claims to be a set"),
    "a blob that was not sent": ('{"$": "bytes", "blob": 0}', "not sent"),
    "a blob by path": ('{"$": "bytes", "blob": "../../../etc/passwd"}', "not sent"),
    "a blob before the first": ('{"$": "bytes", "blob": -1}', "not sent"),
    "a month 13": ('{"$": "date", "v": "2020-13-01"}', "claims to be a date"),
    "a zone of its own": (
        '{"$": "datetime", "v": "2020-01-01T00:00:00+01:00", "z": null, "f": 0}',
        "claims to be a datetime",
    ),
    "a zone that is a path": (
        '{"$": "datetime", "v": "2020-01-01", "z": ["zone", "../../../etc/passwd", 0], "f": 0}',
        "time zone",
    ),
    "a zone that dateutil would open": (
        '{"$": "tz", "v": ["zone", "dateutil//etc/passwd", 0]}',
        "time zone",
    ),
    "an offset of a year": ('{"$": "tz", "v": ["offset", 31536000, null]}', "claims to be a tz"),
    "a fraction by zero": ('{"$": "fraction", "v": [1, 0]}', "claims to be a fraction"),
    "a range of text": ('{"$": "range", "v": ["a", 1, 1]}', "number"),
    "too short a shape": ('{"$": "objects", "shape": [3], "v": [1]}', "shape"),
    "a huge shape": ('{"$": "objects", "shape": [1000000000000], "v": []}', "shape"),
    "a period of source": ('{"$": "period", "v": 1, "f": "__import__"}', "claims to be a period"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_lie(kind: str, tmp_path: Path) -> None:
    text, says = TEXTS[kind]
    with pytest.raises(Refused) as refusal:
        decoded(tmp_path, text)
    assert refusal.value.kind == "malformed"
    assert says in refusal.value.text


def frame_node(**store: Any) -> str:
    """A frame of one column of numbers, stored as told."""
    empty = {"rows": 1, "kinds": ["text"], "v": [["a"]]}
    label = {
        "k": "array",
        "a": {"k": "text", "m": "none", "p": 0, "t": "object"},
        "freq": None,
        "name": None,
    }
    rows = store.get("rows", 3)
    return json.dumps(
        {
            "$": "frame",
            "index": {"k": "range", "v": [0, rows, 1], "name": None},
            "columns": {"i": label, "store": empty},
            "data": [store.pop("column", {"k": "number", "p": 0, "t": "float64"})],
            "store": {"rows": 3, "kinds": ["f8"], **store},
        }
    )


def arrow_of(array: Any, **options: Any) -> bytes:
    """An Arrow stream of one column."""
    table = pyarrow.table({"0": array})
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(
        sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue()


NUMBERS = pyarrow.array([1.0, 2.0, 3.0])
WORDS = {"k": "text", "m": "none", "p": 0, "t": "object"}
STORES: dict[str, tuple[str, list[bytes]]] = {
    "other rows": (frame_node(v=[[1.0, 2.0]]), []),
    "another kind": (frame_node(v=[["a", "b", "c"]]), []),
    "an unknown kind": (frame_node(kinds=["O8"], v=[[1, 2, 3]]), []),
    "no columns": (frame_node(v=[]), []),
    "a missing column": (frame_node(v=[[1.0, 2, 3]], column={"k": "number", "p": 7, "t": ""}), []),
    "a pickle as columns": (frame_node(blob=0), [pickled()]),
    "rows that no file holds": (frame_node(rows=10**7, blob=0), [arrow_of(NUMBERS)]),
    "rows beyond the limit": (frame_node(rows=10**15, blob=0), [arrow_of(NUMBERS)]),
    "fewer rows than claimed": (frame_node(rows=4, blob=0), [arrow_of(NUMBERS)]),
    "more rows than claimed": (frame_node(rows=2, blob=0), [arrow_of(NUMBERS)]),
    "no Arrow": (frame_node(blob=0), [b"x" * 100]),
    "half of an Arrow": (frame_node(blob=0), [arrow_of(NUMBERS)[:-30]]),
    "compressed Arrow": (
        frame_node(blob=0),
        [arrow_of(pyarrow.array([1.0] * 100_000), compression="zstd")],
    ),
    "Arrow of another kind": (
        frame_node(blob=0), [arrow_of(pyarrow.array([1, 2, 3]))]
    ),
    "Arrow with holes": (
        frame_node(blob=0), [arrow_of(pyarrow.array([1.0, None, 3.0]))]
    ),
    "an array as columns": (frame_node(blob=0), [npy({**FLOATS, "shape": (3,)}, b"\0" * 24)]),
    "texts with other rows": (frame_node(kinds=["text"], column=WORDS, v=[["a", "b"]]), []),
    "texts with other columns": (
        frame_node(kinds=["text"], column=WORDS, v=[["a", "b", "c"], ["d", "e", "f"]]), []
    ),
    "texts that are numbers": (frame_node(kinds=["text"], column=WORDS, v=[[1, 2, 3]]), []),
    "numbers that are texts": (frame_node(v=[[1.0, "2", 3.0]]), []),
    "numbers too large for their kind": (frame_node(kinds=["i1"], v=[[1, 2, 300]]), []),
    "bytes that are no base64": (
        frame_node(kinds=["bytes"], column={**WORDS, "k": "bytes"}, v=[["YQ==", None, "%"]]), []
    ),
    "rows that no text holds": (
        frame_node(rows=10**7, kinds=["text"], column=WORDS, v=[["a", "b", "c"]]), []
    ),
    "codes of no category": (
        frame_node(kinds=["i8"], v=[[0, 5, 1]], column={
            "k": "category", "p": 0, "o": False, "t": "category",
            "c": {"i": {"k": "range", "v": [0, 2, 1], "name": None},
                  "store": {"rows": 2, "kinds": [], "v": []}}}),
        [],
    ),
    "an unknown time unit": (
        frame_node(kinds=["i8"], v=[[1, 2, 3]], column={"k": "M", "u": "generic", "p": 0, "t": ""}),
        [],
    ),
    "cells of source": (
        frame_node(kinds=["text"], v=[["print(1)"] * 3], column={"k": "json", "p": 0, "t": ""}),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", STORES)
def test_tables_that_lie(kind: str, tmp_path: Path) -> None:
    text, blobs = STORES[kind]
    with pytest.raises(Refused) as refusal:
        decoded(tmp_path, text, *blobs)
    assert refusal.value.kind == "malformed"


ARROWS: dict[str, bytes] = {
    "compressed": arrow_of(pyarrow.array([1.0] * 100_000), compression="lz4"),
    "rows without bytes": arrow_of(pyarrow.nulls(LIMIT + 1)),
    "a pickle": pickled(),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", ARROWS)
def test_arrow_that_lies(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        decoded(tmp_path, '{"$": "arrow", "kind": "table", "blob": 0}', ARROWS[kind])
    assert refusal.value.kind == "malformed"


OFFSETS = struct.pack("<3i", 0, 1, 3)
WILD = {
    "past the end": struct.pack("<3i", 0, 1, 2**31 - 1),
    "before the start": struct.pack("<3i", 0, -(2**31), 3),
    "far away": struct.pack("<3i", 2**30, 2**30 + 1, 2**30 + 2),
}


@pytest.mark.parametrize("kind", WILD)
@pytest.mark.parametrize(
    "array",
    [
        pyarrow.array([["abcde"], ["xx", "yy"]]),
        pyarrow.array([[["abcde"]], [["xx"], ["yy"]]]),
        pyarrow.array([[{"a": [1]}], [{"a": [2]}, {"a": None}]]),
        pyarrow.array([[("k", 1)], [("l", 2), ("m", 3)]], pyarrow.map_("string", "int8")),
    ],
    ids=lambda array: str(array.type),
)
def test_offsets_are_checked_before_anything_follows_them(
    array: Any, kind: str, tmp_path: Path
) -> None:
    blob = arrow_of(array)
    assert OFFSETS in blob
    with pytest.raises(Refused) as refusal:
        text = '{"$": "arrow", "kind": "table", "blob": 0}'
        decoded(tmp_path, text, blob.replace(OFFSETS, WILD[kind]))
    assert refusal.value.kind == "malformed"


NOT_TAKEN: dict[str, Callable[[], Any]] = {
    "dense_union": lambda: pyarrow.UnionArray.from_dense(
        pyarrow.array([0, 1], pyarrow.int8()),
        pyarrow.array([0, 0], pyarrow.int32()),
        [pyarrow.array([1]), pyarrow.array(["b"])],
    ),
    "sparse_union": lambda: pyarrow.UnionArray.from_sparse(
        pyarrow.array([0, 1], pyarrow.int8()), [pyarrow.array([1, 2]), pyarrow.array(["a", "b"])]
    ),
    "run_end_encoded": lambda: pyarrow.RunEndEncodedArray.from_arrays(
        pyarrow.array([1, 3], pyarrow.int32()), pyarrow.array(["a", "b"])
    ),
    "string_view": lambda: pyarrow.array(["a"], pyarrow.string_view()),
    "binary_view": lambda: pyarrow.array([b"a"], pyarrow.binary_view()),
    "list_view": lambda: pyarrow.array([[1]], pyarrow.list_view(pyarrow.int8())),
    "dictionary<values=struct": lambda: pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0]), pyarrow.array([{"a": 1}])
    ),
}


@pytest.mark.parametrize("kind", NOT_TAKEN)
@pytest.mark.parametrize("inside", ["", "a list", "a struct"])
def test_arrow_types_that_are_not_taken(kind: str, inside: str, tmp_path: Path) -> None:
    array = NOT_TAKEN[kind]()
    if inside == "a list":
        ends = pyarrow.array([0, len(array)], pyarrow.int32())
        array = pyarrow.ListArray.from_arrays(ends, array)
    elif inside:
        array = pyarrow.StructArray.from_arrays([array], ["x"])
    with pytest.raises(Refused, match="holds the Arrow type"):
        decoded(tmp_path, '{"$": "arrow", "kind": "table", "blob": 0}', arrow_of(array))
    with pytest.raises(Refused, match="holds the Arrow type"):
        there_and_back(array)


class Registered(pyarrow.ExtensionType):  # type: ignore[misc]
    """An extension type such as libraries register: its metadata is handed to Python."""

    read: list[bytes] = []

    def __init__(self) -> None:
        super().__init__(pyarrow.int8(), "tests.registered")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"perhaps a pickle"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Registered:
        cls.read.append(serialized)
        return cls()


def test_no_library_reads_the_metadata_of_its_extension_type(tmp_path: Path) -> None:
    array = pyarrow.ExtensionArray.from_storage(Registered(), pyarrow.array([1], pyarrow.int8()))
    in_lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, 1], pyarrow.int32()), array)
    in_dictionary = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0]), array)
    pyarrow.register_extension_type(Registered())
    try:
        blobs = [arrow_of(made) for made in (array, in_lists, in_dictionary)]
        Registered.read.clear()
        for blob in blobs:
            with pytest.raises(Refused, match="extension type"):
                decoded(tmp_path, '{"$": "arrow", "kind": "table", "blob": 0}', blob)
        assert Registered.read == []
    finally:
        pyarrow.unregister_extension_type("tests.registered")


@pytest.mark.parametrize("version", ["none", "13.0.0", "14.0.0"])
def test_arrow_without_a_pyarrow_that_reads_it_safely(version: str, tmp_path: Path) -> None:
    """A sandbox may send Arrow although it was told that nobody here can read it."""
    (tmp_path / "b0").write_bytes(arrow_of(NUMBERS))
    told = tmp_path / "path" / f"pyarrow-{version}.dist-info" / "METADATA"
    if version != "none":
        told.parent.mkdir(parents=True)
        told.write_text(f"Metadata-Version: 2.1\nName: pyarrow\nVersion: {version}\n")
    texts = ['{"$": "arrow", "kind": "table", "blob": 0}', frame_node(blob=0)]
    code = f"""{WITHOUT_ARROW if version == "none" else ""}
import sys
sys.path.insert(0, {str(tmp_path / "path")!r})
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.named import DECODERS
from agentbay_kernel.sandbox.exchange.values import Refused
for text in {texts!r}:
    try:
        Decoder({str(tmp_path)!r}, 1, 10**6, DECODERS).loads(text)
    except Refused as refusal:
        print(refusal.kind, refusal.text)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    says = "lacking is Arrow and needs pyarrow 14.0.1 or newer, which is not installed where it"
    assert done.stdout.splitlines() == [f"{says} arrives"] * 2, done.stderr


def test_a_stream_is_what_was_told(tmp_path: Path) -> None:
    told = "0" * 64
    for data, sizes in (([b"abc"], [4]), ([b"abc"], [2]), ([b"abc"], [3]), ([], [1]), ([b""], [0])):
        with pytest.raises(Refused):
            unpack(data, str(tmp_path), sizes, told)
    endless = iter(lambda: b"x" * 1000, None)
    stream = Stream(endless)
    assert sum(map(len, stream.take(5))) == 5
    with pytest.raises(Refused):
        stream.end(told)


RICH = {
    "scalars": [1, 2.5, None, True, 2**70, float("nan"), b"abc", 1j, (1, {2})],
    "time": [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "array": numpy.arange(5),
    "frame": pandas.DataFrame(
        {"a": [1, 2], "b": ["x", None], "c": pandas.Categorical(["u", "v"])},
        index=pandas.MultiIndex.from_tuples([(1, "p"), (2, "q")]),
    ),
    "zone": pandas.Series(pandas.date_range("2020", periods=2, tz="Europe/Berlin")),
}
LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just({"$": "na"})
    | st.just([])
    | st.just({})
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all parts of a tree."""
    found = [path] if path else []
    if isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            found += places(item, (*path, key))
    return found


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rich")
    encoder = Encoder(str(folder), LIMIT, str, ENCODERS)
    text, _ = encode_named(RICH.items(), encoder)
    assert not encoder.blobs
    return text.decode()


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_part_that_was_changed_is_refused_or_harmless(data: Any, rich: str) -> None:
    tree = json.loads(rich)
    *above, last = data.draw(st.sampled_from(places(tree)))
    holder = tree
    for step in above:
        holder = holder[step]
    holder[last] = data.draw(LEAVES)
    decoder = Decoder("/nowhere", 0, LIMIT, DECODERS)
    try:
        decoder.loads(json.dumps(tree))
    except Refused as refusal:
        assert refusal.kind in ("malformed", "unsupported")


@pytest.mark.parametrize(
    "make",
    [
        lambda: arrow_of(NUMBERS),
        lambda: arrow_of(pyarrow.array(["a", "é", None]).dictionary_encode()),
        lambda: arrow_of(pyarrow.array([[{"x": "a"}], None, []])),
        lambda: npy({**FLOATS, "shape": (3,)}, b"\0" * 24),
    ],
    ids=["arrow", "arrow-dictionary", "arrow-nested", "npy"],
)
@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_that_were_changed_are_refused_or_harmless(
    make: Callable[[], bytes], data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blob = bytearray(make())
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(blob) - 1), st.integers(0, 255)), max_size=4)
    ):
        blob[place] = byte
    folder = tmp_path_factory.mktemp("changed")
    for text in (
        frame_node(blob=0),
        '{"$": "arrow", "kind": "table", "blob": 0}',
        '{"$": "npy", "blob": 0}',
    ):
        try:
            decoded(folder, text, bytes(blob))
        except Refused as refusal:
            assert refusal.kind == "malformed"
