"""Are two values the same, as a grader means it?"""

from __future__ import annotations

import cmath
import math
import numbers
import sys
from collections.abc import Collection
from typing import Any

_DEEPEST = 120


def same(given: Any, expected: Any, *, rel_tol: float = 1e-9, abs_tol: float = 1e-12) -> bool:
    """Is a value of a submission the expected one?

    Numbers are compared within the tolerances if one of them is a `float` or complex; exactly
    otherwise. NaN is the same as NaN alone, and a truth value as a truth value alone, wherever they
    stand. Lists and tuples count as one, as do arrays of any number type. Tables of pandas are
    compared with their indexes, columns and names, and what is missing is the same as what is
    missing. Other values must have the same type.

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
        return _same_keys(given, expected, depth) and all(
            _same(given[key], value, tolerances, depth + 1) for key, value in expected.items()
        )
    if isinstance(given, set | frozenset) and isinstance(expected, set | frozenset):
        return type(given) is type(expected) and _same_keys(given, expected, depth)
    module = type(expected).__module__.partition(".")[0]
    if module == "pandas":
        return _same_table(given, expected, tolerances)
    if module == "numpy":
        return _same_array(given, expected, tolerances)
    return type(given) is type(expected) and bool(given == expected)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _same_keys(given: Collection[Any], expected: Collection[Any], depth: int) -> bool:
    """Are they the same keys? 1 and True are equal, and are not."""
    own = {key: key for key in expected}
    return len(given) == len(own) and all(
        key in own and _same(key, own[key], (0, 0), depth + 1) for key in given
    )


def _same_number(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    if given == expected:
        return True
    if not _is_inexact(given) and not _is_inexact(expected):
        # Decimal has a NaN.
        return bool(given != given and expected != expected)
    one, other = complex(given), complex(expected)
    return all(
        _same_float(*parts, tolerances)
        for parts in ((one.real, other.real), (one.imag, other.imag))
    ) or _is_close(one, other, tolerances)


def _is_inexact(number: Any) -> bool:
    return isinstance(number, float | complex) or (
        type(number).__module__ == "numpy" and number.dtype.kind in "fc"
    )


def _same_float(given: float, expected: float, tolerances: tuple[float, float]) -> bool:
    if math.isnan(given) or math.isnan(expected):
        return math.isnan(given) and math.isnan(expected)
    return _is_close(given, expected, tolerances)


def _is_close(given: complex, expected: complex, tolerances: tuple[float, float]) -> bool:
    # What is infinite is equal or not, and a large Decimal became so on the way.
    return not (cmath.isinf(given) or cmath.isinf(expected)) and cmath.isclose(
        given, expected, rel_tol=tolerances[0], abs_tol=tolerances[1]
    )


def _same_array(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    import numpy

    if type(given).__module__.partition(".")[0] != "numpy":
        return False
    one, other = numpy.asarray(given), numpy.asarray(expected)
    if one.shape != other.shape:
        return False
    kinds = {one.dtype.kind, other.dtype.kind}
    if kinds <= set("iu"):
        # A type that has both would be one of floats.
        exact = object if len(kinds) == 2 else None
        return bool(numpy.array_equal(one.astype(exact), other.astype(exact)))
    if kinds <= set("iufc"):
        return bool(
            numpy.allclose(one, other, rtol=tolerances[0], atol=tolerances[1], equal_nan=True)
        )
    if kinds == {"O"}:
        return _same(one.tolist(), other.tolist(), tolerances, 1)
    # Dates have what stands for a missing one; texts have no such value.
    dates = kinds <= set("Mm")
    return len(kinds) == 1 and bool(numpy.array_equal(one, other, equal_nan=dates))


def _same_table(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    pandas = sys.modules["pandas"]
    if isinstance(expected, pandas.DataFrame):
        return (
            isinstance(given, pandas.DataFrame)
            and given.shape == expected.shape
            and _same_labels(given.columns, expected.columns, tolerances)
            and _same_labels(given.index, expected.index, tolerances)
            and all(
                _same_column(given.iloc[:, at], expected.iloc[:, at], tolerances)
                for at in range(expected.shape[1])
            )
        )
    if isinstance(expected, pandas.Series):
        return (
            isinstance(given, pandas.Series)
            and bool(given.name == expected.name)
            and _same_labels(given.index, expected.index, tolerances)
            and _same_column(given, expected, tolerances)
        )
    if isinstance(expected, pandas.Index):
        return isinstance(given, pandas.Index) and _same_labels(given, expected, tolerances)
    if _is_missing(expected):
        return _is_missing(given)
    return type(given) is type(expected) and bool(given == expected)


def _same_labels(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    return list(given.names) == list(expected.names) and _same_column(given, expected, tolerances)


def _same_column(given: Any, expected: Any, tolerances: tuple[float, float]) -> bool:
    """Are two Series or Indexes the same, but for their names?"""
    if len(given) != len(expected):
        return False
    numpy = sys.modules["numpy"]
    if all(
        isinstance(it.dtype, numpy.dtype) and it.dtype.kind in "biufc" for it in (given, expected)
    ):
        return _same_array(given.to_numpy(), expected.to_numpy(), tolerances)
    return all(
        (_is_missing(one) and _is_missing(other)) or _same(one, other, tolerances, 1)
        for one, other in zip(given.tolist(), expected.tolist(), strict=True)
    )


def _is_missing(value: Any) -> bool:
    """Is it one of pandas' values for what is missing, or what it takes for one?"""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
