"""The table of commands of `%agentbay`, and the function that runs a line with one.

A line gives Jupyter messages. A module with commands adds its rows to `VERBS`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.languages import LANGUAGES
from agentbay_kernel.renamed import RENAMED, did_you_mean, use_instead
from agentbay_kernel.verbs.bundles import table, text
from agentbay_kernel.verbs.cells import CELL_MAGIC, MAGIC, VerbCell, parse_cell
from agentbay_kernel.verbs.last import LAST
from agentbay_kernel.verbs.parser import LineParser, completed_by, split_words
from agentbay_kernel.verbs.sessions import SESSION_VERBS
from agentbay_kernel.verbs.settings import CONFIG
from agentbay_kernel.verbs.setup import SETUP_VERBS
from agentbay_kernel.verbs.status import STATUS
from agentbay_kernel.verbs.top import TOP
from agentbay_kernel.verbs.transfer import DOWNLOAD, UPLOAD
from agentbay_kernel.verbs.variables import VARS
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager


def run_verb(
    line: str, manager: SessionManager, context: VerbContext, body: str | None = None
) -> Iterator[Message]:
    """Run one command.

    It may block: front ends read it on a separate thread.

    Arguments:
        line: the words after `%agentbay`; an empty line means `help`.
        body: the lines below it, if it is a cell `%%agentbay COMMAND`.

    Yields:
        The messages to show, as they arrive.

    Raises:
        VerbError: there is no such command, or its arguments are not valid.
        NotAllowedError: the command touches this machine and cells are untrusted.
        AgentBayError: the command failed.
    """
    # `%agentbay?` and `%agentbay status?` request help, as `?` does elsewhere in IPython.
    asks = line.endswith("?")
    name, *words = split_words(line.removesuffix("?")) or ["help"]
    verb = find_verb(name)
    parser = verb.parser
    if asks and line != "?":
        words = ["--help"]
    untrusted = context.untrusted
    options = parser.read(words, untrusted=untrusted)
    if options.help:
        yield _display(text(parser.help_text()))
        return
    if verb.touches_machine and untrusted:
        raise NotAllowedError(
            f"`{verb.typed}` touches this machine, and the setting `untrusted` turns that off "
            "for this notebook. Nothing was done."
        )
    if body is not None and not verb.takes_body:
        raise VerbError(
            f"`{CELL_MAGIC} {name}` can't be used: {name} is a command of one line. "
            f"Use `{MAGIC} {name}`. Nothing was done."
        )
    options.body = body
    answer = verb.answer(options, manager, context)
    if isinstance(answer, dict):
        yield _display(answer)
    else:
        yield from answer


def is_cell_verb(line: str) -> bool:
    """Return whether the line after `%%agentbay` names a command, and not a language."""
    name = (line.split() or [""])[0].removesuffix("?")
    return name in VERBS or f"{MAGIC} {name}" in RENAMED


def passes_cells(code: str) -> bool:
    """Return whether a cell has only commands that need not wait for a running cell."""
    parsed = parse_cell(code)
    if not isinstance(parsed, VerbCell) or parsed.rest.strip():
        return False
    names = [(line.split() or ["help"])[0].removesuffix("?") for line in parsed.verbs]
    return all(name in VERBS and VERBS[name].passes_cells for name in names)


def find_verb(name: str) -> Verb:
    """Return the command of that name.

    Raises:
        VerbError: there is no such command.
    """
    verb = VERBS.get(name)
    if verb is None:
        if (old := f"{MAGIC} {name}") in RENAMED:
            raise VerbError(use_instead(old))
        raise VerbError(
            f"There is no command {name!r}.{did_you_mean(name, VERBS)} Use one of: "
            f"{', '.join(sorted(VERBS))}."
        )
    return verb


def _display(bundle: MimeBundle) -> Message:
    return Message("display_data", {"data": bundle, "metadata": {}, "transient": {}})


def _help(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    if options.verb:
        return text(find_verb(options.verb).parser.help_text())
    rows = [(verb.typed, verb.summary) for verb in VERBS.values()]
    rows.append(
        (f"{CELL_MAGIC} LANGUAGE", f"Run the cell in that language: {', '.join(LANGUAGES)}")
    )
    rows.append((f"{MAGIC} COMMAND --help", "Show the arguments of a command"))
    return table(rows)


def _help_arguments(parser: LineParser) -> None:
    completed_by(
        parser.add_argument(
            "verb", metavar="COMMAND", nargs="?", help="Show the arguments of this command"
        ),
        "verb",
    )


HELP = Verb(
    "help",
    "Show all commands, or the arguments of one",
    _help,
    _help_arguments,
    passes_cells=True,
    examples=("%agentbay help", "%agentbay help status"),
)

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        STATUS,
        *SESSION_VERBS,
        TOP,
        VARS,
        *SETUP_VERBS,
        UPLOAD,
        DOWNLOAD,
        CONFIG,
        LAST,
        HELP,
    )
}
