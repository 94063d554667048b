"""What both directions of an exchange share: the reasons to refuse, strict JSON, a few words.

In: a text of JSON from the other side. Out: its tree, or `Refused`.

Runs on both sides; needs Python 3.9.
"""

from __future__ import annotations

import json
import re
from typing import Any

TAG = "$"
# Deeper nesting is refused: it may hold itself.
MOST_DEPTH = 100
# What JSON's numbers are exact for on every side.
SAFE_INTEGER = 2**53 - 1
ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")

# Ten bytes can claim a larger exponent; as an integer, such a number has as many digits.
MOST_EXPONENT = 10_000
UNSUPPORTED, TOO_LARGE, MALFORMED, MISSING = "unsupported", "too large", "malformed", "missing"
LACKING = "lacking"
# What needs pyarrow on both sides, and the notebook's side or the sandbox has none.
ARROW_LACKS_HERE, ARROW_LACKS_THERE = "no pyarrow here", "no pyarrow there"


class Refused(Exception):
    """A value that is not taken: the kind of reason, where in the value, why."""

    def __init__(self, kind: str, text: str, where: str = "") -> None:
        super().__init__(kind, text, where)
        self.kind = kind
        self.text = text
        self.where = where

    def below(self, step: str) -> Refused:
        """The same, told of a part of what holds it."""
        return Refused(self.kind, self.text, step + self.where)


def with_article(name: str) -> str:
    """A noun with its article."""
    return ("an " if name[:1].lower() in "aeiou" else "a ") + name


def shown(key: Any) -> str:
    """A key for a message: short, whatever it is."""
    text = repr(key) if isinstance(key, (str, int, float, tuple)) else type(key).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def parse(text: str | bytes) -> Any:
    """A text of JSON as a tree; strict: no NaN, no name twice, no endless numbers."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_decimal,
        )
    except RecursionError:
        raise Refused(MALFORMED, "is nested too deep") from None
    except ValueError as failure:
        raise Refused(MALFORMED, "is no JSON (%s)" % str(failure)[:200]) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Refused(MALFORMED, "a name stands twice in an object")
    return made


def _constant(text: str) -> Any:
    raise Refused(MALFORMED, "holds %s, which is no JSON" % text)


def _integer(text: str) -> int:
    if len(text) > 17:
        raise Refused(MALFORMED, "holds a number of %d digits" % len(text))
    return int(text)


def _decimal(text: str) -> float:
    # A float has 17 digits and an exponent; more of them take more than their number of steps.
    if len(text) > 40:
        raise Refused(MALFORMED, "holds a number of %d digits" % len(text))
    return float(text)


def whole(node: Any) -> int:
    """A number of JSON that must be whole."""
    if type(node) is not int:
        raise Refused(MALFORMED, "a whole number in it is invalid")
    return node


def need(module: str, what: str) -> Any:
    """A library that a value needs where it arrives.

    Raises:
        Refused: it is not installed.
    """
    try:
        return __import__(module)
    except ImportError:
        text = "is %s and needs %s, which is not installed where it arrives" % (what, module)
        raise Refused(LACKING, text) from None
