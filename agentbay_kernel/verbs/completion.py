"""Completion at the cursor, as far as the words are known here.

It returns the matches and what they replace. A line `%agentbay ...` or `%%agentbay ...` is
completed from the arguments' declarations. The session's kernel completes code; without a response,
the language's own words do. No session is created.
"""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from argparse import Action
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.languages import JAVASCRIPT, LANGUAGES, PYTHON
from agentbay_kernel.local_files import path_to_read
from agentbay_kernel.verbs.cell_options import cell_parser, read_cell_line
from agentbay_kernel.verbs.cells import CELL_MAGIC, MAGIC, CellMagic, VerbCell, parse_cell
from agentbay_kernel.verbs.parser import LineParser
from agentbay_kernel.verbs.table import VERBS

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager

_MOST_FILES = 200
# In a reply's metadata: the kind of each match, as IPython's kernel reports it.
TYPES = "_jupyter_types_experimental"

# A word that is being typed, and whether the names of modules can be there.
_WORD = re.compile(r"(?<![\w.$'\"`])[A-Za-z_]\w*$")
_IMPORTED = re.compile(r"(?m)^\s*(?:import|from)\s+(?:[\w.]+\s*,\s*)*$")
_JAVASCRIPT_WORDS = """
async await break case catch class const continue debugger default delete do else export extends
false finally for function if import in instanceof let new null of return static super switch this
throw true try typeof undefined var void while with yield
AbortController Array ArrayBuffer BigInt Blob Boolean Buffer Date Error FormData Function Headers
Infinity Intl JSON Map Math NaN Number Object Promise Proxy RangeError ReferenceError Reflect RegExp
Request Response Set String Symbol SyntaxError TextDecoder TextEncoder TypeError URL
URLSearchParams Uint8Array WeakMap WeakSet WebAssembly clearInterval clearTimeout console crypto
decodeURIComponent display encodeURIComponent fetch globalThis isFinite isNaN parseFloat parseInt
performance process queueMicrotask require setInterval setTimeout structuredClone
"""


@dataclass(frozen=True)
class Surroundings:
    """The sources of completions, besides the declarations.

    Arguments:
        folder: the notebook's directory.
        manager: the session manager; None as long as there is none.
        names: variables of the notebook that `--in` could send.
        untrusted: show no file of this machine.
    """

    folder: Path
    manager: SessionManager | None = None
    names: tuple[str, ...] = ()
    untrusted: bool = False


@dataclass(frozen=True)
class Completions:
    """Matches, and the range of the text that each replaces."""

    matches: tuple[str, ...]
    start: int
    end: int

    def content(self, begin: int = 0) -> dict[str, Any]:
        """Return the content of a complete_reply; the text starts at that index of the cell."""
        return {
            "status": "ok",
            "matches": list(self.matches),
            "cursor_start": self.start + begin,
            "cursor_end": self.end + begin,
            "metadata": {},
        }


def complete_line(code: str, cursor: int, around: Surroundings) -> Completions | None:
    """Return the completions at the cursor; None if it is not on a command line."""
    begin = code.rfind("\n", 0, cursor) + 1
    line = code[begin:cursor]
    magic, rest = _of_magic(line)
    if not magic or not isinstance(parse_cell(code[:cursor]), VerbCell | CellMagic):
        return None
    if magic == CELL_MAGIC and code[:begin].strip():
        return None
    *words, current = rest.split(" ")
    words = [word for word in words if word]
    wanted = _possible(magic, words, current, around)
    matches = tuple(sorted({match for match in wanted if match.startswith(current)}))
    return Completions(matches, cursor - len(current), cursor)


def complete_magic(code: str, cursor: int) -> Completions | None:
    """Return the names of this package's magics that start with the word at the cursor."""
    begin = code.rfind("\n", 0, cursor) + 1
    before, word = code[:begin], code[begin:cursor].lstrip()
    names = [name for name in (MAGIC, CELL_MAGIC) if word and name.startswith(word)]
    # Commands are at the head of a cell, the cell magic in its first line.
    head = parse_cell(before + MAGIC)
    if not isinstance(head, VerbCell) or head.rest:
        names = []
    elif before.strip():
        names = [name for name in names if name == MAGIC]
    return Completions(tuple(names), cursor - len(word), cursor) if names else None


def complete_word(language: str, code: str, cursor: int) -> Completions:
    """Return the language's own words and names that start with the word at the cursor.

    Arguments:
        language: its name for the service.
    """
    word = _WORD.search(code[:cursor])
    start = word.start() if word else cursor
    known: Iterable[str] = ()
    if word and language == PYTHON.name:
        if _IMPORTED.search(code[:start]):
            known = (name for name in sys.stdlib_module_names if not name.startswith("_"))
        else:
            known = [*keyword.kwlist, *dir(builtins)]
    elif word and language == JAVASCRIPT.name:
        known = _JAVASCRIPT_WORDS.split()
    matches = sorted({name for name in known if name.startswith(code[start:cursor])})
    return Completions(tuple(matches), start, cursor)


