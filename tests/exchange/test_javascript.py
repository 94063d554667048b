"""Values to JavaScript and back, through a real Node: any of those that both have."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import agentbay_kernel.sandbox.exchange
from agentbay_kernel.exchange.javascript import JavaScriptEncoder
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS, decode_named, encode_named
from agentbay_kernel.sandbox.exchange.pieces import unpack
from agentbay_kernel.sandbox.exchange.values import Refused
from tests.exchange.codec import same

JOBS = Path(agentbay_kernel.sandbox.exchange.__file__).with_name("jobs.js")
LIMIT = 10_000_000
DRIVER = """
const jobs = require(process.argv[1]);
require('node:readline').createInterface({ input: process.stdin }).on('line', (base) => {
  jobs.serve(base);
  console.log('done');
});
"""


class Node:
    """A Node process that does jobs."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node is not None
        self._process = subprocess.Popen(
            [node, "-e", DRIVER, str(JOBS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, base: Path, job: dict[str, Any]) -> dict[str, Any]:
        """Have a job done; returns its report."""
        assert self._process.stdin is not None and self._process.stdout is not None
        base.with_suffix(".job").write_text(json.dumps(job))
        self._process.stdin.write(f"{base}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"
        report: dict[str, Any] = json.loads(base.with_suffix(".report").read_text())
        return report

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    running = Node()
    yield running
    running.close()


def there_and_back(node: Node, value: Any) -> tuple[Any, list[str]]:
    """A value after its way to JavaScript and back, and what was noted."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "j"
        encoder = JavaScriptEncoder(folder, LIMIT, str, ENCODERS)
        text, told = encode_named([("x", value)], encoder)
        job: dict[str, Any] = {"do": "load", "limit": LIMIT, "text": text.decode()}
        if encoder.blobs:
            blobs = [Path(path).read_bytes() for path in encoder.blobs]
            job |= pieces_of(base, [text, *blobs])
        report = node.do(base, job)
        assert "refused" not in report, report
        job = {"do": "store", "names": ["x"], "limit": LIMIT, "numpy": True}
        report = node.do(base, job)
        if "refused" in report:
            raise Refused(*report["refused"])
        back, blobs_back = report["text"], 0
        if back is None:
            pack = base.with_suffix(".pack").read_bytes()
            back = unpack([pack], folder, report["sizes"], report["sha256"])
            blobs_back = len(report["sizes"]) - 1
        values, _ = decode_named(back, Decoder(folder, blobs_back, LIMIT, DECODERS))
        return values["x"], [note for _, note in [*told, *report["notes"]]]


def pieces_of(base: Path, parts: list[bytes]) -> dict[str, Any]:
    """Write a stream as pieces, cut where nothing ends."""
    stream = b"".join(parts)
    for offset in range(0, len(stream), 999):
        piece = base64.b64encode(stream[offset : offset + 999])
        Path(f"{base}.p-{offset:015d}").write_bytes(piece)
    digest = hashlib.sha256(stream).hexdigest()
    return {"text": None, "sizes": [len(part) for part in parts], "sha256": digest}


def as_javascript_has_it(value: Any) -> Any:
    """1.0 is 1 there, and two halves of a surrogate pair that meet are one character."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return value if value == 0 and math.copysign(1, value) < 0 else int(value)
    if isinstance(value, list):
        return [as_javascript_has_it(item) for item in value]
    if isinstance(value, dict):
        return {key: as_javascript_has_it(item) for key, item in value.items()}
    return value


NEW_YEAR = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
MILLISECONDS = st.datetimes(timezones=st.just(datetime.UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Lu"]))
    | st.binary()
    | MILLISECONDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(st.integers() | st.binary(max_size=0) | st.none(), inner, max_size=3)
        | st.sets(st.text() | st.integers(), max_size=4)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(value=VALUES)
@example(value={"__proto__": 1, "constructor": {"$": "int"}, "$": 2})
@example(value=["é" * 40_000, b"\0\xff" * 40_000, {"deep": ["x" * 40_000]}])
@example(value={"a": 1, "10": 2, "9": {"0": None}})
@example(value=[2**53, -(2**53), 2**53 - 1, 1e300, -0.0, 5e-324])
def test_what_both_have_comes_back(node: Node, value: Any) -> None:
    back, notes = there_and_back(node, value)
    sorts = "an object has the names that are whole numbers first" in notes
    assert same(back, as_javascript_has_it(value), ordered=not sorts)


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", ">i4", ">f8"]
)
@pytest.mark.parametrize("size", [0, 5, 20_000])
def test_typed_arrays(node: Node, dtype: str, size: int) -> None:
    array = numpy.arange(size).astype(dtype)
    back, notes = there_and_back(node, array)
    assert notes == []
    if dtype == "u1":
        assert back == array.tobytes()
    else:
        assert back.dtype == array.dtype.newbyteorder("<") and numpy.array_equal(back, array)


@pytest.mark.parametrize(
    ("value", "arrives", "says"),
    [
        ((1, 2), [1, 2], "a tuple arrives as an Array"),
        (range(2), [0, 1], "a range arrives"),
        (datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC), "a date"),
        (
            datetime.datetime(2024, 5, 1, 12),
            datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
            "without a time zone",
        ),
        (datetime.time(12, 30), "12:30:00", "a time arrives as a string"),
        (datetime.timedelta(seconds=1.5), 1500, "milliseconds"),
        (numpy.float32(0.5), 0.5, None),
        (numpy.arange(4).reshape(2, 2), [[0, 1], [2, 3]], "Arrays of its items"),
        (numpy.array(["a"]), ["a"], "Arrays of its items"),
        (pandas.Series([1.5, None], index=["a", "b"]), [1.5, float("nan")], "without its index"),
        (pandas.Series(["a", None]), ["a", None], "without its index"),
        (pandas.Series([1, None], dtype="Int64"), [1, None], "without its index"),
        (pandas.Index(["a"]), ["a"], "an Index arrives"),
        (pandas.Timestamp("2024", tz="UTC"), NEW_YEAR, None),
        ([pandas.NaT, pandas.NA], [None, None], "arrives as null"),
        (
            pandas.DataFrame({"x": [1]}, index=pandas.Index(["r"], name="k")),
            [{"k": "r", "x": 1}],
            "properties of each row",
        ),
        (pyarrow.table({"x": [1, None]}), [{"x": 1}, {"x": None}], "objects, one a row"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_changes_is_noted(node: Node, value: Any, arrives: Any, says: str | None) -> None:
    back, notes = there_and_back(node, value)
    assert same(back, arrives)
    assert any(says in note for note in notes) if says else notes == []


@pytest.mark.parametrize("value", [1j, slice(1), print, ...], ids=repr)
def test_what_javascript_has_not_is_refused(node: Node, value: Any) -> None:
    with pytest.raises(Refused, match=r"which (JavaScript has not|can't be transferred)"):
        there_and_back(node, [value])
