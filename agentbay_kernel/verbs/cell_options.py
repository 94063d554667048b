"""The line `%%agentbay LANGUAGE ...`: how one cell runs.

The line's words become frozen `CellOptions`. They are the same for kernel and magics; each of them
refuses the options that it can't support, by name.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from dataclasses import dataclass

from agentbay_kernel.errors import VerbError
from agentbay_kernel.languages import LANGUAGES, find_language
from agentbay_kernel.verbs.cells import CELL_MAGIC
from agentbay_kernel.verbs.parser import (
    LineParser,
    add_session_argument,
    completed_by,
    split_words,
    touching_machine,
)


@dataclass(frozen=True)
class CellOptions:
    """How one cell runs.

    Arguments:
        language: its name.
        session: name of the session; None for the notebook's own.
        timeout: seconds after which it is stopped; None for the value of the settings.
        sends: variables of the notebook that it gets.
        brings: variables that the notebook gets from it.
        capture: variable of the notebook that keeps its result; empty to show it.
        silent: show nothing but errors.
        background: don't wait for it.
        ephemeral: run it in a new session, which is deleted afterwards.
    """

    language: str
    session: str | None = None
    timeout: float | None = None
    sends: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    capture: str = ""
    silent: bool = False
    background: bool = False
    ephemeral: bool = False

    def magics_only_flags(self) -> str:
        """Return the flags that need variables in the notebook, which an AgentBay kernel hasn't."""
        given = {
            "-i/--in": self.sends,
            "-o/--out": self.brings,
            "--capture": self.capture,
            "--background": self.background,
        }
        return ", ".join(flag for flag, value in given.items() if value)


def cell_parser() -> LineParser:
    """Return a parser of the arguments of `%%agentbay LANGUAGE`."""
    parser = LineParser(
        CELL_MAGIC,
        "Run the cell in a sandbox",
        (
            f"{CELL_MAGIC} python",
            f"{CELL_MAGIC} js --timeout 30",
            f"{CELL_MAGIC} python -i df,threshold -o scores",
            f"{CELL_MAGIC} python -s second --background --capture job",
        ),
    )
    completed_by(
        parser.add_argument(
            "language", metavar="LANGUAGE", help=f"Language of the cell: {' or '.join(LANGUAGES)}"
        ),
        "language",
    )
    add_session_argument(parser)
    parser.add_argument(
        "-t",
        "--timeout",
        metavar="S",
        type=_seconds,
        help="Stop the cell after this number of seconds",
    )
    sends = touching_machine(
        parser.add_argument(
            "-i",
            "--in",
            dest="sends",
            metavar="NAMES",
            type=_names,
            action="extend",
            default=[],
            help="Send variables of this notebook to the cell; separate names by commas",
        )
    )
    completed_by(sends, "name")
    touching_machine(
        parser.add_argument(
            "-o",
            "--out",
            dest="brings",
            metavar="NAMES",
            type=_names,
            action="extend",
            default=[],
            help="Fetch variables of the cell into this notebook",
        )
    )
    touching_machine(
        parser.add_argument(
            "--capture",
            metavar="VAR",
            type=_name,
            help="Keep the result in this variable instead of showing it; an error is kept too",
        )
    )
    parser.add_argument("--silent", action="store_true", help="Show errors only")
    parser.add_argument(
        "--background",
        "--bg",
        action="store_true",
        help="Don't wait; return a handle with .done, .wait(), .cancel(), .outputs",
    )
    parser.add_argument(
        "--ephemeral",
        action="store_true",
        help="Run in a new session, and delete it afterwards",
    )
    return parser


def read_cell_line(line: str, *, untrusted: bool) -> CellOptions | str:
    """Return the options of a cell; or help to show, if the line requests it.

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
    given = parser.read(words, untrusted=untrusted)
    if given.help:
        return parser.help_text()
    if given.ephemeral and given.session:
        parser.error("--ephemeral creates a new session, so it can't be used with --session")
    if given.background and given.brings:
        parser.error("--out waits for the end of the cell, which --background doesn't wait for")
    return CellOptions(
        language=find_language(given.language).name,
        session=given.session,
        timeout=given.timeout,
        sends=tuple(given.sends),
        brings=tuple(given.brings),
        capture=given.capture or "",
        silent=given.silent,
        background=given.background,
        ephemeral=given.ephemeral,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _name(text: str) -> str:
    if not text.isidentifier():
        raise ArgumentTypeError(f"{text!r} is not the name of a variable")
    return text


def _names(text: str) -> list[str]:
    return [_name(part.strip()) for part in text.split(",") if part.strip()]
