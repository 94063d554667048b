"""Text that shows what it holds.

Printed text keeps its ANSI colours and the cursor movements of progress bars; what could make a
terminal act or a line read other than it is becomes visible. A name on one line (a completion, a
file, an exception's class) is stricter: only characters that are seen stay.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# CSI sequences that colour, erase or move; `ESC ( B` is what `tput sgr0` adds. Others make a
# terminal answer (n, c, t), change its modes, or are strings to it (OSC, DCS).
_ANSI = r"\x1b\[[0-9;:]{0,64}[A-HJKSTdfmsu]|\x1b\[\?25[hl]|\x1b\(B"
# The flags of England, Scotland and Wales, and of other regions: the one use of tag characters.
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f"
# Controls but \b \t \n \v \f \r; the bidirectional embeddings, overrides and isolates (Unicode
# TR 36, "Trojan Source") and the formats that Unicode deprecates; tags, which nobody sees; a
# variation selector behind another, which hides data; halves of surrogate pairs, which no channel
# carries. Joiners and direction marks stay: Arabic, Indic scripts and emoji are written with them.
_SPOOFING = (
    "[\x00-\x07\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f\ud800-\udfff\U000e0000-\U000e007f]"
    "|(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_spoofing = re.compile(_SPOOFING)
# All of these characters at once: one class is found ten times as fast as the alternatives.
_suspect = re.compile(
    "[\x00-\x07\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f\ud800-\udfff\U000e0000-\U000e007f"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_parts = re.compile(f"(?P<kept>{_ANSI}|{_FLAG})|{_SPOOFING}")
# How far a sequence may have come where a piece of a stream ends.
_begun = re.compile(r"\x1b(?:\[[0-9;:?]{0,64}|\()?\Z")


def is_plain(text: str) -> bool:
    """Is there nothing in it that would have to be made visible, and no ANSI?"""
    return _suspect.search(text) is None or _spoofing.search(text) is None


def visible(text: str) -> str:
    """The text with controls as pictures (`␛`) and other spoofing characters as `[U+202E]`."""
    return text if is_plain(text) else _parts.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    return found[0] if found["kept"] else _picture(found[0])


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


# What is seen: letters, marks, numbers, punctuation, symbols.
_SEEN = frozenset("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split())
# Of those categories, and yet not seen: fillers of Hangul, the blank of Braille, joiners and
# vowels without a shape, variation selectors (Unicode's Default_Ignorable_Code_Point).
_UNSEEN = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC))
) | frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
# Spaces as wide as they look.
_SPACES = frozenset(" \u3000")
# Says that what stands before it is shown as text, or as a picture.
_PRESENTATION = frozenset("\ufe0e\ufe0f")
# No script puts more marks on a letter; more of them reach into the lines above and below.
_MOST_MARKS = 6


def one_line(text: str) -> str:
    """A name or a short text on one line: what nobody sees becomes `[U+200B]` or a picture (`␊`).

    Line ends, ANSI, bidirectional, zero-width and tag characters are all made visible.
    """
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    before = ""
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        seen = category in _SEEN and character not in _UNSEEN and marks <= _MOST_MARKS
        picks = character in _PRESENTATION and before in ("So", "Sm", "Po", "Nd")
        shown.append(character if seen or picks or character in _SPACES else _picture(character))
        before = category
    return "".join(shown)


def lines(text: str) -> str:
    """Text of several lines, each as `one_line` has it."""
    return "\n".join(map(one_line, text.split("\n")))


_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")


def prompt(text: str) -> str:
    """What `input()` asks: lines without colours, each as `one_line` has it."""
    return lines(_COLOUR.sub("", text).replace("\r\n", "\n").replace("\t", "    "))


# Setting these on an object changes all objects of a page.
UNSAFE_NAMES = frozenset(("__proto__", "constructor", "prototype"))
# Deeper data is nobody's: the page's own functions call themselves for each level.
DEEPEST = 100
_TOO_DEEP = "[nested too deeply]"


def all_visible(value: Any, depth: int = 0) -> Any:
    """JSON with all its strings visible, without names that reach into JavaScript objects, and
    without what is nested deeper than `DEEPEST`."""
    if isinstance(value, str):
        return visible(value)
    if not isinstance(value, list | tuple | dict):
        return value
    if depth >= DEEPEST:
        return _TOO_DEEP
    if isinstance(value, dict):
        return {
            visible(str(name)): all_visible(item, depth + 1)
            for name, item in value.items()
            if name not in UNSAFE_NAMES
        }
    return [all_visible(item, depth + 1) for item in value]


def size_of(value: Any, most: int) -> tuple[int, int]:
    """How many values JSON holds, and how many levels deep; stops counting beyond `most` values
    and `DEEPEST` levels."""
    count, depth, level = 0, 0, [value]
    while level and depth <= DEEPEST and count <= most:
        count += len(level)
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
        level, depth = below, depth + 1
    return count, depth


def as_text(value: Any) -> str:
    """A MIME bundle's text, which may come as a list of lines; nothing for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "".join(line for line in value if isinstance(line, str))
    return str(value) if isinstance(value, bool | int | float) else ""


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
