"""Values as no honest service or sandbox sends them, drawn by hypothesis.

In: a check and the values to give it. Out: the check, run with so many examples; one that
fails is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# So many in `make test`, and in `make test-all`.
FEW, MANY = 30, 3_000

texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "ok",
        "stdout",
        "\x00",
        "\ud800",
        "NaN",
        "a" * 5_000,
        "{}",
        '{"result": []}',
        "\u202e\x1b[",
    ]
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**63, -(2**63), 10**400, 1e308, float("inf"), True])
)
scalars = st.none() | st.booleans() | numbers | texts


def values(keys: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Any]:
    """Anything that JSON has, and NaN; objects with such keys."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    ) | st.builds(deep, st.integers(1, 3_000))


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(min(levels, 300)):
        value = [value]
    return value


def mutated(document: Any) -> st.SearchStrategy[Any]:
    """The document, with some of it replaced, removed, or encoded once more."""

    def change(value: Any) -> st.SearchStrategy[Any]:
        whole = st.just(value)
        if isinstance(value, dict) and value:
            parts = st.fixed_dictionaries({}, optional={k: change(v) for k, v in value.items()})
            whole = st.fixed_dictionaries({k: change(v) for k, v in value.items()}) | parts
        elif isinstance(value, list) and value:
            whole = st.lists(change(value[0]), max_size=3)
        return st.one_of(whole, whole, whole, values(), whole.map(encoded))

    return change(document)


def encoded(value: Any) -> str:
    """As JSON, like Python's own encoder writes it: NaN and half surrogates included."""
    return json.dumps(value)


def broken(text: str) -> st.SearchStrategy[str]:
    """The text, cut off somewhere or with something in its midst."""
    places = st.integers(0, len(text))
    return st.builds(lambda at: text[:at], places) | st.builds(
        lambda at, more: text[:at] + more + text[at:], places, texts
    )


def fuzz(check: Callable[..., None], examples: int, *strategies: st.SearchStrategy[Any]) -> None:
    """Run a check with so many examples, the same ones each time."""
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        # To make a failing example small can take longer than all of them.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(check))()
