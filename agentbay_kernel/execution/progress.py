"""Progress bars: text that a carriage return overwrites is not carried along.

In: a piece of a stream. Out: the same without what nobody would see once the piece is shown.
"""

from __future__ import annotations


def collapse(text: str) -> str:
    """The piece without the parts of its lines that later parts cover.

    A part is left out only where it is certain: one that is as long or longer follows in the same
    line, and no terminal sequence moves or colours anything. The piece's first part is kept when
    it continues a line that began before.
    """
    if "\r" not in text:
        return text
    return "\n".join(_collapsed(line) for line in text.split("\n"))


def _collapsed(line: str) -> str:
    # "\r\n" is the end of a line, not the beginning of another text in it.
    end = "\r" if line.endswith("\r") else ""
    parts = line.removesuffix("\r").split("\r")
    if len(parts) < 3 or "\x1b" in line or "\b" in line:
        return line
    kept: list[str] = []
    longest = -1
    for part in reversed(parts[1:]):
        if len(part) > longest:
            kept.append(part)
            longest = len(part)
    return "\r".join([parts[0], *reversed(kept)]) + end
