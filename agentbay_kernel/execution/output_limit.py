"""The limit of one cell's output: beyond it, text is folded and notes replace displays.

Of text that is too long, the start is passed on as it comes, and the end when the cell ends. The
text between them is only counted. Memory is bounded for every output.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from agentbay_kernel.execution.messages import Message, notice

DEFAULT_CHARACTERS = 20_000_000
DEFAULT_DISPLAY_BYTES = 100_000_000
# A quarter of the limit, at most so many characters, is kept for the end of the printed text.
_TAIL_SHARE, _LONGEST_TAIL = 4, 1_000_000
# A progress bar counts only with its longest line, until it has printed this many times the limit.
_MOST_OVERWRITTEN = 10
# After this many notes, displays that don't fit are only counted.
_MOST_NOTES = 20
_SHORT_TEXT = 100_000
# Most pieces to keep when both streams print in turn.
_MOST_PIECES = 10_000
_ADDING = ("display_data", "execute_result")
# A widget shows only its latest state, so its messages are not added up.
_TO_WIDGETS = ("comm_open", "comm_msg")

Content = dict[str, Any]


class OutputLimit:
    """The limit of one cell's output.

    Arguments:
        characters: most characters that the cell may print.
        display_bytes: most bytes of its pictures and other displays together, of each single
            update of a display, and of the buffers of each message to a widget.
        keeps_end: whether to keep the end of the text for `closing`.
        whole: a sentence that shows where all of the text is.
    """

    def __init__(
        self,
        characters: int,
        display_bytes: int = DEFAULT_DISPLAY_BYTES,
        *,
        keeps_end: bool = True,
        whole: str = "",
    ) -> None:
        self._whole = whole
        self._characters = characters
        self._display_bytes = display_bytes
        self._tail_room = min(characters // _TAIL_SHARE, _LONGEST_TAIL) if keeps_end else 0
        self._left = characters - self._tail_room
        self._raw_left = characters * _MOST_OVERWRITTEN
        # Visible characters of the unfinished line, which the next piece continues.
        self._line = 0
        self._folding = False
        self._tail: deque[tuple[str, str]] = deque()
        self._tail_size = 0
        self._left_out = 0
        self._lines_left_out = 0
        self._displayed = 0
        self._displays_left_out = 0

    def admit(
        self, kind: str, content: Content, buffers: Sequence[bytes] = ()
    ) -> list[tuple[str, Content]]:
        """Return the messages to pass on now for a message, as types and contents."""
        if kind == "stream":
            return self._text(content["name"], content["text"])
        if kind == "clear_output":
            # The displays so far are removed.
            self._displayed = 0
        elif kind in _ADDING or kind == "update_display_data":
            return self._display(kind, content)
        elif kind in _TO_WIDGETS and sum(map(len, buffers)) > self._display_bytes:
            self._displays_left_out += 1
            return []
        return [(kind, content)]

    @property
    def folded(self) -> bool:
        """Whether text is left out."""
        return self._left_out > 0

    def closing(self) -> list[tuple[str, Content]]:
        """Return the messages to pass on at the cell's end: notes, and the end of the text."""
        said = []
        whole = f" {self._whole}" if self._whole else ""
        if self._left_out:
            said.append(
                _note(
                    f"[AgentBay: {self._left_out:,} characters ({self._lines_left_out:,} lines) "
                    f"are left out here: this cell printed more than the limit of "
                    f"{self._characters:,} characters.{whole} The setting output_limit changes "
                    "that.]"
                )
            )
        said += [_stream(name, text) for name, text in self._tail]
        if self._displays_left_out:
            said.append(
                _note(
                    f"[AgentBay: {self._displays_left_out:,} displays of this cell are left out: "
                    f"they have more than the limit of {self._display_bytes:,} bytes. The setting "
                    "display_limit changes that.]"
                )
            )
        self._tail.clear()
        return said

    def _text(self, name: str, text: str) -> list[tuple[str, Content]]:
        text = collapse(text)
        if not self._folding:
            cost = self._cost(text)
            if cost <= self._left and len(text) <= self._raw_left:
                self._left -= cost
                self._raw_left -= len(text)
                return [_stream(name, text)]
            self._folding = True
            head, text = text[: self._left], text[self._left :]
            shown = [_stream(name, head)] if head else []
            self._keep_end(name, text)
            what_follows = (
                "the end of what it prints from here on is shown when it ends"
                if self._tail_room
                else "what it prints from here on is not shown"
            )
            return [
                *shown,
                _note(
                    f"[AgentBay: this cell has printed {self._characters - self._tail_room:,} "
                    f"characters; {what_follows}.]"
                ),
            ]
        self._keep_end(name, text)
        return []

    def _cost(self, text: str) -> int:
        """Return the number of visible characters that a piece adds."""
        start, end_of_lines, line = 0, text.rfind("\n") + 1, self._line
        if end_of_lines:
            start, line = end_of_lines, 0
        first, *others = text[start:].split("\r")
        width = max([line + len(first), *map(len, others)])
        self._line = width
        return end_of_lines + width - line

    def _keep_end(self, name: str, text: str) -> None:
        self._tail_size += len(text)
        if self._tail and self._tail[-1][0] == name and len(self._tail[-1][1]) < _SHORT_TEXT:
            text = self._tail.pop()[1] + text
        self._tail.append((name, text))
        while self._tail_size > self._tail_room or len(self._tail) > _MOST_PIECES:
            oldest_name, oldest = self._tail.popleft()
            over = max(0, self._tail_size - self._tail_room)
            gone, kept = oldest[:over] or oldest, oldest[over:] if over else ""
            if kept:
                self._tail.appendleft((oldest_name, kept))
            self._left_out += len(gone)
            self._lines_left_out += gone.count("\n")
            self._tail_size -= len(gone)

    def _display(self, kind: str, content: Content) -> list[tuple[str, Content]]:
        sizes = {mime: _size(value) for mime, value in content["data"].items()}
        # An update replaces a display, so it is not added up.
        room = self._display_bytes - (self._displayed if kind in _ADDING else 0)
        left_out = []
        for mime in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if sum(sizes.values()) <= max(room, 0):
                break
            left_out.append(f"{mime} of {sizes.pop(mime) / 1e6:.1f} MB")
        if not left_out:
            if kind in _ADDING:
                self._displayed += sum(sizes.values())
            return [(kind, content)]
        self._displays_left_out += 1
        if self._displays_left_out > _MOST_NOTES:
            return []
        data = {mime: content["data"][mime] for mime in sizes}
        note = f"[AgentBay: {', '.join(left_out)} is left out. The setting display_limit is "
        note += f"{self._display_bytes:,} bytes for the displays of a cell.]"
        text = data.get("text/plain")
        short = isinstance(text, str) and len(text) < _SHORT_TEXT
        data["text/plain"] = f"{text}\n{note}" if short else note
        if kind in _ADDING:
            self._displayed += sum(map(_size, data.values()))
        return [(kind, {**content, "data": data})]


