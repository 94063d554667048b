"""Are two values the same, as a grader means it?"""

from __future__ import annotations

import cmath
import numbers
import sys
from typing import Any

_DEEPEST = 120


def same(given: Any, expected: Any, *, rel_tol: float = 1e-9, abs_tol: float = 1e-12) -> bool:
    """Is a value of a submission the expected one?

    Numbers are compared within the tolerances if one of them is a `float`. NaN is the same
    as NaN alone, and a truth value as a truth value alone. Lists and tuples count as one, as do
    arrays of any number type. Tables of pandas are compared with their indexes and columns. Other
    values must have the same type.

    Arguments:
        given: what the submission returned.
        expected: what is right.
        rel_tol, abs_tol: as for `math.isclose`.
    """
    try:
        return _same(given, expected, (rel_tol, abs_tol), 0)
    except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError):
        # Values that can't be compared are not the same.
        return False


def _same(given: Any, expected: Any, tolerances: tuple[float, float], depth: int) -> bool:
    if depth > _DEEPEST:
        return False
    if _is_truth(given) or _is_truth(expected):
        return _is_truth(given) and _is_truth(expected) and bool(given) is bool(expected)
    if isinstance(given, numbers.Number) and isinstance(expected, numbers.Number):
        return _same_number(given, expected, tolerances)
    if isinstance(given, list | tuple) and isinstance(expected, list | tuple):
        return len(given) == len(expected) and all(
            _same(one, other, tolerances, depth + 1)
            for one, other in zip(given, expected, strict=True)
        )
    if isinstance(given, dict) and isinstance(expected, dict):
        return given.keys() == expected.keys() and all(
            _same(given[key], value, tolerances, depth + 1) for key, value in expected.items()
        )
    module = type(expected).__module__.partition(".")[0]
    if module == "pandas":
        return _same_table(given, expected, tolerances)
    if module == "numpy":
        return _same_array(given, expected, tolerances)
    return type(given) is type(expected) and bool(given == expected)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _same_number(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    if given == expected:
        return True
    if given != given or expected != expected:
        return bool(given != given and expected != expected)
    if isinstance(given, int) and isinstance(expected, int):
        return False
    rel_tol, abs_tol = tolerances
    return cmath.isclose(complex(given), complex(expected), rel_tol=rel_tol, abs_tol=abs_tol)


def _same_array(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    import numpy

    if type(given).__module__.partition(".")[0] != "numpy":
        return False
    one, other = numpy.asarray(given), numpy.asarray(expected)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "iufc" and other.dtype.kind in "iufc":
        return bool(
            numpy.allclose(one, other, rtol=tolerances[0], atol=tolerances[1], equal_nan=True)
        )
    return one.dtype.kind == other.dtype.kind and bool(numpy.array_equal(one, other))


def _same_table(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    pandas = sys.modules["pandas"]
    options: dict[str, Any] = {"rtol": tolerances[0], "atol": tolerances[1]}
    for kind, compare in (
        (pandas.DataFrame, pandas.testing.assert_frame_equal),
        (pandas.Series, pandas.testing.assert_series_equal),
    ):
        if isinstance(expected, kind):
            if not isinstance(given, kind):
                return False
            try:
                compare(given, expected, check_dtype=False, check_index_type=False, **options)
            except AssertionError:
                return False
            return True
    if isinstance(expected, pandas.Index):
        return isinstance(given, pandas.Index) and bool(given.equals(expected))
    return type(given) is type(expected) and bool(given == expected)
