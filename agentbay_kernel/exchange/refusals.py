"""Why a value or a file was not taken, as this project's errors."""

from __future__ import annotations

from agentbay_kernel.errors import (
    ChecksumError,
    ExchangeError,
    MalformedValueError,
    MissingNameError,
    TargetExistsError,
    TooLargeError,
    UnsafePathError,
    UnsupportedValueError,
)
from agentbay_kernel.sandbox.exchange.values import Refused

_ERRORS: dict[str, tuple[type[ExchangeError], str]] = {
    "unsupported": (
        UnsupportedValueError,
        "Send what it is made of: numbers, texts, lists, dicts, arrays, tables.",
    ),
    "lacking": (
        UnsupportedValueError,
        "Install it there (in a cell of the sandbox: %pip install), or bring what it is made of.",
    ),
    "too large": (
        TooLargeError,
        "The setting exchange_limit says how much one exchange may have.",
    ),
    "malformed": (MalformedValueError, "Nothing of it is used."),
    "missing": (MissingNameError, "Nothing was fetched."),
    "exists": (TargetExistsError, "Nothing was changed; --force overwrites."),
    "unsafe": (UnsafePathError, "Nothing was changed."),
    "checksum": (ChecksumError, "Nothing of it is used; run it again."),
}
_LONGEST = 80
_VERBS = ("is ", "has ", "claims ", "holds ", "names ")


def raised(refusal: Refused) -> ExchangeError:
    """The error to raise for a refusal of either side."""
    kind, advice = _ERRORS.get(refusal.kind, (ExchangeError, "Nothing was changed."))
    where = refusal.where if len(refusal.where) <= _LONGEST else refusal.where[:_LONGEST] + " ..."
    joint = " " if refusal.text.startswith(_VERBS) else ": "
    text = f"{where}{joint}{refusal.text}" if where else refusal.text
    text = text[:1].upper() + text[1:] if not where else text
    return kind(f"{text}. {advice}")
