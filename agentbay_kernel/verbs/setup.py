"""`%%agentbay setup` and `%agentbay rerun`: set up new sessions, and restore lost ones.

`setup` takes a recipe as TOML and shows what new sessions get. `rerun` takes the name of a session
and shows the output of its cells.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.execution.messages import Message, stream
from agentbay_kernel.sessions import DEFAULT_SESSION, Recipe, read_recipe
from agentbay_kernel.verbs.bundles import table, text
from agentbay_kernel.verbs.parser import LineParser, completed_by
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager


def _setup(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    if options.body is None:
        recipe, whole = manager.store.recipe, manager.store.full_recipe
        configured = manager.store.configured
        if not whole and not configured:
            return text("New sessions start empty: there is no setup recipe.")
        return _described(
            recipe or whole or Recipe(context.folder, ""),
            whole if context.untrusted else None,
            configured,
        )
    allowed = manager.settings.setup_env
    recipe = read_recipe(options.body, context.folder, "%%agentbay setup", allowed)
    if context.untrusted and (recipe.files or recipe.env):
        raise NotAllowedError(
            "This recipe uses files or environment variables of this machine, and the setting "
            "`untrusted` turns that off for this notebook. Nothing was done."
        )
    manager.store.set_recipe(recipe)
    return _described(recipe)


def _described(
    recipe: Recipe, whole: Recipe | None = None, configured: Recipe | None = None
) -> MimeBundle:
    """Return a table of what new sessions get, what is left out, and what the setting adds."""
    parts = (("pip", recipe.pip), ("npm", recipe.npm), ("files", recipe.files), ("env", recipe.env))
    rows = [(name, ", ".join(values)) for name, values in parts if values]
    if whole is not None and (left_out := [*whole.files, *whole.env]):
        rows.append(("left out (`untrusted` is on)", ", ".join(left_out)))
    if recipe:
        rows.insert(0, ("Each new session gets", f"what {recipe.source} lists"))
    if configured:
        rows.append(("files (setting `session_files`)", ", ".join(configured.files)))
    return table(rows)


def _rerun(options: Namespace, manager: SessionManager, context: VerbContext) -> Iterator[Message]:
    for message in manager.rerun(options.name):
        if context.stopped.is_set():
            return
        if message.type == "error":
            # A cell may display an error that it handles.
            yield stream("stderr", "\n".join(message.content["traceback"]) + "\n")
        elif message.type == "execute_reply":
            if message.content.get("status") != "ok":
                failure = message.content.get("ename") or "an error"
                raise VerbError(f"A cell failed with {failure}. The cells after it were not run.")
        elif message.type != "input_request":
            yield message


def _rerun_arguments(parser: LineParser) -> None:
    argument = parser.add_argument(
        "name", nargs="?", default=DEFAULT_SESSION, help="Name of the session (default: default)"
    )
    completed_by(argument, "session")


SETUP_VERBS = (
    Verb(
        "setup",
        "Give packages, files and variables to every new session; on a line, show which",
        _setup,
        takes_body=True,
        examples=('%%agentbay setup\n  pip = ["rich"]\n  files = ["data.csv"]',),
    ),
    Verb(
        "rerun",
        "Run the cells of a lost session again, in the new one",
        _rerun,
        _rerun_arguments,
        examples=("%agentbay rerun",),
    ),
)
