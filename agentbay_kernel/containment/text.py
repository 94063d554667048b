"""Text that shows what it holds.

Printed text keeps its ANSI colours and the cursor movements of progress bars; what could make a
terminal act or a line read other than it is becomes visible. A name on one line (a completion, a
file, an exception's class) is stricter: only characters that are seen stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# What follows the escape of a CSI sequence that colours, erases or moves; `ESC ( B` is what
# `tput sgr0` adds. Others make a terminal answer (n, c, t), change its modes, or are strings to it
# (OSC, DCS).
_AFTER_ESCAPE = r"\[[0-9;:]{0,64}[A-HJKSTdfmsu]|\[\?25[hl]|\(B"
_lost_escape = re.compile(rf"\x1b(?!{_AFTER_ESCAPE})")
# The flags of England, Scotland and Wales, and of other regions: the one use of tag characters.
_flag = re.compile("(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f)")
# Controls but \b \t \n \v \f \r and the escape; the bidirectional embeddings, overrides and
# isolates (Unicode TR 36, "Trojan Source") and the formats that Unicode deprecates; halves of
# surrogate pairs, which no channel carries; tags, which nobody sees. Joiners and direction marks
# stay: Arabic, Indic scripts and emoji are written with them.
_SPOOFING = (
    *((0x00, 0x07), (0x0E, 0x1A), (0x1C, 0x1F), (0x7F, 0x9F), (0x202A, 0x202E), (0x2066, 0x206F)),
    *((0xD800, 0xDFFF), (0xE0000, 0xE007F)),
)
_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def _pictures(ranges: Iterable[tuple[int, int]]) -> dict[int, str]:
    return {code: _picture(chr(code)) for first, last in ranges for code in range(first, last + 1)}


def _any_of(ranges: Iterable[tuple[int, int]]) -> str:
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


_OF_SPOOFING, _OF_SELECTORS = _pictures(_SPOOFING), _pictures(_SELECTORS)
_selector = _any_of(_SELECTORS)
# A variation selector behind another hides data.
_hidden_selectors = re.compile(f"(?<={_selector}){_selector}+")
_spoofing = re.compile(_any_of(_SPOOFING))
# All of these characters at once: one class is found ten times as fast as the alternatives.
_suspect = re.compile(_any_of((*_SPOOFING, *_SELECTORS, (0x1B, 0x1B))))
# How far a sequence may have come where a piece of a stream ends.
_begun = re.compile(r"\x1b(?:\[[0-9;:?]{0,64}|\()?\Z")
_LONGEST_BEGUN = 66


def is_plain(text: str) -> bool:
    """Is there nothing in it that would have to be made visible, and no ANSI?"""
    return _suspect.search(text) is None or (
        "\x1b" not in text
        and _spoofing.search(text) is None
        and _hidden_selectors.search(text) is None
    )


def visible(text: str) -> str:
    """The text with controls as pictures (`␛`) and other spoofing characters as `[U+202E]`."""
    if is_plain(text):
        return text
    # Every second part is a flag.
    parts = _flag.split(text) if "\U0001f3f4" in text else [text]
    parts[::2] = map(_visible, parts[::2])
    return "".join(parts)


def _visible(text: str) -> str:
    # Tables and constants: a function called for each character takes a minute for 50 MB.
    text = _lost_escape.sub("\u241b", text)
    text = _hidden_selectors.sub(lambda found: found[0].translate(_OF_SELECTORS), text)
    return text.translate(_OF_SPOOFING) if _spoofing.search(text) is not None else text


# Characters of a text that a page still shows.
MOST_TEXT = 20_000_000
# Of a text that is too long, so much is its end.
_END_SHARE = 4


def shortened(text: str, most: int = MOST_TEXT) -> str:
    """The text, if it is longer than `most` characters its beginning and end with a note between.

    The note is on a line of its own, so that what stands around it can be read.
    """
    if len(text) <= most:
        return text
    end = most // _END_SHARE
    start = most - end
    return (
        f"{text[:start]}\n[AgentBay: {len(text) - most:,} characters are left out here: this text "
        f"has more than {most:,}. To have all of it, save it to a file and run "
        f"`%agentbay download FILE`.]\n{text[len(text) - end :]}"
    )


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
# Characters. Nobody reads a longer line, and each character is looked at.
_LONGEST_LINE = 20_000


def one_line(text: str) -> str:
    """A name or a short text on one line: what nobody sees becomes `[U+200B]` or a picture (`␊`).

    Line ends, ANSI, bidirectional, zero-width and tag characters are all made visible. What is too
    long for a line is cut.
    """
    if len(text) > _LONGEST_LINE:
        text = f"{text[:_LONGEST_LINE]}\u2026"
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


# What a number, or anything else without characters, counts in bytes.
_VALUE_BYTES = 8


def excess(value: Any, most_bytes: int, most_values: int | None = None) -> str:
    """Why a value is too much for its place, or nothing.

    Level by level, up to the first bound, so neither depth nor size makes it slow. Bytes are about
    those of the value's JSON.
    """
    level, size, values, depth = [value], 0, 1, 0
    while level:
        depth += 1
        if depth > DEEPEST:
            return f"its data are nested more than {DEEPEST} levels deep"
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                if not all(isinstance(name, str) for name in item):
                    return "it is not a JSON object"
                values += len(item)
                size += sum(map(len, item)) + _VALUE_BYTES * len(item)
            elif isinstance(item, list | tuple):
                values += len(item)
                size += _VALUE_BYTES * len(item)
            elif isinstance(item, int):
                size += item.bit_length() // 3
            elif item is not None and not isinstance(item, float):
                return "it is not JSON"
            if size > most_bytes:
                return f"it has more than {most_bytes // 1_000_000} MB"
            if most_values is not None and values > most_values:
                return f"it holds more than {most_values:,} values"
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
        level = below
    return ""


def as_text(value: Any) -> str:
    """A MIME bundle's text, which may come as a list of lines; nothing for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "".join(line for line in value if isinstance(line, str))
    return str(value) if isinstance(value, bool | int | float) else ""


def shortened_lines(value: Any) -> list[str]:
    """The lines of a traceback; as one text, without its middle, if they are too many."""
    texts = [as_text(line) for line in value] if isinstance(value, list | tuple) else []
    if len(texts) <= _MOST_LINES and sum(map(len, texts)) <= MOST_TEXT:
        return texts
    return [shortened("\n".join(texts))]


_MOST_LINES = 10_000


class StreamText:
    """The text of one cell's streams, whose pieces may end within an ANSI sequence."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}

    def visible(self, name: str, text: str) -> str:
        """The next piece of that stream; a sequence that is not whole waits for the next."""
        text = self._begun.pop(name, "") + text
        if (begun := _begun.search(text, max(0, len(text) - _LONGEST_BEGUN))) is not None:
            self._begun[name] = begun[0]
            text = text[: begun.start()]
        return visible(text)
