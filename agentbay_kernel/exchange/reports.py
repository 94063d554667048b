"""Reports of an exchange: its progress, what was transferred, and what changed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.containment.text import one_line
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
from agentbay_kernel.sandbox.exchange.values import ARROW_LACKS_HERE, ARROW_LACKS_THERE, Refused


@dataclass(frozen=True)
class Note:
    """A difference on the other side. Show `str(note)`: it is one line.

    Arguments:
        name: name of the value or the file; empty if the note is about all.
        text: what differs.
    """

    name: str
    text: str

    def __str__(self) -> str:
        return one_line(f"{self.name}: {self.text}" if self.name else self.text)


@dataclass(frozen=True)
class Progress:
    """The progress of an exchange.

    Arguments:
        what: name of the value or the file.
        done: bytes so far.
        total: bytes in all.
    """

    what: str
    done: int
    total: int


# Called on the thread that called the exchange, as bytes arrive. An exception ends the exchange.
Reporter = Callable[[Progress], None]


@dataclass(frozen=True)
class Fetched:
    """Values that came out of a sandbox, and what changed on the way.

    Arguments:
        values: the values, by name.
        notes: the differences from the values in the sandbox.
    """

    values: dict[str, Any]
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Transferred:
    """Files that were transferred.

    Arguments:
        files: how many.
        size: their bytes.
        path: where they are now.
        unchanged: how many others were there already, with the same content.
        notes: what was left out, or written elsewhere.
    """

    files: int
    size: int
    path: str
    unchanged: int = 0
    notes: list[Note] = field(default_factory=list)


class Count:
    """Counts bytes as they arrive, and reports them.

    Arguments:
        what: name of the value or the file.
        total: number of bytes in all.
        done: number of bytes that have arrived before.
    """

    def __init__(self, what: str, total: int, progress: Reporter | None, done: int = 0) -> None:
        self._what = what
        self._total = total
        self._done = done
        self._progress = progress

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._done += size
        if self._progress is not None:
            self._progress(Progress(self._what, self._done, self._total))

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass pieces on and count them."""
        for piece in pieces:
            self.add(len(piece))
            yield piece


_ERRORS: dict[str, tuple[type[ExchangeError], str]] = {
    "unsupported": (
        UnsupportedValueError,
        "Send what it is made of: numbers, texts, lists, dicts, arrays, tables.",
    ),
    "lacking": (
        UnsupportedValueError,
        "Install it there with %pip install, or bring what it is made of.",
    ),
    ARROW_LACKS_HERE: (
        UnsupportedValueError,
        "It needs pyarrow on both sides, and your notebook's Python has none (14.0.1 or newer). "
        "Type: %pip install pyarrow",
    ),
    ARROW_LACKS_THERE: (
        UnsupportedValueError,
        "It needs pyarrow on both sides, and the sandbox has none (14.0.1 or newer). "
        "Type in a cell of the sandbox: %pip install pyarrow",
    ),
    "too large": (
        TooLargeError,
        "The setting exchange_limit sets the limit of one exchange.",
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
    """Return the error for a refusal of either side."""
    kind, advice = _ERRORS.get(refusal.kind, (ExchangeError, "Nothing was changed."))
    where = refusal.where if len(refusal.where) <= _LONGEST else refusal.where[:_LONGEST] + " ..."
    joint = " " if refusal.text.startswith(_VERBS) else ": "
    text = f"{where}{joint}{refusal.text}" if where else refusal.text
    text = text[:1].upper() + text[1:] if not where else text
    return kind(f"{text}. {advice}")
