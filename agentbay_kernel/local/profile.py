"""The profile of a local runtime: which variant of the service it imitates, and its faults.

docs/reference/local-runtime.md describes the keys.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import ConfigurationError

CHOICES = {
    "error_shape": ("A", "B", "C"),
    "result_shape": ("current", "legacy", "plain"),
    "js_state": ("persistent", "stateless"),
}
# What can go wrong with a request, with a stream, and with both.
REQUEST_KINDS = ("half", "http_429", "http_500", "http_502", "http_504")
STREAM_KINDS = ("ws_drop", "end_missing", "end_twice")
FAULT_KINDS = ("reset", "hang", "expired", "key_refused", *REQUEST_KINDS, *STREAM_KINDS)


@dataclass(frozen=True)
class FaultPlan:
    """One thing that goes wrong.

    Arguments:
        kind: one of FAULT_KINDS.
        at: numbers of the calls that fail, from 1, counted since the profile was set.
        probability: instead of `at`: of each call to fail, 0 to 1.
        seed: makes `probability` repeatable.
        effect: whether the call is carried out although its response is wrong.
        action: which action's calls are counted; a tool call is CallMcpTool on every route.
        tool: count only calls of this tool.
    """

    kind: str
    at: tuple[int, ...] = ()
    probability: float = 0.0
    seed: int | None = None
    effect: bool = False
    action: str = "CallMcpTool"
    tool: str | None = None

    @property
    def prevents_call(self) -> bool:
        """Whether the call is not carried out."""
        if self.kind in ("key_refused", "expired"):
            return True
        return not self.effect and self.kind not in ("half", *STREAM_KINDS)


@dataclass(frozen=True)
class Profile:
    """One behaviour of the service."""

    link_url: bool = True
    ws_url: bool = True
    error_shape: str = "A"
    result_shape: str = "current"
    js_state: str = "persistent"
    bridgeable: bool = True
    prepared_kernel: bool = True
    gateway_s: float = 60.0
    message_limit: int | None = None
    latency_ms: float = 0.0
    bandwidth: float | None = None
    faults: tuple[FaultPlan, ...] = field(default=())

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


def read_profile(document: Any) -> Profile:
    """Return a profile from parsed JSON.

    Raises:
        ValueError: a key is unknown, or a value is invalid.
    """
    values = _checked(document, Profile, "profile")
    for key, allowed in CHOICES.items():
        if key in values and values[key] not in allowed:
            raise ValueError(f"{key} is {values[key]!r}; it must be one of {', '.join(allowed)}")
    faults = values.pop("faults", [])
    if not isinstance(faults, list):
        raise ValueError("faults must be a list")
    return Profile(**values, faults=tuple(_read_fault(fault) for fault in faults))


def _read_fault(document: Any) -> FaultPlan:
    values = _checked(document, FaultPlan, "fault")
    if values.get("kind") not in FAULT_KINDS:
        kinds = ", ".join(FAULT_KINDS)
        raise ValueError(f"kind is {values.get('kind')!r}; it must be one of {kinds}")
    at = values.pop("at", [])
    if "probability" not in values and not at:
        raise ValueError(f"a fault needs `at` or `probability`: {document}")
    return FaultPlan(**values, at=tuple(at) if isinstance(at, list) else (int(at),))


def _checked(document: Any, kind: type, name: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError(f"a {name} must be a JSON object")
    known = [item.name for item in dataclasses.fields(kind)]
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise ValueError(
            f"unknown keys of a {name}: {', '.join(unknown)}; known keys: {', '.join(known)}"
        )
    for item in dataclasses.fields(kind):
        value = document.get(item.name)
        if item.name in document and not _is_of(value, str(item.type)):
            raise ValueError(f"{item.name} is {value!r}; it must be {item.type}")
    return dict(document)


def _is_of(value: Any, kind: str) -> bool:
    """Return whether a JSON value has an annotated type; numbers must not be negative."""
    if kind.startswith("tuple"):
        numbers = value if isinstance(value, list) else [value]
        return "FaultPlan" in kind or all(_is_of(number, "int") for number in numbers)
    if kind.endswith(" | None"):
        return value is None or _is_of(value, kind.removesuffix(" | None"))
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int | float):
        return value >= 0 if kind == "float" else kind == "int" and isinstance(value, int)
    return isinstance(value, str) and kind == "str"


def load_profile(path: Path | None) -> Profile:
    """Return the profile in a file, the default one if there is no file.

    Raises:
        ConfigurationError: the file can't be read or is not a profile.
    """
    if path is None:
        return Profile()
    try:
        return read_profile(json.loads(path.read_text()))
    except (OSError, ValueError) as failure:
        raise ConfigurationError(f"--profile {path} can't be used: {failure}.") from failure
