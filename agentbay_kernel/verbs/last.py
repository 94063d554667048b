"""`%agentbay last`: the result of the previous cell, and its full text in a file.

The front end keeps the result. Without `--save` a table is shown; with it, a new file is written
below the notebook's directory.
"""

from __future__ import annotations

import datetime
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agentbay_kernel.errors import VerbError
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.output_limit import InSandbox, KeptHere
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.local_files import open_to_write, path_asked_for, path_to_write
from agentbay_kernel.verbs.bundles import table, text
from agentbay_kernel.verbs.parser import LineParser, completed_by, touching_machine
from agentbay_kernel.verbs.transfer import ProgressDisplay, exchange_of, watched
from agentbay_kernel.verbs.verb import Answer, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import LiveSession, SessionManager

_ALL = ", all that the cell printed,"


def _last(options: Namespace, manager: SessionManager, context: VerbContext) -> Answer:
    last = context.last
    if last is None:
        raise VerbError("There is no last cell: no cell has run in a sandbox yet.")
    if not options.save:
        return table(_rows(last))
    if isinstance(last.whole, InSandbox):
        for live in manager.sessions():
            if live.name == last.session:
                return _fetch(last.whole, live, options, manager, context)
    endings = context.settings.download_endings
    path = path_to_write(context.folder, options.save, endings=endings, force=options.force)
    try:
        with open_to_write(
            context.folder, options.save, endings=endings, force=options.force
        ) as file:
            if isinstance(last.whole, KeptHere):
                size = last.whole.write_to(file)
            else:
                size = file.write(last.text().encode("utf-8", "replace"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise VerbError(f"{options.save!r} could not be written: {reason}.") from error
    shown = path.relative_to(context.folder.resolve())
    return text(f"{size:,} bytes{_ALL if last.whole else ''} written to {shown}")


def _fetch(
    whole: InSandbox,
    live: LiveSession,
    options: Namespace,
    manager: SessionManager,
    context: VerbContext,
) -> Iterator[Message]:
    """Fetch the full output from the sandbox, which keeps it for its latest cell."""
    path_to_write(
        context.folder,
        options.save,
        endings=context.settings.download_endings,
        force=options.force,
    )
    local = path_asked_for(context.folder, options.save)
    exchange = exchange_of(live, context.settings.exchange_limit, manager.store.audit)
    display = ProgressDisplay()
    brought = yield from watched(
        lambda report: exchange.download(
            whole.path,
            local,
            force=options.force,
            folder=context.folder.resolve(),
            endings=context.settings.download_endings,
            progress=report,
            stopped=context.stopped,
        ),
        display,
        context.stopped,
    )
    shown = Path(brought.path).relative_to(context.folder.resolve())
    told = f"{brought.size:,} bytes{_ALL} written to {shown}"
    yield display.say(text(told))


def _rows(last: CellResult) -> list[tuple[str, str]]:
    started = datetime.datetime.fromtimestamp(last.started_at).astimezone()
    ended = "ok"
    if last.error is not None:
        ended = f"{last.error['ename']}: {last.error['evalue']}"
    kinds = [output["output_type"] for output in last.outputs]
    return [
        ("Ended", ended),
        ("Took", f"{last.seconds or 0:.2f} s, from {started:%H:%M:%S}"),
        ("Ran as", f"{last.language} in session {last.session}"),
        ("Printed", f"{len(last.stdout):,} characters, {len(last.stderr):,} to stderr"),
        ("Outputs", ", ".join(kinds) or "none"),
        ("Request", last.request_id or "unknown"),
    ]


def _last_arguments(parser: LineParser) -> None:
    touching_machine(
        completed_by(
            parser.add_argument(
                "--save",
                metavar="FILE",
                help="Write its full text to a file in the notebook's directory",
            ),
            "file",
        )
    )
    parser.add_argument("--force", action="store_true", help="Overwrite the file if it exists")


LAST = Verb(
    "last",
    "Show how the last cell ended and how long it took; save its full text",
    _last,
    _last_arguments,
    examples=("%agentbay last", "%agentbay last --save output.txt"),
)
