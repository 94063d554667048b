"""What of a cell is ours and what is the sandbox's.

In: a cell's text. Out: the `%agentbay` lines at its head, or its `%%agentbay` line, and the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentbay_kernel.errors import VerbError
from agentbay_kernel.languages import LANGUAGES, PYTHON

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


def check_commands(code: str, language: str) -> None:
    """Refuse code with one of our lines in it: the sandbox does not know them.

    Arguments:
        code: as it would be sent.
        language: its name.

    Raises:
        VerbError: a line `%agentbay ...` or `%%agentbay ...` stands below code.
    """
    # Most cells end here.
    if MAGIC not in code:
        return
    found = [line for line in code.splitlines() if _is(MAGIC, line) or _is(CELL_MAGIC, line)]
    # The text may stand in a string.
    if not found or _is_valid(code, language):
        return
    raise VerbError(
        f"`{found[0].strip()}` stands below code, and the sandbox doesn't know it. Move it to the "
        "top of the cell, or to a cell of its own. Nothing was run."
    )


def _is_valid(code: str, language: str) -> bool:
    """Is it code of that language, with our lines as no more than text?"""
    if language != PYTHON.name:
        return LANGUAGES[language].completeness(code)["status"] == "complete"
    from IPython.core.inputtransformer2 import TransformerManager

    plain = TransformerManager().transform_cell(code)  # type: ignore[no-untyped-call]
    return not any(f"run_line_magic('{name}agentbay'" in plain for name in ("", "%"))


def _is(magic: str, line: str) -> bool:
    word, *_ = line.split(maxsplit=1) or [""]
    return word == magic or word == f"{magic}?"
