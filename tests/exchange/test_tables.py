"""NumPy, pandas and Arrow there and back: dtype, index, time zone, category, what is missing."""

from __future__ import annotations

import datetime
import decimal
import warnings
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from agentbay_kernel.sandbox.exchange.values import Refused
from tests.exchange.codec import same, there_and_back

PATIENT = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
DTYPES = (
    npst.scalar_dtypes()
    | npst.unsigned_integer_dtypes(endianness=">")
    | npst.byte_string_dtypes()
    | npst.unicode_string_dtypes()
    | npst.array_dtypes()
)


@PATIENT
@given(DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0))))
def test_arrays(array: Any) -> None:
    back, notes = there_and_back(array)
    assert type(back) is type(array) and notes == []
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@PATIENT
@given(DTYPES.flatmap(lambda dtype: npst.arrays(dtype, 1)))
def test_scalars_of_numpy(array: Any) -> None:
    back, notes = there_and_back(array[0])
    assert type(back) is type(array[0]) and notes == []
    assert numpy.asarray(back).tobytes() == numpy.asarray(array[0]).tobytes()


def test_arrays_of_other_forms() -> None:
    large = numpy.arange(60_000, dtype="f4").reshape(300, 200)
    for array in (large, large.T, large[::-1, ::3], numpy.asfortranarray(large)):
        back, _ = there_and_back(array)
        assert back.dtype == array.dtype and numpy.array_equal(back, array)
    objects = numpy.array([[1, None], ["a", {"b": [2.5]}]], object)
    back, _ = there_and_back(objects)
    assert back.dtype == object and back.tolist() == objects.tolist()
    masked = numpy.ma.MaskedArray([1.5, 2.5, 3.5], [False, True, False], fill_value=9)
    back, _ = there_and_back(masked)
    assert isinstance(back, numpy.ma.MaskedArray) and back.fill_value == 9
    assert back.mask.tolist() == masked.mask.tolist() and back.sum() == masked.sum()
    back, notes = there_and_back(numpy.array([(1,)], dtype=[("a", "i4")]).view(numpy.recarray))
    assert type(back) is numpy.ndarray and notes == ["a recarray arrives as a plain array"]


def test_arrays_that_only_pickle_could_carry_are_refused() -> None:
    with pytest.raises(Refused) as refusal:
        there_and_back(numpy.array([(1, [])], dtype=[("a", "i4"), ("b", object)]))
    assert "which can't be transferred" in refusal.value.text


def missing_in(cells: Any, missing: Any) -> Any:
    return st.lists(cells | st.just(missing), max_size=8)


ZONE = "Europe/Berlin"
MOMENTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
SMALL = st.integers(-100, 100)
# What a column may be: its cells, and how they become one.
COLUMNS: dict[str, tuple[Any, Any]] = {
    "bool": (st.lists(st.booleans(), max_size=8), "bool"),
    "int8": (st.lists(SMALL, max_size=8), "int8"),
    "uint64": (st.lists(st.integers(0, 2**64 - 1), max_size=8), "uint64"),
    "float16": (st.lists(st.floats(width=16), max_size=8), "float16"),
    "float32": (st.lists(st.floats(width=32), max_size=8), "float32"),
    "float64": (st.lists(st.floats(), max_size=8), "float64"),
    "complex64": (st.lists(st.complex_numbers(width=64), max_size=8), "complex64"),
    "datetime64[s]": (missing_in(MOMENTS, pandas.NaT), "datetime64[s]"),
    "datetime64[ns]": (missing_in(MOMENTS, pandas.NaT), "datetime64[ns]"),
    "zone": (missing_in(MOMENTS, pandas.NaT), lambda cells: pandas.to_datetime(cells, utc=True)),
    "timedelta64[ms]": (
        missing_in(st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000)), pandas.NaT),
        "timedelta64[ms]",
    ),
    "Int8": (missing_in(SMALL, pandas.NA), "Int8"),
    "UInt32": (missing_in(st.integers(0, 2**32 - 1), pandas.NA), "UInt32"),
    "Float64": (missing_in(st.floats(allow_nan=False), pandas.NA), "Float64"),
    "boolean": (missing_in(st.booleans(), pandas.NA), "boolean"),
    "str": (missing_in(st.text(), None), "str"),
    "string": (missing_in(st.text(), pandas.NA), "string"),
    "string[python]": (missing_in(st.text(), pandas.NA), "string[python]"),
    "category": (missing_in(st.sampled_from("abc"), None), "category"),
    "period": (
        missing_in(st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1)), None),
        lambda cells: pandas.PeriodIndex(
            [pandas.NaT if c is None else pandas.Period(c, "D") for c in cells], freq="D"
        ),
    ),
    "interval": (
        st.lists(SMALL, max_size=8),
        lambda cells: pandas.arrays.IntervalArray.from_tuples(
            [(c, c + 1) for c in cells], closed="left", dtype="interval[int64, left]"
        ),
    ),
    "texts with None": (missing_in(st.text(), None), object),
    "texts with NaN": (missing_in(st.text(), float("nan")), object),
    "half characters": (st.lists(st.text(st.characters(categories=["Cs"])), max_size=8), object),
    "bytes": (missing_in(st.binary(), None), object),
    "mixed": (
        st.lists(
            st.none()
            | st.integers()
            | st.floats()
            | st.text()
            | st.dates()
            | st.decimals(allow_nan=False)
            | st.lists(SMALL, max_size=2)
            | st.dictionaries(st.text(), SMALL, max_size=2)
            | st.just(pandas.NaT)
            | st.just(pandas.NA),
            max_size=8,
        ),
        object,
    ),
}


