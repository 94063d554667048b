"""Functions on their way out: by cloudpickle, with what they capture, and without keys.

A function that the sandbox can't import goes by value: those of a notebook, of the program itself
and of modules that are not installed. What it captures goes with it, so that is looked at first.
"""

from __future__ import annotations

import base64
import contextlib
import dis
import functools
import hashlib
import io
import itertools
import os
import re
import site
import sys
import sysconfig
import threading
import types
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from agentbay_kernel.errors import NotAllowedError, UnsupportedValueError
from agentbay_kernel.service.endpoint import KEY_VARIABLE

# Words of a name that make its text a key, and pairs of words that do.
_SECRET_WORDS = {"apikey", "credential", "credentials", "passphrase", "passwd", "password"}
_SECRET_WORDS |= {"secret", "secrets", "token"}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("secret", "key"), ("private", "key")}
_word = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Shorter texts are no keys, and are found in anything.
_SHORTEST_SECRET = 8
# How deep names are looked for in what is captured, and in how many values of it.
_DEEP, _MOST_VALUES = 6, 10_000
# cloudpickle's list of modules that go by value is the whole process's.
_registering = threading.Lock()


@dataclass(frozen=True, eq=False)
class Function:
    """A function as it is sent.

    `id` is made of its bytes, `captured` are lines like `threshold (float)`.
    """

    id: str
    name: str
    payload: bytes = field(repr=False)
    captured: tuple[str, ...]


def pack(function: Any, allowed: Collection[str], key: str) -> Function:
    """Pickle a function, as it is now.

    Arguments:
        allowed: captured names that go although they look like keys.
        key: the service's key, which goes nowhere.

    Raises:
        NotAllowedError: it captures a key, or what looks like one.
        UnsupportedValueError: it, or something that it captures, can't be pickled.
    """
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    with _registering:
        own = [module for module in _own_modules() if module not in _by_value()]
        for module in own:
            cloudpickle.register_pickle_by_value(sys.modules[module])
        try:
            pickler.dump(function)
        except Exception as error:
            raise UnsupportedValueError(_why(name, pickler, error)) from error
        finally:
            for module in own:
                cloudpickle.unregister_pickle_by_value(sys.modules[module])
    payload = buffer.getvalue()
    search = _SecretSearch(allowed)
    for captured, value in pickler.captured.items():
        if found := search.find(captured, value):
            raise NotAllowedError(
                f"{name} captures {found}, whose name looks like a key's, so it was not sent. Pass "
                "it as an argument if the sandbox may have it, or allow the name: "
                f"SandboxExecutor(allow=[{found.rpartition('.')[2]!r}])."
            )
    for variable, secret in _secrets(key):
        if variable not in allowed and secret.encode() in payload:
            raise NotAllowedError(
                f"{name} captures the value of {variable}, so it was not sent. Use it outside of "
                "the function."
            )
    listed = tuple(
        f"{captured} ({type(value).__name__})"
        for captured, value in pickler.captured.items()
        if not isinstance(value, types.ModuleType) and not _is_imported(value)
    )
    return Function(hashlib.sha256(payload).hexdigest()[:32], name, payload, listed)


def holds_key(data: bytes, key: str) -> bool:
    """Does what is to be sent hold the service's key, as text or in base64?"""
    if len(key) < _SHORTEST_SECRET:
        return False
    secret = key.encode()
    # Where it begins in a group of three bytes makes three texts of it; those of its first and last
    # bytes depend on what stands beside.
    encoded = (base64.b64encode(b"\0" * at + secret)[4:-4] for at in range(3))
    return secret in data or any(text in data for text in encoded)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which notes what functions capture and takes no open file."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.captured: dict[str, Any] = {}
        self.refused: Any = None

    def reducer_override(self, obj: Any) -> Any:
        """Called for each object that is not plain data."""
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            # cloudpickle would send the content of a file that is open for reading.
            self.refused = obj
            raise TypeError("an open file can't be sent")
        if obj is os.environ:
            self.refused = obj
            raise TypeError("all variables of the environment are not sent; capture those needed")
        # Noted before its parts are pickled, so that the one that fails can be named.
        if isinstance(obj, types.FunctionType) and not _is_imported(obj):
            self.captured.update(_captured(obj))
        elif isinstance(obj, types.ModuleType) and obj.__name__.partition(".")[0] in _own_modules():
            # A module that is not installed goes with all that is in it.
            held = [(name, value) for name, value in vars(obj).items() if not name.startswith("__")]
            self.captured.update((f"{obj.__name__}.{name}", value) for name, value in held)
        return super().reducer_override(obj)


