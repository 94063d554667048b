"""`%agentbay vars`: the variables of a session.

It shows a table of names, types, sizes and short values, for one language.
"""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from typing import TYPE_CHECKING

from agentbay_kernel.languages import LANGUAGES, find_language
from agentbay_kernel.sessions import DEFAULT_SESSION
from agentbay_kernel.verbs.bundles import data, grid, text
from agentbay_kernel.verbs.parser import LineParser, completed_by
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager


def _vars(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    language = find_language(options.language or context.language)
    found = manager.variables(options.session, language.name)
    if options.json:
        return data(dataclasses.asdict(found))
    if not found.variables:
        return text(f"{language.display_name} has no variables in {options.session!r}.")
    rows = [
        (one.name, one.type, one.shape, "" if one.bytes is None else f"{one.bytes:,}", one.value)
        for one in found.variables
    ]
    shown = grid(("Name", "Type", "Shape", "Bytes", "Value"), rows)
    if (left := found.total - len(rows)) > 0:
        more = f"{left:,} more variables are not shown."
        shown = {
            "text/plain": f"{shown['text/plain']}\n{more}",
            "text/html": f"{shown['text/html']}<p>{more}</p>",
        }
    return shown


def _vars_arguments(parser: LineParser) -> None:
    completed_by(
        parser.add_argument(
            "language",
            metavar="LANGUAGE",
            nargs="?",
            help=f"{' or '.join(LANGUAGES)} (default: the notebook's)",
        ),
        "language",
    )
    completed_by(
        parser.add_argument(
            "-s",
            "--session",
            metavar="NAME",
            default=DEFAULT_SESSION,
            help="Name of the session (default: default)",
        ),
        "session",
    )
    parser.add_argument("--json", action="store_true", help="Show JSON")


VARS = Verb(
    "vars",
    "Show the variables of a session: type, shape or length, size and a short value",
    _vars,
    _vars_arguments,
    passes_cells=True,
    examples=("%agentbay vars", "%agentbay vars js", "%agentbay vars --session agent"),
)