def column_of(cells: list[Any], made: Any, rows: int) -> Any:
    """A column of so many rows, the cells again and again."""
    cells = (cells * rows)[:rows] if cells else []
    with warnings.catch_warnings():
        # Of a float that a narrower one does not hold.
        warnings.simplefilter("ignore", RuntimeWarning)
        if callable(made) and made is not object:
            return pandas.Series(made(cells))
        return pandas.Series(cells, dtype=made)


def assert_alike(back: Any, series: Any) -> None:
    pandas.testing.assert_series_equal(back, series, check_exact=True, check_freq=True)
    assert str(back.dtype) == str(series.dtype)
    if series.dtype == object:
        assert all(map(same, back.tolist(), series.tolist()))


@pytest.mark.parametrize("arrow", [True, False], ids=["arrow", "json"])
@pytest.mark.parametrize("kind", COLUMNS)
@settings(deadline=None, max_examples=8)
@given(data=st.data(), rows=st.sampled_from([3, 300]))
def test_series(kind: str, arrow: bool, data: Any, rows: int) -> None:
    cells, made = COLUMNS[kind]
    series = column_of(data.draw(cells), made, rows)
    if kind == "zone":
        series = series.dt.tz_convert(ZONE)
    back, notes = there_and_back(series, arrow)
    assert_alike(back, series)
    assert notes == []


NAMES = st.none() | st.text(max_size=3) | SMALL | st.tuples(st.text(max_size=2), SMALL)
INDEXES: dict[str, Any] = {
    "range": lambda n: pandas.RangeIndex(5, 5 + 3 * n, 3),
    "numbers": lambda n: pandas.Index(numpy.arange(n)[::-1]),
    "texts": lambda n: pandas.Index([f"r{k}" for k in range(n)]),
    "mixed": lambda n: pandas.Index(([1, "a", None, 2.5] * n)[:n], dtype=object),
    "moments": lambda n: pandas.date_range("2024-10-26", periods=n, freq="h", tz=ZONE),
    "months": lambda n: pandas.date_range("2024-01-31", periods=n, freq="ME"),
    "periods": lambda n: pandas.period_range("2024", periods=n, freq="M"),
    "category": lambda n: pandas.CategoricalIndex((["b", "a"] * n)[:n], ordered=True),
    "intervals": lambda n: pandas.interval_range(0, n),
    "levels": lambda n: pandas.MultiIndex.from_arrays(
        [(["x", "y", None] * n)[:n], numpy.arange(n) % 5, pandas.date_range("2024", periods=n)]
    ),
    "twice": lambda n: pandas.Index([1] * n),
}


