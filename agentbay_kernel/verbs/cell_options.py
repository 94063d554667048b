"""The line `%%agentbay LANGUAGE ...`: how one cell is to be run.

In: the line's words. Out: frozen `CellOptions`. The same for kernel and magics; what one of them
can't do, it refuses by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentbay_kernel.errors import VerbError
from agentbay_kernel.languages import LANGUAGES, find_language
from agentbay_kernel.verbs.cells import CELL_MAGIC
from agentbay_kernel.verbs.parser import LineParser, completed_by, split_words


@dataclass(frozen=True)
class CellOptions:
    """How one cell is to be run."""

    language: str


def cell_parser() -> LineParser:
    """The arguments of `%%agentbay LANGUAGE`."""
    parser = LineParser(
        CELL_MAGIC,
        "Run the cell in a sandbox, in a language",
        (f"{CELL_MAGIC} python", f"{CELL_MAGIC} js"),
    )
    completed_by(
        parser.add_argument("language", metavar="LANGUAGE", help=" or ".join(LANGUAGES)),
        "language",
    )
    return parser


def read_cell_line(line: str, *, untrusted: bool) -> CellOptions | str:
    """The options of a cell; or help to show, where the line asks for it.

    Raises:
        VerbError: the line is not valid.
        UnsupportedLanguageError: there is no such language.
        NotAllowedError: an option touches this machine and cells are untrusted.
    """
    parser = cell_parser()
    words = split_words(line)
    if words == ["?"]:
        return parser.help_text()
    if not words:
        raise VerbError(
            f"`{CELL_MAGIC}` needs a language: {', '.join(LANGUAGES)}. Nothing was sent."
        )
    options = parser.read(words, untrusted=untrusted)
    if options.help:
        return parser.help_text()
    return CellOptions(find_language(options.language).name)