def cell_body(code: str) -> tuple[CellMagic, int] | None:
    """Return a `%%agentbay` cell and the index in its text where the sandbox's code starts."""
    parsed = parse_cell(code)
    return (parsed, len(code) - len(parsed.body)) if isinstance(parsed, CellMagic) else None


def body_language(cell: CellMagic) -> str:
    """Return the language of a `%%agentbay` cell; empty if its line names none."""
    try:
        options = read_cell_line(cell.line, untrusted=False)
    except AgentBayError:
        return ""
    return "" if isinstance(options, str) else options.language


def complete_body(
    cell: CellMagic, begin: int, cursor: int, manager: SessionManager
) -> dict[str, Any] | None:
    """Return completions of a `%%agentbay` cell from its session; create no session.

    It may block: call it off the event loop.

    Arguments:
        begin: index in the cell's text where the sandbox's code starts.
        cursor: index in the cell's text.

    Returns:
        Content of a complete_reply; None if there is no bridge to ask.

    Raises:
        AgentBayError: the cell's line is not valid, or the session did not respond.
    """
    options = read_cell_line(cell.line, untrusted=False)
    if isinstance(options, str) or cursor < begin:
        return None
    session = (options.session,) if options.session else ()
    bridge = manager.bridge(options.language, *session)
    if bridge is None:
        return None
    reply: dict[str, Any] = bridge.complete(cell.body, cursor - begin)
    metadata = reply.get("metadata")
    types = metadata.get(TYPES) if isinstance(metadata, dict) else None
    for stretch in (reply, *(types if isinstance(types, list) else ())):
        for name in ("cursor_start", "cursor_end", "start", "end"):
            if isinstance(stretch, dict) and isinstance(stretch.get(name), int):
                stretch[name] += begin
    return reply


def _of_magic(line: str) -> tuple[str, str]:
    bare = line.lstrip()
    for magic in (CELL_MAGIC, MAGIC):
        if bare.startswith(magic + " "):
            return magic, bare[len(magic) + 1 :].lstrip()
    return "", ""


def _possible(magic: str, words: list[str], current: str, around: Surroundings) -> Iterable[str]:
    if magic == MAGIC:
        if not words:
            return VERBS
        verb = VERBS.get(words[0])
        return _arguments(verb.parser, words[1:], current, around) if verb else ()
    verb = VERBS.get(words[0]) if words else None
    if verb is not None and verb.takes_body:
        return _arguments(verb.parser, words[1:], current, around)
    cells = () if words else (verb.name for verb in VERBS.values() if verb.takes_body)
    return [*cells, *_arguments(cell_parser(), words, current, around)]


def _arguments(
    parser: LineParser, words: list[str], current: str, around: Surroundings
) -> Iterable[str]:
    before = parser.action_of(words[-1]) if words else None
    if before is not None and before.nargs != 0:
        return _values(before, current, around)
    if current.startswith("-"):
        return parser.flags
    given = [word for at, word in enumerate(words) if not _belongs_to_flag(parser, words, at)]
    positional = [action for action in parser.actions if not action.option_strings]
    at = min(len(given), len(positional) - 1)
    if at < 0 or (len(given) > at and positional[at].nargs not in ("*", "+")):
        return parser.flags
    return _values(positional[at], current, around)


def _belongs_to_flag(parser: LineParser, words: list[str], at: int) -> bool:
    before = parser.action_of(words[at - 1]) if at else None
    return words[at].startswith("-") or (before is not None and before.nargs != 0)


def _values(action: Action, current: str, around: Surroundings) -> Iterable[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    kind = getattr(action, "completes", "")
    if kind == "session":
        sessions = around.manager.sessions() if around.manager is not None else []
        return [live.name for live in sessions]
    if kind == "language":
        return LANGUAGES
    if kind == "verb":
        return VERBS
    if kind == "setting":
        return AgentBaySettings.class_own_traits(config=True)
    if kind == "file" and not around.untrusted:
        return _files(current, around.folder)
    if kind == "name" and not around.untrusted:
        done, comma, _ = current.rpartition(",")
        return [f"{done}{comma}{name}" for name in around.names]
    return ()


def _files(current: str, folder: Path) -> list[str]:
    parent, slash, _ = current.rpartition("/")
    try:
        inside = sorted(path_to_read(folder, parent or ".").iterdir())[:_MOST_FILES]
    except (AgentBayError, OSError):
        return []
    return [
        f"{parent}{slash}{path.name}{'/' if path.is_dir() else ''}"
        for path in inside
        if not path.name.startswith(".") and " " not in path.name
    ]
