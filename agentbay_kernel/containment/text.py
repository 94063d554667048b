"""Text that shows what it holds.

In: text of a sandbox. Out: the same, with those characters visible that could make a terminal act
or a line read other than it is. ANSI colours and the cursor movements of progress bars stay.
"""

from __future__ import annotations

import re
from typing import Any

# CSI sequences that colour, erase or move; `ESC ( B` is what `tput sgr0` adds. Others make a
# terminal answer (n, c, t), change its modes, or are strings to it (OSC, DCS).
_ANSI = r"\x1b\[[0-9;:]{0,64}[A-HJKSTdfmsu]|\x1b\[\?25[hl]|\x1b\(B"
# Controls but \b \t \n \v \f \r; the bidirectional embeddings, overrides and isolates (Unicode
# TR 36, "Trojan Source"); halves of surrogate pairs, which no channel carries.
_SPOOFING = "[\x00-\x07\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_spoofing = re.compile(_SPOOFING)
_parts = re.compile(f"(?P<ansi>{_ANSI})|{_SPOOFING}")
# How far a sequence may have come where a piece of a stream ends.
_begun = re.compile(r"\x1b(?:\[[0-9;:?]{0,64}|\()?\Z")


def is_plain(text: str) -> bool:
    """Is there nothing in it that would have to be made visible, and no ANSI?"""
    return _spoofing.search(text) is None


def visible(text: str) -> str:
    """The text with controls as pictures (`␛`) and other spoofing characters as `[U+202E]`."""
    return text if is_plain(text) else _parts.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    if found["ansi"]:
        return found[0]
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def all_visible(value: Any) -> Any:
    """JSON with all its strings visible, and without names that reach into JavaScript objects."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple):
        return [all_visible(item) for item in value]
    if isinstance(value, dict):
        return {
            visible(str(name)): all_visible(item)
            for name, item in value.items()
            if name not in UNSAFE_NAMES
        }
    return value


# Setting these on an object changes all objects of a page.
UNSAFE_NAMES = frozenset(("__proto__", "constructor", "prototype"))


def as_text(value: Any) -> str:
    """A MIME bundle's text, which may come as a list of lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "".join(as_text(part) for part in value)
    return "" if value is None else str(value)


class StreamText:
    """The text of one cell's streams, whose pieces may end within an ANSI sequence."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}

    def visible(self, name: str, text: str) -> str:
        """The next piece of that stream; a sequence that is not whole waits for the next."""
        text = self._begun.pop(name, "") + text
        if (begun := _begun.search(text)) is not None:
            self._begun[name] = begun[0]
            text = text[: begun.start()]
        return visible(text)
