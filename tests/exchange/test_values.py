"""Values of Python as tagged JSON and back: any of them, by hypothesis."""

from __future__ import annotations

import ast
import collections
import datetime
import enum
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agentbay_kernel.sandbox.exchange
from agentbay_kernel.sandbox.exchange.values import Refused
from tests.exchange.codec import same, there_and_back

UTC = datetime.UTC
ZONES = (
    st.none()
    | st.just(UTC)
    | st.timezones()
    | st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
    )
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Lu", "Cc"]))
    | st.binary()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.datetimes(timezones=ZONES)
)
HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.builds(bytearray, st.binary())
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
@example({"$": "int", "v": "0x1"})
@example([float("nan"), float("inf"), -0.0, 2**53, -(2**53), 2**64])
@example(["\ud800\udc00", {"\ud800\udc00": 1}])
@example({1: "a", (2, "x"): [None], b"k": {}})
def test_what_goes_comes_back(value: Any) -> None:
    back, notes = there_and_back(value)
    assert same(back, value)
    assert notes == []


@pytest.mark.parametrize(
    "value",
    [
        "é😀" * 20_000,
        "\ud800" * 40_000,
        b"\0\xff" * 40_000,
        bytearray(50_000),
        ["x" * 40_000, {"y": b"z" * 40_000}],
        10**20_000,
        range(3, 10, 2),
        slice(1, None, 2),
        ...,
        datetime.datetime(2020, 10, 25, 2, 30, fold=1),
        datetime.timezone(datetime.timedelta(hours=1), "name"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_and_rare_ones(value: Any) -> None:
    back, notes = there_and_back(value)
    assert same(back, value) and notes == []


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Colour.RED, 1),
        (Point(1, 2), (1, 2)),
        (memoryview(b"abc"), b"abc"),
    ],
)
def test_what_derives_arrives_as_its_base_and_that_is_said(value: Any, arrives: Any) -> None:
    back, notes = there_and_back([value])
    assert same(back, [arrives])
    (note,) = notes
    assert type(value).__name__ in note and "arrives as" in note


def holding_itself() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda: 1, "is a function, which can't be transferred"),
        (object(), "is an object"),
        (open, "builtin_function"),
        (types, "is a module"),
        (iter([1]), "list_iterator"),
        (holding_itself(), "may hold itself"),
        ({"a": [1, {"b": int}]}, "x['a'][1]['b'] is a type"),
    ],
)
def test_what_can_not_travel_is_refused_by_name(value: Any, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        there_and_back(value)
    assert says in f"{refusal.value.where} {refusal.value.text}"
    assert refusal.value.kind == "unsupported"


def test_what_runs_in_sandboxes_is_python_3_9() -> None:
    for source in Path(agentbay_kernel.sandbox.exchange.__file__).parent.glob("*.py"):
        ast.parse(source.read_text(), feature_version=(3, 9))
