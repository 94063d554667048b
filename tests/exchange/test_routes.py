"""Values into real sessions and out of them: every execution on every route."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

from agentbay_kernel.exchange import Progress
from tests.exchange.codec import same
from tests.exchange.conftest import Bench

FRAME = pandas.DataFrame(
    {
        "number": numpy.arange(400) / 3,
        "text": ["é", None] * 200,
        "at": pandas.date_range("2024-10-26", periods=400, freq="h", tz="Europe/Berlin"),
        "kind": pandas.Categorical(["a", "b", "c", None] * 100, ordered=True),
        "count": pandas.array([1, None] * 200, dtype="Int16"),
        "any": pandas.Series([1, "x", None, [1.5, {"y": b"z"}]] * 100, dtype=object),
    },
    index=pandas.MultiIndex.from_product([["p", "q"], range(200)], names=["k", ("n", 1)]),
)
VALUES: dict[str, Any] = {
    "number": 2**80,
    "special": [float("nan"), float("-inf"), -0.0],
    "nested": {"a": [1, (2, {3}), None], 5: b"\0\xff"},
    "text": "x'\"\n\\\ud800😀",
    "long": "é" * 100_000,
    "moment": datetime.datetime(2024, 10, 27, 2, 30, tzinfo=datetime.UTC),
    "bytes": bytes(range(256)) * 500,
    "__dunder": 1,
}


# `make test` has a route with streams and one without, and both executions; what the link route
# carries is in `tests/execution/test_tunnel.py`.
everywhere = pytest.mark.parametrize(
    ("benches", "every_bench"),
    [
        ("websocket", "bridged"),
        ("action", "direct"),
        pytest.param("link", "bridged", marks=pytest.mark.slow),
        pytest.param("websocket", "direct", marks=pytest.mark.slow),
        pytest.param("link", "direct", marks=pytest.mark.slow),
        pytest.param("action", "bridged", marks=pytest.mark.slow),
    ],
    indirect=True,
)


@everywhere
def test_values_there_and_back(every_bench: Bench) -> None:
    exchange = every_bench.exchange
    assert exchange.send(VALUES) == []
    told = every_bench.run("print(number, nested, len(long), moment.isoformat(), bytes[:3])")
    assert told.split() == (
        f"{2**80} {VALUES['nested']} 100000 2024-10-27T02:30:00+00:00 {bytes(range(3))!r}".split()
    )
    fetched = exchange.fetch(list(VALUES))
    assert same(fetched.values, VALUES) and fetched.notes == []


@everywhere
def test_tables_there_and_back(every_bench: Bench) -> None:
    array = numpy.arange(100_000.0).reshape(-1, 4)
    table = pyarrow.table({"a": range(1000), "b": [{"x": 1}] * 1000})
    values = {"df": FRAME, "array": array, "table": table, "column": FRAME["at"]}
    assert every_bench.exchange.send(values) == []
    told = every_bench.run("print(df.dtypes['at'], df.index.names, array.sum(), table.num_rows)")
    assert told.split()[:3] == ["datetime64[us,", "Europe/Berlin]", "['k',"]
    fetched = every_bench.exchange.fetch(list(values))
    assert fetched.notes == []
    pandas.testing.assert_frame_equal(fetched.values["df"], FRAME)
    pandas.testing.assert_series_equal(fetched.values["column"], FRAME["at"])
    assert numpy.array_equal(fetched.values["array"], array) and fetched.values["table"] == table


@everywhere
def test_javascript_there_and_back(every_bench: Bench) -> None:
    values = {
        "plain": {"a": [1, 2.5, None, True, "é"], "__proto__": 1, "$": "int"},
        "large": 2**60,
        "data": b"\0\xff" * 40_000,
        "numbers": numpy.arange(10_000, dtype="f4"),
        "at": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "rows": pandas.DataFrame({"x": [1, 2], "y": ["a", None]}),
    }
    notes = every_bench.exchange.send(values, "javascript")
    assert [note.name for note in notes] == ["large", "rows"]
    told = every_bench.run(
        "console.log(typeof large, data.constructor.name, numbers.constructor.name, numbers[9999],"
        "at.toISOString(), JSON.stringify(rows), plain.get('a')[1])",
        "javascript",
    )
    assert told.split() == [
        "bigint", "Uint8Array", "Float32Array", "9999", "2024-01-02T00:00:00.000Z",
        '[{"x":1,"y":"a"},{"x":2,"y":null}]', "2.5",
    ]  # fmt: skip
    fetched = every_bench.exchange.fetch(list(values), "javascript")
    back = fetched.values
    assert back["plain"] == values["plain"] and back["large"] == 2**60
    assert back["data"] == values["data"] and back["at"] == values["at"]
    assert back["numbers"].dtype == "f4" and back["numbers"][9999] == 9999
    assert back["rows"] == [{"x": 1, "y": "a"}, {"x": 2, "y": None}]


# By the action route they are many calls.
@pytest.mark.parametrize(
    "benches",
    ["websocket", *(pytest.param(it, marks=pytest.mark.slow) for it in ("link", "action"))],
    indirect=True,
)
def test_five_megabytes_with_progress(benches: dict[str, Bench]) -> None:
    frame = pandas.DataFrame({"x": numpy.random.default_rng(1).normal(size=600_000)})
    sent: list[Progress] = []
    fetched: list[Progress] = []
    benches["bridged"].exchange.send({"big": frame}, progress=sent.append)
    back = benches["bridged"].exchange.fetch(["big"], progress=fetched.append)
    pandas.testing.assert_frame_equal(back.values["big"], frame)
    for ticks in (sent, fetched):
        assert [tick.done for tick in ticks] == sorted(tick.done for tick in ticks)
        assert len(ticks) > 3 and ticks[-1].done == ticks[-1].total > 4_800_000
        assert {tick.what for tick in ticks} == {"big"}


@everywhere
def test_lost_answers_do_no_harm(every_bench: Bench) -> None:
    data = bytes(range(256)) * 4000
    faults = [
        {"kind": "http_502", "at": [2, 5], "tool": "write_file", "effect": True},
        {"kind": "http_500", "at": [2], "tool": "read_file"},
        # The cell does its job, and its report tells so.
        {"kind": "http_502", "at": [1], "tool": "run_code", "effect": True},
    ]
    every_bench.set_profile(faults=faults)
    try:
        every_bench.exchange.send({"data": data})
        assert every_bench.exchange.fetch(["data"]).values["data"] == data
    finally:
        every_bench.set_profile()


@everywhere
def test_files_there_and_back(every_bench: Bench, tmp_path: Path) -> None:
    content = {"a.txt": b"A", "sub/large.bin": bytes(range(256)) * 2000}
    for name, data in content.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(data)
    every_bench.exchange.upload(tmp_path / "there", force=True)
    every_bench.exchange.download("there", tmp_path / "back")
    for name, data in content.items():
        assert (tmp_path / "back" / name).read_bytes() == data
