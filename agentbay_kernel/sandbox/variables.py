"""Lists the variables of the sandbox's Python: name, type, shape or length, size, short value.

Nothing of the user's is run: no `__repr__`, no `__len__`, no property, no metaclass. Values are of
types whose own code is known; of others the instance's dictionary is shown.

In: a namespace. Out: rows of text as JSON; the size in bytes is a number or None.

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

# Rows, characters of a text, parts of a container that are shown, levels of containers.
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
    """Is it one of these classes? `in` would ask its metaclass."""
    return any(kind is one for one in kinds)


def class_name(value: Any) -> str:
    """The name of a value's class, whatever its metaclass says."""
    return str(type.__dict__["__name__"].__get__(type(value)))[:LONGEST]


def cut(text: str) -> str:
    """As much of a text as is shown."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"


def is_known(value: Any, module: str, *names: str) -> bool:
    """Is its class, and not one derived from it, of that name in a package that was imported?"""
    package = sys.modules.get(module)
    if type(package) is not types.ModuleType:
        return False
    return any(type(value) is package.__dict__.get(name) for name in names)


def short(value: Any, depth: int = DEEPEST) -> str:
    """A short text of a value."""
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
    """The first texts between brackets, and a sign for more."""
    found = list(itertools.islice(texts, MOST_PARTS + 1))
    inner = ", ".join(found[:MOST_PARTS]) + (", \u2026" if len(found) > MOST_PARTS else "")
    return brackets[0] + inner + brackets[1]


def parts(value: Any, depth: int) -> str:
    """A container by its first parts."""
    is_sequence = is_one_of(type(value), SEQUENCES)
    brackets = SEQUENCES[type(value)] if is_sequence else "{}"
    if depth <= 0:
        return brackets[0] + "\u2026" + brackets[1]
    if is_sequence:
        return listed((short(one, depth - 1) for one in value), brackets)
    pairs = dict.items(value)
    return listed((f"{short(k, depth - 1)}: {short(v, depth - 1)}" for k, v in pairs), brackets)


def array(value: Any, depth: int) -> str:
    """An array by its first elements, if they are plain ones."""
    first = value.flat[: MOST_PARTS + 1].tolist() if value.dtype.kind in "biufcSU" else []
    kind = f"{value.dtype.kind}{8 * value.dtype.itemsize}" if value.dtype.names else value.dtype
    return (
        f"{kind} {listed((short(one, depth - 1) for one in first), '[]')}" if first else str(kind)
    )


def instance(value: Any, depth: int) -> str:
    """A value of another type by its attributes, as far as they are in its dictionary."""
    try:
        fields = object.__getattribute__(value, "__dict__")
    except Exception:
        fields = None
    if type(fields) is not dict or depth <= 1:
        return f"<{class_name(value)}>"
    shown = ((name, one) for name, one in list(fields.items()) if type(name) is str)
    return class_name(value) + listed((f"{n}={short(v, depth - 2)}" for n, v in shown), "()")


def extent(value: Any) -> str:
    """Its shape or its length, if it has one."""
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
    """Its bytes, without what a container holds; None if only its own code could say."""
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
    """One row. What fails, of a package that was changed, is left empty."""
    found: list[Any] = [cut(name), class_name(value)]
    for read, missing in ((extent, ""), (size, None), (short, "")):
        try:
            found.append(read(value))
        except Exception:
            found.append(missing)
    return found


def listing(names: dict[str, Any]) -> str:
    """The rows, sorted by name, and how many there are."""
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
