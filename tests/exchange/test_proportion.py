"""What takes few bytes to send takes few steps and little memory to build, or is refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.named import DECODERS
from agentbay_kernel.sandbox.exchange.values import Refused
from tests.exchange.codec import same, there_and_back

LIMIT = 2_000_000_000
MODULUS = 2**61 - 1


def decoded(text: str, *blobs: bytes) -> Any:
    """The value of a text, with blobs beside it."""
    with tempfile.TemporaryDirectory() as folder:
        for number, blob in enumerate(blobs):
            Path(folder, f"b{number}").write_bytes(blob)
        return Decoder(folder, len(blobs), LIMIT, DECODERS).loads(text)


def tagged(tag: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"$": tag, "v": value, **more}


def integer(value: int) -> Any:
    return value if abs(value) < 2**53 else tagged("int", hex(value))


def one_hash(n: int) -> list[int]:
    return [k * MODULUS for k in range(1, n + 1)]


def npy(shape: tuple[int, ...], descr: Any, data: bytes = b"") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def full_of(rows: int) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.zeros(rows))
    return buffer.getvalue()


def one_path(n: int) -> list[int]:
    """Numbers of different hashes that all start where a dict's table is full, and go on along it.

    The places that a dict tries end in i = 5 * i + 1, a circle through all of them: the first
    half fills a stretch of it, the others start in front of that.
    """
    size = 1
    while size * 2 < n * 3:
        size *= 2
    place, filling = 0, []
    for _ in range(n // 2):
        filling.append(place)
        place = (5 * place + 1) % size
    return filling + [size * k for k in range(1, n // 2)]


def growing_dictionary() -> bytes:
    sink = io.BytesIO()
    schema = pyarrow.schema([("x", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))])
    options = pyarrow.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pyarrow.ipc.new_stream(sink, schema, options=options) as writer:
        for n in range(1, 20):
            words = pyarrow.array([f"w{k}" for k in range(n)])
            array = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0], pyarrow.int32()), words)
            writer.write_batch(pyarrow.record_batch([array], schema=schema))
    return sink.getvalue()


def shared_columns(columns: int, size: int) -> bytes:
    """A batch of columns of one text each, all of them over the bytes of the first."""
    schema = pyarrow.schema([(str(n), pyarrow.large_utf8()) for n in range(columns)])
    arrays = [pyarrow.array(["a" * size], pyarrow.large_utf8()) for _ in range(columns)]
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    data = sink.getvalue()

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    # A column's places are in the header: (offset, length) of what is missing, where its texts
    # start, and the texts.
    step = 16 + size
    for n in range(1, columns):
        for offset, length in ((0, 16), (16, size)):
            told = number(n * step + offset) + number(length)
            assert told in data
            data = data.replace(told, number(offset) + number(length), 1)
    body = number(columns * step)
    assert data.count(body) == 1
    end = data.index(b"a" * size) + size
    return data.replace(body, number(step))[:end] + b"\xff\xff\xff\xff\0\0\0\0"


def views() -> bytes:
    sink = io.BytesIO()
    table = pyarrow.table({"x": pyarrow.array(["a" * 100] * 10, pyarrow.string_view())})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def frame(rows: int, kinds: list[str], data: list[Any], **store: Any) -> dict[str, Any]:
    columns = {"k": "range", "v": [0, len(data), 1], "name": None}
    return {
        "$": "frame",
        "index": {"k": "range", "v": [0, rows, 1], "name": None},
        "columns": {"i": columns, "store": {"rows": len(data), "kinds": [], "v": []}},
        "data": data,
        "store": {"rows": rows, "kinds": kinds, **store},
    }


def series(array: dict[str, Any], rows: int, kinds: list[str], blob: int) -> dict[str, Any]:
    return {
        "$": "series",
        "name": None,
        "index": {"k": "range", "v": [0, rows, 1], "name": None},
        "data": array,
        "store": {"rows": rows, "kinds": kinds, "blob": blob},
    }


def arrow_of(values: Any) -> bytes:
    """A stream of one column."""
    sink = io.BytesIO()
    table = pyarrow.table({"0": values})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def compressed(name: str) -> Any:
    """Numbers that are a compressed buffer of 10,000 times their bytes."""
    size = 100_000_000
    data = pyarrow.compress(b"\0" * size, codec=name, asbytes=True)
    return numpy.frombuffer(size.to_bytes(8, "little") + data, "i1")


def compressed_by_metadata(name: str) -> bytes:
    """A batch that says in its metadata, as that of Arrow 0.17, that it is compressed."""
    batch = pyarrow.record_batch([pyarrow.array(compressed(name))], names=["0"])
    options = pyarrow.ipc.IpcWriteOptions(metadata_version=pyarrow.ipc.MetadataVersion.V4)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": name})
    return sink.getvalue()


def batches_over_one_dictionary(batches: int, size: int) -> bytes:
    words = pyarrow.array(["x" * size])
    array = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0], pyarrow.int8()), words)
    batch = pyarrow.record_batch([array], names=["0"])
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return sink.getvalue()


NUMBER = {"t": "float64", "k": "number", "p": 0}
N = 24_000
# Of one hash.
ALIKE = 3_000
# Text and blobs. Each would take the square of its bytes in steps, or many times them in memory.
DEAR: dict[str, Callable[[], tuple[Any, list[bytes]]]] = {
    "a set of one hash": lambda: (tagged("set", list(map(integer, one_hash(ALIKE)))), []),
    "a frozenset of one hash": lambda: (
        tagged("frozenset", list(map(integer, one_hash(ALIKE)))),
        [],
    ),
    "a set of one hash among others": lambda: (
        tagged("set", [*range(1, ALIKE), *map(integer, one_hash(ALIKE))]),
        [],
    ),
    "keys of one hash": lambda: (
        tagged("dict", [[integer(k), None] for k in one_hash(ALIKE)]),
        [],
    ),
    "tuples of one hash": lambda: (
        tagged("set", [tagged("tuple", [1, integer(k)]) for k in one_hash(ALIKE)]),
        [],
    ),
    "frozensets of one hash": lambda: (
        tagged("set", [tagged("frozenset", [integer(k)]) for k in one_hash(ALIKE)]),
        [],
    ),
    "fractions of one hash": lambda: (
        tagged("set", [tagged("fraction", [integer(k), 1]) for k in one_hash(ALIKE)]),
        [],
    ),
    "decimals of one hash": lambda: (
        tagged("set", [tagged("decimal", str(k)) for k in one_hash(ALIKE)]),
        [],
    ),
    "texts among numbers of one hash": lambda: (
        tagged("set", ["a", "b", *map(integer, one_hash(ALIKE))]),
        [],
    ),
    "keys along one path": lambda: (
        tagged("dict", [[k, None] for k in one_path(174_000)]),
        [],
    ),
    "a large frozenset of numbers": lambda: (tagged("frozenset", list(range(N))), []),
    "a common divisor": lambda: (
        tagged(
            "fraction", [tagged("int", "0x" + "7" * 40_000), tagged("int", "0x" + "3" * 40_001)]
        ),
        [],
    ),
    "a blob as many values": lambda: (
        [{"$": "bytes", "blob": 0} for _ in range(1000)],
        [b"x" * 100_000],
    ),
    "a blob as many arrays": lambda: (
        [{"$": "npy", "blob": 0} for _ in range(1000)],
        [full_of(10_000)],
    ),
    "a column as many columns": lambda: (
        frame(10_000, ["f8"], [NUMBER] * 1000, blob=0),
        [arrow_of(numpy.zeros(10_000))],
    ),
    "a file as many tables": lambda: (
        [frame(10_000, ["f8"], [NUMBER], blob=0)] * 1000,
        [arrow_of(numpy.zeros(10_000))],
    ),
    "axes without end": lambda: (tagged("objects", [], shape=[10**16] * 60_000), []),
    "an empty array of huge items": lambda: ({"$": "npy", "blob": 0}, [npy((0,), "|V2000000000")]),
    "an empty array of a huge part": lambda: (
        {"$": "npy", "blob": 0},
        [npy((0,), [("a", "<f8", (20_000, 10_000))])],
    ),
    "a float of many digits": lambda: ("[1." + "0" * 100_000 + "1]", []),
    "Arrow that shares its bytes": lambda: (
        {"$": "arrow", "kind": "table", "blob": 0},
        [shared_columns(50, 100_000)],
    ),
    "Arrow columns that share their bytes": lambda: (
        frame(
            1,
            ["text"] * 50,
            [{"t": "object", "k": "text", "m": "none", "p": n} for n in range(50)],
            blob=0,
        ),
        [shared_columns(50, 100_000)],
    ),
    "Arrow that is compressed by the metadata of a message": lambda: (
        {"$": "arrow", "kind": "table", "blob": 0},
        [compressed_by_metadata("zstd")],
    ),
    "Arrow columns that are compressed by the metadata of a message": lambda: (
        frame(len(compressed("lz4")), ["i1"], [{**NUMBER, "t": "int8"}], blob=0),
        [compressed_by_metadata("lz4")],
    ),
    "Arrow's views": lambda: ({"$": "arrow", "kind": "table", "blob": 0}, [views()]),
    "a dictionary of many batches": lambda: (
        {"$": "arrow", "kind": "table", "blob": 0},
        [batches_over_one_dictionary(5000, 1_000_000)],
    ),
    "a dictionary that grows": lambda: (
        {"$": "arrow", "kind": "table", "blob": 0},
        [growing_dictionary()],
    ),
    "categories twice": lambda: (
        series(
            {
                "t": "category",
                "k": "category",
                "p": 0,
                "o": False,
                "c": {
                    "i": {
                        "k": "array",
                        "a": {"t": "int64", "k": "number", "p": 0},
                        "freq": None,
                        "name": None,
                    },
                    "store": {"rows": N, "kinds": ["i8"], "blob": 1},
                },
            },
            1,
            ["i8"],
            0,
        ),
        [
            arrow_of(numpy.zeros(1, "i8")),
            arrow_of(numpy.sort(numpy.repeat(numpy.arange(N // 2), 2))),
        ],
    ),
}


# Slow to make; `make test` has others whose keys are alike.
SLOW = ("keys along one path",)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in DEAR]
)
def test_what_is_dear_to_build_is_refused(kind: str) -> None:
    node, blobs = DEAR[kind]()
    text = node if isinstance(node, str) else json.dumps(node)
    with pytest.raises(Refused):
        decoded(text, *blobs)


HONEST: dict[str, Any] = {
    "a set of large numbers": lambda: {random.Random(n).getrandbits(70) for n in range(50_000)},
    "a set of floats": lambda: {n / 7 for n in range(50_000)},
    "a set of moments": lambda: set(pandas.date_range("2020", periods=1000, freq="h")),
    "a dict of tuples": lambda: {(n, -n): n for n in range(50_000)},
    "a dict of multiples": lambda: {n << 20: n for n in range(50_000)},
    "a frozenset of words": lambda: frozenset(f"word {n}" for n in range(50_000)),
    "a frozenset of numbers": lambda: frozenset(range(20_000)),
}


@pytest.mark.parametrize("kind", HONEST)
def test_what_is_honest_arrives(kind: str) -> None:
    value = HONEST[kind]()
    back, notes = there_and_back(value)
    assert back == value and type(back) is type(value) and notes == []


def test_dictionaries_of_many_batches_arrive() -> None:
    words = pyarrow.array([f"a rather long word {n}" for n in range(1000)])
    chunks = [
        pyarrow.DictionaryArray.from_arrays(pyarrow.array([1, 2], pyarrow.int32()), words)
        for _ in range(100)
    ]
    table = pyarrow.table({"x": pyarrow.chunked_array(chunks)})
    back, _ = there_and_back(table)
    assert back == table


def test_unsorted_categories_arrive_if_they_are_few_or_as_their_items() -> None:
    numbers = numpy.random.default_rng(1).permutation(30_000)
    for length, arrives in ((1000, "category"), (30_000, "int64")):
        column = pandas.Series(pandas.Categorical(numbers[:length], categories=numbers[:length]))
        back, notes = there_and_back(column)
        assert str(back.dtype) == arrives and list(back) == list(column)
        assert bool(notes) is (arrives == "int64")
    in_order = pandas.Series(pandas.Categorical(numbers))
    assert str(there_and_back(in_order)[0].dtype) == "category"


def test_zones_that_are_not_known_are_told_a_hundred_times_at_most() -> None:
    zones = [{"$": "tz", "v": ["zone", f"Nowhere/Z{n}", 0]} for n in range(300)]
    with tempfile.TemporaryDirectory() as folder:
        decoder = Decoder(folder, 0, LIMIT, DECODERS)
        decoder.loads(json.dumps(zones))
    assert len(decoder.notes) == 100


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.integers(-(2**80), 2**80).map(lambda n: tagged("int", hex(n))),
    st.sampled_from([0, 1]).map(lambda n: {"$": "npy", "blob": n}),
    st.sampled_from([0, 1]).map(lambda n: {"$": "bytes", "blob": n}),
    st.just({"$": "arrow", "kind": "table", "blob": 1}),
    st.integers(0, 10**15).map(lambda n: tagged("range", [0, n, 1])),
    st.integers(0, 10**15).map(lambda n: tagged("decimal", f"1e{n}")),
    st.lists(st.integers(0, 10**15), max_size=4).map(lambda s: tagged("objects", [], shape=s)),
    st.integers(0, 10**12).map(lambda rows: frame(rows, [], [])),
    st.tuples(st.integers(0, 10**12), st.integers(1, 50)).map(
        lambda told: frame(told[0], ["f8"], [NUMBER] * told[1], blob=1)
    ),
)
NODES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.builds(
            tagged, st.sampled_from(["tuple", "set", "frozenset", "slice", "fraction"]),
            st.lists(inner, max_size=20),
        ),
        st.lists(st.tuples(inner, inner), max_size=10).map(lambda pairs: tagged("dict", pairs)),
    ),
    max_leaves=40,
)  # fmt: skip


@given(NODES, st.integers(0, 20_000))
@settings(max_examples=100)
def test_memory_is_in_proportion_to_the_bytes(node: Any, rows: int) -> None:
    text, blobs = json.dumps(node), [full_of(rows), arrow_of(numpy.zeros(rows))]
    assert peak_of(lambda: decoded(text, *blobs)) < (
        4 * sum(map(len, blobs)) + 100 * len(text) + 300_000
    )


def peak_of(work: Callable[[], Any]) -> int:
    """The bytes that it takes at most, measured in a fork: threads of other tests stay behind."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        tracemalloc.start()
        with contextlib.suppress(Refused):
            work()
        os.write(writing, str(tracemalloc.get_traced_memory()[1]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        peak = told.read()
    os.waitpid(pid, 0)
    return int(peak)


class Counted(int):
    """A number that counts how often it is compared."""

    compared = 0

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other


def comparisons(numbers: list[int]) -> int:
    """How often numbers are compared while the set of them is decoded."""
    counting = {"counted": lambda decoder, node, depth: Counted(node["v"], 16)}
    nodes = [tagged("counted", hex(number)) for number in numbers]
    Counted.compared = 0
    made = Decoder("", 0, LIMIT, counting).loads(json.dumps(tagged("set", nodes)))
    assert len(made) == len(numbers)
    return Counted.compared


@given(st.integers(1, 100), st.integers(0, 2**61), st.integers(1, 5))
@settings(max_examples=30)
def test_comparisons_are_in_proportion_to_the_keys(alike: int, start: int, times: int) -> None:
    """Of `alike` keys that share a hash, each is compared with the others at most."""
    groups = [[start + n + k * MODULUS for k in range(alike)] for n in range(10 * times)]
    numbers = [number for group in groups for number in group]
    assert comparisons(numbers) <= 4 * alike * len(numbers)


def test_no_more_keys_than_that_share_a_hash() -> None:
    assert comparisons(one_hash(100)) > 100
    with pytest.raises(Refused, match="more than 100 keys of one hash"):
        comparisons(one_hash(101))


def test_what_arrives_is_the_same_after_all() -> None:
    value = [{1, 2.5, "a"}, {(1, 2): {3}}, frozenset({1}), 2**100, {-1: 0, -2: 0}]
    assert same(there_and_back(value)[0], value)
