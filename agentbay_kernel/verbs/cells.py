"""Splits a cell into the commands of this package and the code for the sandbox.

The commands are the `%agentbay` lines at its head, or its `%%agentbay` line.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentbay_kernel.errors import VerbError
from agentbay_kernel.languages import LANGUAGES, PYTHON

MAGIC = "%agentbay"
CELL_MAGIC = "%%agentbay"


@dataclass(frozen=True)
class VerbCell:
    """A cell that starts with `%agentbay` lines: the commands, then the rest of the code."""

    verbs: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class CellMagic:
    """A cell whose first line is `%%agentbay ...`: that line's words, and the code below it.

    Tracebacks count lines from that code, as they do below any of IPython's cell magics.
    """

    line: str
    body: str


def parse_cell(code: str) -> VerbCell | CellMagic | None:
    """Return the commands of a cell of an AgentBay kernel; None for plain code."""
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
    """Refuse code that has one of the command lines: the sandbox does not support them.

    Arguments:
        code: the code as it would be sent.
        language: the name of its language.

    Raises:
        VerbError: a line `%agentbay ...` or `%%agentbay ...` is below code.
    """
    # Most cells have no command.
    if MAGIC not in code:
        return
    found = [line for line in code.splitlines() if _is(MAGIC, line) or _is(CELL_MAGIC, line)]
    # The text may be in a string.
    if not found or _is_valid(code, language):
        return
    raise VerbError(
        f"`{found[0].strip()}` stands below code, and the sandbox doesn't know it. Move it to the "
        "top of the cell, or to a cell of its own. Nothing was run."
    )


def _is_valid(code: str, language: str) -> bool:
    """Return whether it is valid code of that language, with the command lines as mere text."""
    if language != PYTHON.name:
        return LANGUAGES[language].completeness(code)["status"] == "complete"
    from IPython.core.inputtransformer2 import TransformerManager

    plain = TransformerManager().transform_cell(code)  # type: ignore[no-untyped-call]
    return not any(f"run_line_magic('{name}agentbay'" in plain for name in ("", "%"))


def _is(magic: str, line: str) -> bool:
    word, *_ = line.split(maxsplit=1) or [""]
    return word == magic or word == f"{magic}?"
