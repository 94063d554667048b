"""The page of the Python API has every public name, and each has its types and what it returns."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import agentbay_kernel.exchange
import agentbay_kernel.executor
import agentbay_kernel.service
from agentbay_kernel import errors
from agentbay_kernel.sessions.backend import Backend, open_backend

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python-api.md"
MODULES = (agentbay_kernel.service, agentbay_kernel.exchange, agentbay_kernel.executor)
# Their own page is docs/reference/errors.md.
ERRORS = {name for name, kind in vars(errors).items() if inspect.isclass(kind)}
# A cause that Python shows below an error; nobody calls it.
SHOWN = {"RemoteTraceback"}


def public() -> dict[str, Any]:
    """Every public class and function, by its name."""
    names = {
        name: getattr(module, name)
        for module in MODULES
        for name in module.__all__
        if name not in ERRORS | SHOWN
    }
    return names | {"open_backend": open_backend, "Backend": Backend}


def described() -> Iterator[tuple[str, Any, type | None]]:
    """Each function and method that the page describes, with its class."""
    for name, thing in public().items():
        if isinstance(thing, FunctionType):
            yield name, thing, None
        elif inspect.isclass(thing):
            for key, member in vars(thing).items():
                function = getattr(member, "__func__", member)
                if isinstance(function, FunctionType) and not key.startswith("_"):
                    yield f"{name}.{key}", function, thing
            by_hand = not re.search(r"[Nn]ot (?:made )?by\s+hand", thing.__doc__ or "")
            if by_hand and not is_dataclass(thing) and "__init__" in vars(thing):
                yield f"{name}.__init__", thing.__init__, thing


def parameters(function: Any) -> list[str]:
    """Names of what it takes."""
    return [
        name
        for name in inspect.signature(function).parameters
        if name not in ("self", "cls") and not name.startswith("_")
    ]


FUNCTIONS = list(described())


def test_the_page_has_every_public_name() -> None:
    shown = re.findall(r"^\.\. auto(?:class|function|data):: ([\w.]+)", PAGE.read_text(), re.M)
    assert len(shown) == len(set(shown))
    assert {name.rpartition(".")[2] for name in shown} == set(public())


@pytest.mark.parametrize(("name", "function", "kind"), FUNCTIONS, ids=[it[0] for it in FUNCTIONS])
def test_a_function_is_described(name: str, function: Any, kind: type | None) -> None:
    text = inspect.getdoc(kind if name.endswith("__init__") else function) or ""
    assert text, "no docstring"
    # A coroutine is described where its blocking twin is.
    if twin := re.match(r"See `(\w+)\.(\w+)`", text):
        same = getattr(public()[twin[1]], twin[2])
        assert parameters(function) == parameters(same)
        return
    missing = [it for it in parameters(function) if not re.search(rf"^    +{it}: ", text, re.M)]
    assert missing == [], "arguments that are not described"
    annotations = inspect.get_annotations(function, eval_str=False)
    if name.endswith("__init__"):
        return
    assert set(parameters(function)) | {"return"} <= annotations.keys(), "types"
    if annotations["return"] not in ("None", None):
        assert re.search(r"^(Returns|Yields):$", text, re.M), "what it returns"


@pytest.mark.parametrize("name", [name for name, it in public().items() if is_dataclass(it)])
def test_a_field_is_described(name: str) -> None:
    kind = public()[name]
    text = inspect.getdoc(kind) or ""
    fields = [it for it in kind.__dataclass_fields__ if not it.startswith("_")]
    assert [it for it in fields if not re.search(rf"\b{it}\b", text)] == []