@pytest.mark.parametrize("arrow", [True, False], ids=["arrow", "json"])
@pytest.mark.parametrize("kind", INDEXES)
@settings(deadline=None, max_examples=6)
@given(data=st.data(), rows=st.sampled_from([0, 1, 5, 300]))
def test_frames_and_their_indexes(kind: str, arrow: bool, data: Any, rows: int) -> None:
    index = INDEXES[kind](rows)
    index.names = [data.draw(NAMES) for _ in index.names]
    columns = data.draw(st.lists(st.sampled_from(["int8", "float64", "str", "category"])))
    series = [pandas.Series((["1", "2", "3"] * rows)[:rows], dtype=kind) for kind in columns]
    frame = pandas.DataFrame(dict(enumerate(series)), index=pandas.RangeIndex(rows))
    frame.index = index
    # Labels of any kind, also twice the same.
    frame.columns = pandas.Index(
        data.draw(st.lists(NAMES, min_size=len(columns), max_size=len(columns))),
        dtype=object,
        tupleize_cols=False,
        name=data.draw(NAMES),
    )
    back, notes = there_and_back({"deep": [frame, index]}, arrow)
    pandas.testing.assert_frame_equal(back["deep"][0], frame, check_exact=True, check_freq=True)
    pandas.testing.assert_index_equal(back["deep"][1], index, exact=True)
    assert type(back["deep"][0].index) is type(index) and notes == []


def test_frames_without_rows_or_columns() -> None:
    for frame in (
        pandas.DataFrame(),
        pandas.DataFrame(index=range(3)),
        pandas.DataFrame(columns=["a"]),
        pandas.DataFrame({"a": pandas.Series([], dtype="datetime64[ns, UTC]")}),
        pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
    ):
        back, notes = there_and_back(frame)
        pandas.testing.assert_frame_equal(back, frame)
        assert notes == []


@pytest.mark.parametrize(
    "value",
    [
        pandas.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert(ZONE),
        pandas.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(ZONE),
        pandas.Timestamp(1, unit="ns"),
        pandas.Timedelta(days=-3, nanoseconds=1),
        pandas.Period("2024-05", "M"),
        pandas.Interval(1, 2.5, closed="both"),
        pandas.NaT,
        pandas.NA,
    ],
    ids=str,
)
def test_scalars_of_pandas(value: Any) -> None:
    back, notes = there_and_back([value])
    assert type(back[0]) is type(value) and notes == []
    assert back[0] is value or (back[0] == value and repr(back[0]) == repr(value))