def _captured(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function takes along: variables around it, globals that it uses, defaults."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            # Not bound yet.
            continue
    for name in _globals_of(code):
        if name in function.__globals__ and not name.startswith("__"):
            yield name, function.__globals__[name]
    arguments = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _globals_of(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_of(inner)


def _is_imported(value: Any) -> bool:
    """Does the sandbox import it by name?"""
    if not isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return False
    module = sys.modules.get(value.__module__ or "")
    if module is None or value.__module__ == "__main__":
        return False
    top = value.__module__.partition(".")[0]
    found: Any = module
    for step in value.__qualname__.split("."):
        found = getattr(found, step, None)
    return found is value and top not in _own_modules()


def _by_value() -> set[str]:
    return set(cloudpickle.list_registry_pickle_by_value())


def _own_modules() -> list[str]:
    """The top-level modules of this process that are not installed."""
    return _found_own(frozenset(sys.modules))


@functools.lru_cache(maxsize=1)
def _found_own(names: frozenset[str]) -> list[str]:
    # The names of all modules: if they are others, they are looked at again.
    installed = _installed()
    own = []
    for name, module in list(sys.modules.items()):
        if "." in name or name in ("__main__", "__mp_main__"):
            continue
        paths = [getattr(module, "__file__", None), *_search_path(module)]
        files = [Path(path) for path in paths if isinstance(path, str)]
        if files and not any(file.is_relative_to(place) for file in files for place in installed):
            own.append(name)
    return own


def _search_path(module: Any) -> list[Any]:
    try:
        return list(getattr(module, "__path__", []))
    except Exception:
        return []


@functools.cache
def _installed() -> list[Path]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return [Path(path) for path in dict.fromkeys(paths) if path]


def _why(name: str, pickler: _Pickler, error: Exception) -> str:
    """Why a function can't be pickled, with the name of what can't be."""
    told = str(error)[:300] or type(error).__name__
    for captured, value in pickler.captured.items():
        if value is pickler.refused or not _is_picklable(value):
            kind = type(value).__name__
            return (
                f"{name} can't be sent: it captures {captured} ({kind}): {told}. Create it inside "
                "of the function, or capture what it consists of."
            )
    return f"{name} can't be sent: {told}. Nothing was run."


def _is_picklable(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        # What it captures is on the list itself.
        return True
    try:
        _Pickler(io.BytesIO()).dump(value)
    except Exception:
        return False
    return True


def _looks_secret(name: str) -> bool:
    words = [word.lower() for word in _word.findall(name)]
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & set(itertools.pairwise(words)))


class _SecretSearch:
    """Looks for texts whose names look like a key's in what a function captures.

    Arguments:
        allowed: names that may go.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed
        self._seen: set[int] = set()

    def find(self, name: str, value: Any, depth: int = 0) -> str:
        """The name of such a text in a value; empty if there is none."""
        if isinstance(value, str | bytes | bytearray):
            last = name.rpartition(".")[2]
            fits = _looks_secret(last) and len(value) >= _SHORTEST_SECRET
            return name if fits and last not in self._allowed else ""
        if depth >= _DEEP or id(value) in self._seen or len(self._seen) >= _MOST_VALUES:
            return ""
        if isinstance(value, types.ModuleType | types.FunctionType) or _is_imported(value):
            return ""
        # What is captured lives on, so no other gets its id.
        self._seen.add(id(value))
        for key, item in itertools.islice(_parts(value), _MOST_VALUES):
            if found := self.find(f"{name}.{key}", item, depth + 1):
                return found
        return ""


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a captured value holds, by name: items, attributes, arguments of a partial call."""
    if isinstance(value, dict):
        yield from ((key, item) for key, item in list(value.items()) if isinstance(key, str))
        return
    if isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{number}]", item) for number, item in enumerate(list(value)))
        return
    if isinstance(value, functools.partial):
        yield from value.keywords.items()
        yield from ((f"[{number}]", item) for number, item in enumerate(value.args))
        return
    if isinstance(value, types.MethodType):
        # What it belongs to goes with it.
        yield from _parts(value.__self__)
        return
    for kind in value.__mro__ if isinstance(value, type) else (value, *type(value).__mro__):
        if isinstance(kind, type):
            if _is_imported(kind):
                continue
            slots = vars(kind).get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                with contextlib.suppress(AttributeError):
                    yield slot, getattr(value, slot)
        held = getattr(kind, "__dict__", None) or {}
        yield from (
            (key, item)
            for key, item in list(held.items())
            if isinstance(key, str) and not key.startswith("__")
        )


def _secrets(key: str) -> Iterator[tuple[str, str]]:
    """The texts that are keys, wherever they stand, and the variables that hold them."""
    if len(key) >= _SHORTEST_SECRET:
        yield KEY_VARIABLE, key
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _looks_secret(name):
            yield name, value
