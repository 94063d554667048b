"""How this stand-in behaves: which of the service's known variants it plays.

In: a JSON object. Out: a frozen `Profile`; unknown keys and values are refused by name.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Profile:
    """One behaviour. See docs/local-runtime.md for what each key means."""

    link_url: bool = True
    ws_url: bool = True
    error_shape: str = "A"
    result_shape: str = "current"
    js_state: str = "persistent"
    gateway_s: float = 60.0


def read_profile(document: Any) -> Profile:
    """A profile from JSON.

    Raises:
        ValueError: a key or a value is not one of a profile's.
    """
    if not isinstance(document, dict):
        raise ValueError("a profile is a JSON object")
    known = {field.name for field in dataclasses.fields(Profile)}
    unknown = sorted(set(document) - known)
    if unknown:
        raise ValueError(f"unknown profile keys: {', '.join(unknown)}; known: {sorted(known)}")
    return Profile(**document)
