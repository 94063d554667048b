"""What of a cell is ours and what is the sandbox's.

In: a cell's text. Out: the `%agentbay` lines at its head, or its `%%agentbay` line, and the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

MAGIC = "%agentbay"
CELL_MAGIC = "%%agentbay"


@dataclass(frozen=True)
class VerbCell:
    """A cell that begins with `%agentbay` lines: the verbs, then the code that is left."""

    verbs: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class CellMagic:
    """A cell whose first line is `%%agentbay ...`: that line's words, and what stands below it.

    Tracebacks count lines from there, as they do below any of IPython's cell magics.
    """

    line: str
    body: str


def parse_cell(code: str) -> VerbCell | CellMagic | None:
    """What a cell of an AgentBay kernel asks of us; None for plain code."""
    lines = code.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines):
        return None
    if _is(CELL_MAGIC, lines[first]):
        line = lines[first].strip().removeprefix(CELL_MAGIC).strip()
        return CellMagic(line, "".join(lines[first + 1 :]))
    verbs: list[str] = []
    after = first
    for line in lines[first:]:
        if line.strip() and not _is(MAGIC, line):
            break
        if line.strip():
            verbs.append(line.strip().removeprefix(MAGIC).strip())
        after += 1
    if not verbs:
        return None
    return VerbCell(tuple(verbs), "".join(lines[after:]))


def _is(magic: str, line: str) -> bool:
    word, *_ = line.split(maxsplit=1) or [""]
    return word == magic or word == f"{magic}?"
