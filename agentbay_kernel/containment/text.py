"""Makes all characters of a text visible.

Printed text keeps its ANSI colours and the cursor movements of progress bars. Characters that could
control a terminal, or make a line look different from its content, become visible. A name on one
line (a completion, a file, an exception's class) is stricter: only visible characters stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# The rest of a CSI sequence that colours, erases or moves; `tput sgr0` adds `ESC ( B`. Others make
# a terminal respond (n, c, t) or change its modes, or are strings for it (OSC, DCS).
_AFTER_ESCAPE = r"\[[0-9;:]{0,64}[A-HJKSTdfmsu]|\[\?25[hl]|\(B"
_lost_escape = re.compile(rf"\x1b(?!{_AFTER_ESCAPE})")
# The flags of England, Scotland and Wales, and of other regions: the only use of tag characters.
_flag = re.compile("(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f)")
# All controls except \b \t \n \v \f \r and the escape; the bidirectional embeddings, overrides and
# isolates (Unicode TR 36, "Trojan Source") and the formats that Unicode deprecates; halves of
# surrogate pairs, which no channel can transfer; tags, which are invisible. Joiners and direction
# marks stay: Arabic, Indic scripts and emoji need them.
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
# A variation selector after another one hides data.
_hidden_selectors = re.compile(f"(?<={_selector}){_selector}+")
_spoofing = re.compile(_any_of(_SPOOFING))
# All of these characters in one class, which is ten times as fast as alternatives.
_suspect = re.compile(_any_of((*_SPOOFING, *_SELECTORS, (0x1B, 0x1B))))
# The longest part of a sequence at the end of a stream's piece.
_begun = re.compile(r"\x1b(?:\[[0-9;:?]{0,64}|\()?\Z")
_LONGEST_BEGUN = 66


def is_plain(text: str) -> bool:
    """Return whether a text has no ANSI and nothing that must be made visible."""
    return _suspect.search(text) is None or (
        "\x1b" not in text
        and _spoofing.search(text) is None
        and _hidden_selectors.search(text) is None
    )


def visible(text: str) -> str:
    """Return the text with controls as pictures (`␛`) and spoofing characters as `[U+202E]`."""
    if is_plain(text):
        return text
    # The odd parts are flags.
    parts = _flag.split(text) if "\U0001f3f4" in text else [text]
    parts[::2] = map(_visible, parts[::2])
    return "".join(parts)


def _visible(text: str) -> str:
    # Tables and constants: a function call for each character takes a minute for 50 MB.
    text = _lost_escape.sub("\u241b", text)
    text = _hidden_selectors.sub(lambda found: found[0].translate(_OF_SELECTORS), text)
    return text.translate(_OF_SPOOFING) if _spoofing.search(text) is not None else text


# The number of characters of a text that a page still shows.
MOST_TEXT = 20_000_000
# In a shortened text, one part in so many is its end.
_END_SHARE = 4


def shortened(text: str, most: int = MOST_TEXT) -> str:
    """Return the text; if it is longer than `most` characters, its start and end and a note.

    The note is on its own line, so that the text around it is readable.
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


# Visible characters: letters, marks, numbers, punctuation, symbols.
_SEEN = frozenset("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split())
# Invisible characters of those categories: fillers of Hangul, the blank of Braille, joiners and
# vowels without a shape, variation selectors (Unicode's Default_Ignorable_Code_Point).
_UNSEEN = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC))
) | frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
# Spaces as wide as they look.
_SPACES = frozenset(" \u3000")
# Selects whether the character before it is shown as text or as a picture.
_PRESENTATION = frozenset("\ufe0e\ufe0f")
# No script uses more marks on a letter; more of them cover the lines above and below.
_MOST_MARKS = 6
# Characters. Nobody reads a longer line, and each character is checked.
_LONGEST_LINE = 20_000


def one_line(text: str) -> str:
    """Return a name or a short text on one line, with pictures for invisible characters.

    Line ends, ANSI, bidirectional, zero-width and tag characters all become visible, as `[U+200B]`
    or a picture (`␊`). A text that is too long for a line is cut.
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
    """Return a text of several lines, each as `one_line` returns it."""
    return "\n".join(map(one_line, text.split("\n")))


_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")


def prompt(text: str) -> str:
    """Return the prompt of `input()`: lines without colours, each as `one_line` returns it."""
    return lines(_COLOUR.sub("", text).replace("\r\n", "\n").replace("\t", "    "))


# Setting these on an object changes all objects of a page.
UNSAFE_NAMES = frozenset(("__proto__", "constructor", "prototype"))
# Deeper data have no use: the page's own functions are recursive.
DEEPEST = 100
_TOO_DEEP = "[nested too deeply]"


def all_visible(value: Any, depth: int = 0) -> Any:
    """Return JSON with all its strings visible.

    It has no names that reach into JavaScript objects, and nothing deeper than `DEEPEST`.
    """
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


# The size in bytes of a number, or of anything else without characters.
_VALUE_BYTES = 8


def excess(value: Any, most_bytes: int, most_values: int | None = None) -> str:
    """Return why a value is too large, or an empty string.

    It is measured level by level, up to the first limit, so neither depth nor size makes it slow.
    Bytes are about those of the value's JSON.
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
    """Return a MIME bundle's text, which may be a list of lines; empty for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "".join(line for line in value if isinstance(line, str))
    return str(value) if isinstance(value, bool | int | float) else ""


def shortened_lines(value: Any) -> list[str]:
    """Return the lines of a traceback; if they are too many, one text without its middle."""
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
        """Return the next piece of that stream; an incomplete sequence waits for the next piece."""
        text = self._begun.pop(name, "") + text
        if (begun := _begun.search(text, max(0, len(text) - _LONGEST_BEGUN))) is not None:
            self._begun[name] = begun[0]
            text = text[: begun.start()]
        return visible(text)
