"""Lists the variables of the sandbox's Python: name, type, shape or length, size, short value.

It runs no code of the user: no `__repr__`, no `__len__`, no property, no metaclass. It reads values
of types whose code is known; of others it shows the instance's dictionary.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import collections
import datetime
import itertools
import json
import operator
import pathlib
import sys
import types
from typing import Any

# Most rows, characters of a string, items of a container, levels of containers that are shown.
MOST_ROWS, LONGEST, MOST_PARTS, DEEPEST = 500, 120, 5, 3
SKIPPED = frozenset(("In", "Out", "exit", "quit", "open", "get_ipython"))
HIDDEN = (
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    type,
)
SEQUENCES: dict[Any, str] = {
    list: "[]",
    tuple: "()",
    set: "{}",
    frozenset: "{}",
    collections.deque: "[]",
}
MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
SIMPLE = (float, complex, bool, type(None), type(Ellipsis), range, slice)
DATES = (datetime.date, datetime.timedelta)
BYTES = (str, bytes, bytearray)
PATHS = (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)


def is_one_of(kind: type, kinds: Any) -> bool:
    """Return whether it is one of these classes; `in` would run its metaclass."""
    return any(kind is one for one in kinds)


def class_name(value: Any) -> str:
    """Return the name of a value's class without running its metaclass."""
    return str(type.__dict__["__name__"].__get__(type(value)))[:LONGEST]


def cut(text: str) -> str:
    """Return the part of a string that is shown."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"


def is_known(value: Any, module: str, *names: str) -> bool:
    """Return whether a value's own class has one of these names in an imported package."""
    package = sys.modules.get(module)
    if type(package) is not types.ModuleType:
        return False
    return any(type(value) is package.__dict__.get(name) for name in names)


def short(value: Any, depth: int = DEEPEST) -> str:
    """Return a short string for a value."""
    kind = type(value)
    if kind is int:
        return str(value) if value.bit_length() < 400 else f"a number of {value.bit_length()} bits"
    if is_one_of(kind, (*SIMPLE, *DATES)) or (kind is datetime.datetime and value.tzinfo is None):
        # A slice may hold anything.
        return cut(repr(value)) if kind is not slice else "slice"
    if is_one_of(kind, BYTES):
        return cut(repr(value[:LONGEST]))
    if is_one_of(kind, PATHS):
        return cut(str(value))
    if is_one_of(kind, (*SEQUENCES, *MAPPINGS)):
        return cut(parts(value, depth))
    if is_known(value, "numpy", "ndarray"):
        return cut(array(value, depth))
    if is_known(value, "pandas", "Series", "Index"):
        return cut(
            listed((short(one, depth - 1) for one in value[: MOST_PARTS + 1].tolist()), "[]")
        )
    if is_known(value, "pandas", "DataFrame") or is_known(value, "polars", "DataFrame"):
        return cut("columns " + ", ".join(short(name, 1) for name in list(value.columns[:20])))
    return cut(instance(value, depth))


def listed(texts: Any, brackets: str) -> str:
    """Return the first strings in brackets, with an ellipsis if there are more."""
    found = list(itertools.islice(texts, MOST_PARTS + 1))
    inner = ", ".join(found[:MOST_PARTS]) + (", \u2026" if len(found) > MOST_PARTS else "")
    return brackets[0] + inner + brackets[1]


def parts(value: Any, depth: int) -> str:
    """Return a string for a container, with its first items."""
    is_sequence = is_one_of(type(value), SEQUENCES)
    brackets = SEQUENCES[type(value)] if is_sequence else "{}"
    if depth <= 0:
        return brackets[0] + "\u2026" + brackets[1]
    if is_sequence:
        return listed((short(one, depth - 1) for one in value), brackets)
    pairs = dict.items(value)
    return listed((f"{short(k, depth - 1)}: {short(v, depth - 1)}" for k, v in pairs), brackets)


def array(value: Any, depth: int) -> str:
    """Return a string for an array, with its first elements if they are plain values."""
    first = value.flat[: MOST_PARTS + 1].tolist() if value.dtype.kind in "biufcSU" else []
    kind = f"{value.dtype.kind}{8 * value.dtype.itemsize}" if value.dtype.names else value.dtype
    return (
        f"{kind} {listed((short(one, depth - 1) for one in first), '[]')}" if first else str(kind)
    )


def instance(value: Any, depth: int) -> str:
    """Return a string for a value of another type, with attributes from its dictionary."""
    try:
        fields = object.__getattribute__(value, "__dict__")
    except Exception:
        fields = None
    if type(fields) is not dict or depth <= 1:
        return f"<{class_name(value)}>"
    shown = ((name, one) for name, one in list(fields.items()) if type(name) is str)
    return class_name(value) + listed((f"{n}={short(v, depth - 2)}" for n, v in shown), "()")


def extent(value: Any) -> str:
    """Return a value's shape or length, if it has one."""
    kind = type(value)
    if is_one_of(kind, (*SEQUENCES, *MAPPINGS, *BYTES, range)):
        return str(len(value))
    if (
        is_known(value, "numpy", "ndarray")
        or is_known(value, "pandas", "DataFrame", "Series", "Index")
        or is_known(value, "polars", "DataFrame", "Series")
        or is_known(value, "pyarrow", "Table")
        or is_known(value, "torch", "Tensor")
    ):
        return str(tuple(int(one) for one in value.shape))
    return ""


def size(value: Any) -> int | None:
    """Return a value's bytes, without a container's items; None if that needs the value's code."""
    kind = type(value)
    if is_known(value, "numpy", "ndarray"):
        return int(value.nbytes)
    if is_known(value, "pandas", "DataFrame"):
        # Column by column it would take too long.
        return int(value.memory_usage().sum()) if len(value.columns) < 1000 else None
    if is_known(value, "pandas", "Series", "Index"):
        return int(value.memory_usage())
    if is_one_of(kind, (*SEQUENCES, *MAPPINGS, *BYTES, *SIMPLE, int)):
        return sys.getsizeof(value)
    return None


def row(name: str, value: Any) -> list[Any]:
    """Return a row; what can't be read is left empty."""
    found: list[Any] = [cut(name), class_name(value)]
    for read, missing in ((extent, ""), (size, None), (short, "")):
        try:
            found.append(read(value))
        except Exception:
            found.append(missing)
    return found


def listing(names: dict[str, Any]) -> str:
    """Return the rows as JSON, sorted by name, and the number of all variables."""
    shown = [
        (name, value)
        for name, value in dict(names).items()
        if type(name) is str
        and not name.startswith("_")
        and name not in SKIPPED
        and not issubclass(type(value), HIDDEN)
    ]
    shown.sort(key=operator.itemgetter(0))
    rows = [row(name, value) for name, value in shown[:MOST_ROWS]]
    return json.dumps({"rows": rows, "total": len(shown)})