@pytest.mark.parametrize(
    ("series", "arrives"),
    [
        (pandas.Series([0.0, 1.0], dtype="Sparse[float]"), "float64"),
        (pandas.Series([1, None], dtype="int64[pyarrow]"), "Int64"),
        (pandas.Series(["a", None], dtype=pandas.ArrowDtype(pyarrow.string())), "string"),
        (
            pandas.Series([[1], None], dtype=pandas.ArrowDtype(pyarrow.list_(pyarrow.int8()))),
            "object",
        ),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_dtypes_that_change_are_named(series: Any, arrives: str) -> None:
    back, notes = there_and_back(series)
    assert str(back.dtype) == arrives
    assert any(str(series.dtype) in note and arrives in note for note in notes)


def test_a_subclass_and_attrs_are_noted() -> None:
    class Mine(pandas.DataFrame):  # type: ignore[misc]
        pass

    frame = Mine({"a": [1]})
    frame.attrs["source"] = "here"
    back, notes = there_and_back(frame)
    assert type(back) is pandas.DataFrame
    assert notes == ["a Mine arrives as a DataFrame", "the attrs of a DataFrame are left out"]


def test_a_cell_that_can_not_travel_is_named() -> None:
    frame = pandas.DataFrame({"ok": [1, 2, 3], "cell": pandas.Series([1, "a", print])})
    with pytest.raises(Refused) as refusal:
        there_and_back(frame)
    assert refusal.value.text == "is a builtin_function_or_method, which can't be transferred"


TABLE = pyarrow.table(
    {
        "numbers": [1, 2, None],
        "nested": [{"x": [1]}, None, {"x": []}],
        "coded": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
        "money": [decimal.Decimal("1.10"), None, decimal.Decimal("2.20")],
        "at": pyarrow.array([1, 2, None], pyarrow.timestamp("ns", ZONE)),
    }
).replace_schema_metadata({"k": "v"})

# Of each type that is taken.
EVERY_TYPE = pyarrow.table(
    {
        "null": pyarrow.nulls(2),
        "bool": [True, None],
        "half": pyarrow.array([1.5, None], pyarrow.float16()),
        "bytes": pyarrow.array([b"a", None], pyarrow.large_binary()),
        "fixed": pyarrow.array([b"ab", None], pyarrow.binary(2)),
        "nothing": pyarrow.array([b"", None], pyarrow.binary(0)),
        "small": pyarrow.array([decimal.Decimal("1.10"), None], pyarrow.decimal128(4, 2)),
        "large": pyarrow.array([decimal.Decimal("1.10"), None], pyarrow.decimal256(50, 2)),
        "date": [datetime.date(2024, 5, 1), None],
        "time": [datetime.time(12, 30), None],
        "span": [datetime.timedelta(seconds=1), None],
        "months": pyarrow.array([(1, 2, 3), None], pyarrow.month_day_nano_interval()),
        "lists": pyarrow.array([["a", None], None], pyarrow.large_list(pyarrow.large_utf8())),
        "pairs": pyarrow.array([[1, 2], None], pyarrow.list_(pyarrow.int8(), 2)),
        "map": pyarrow.array(
            [[("k", [1])], None], pyarrow.map_("string", pyarrow.list_(pyarrow.int8()))
        ),
        "structs": [{"x": {"y": [b"z"]}}, None],
    }
)


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        TABLE.slice(1, 1),
        TABLE.slice(0, 0),
        TABLE.to_batches()[0],
        TABLE["nested"],
        pyarrow.array([1.5, None]),
        EVERY_TYPE,
        EVERY_TYPE.slice(1),
        pyarrow.table({"x": range(100_000)}),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value)}",
)
def test_arrow(value: Any) -> None:
    back, notes = there_and_back(value)
    assert type(back) is type(value) and back.equals(value) and notes == []


def test_arrow_without_arrow_on_the_other_side_is_noted() -> None:
    back, (note,) = there_and_back(TABLE.select(["numbers"]), arrow=False)
    assert isinstance(back, pandas.DataFrame) and "arrives as a DataFrame" in note


def test_arrow_of_an_extension_type_arrives_as_its_storage() -> None:
    table = pyarrow.table(
        {
            "n": [1, 2],
            "month": pyarrow.array(pandas.Series(pandas.period_range("2024", periods=2, freq="M"))),
        },
        metadata={"k": "v"},
    )
    back, (note,) = there_and_back(table)
    assert back["month"].to_pylist() == [648, 649] and back["n"] == table["n"]
    assert back.schema.metadata == {b"k": b"v"}
    assert "period" in note and note.endswith("arrives as int64")
    offsets = pyarrow.array([0, 2], pyarrow.int32())
    lists = pyarrow.ListArray.from_arrays(offsets, table["month"].combine_chunks())
    with pytest.raises(Refused, match="cast it to its storage first"):
        there_and_back(lists)


@pytest.mark.parametrize(
    ("frame", "fits"),
    [
        (pandas.DataFrame({"a": numpy.zeros(300_000, "i1")}), True),
        (pandas.DataFrame({"a": numpy.zeros(600_000, "i1")}), False),
        (pandas.DataFrame({"a": ["x" * 100] * 9_000}), True),
        (pandas.DataFrame({"a": ["x" * 100] * 10_000}), False),
        (pandas.DataFrame({"a": ["x" * 1000, None] * 900}), True),
        (pandas.DataFrame({"a": ["x"] + ["x" * 1000] * 1_000}), False),
        (pandas.DataFrame({"a": pandas.Series([[1.5, "x"]] * 60_000)}), True),
        (pandas.DataFrame({n: numpy.zeros(20_000, "i1") for n in range(30)}), False),
    ],
)
def test_tables_without_pyarrow_are_what_one_call_carries(frame: Any, fits: bool) -> None:
    if fits:
        pandas.testing.assert_frame_equal(there_and_back(frame, arrow=False)[0], frame)
    else:
        with pytest.raises(Refused, match="a table of more than 1,000,000 bytes") as refusal:
            there_and_back(frame, arrow=False)
        assert refusal.value.kind == "no pyarrow there"