def _size(value: object) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _stream(name: str, text: str) -> tuple[str, Content]:
    return "stream", {"name": name, "text": text}


def _note(text: str) -> tuple[str, Content]:
    told = notice(text)
    return told.type, told.content


def collapse(text: str) -> str:
    """Return a piece of text without the parts of its lines that later parts overwrite.

    A part is left out only if this is certain: a part that is at least as long follows in the same
    line, and no terminal sequence moves or colours anything. The first part of a line is kept: it
    may continue an earlier piece.
    """
    if "\r" not in text:
        return text
    return "\n".join(_collapsed(line) for line in text.split("\n"))


def _collapsed(line: str) -> str:
    # "\r\n" is the end of a line, not the start of another part of it.
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


# Most bytes to keep of one cell; the bridge keeps as many in a sandbox.
BOUND = 1024 * 1024 * 1024
_IN_MEMORY = 4_000_000
# The name of the full output in the reply's metadata.
WHOLE = "whole"


@dataclass(frozen=True)
class InSandbox:
    """The full output of a bridged cell, which the bridge keeps in the sandbox.

    Arguments:
        next_cells: path of the file in which the session's next cell finds it.
    """

    next_cells: str

    @property
    def path(self) -> str:
        """The path of its file until another cell runs in the session."""
        return posixpath.join(posixpath.dirname(self.next_cells), "output.txt")

    @property
    def told(self) -> str:
        """The sentence that shows where it is."""
        return f"{KeptHere.told} The next cell finds it in {self.next_cells!r}."


class KeptHere:
    """The full output of a direct cell, which has arrived here anyway, in a file without a name.

    The file is deleted with this object, which the next cell replaces.
    """

    told = "`%agentbay last --save FILE` brings all of it."

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._size = 0

    def add(self, text: str) -> None:
        """Add a piece of the cell's text; a piece that would exceed `BOUND` is dropped."""
        data = text.encode("utf-8", "replace")
        if self._size + len(data) <= BOUND:
            self._size += self._file.write(data)

    def write_to(self, file: IO[bytes]) -> int:
        """Write the full output to a file; return the number of bytes."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        return self._size


def replied(reply: Message, whole: InSandbox | KeptHere | None, request_id: str = "") -> Message:
    """Return a cell's reply with metadata of this package, and none of the sandbox's own.

    Arguments:
        whole: the full output, if some was left out.
        request_id: the service's id of the cell's request, for questions to its support.
    """
    metadata = {WHOLE: whole, "request_id": request_id}
    return replace(reply, metadata={name: value for name, value in metadata.items() if value})
