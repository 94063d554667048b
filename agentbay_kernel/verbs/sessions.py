"""The commands about sessions: list, create, delete, restart, interrupt, attach, detach, extend.

Each shows one line on what was done, or a table.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from agentbay_kernel.errors import NotAllowedError
from agentbay_kernel.execution.cell import InterruptResult
from agentbay_kernel.sessions import DEFAULT_SESSION, clock, whose
from agentbay_kernel.sessions.statefile import LIVE
from agentbay_kernel.verbs.bundles import data, grid, text
from agentbay_kernel.verbs.parser import LineParser, completed_by
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager

_UNITS = {"": 60.0, "m": 60.0, "min": 60.0, "h": 3600.0, "s": 1.0}


def duration_s(words: str) -> float:
    """Return the seconds of a duration as users type it: `2h`, `90m`, `90` (minutes).

    Raises:
        ArgumentTypeError: it is not a duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|m|min|s|)", words.strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds <= 0:
        raise ArgumentTypeError(f"{words!r} is not a duration; use 2h, 90m or 45 (minutes)")
    return seconds


def _named(parser: LineParser) -> None:
    argument = parser.add_argument(
        "name", nargs="?", default=DEFAULT_SESSION, help="Name of the session (default: default)"
    )
    completed_by(argument, "session")


def session_rows(manager: SessionManager, *, everything: bool) -> list[dict[str, Any]]:
    """Return the user's sessions as data, this notebook's first.

    Arguments:
        everything: include the other sessions of the account.

    Raises:
        CommandError: the service refused, or was not reached.
    """
    here = manager.store.registry.owner
    rows: list[dict[str, Any]] = [
        {
            "name": live.name,
            "id": live.session.session_id,
            "age_minutes": round(live.age_s / 60, 1),
            "status": LIVE,
            "whose": "attached: another's" if live.attached else "of this notebook",
        }
        for live in manager.sessions()
    ]
    shown = {row["id"] for row in rows}
    for record in manager.store.own_records():
        if record.session_id not in shown:
            shown.add(record.session_id)
            rows.append(
                {
                    "name": record.name,
                    "id": record.session_id or "(being created)",
                    "age_minutes": round(record.age_s / 60, 1),
                    "status": record.stage,
                    "whose": whose(record, here),
                }
            )
    if not everything:
        return rows
    listed = {one["sessionId"]: one.get("sessionStatus", "") for one in manager.store.listed()}
    return [
        *({**row, "status": listed.get(row["id"]) or row["status"]} for row in rows),
        *(
            {
                "name": "",
                "id": session_id,
                "age_minutes": None,
                "status": status,
                "whose": "not known on this machine",
            }
            for session_id, status in listed.items()
            if session_id not in shown
        ),
    ]


def session_grid(rows: list[dict[str, Any]]) -> MimeBundle:
    """Return those rows as a table."""
    return grid(
        ("session", "id", "age", "status", "whose"),
        [
            (
                str(row["name"]),
                str(row["id"]),
                "" if row["age_minutes"] is None else f"{row['age_minutes']:.0f} min",
                str(row["status"]),
                str(row["whose"]),
            )
            for row in rows
        ],
    )


def _sessions(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    rows = session_rows(manager, everything=options.all)
    if options.json:
        return data({"sessions": rows})
    return session_grid(rows) if rows else text("No sessions. The next cell creates one.")


def _sessions_arguments(parser: LineParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help="Also list the other sessions of the account"
    )
    parser.add_argument("--json", action="store_true", help="Show JSON")


def _create(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    live = manager.open(options.name, context.language)
    return text(f"The session {options.name!r} is ready: {live.session.session_id}.")


def _delete(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    if options.force and not manager.settings.delete_attached:
        raise NotAllowedError(
            "`%agentbay delete --force` would delete a session that is not this notebook's. Your "
            "configuration does not allow that to a cell (delete_attached). Nothing was deleted. "
            "Use `jupyter agentbay sessions delete SESSION_ID` on the command line."
        )
    session_id = manager.delete(options.name, force=options.force)
    return text(f"The session {options.name!r} ({session_id}) was deleted.")


def _delete_arguments(parser: LineParser) -> None:
    _named(parser)
    parser.add_argument("--force", action="store_true", help="Delete it even if it is attached")


def _restart_arguments(parser: LineParser) -> None:
    _named(parser)
    parser.add_argument(
        "--force", action="store_true", help="Restart even if a cell runs; this ends the cell"
    )


def _restart(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    if manager.restart(options.name, force=options.force):
        return text(
            f"The session {options.name!r} was restarted: variables are gone, files are kept."
        )
    return text(
        f"The session {options.name!r} was deleted, with its variables and files. The next cell "
        "creates a new one."
    )


def _interrupt(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    stops = manager.stop_cells(options.name)
    if not stops:
        return text(f"Nothing runs in {options.name!r}.")
    if InterruptResult.CONTINUES in stops:
        return text(
            f"The code in {options.name!r} can't be interrupted: {InterruptResult.CONTINUES.value}."
        )
    return text(f"The code in {options.name!r} was interrupted.")


def _attach(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    if context.untrusted:
        raise NotAllowedError(
            "`%agentbay attach` reaches another session of your account, and the setting "
            "`untrusted` turns that off for this notebook. Nothing was done."
        )
    live = manager.attach(options.session_id, options.session, bridged=options.bridged)
    how = "A bridge will be installed in it" if options.bridged else "Nothing is installed in it"
    return text(
        f"Attached to {live.session.session_id} as {options.session!r}. {how}. This notebook "
        "never restarts or deletes it."
    )


def _attach_arguments(parser: LineParser) -> None:
    parser.add_argument("session_id", metavar="SESSION_ID", help="Id of the session at the service")
    completed_by(
        parser.add_argument(
            "-s", "--session", metavar="NAME", default=DEFAULT_SESSION, help="Name for it here"
        ),
        "session",
    )
    parser.add_argument(
        "--bridged",
        action="store_true",
        help="Install a bridge: cells stream and can be stopped, but don't see its variables",
    )


def _detach(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    session_id = manager.detach(options.name)
    return text(f"Detached from {session_id}. It continues unchanged.")


def _extend(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    life = manager.extend(options.duration, options.name)
    said = f"The session {options.name!r} is kept alive until {clock(life.extended_until)}."
    if life.extended_until >= life.ends_at:
        said += (
            " The service ends it then in any case: its maximum lifetime was set when it was "
            "created (AGENTBAY_MAX_MINUTES)."
        )
    return text(said)


def _extend_arguments(parser: LineParser) -> None:
    parser.add_argument(
        "duration", type=duration_s, help="How long, for example 2h, 90m or 45 (minutes)"
    )
    _named(parser)


SESSION_VERBS = (
    Verb(
        "sessions",
        "List your sessions, of this and of other notebooks",
        _sessions,
        _sessions_arguments,
        passes_cells=True,
        examples=("%agentbay sessions", "%agentbay sessions --all"),
    ),
    Verb(
        "create",
        "Create a session now instead of at its first cell",
        _create,
        _named,
        examples=("%agentbay create", "%agentbay create training"),
    ),
    Verb(
        "delete",
        "Delete a session; its variables and files are lost",
        _delete,
        _delete_arguments,
        passes_cells=True,
        examples=("%agentbay delete", "%agentbay delete training"),
    ),
    Verb(
        "restart",
        "Start new interpreters, in the same session if possible",
        _restart,
        _restart_arguments,
        passes_cells=True,
        examples=("%agentbay restart", "%agentbay restart --force"),
    ),
    Verb(
        "interrupt",
        "Interrupt the code of a session, also code that an earlier kernel started",
        _interrupt,
        _named,
        passes_cells=True,
        examples=("%agentbay interrupt",),
    ),
    Verb(
        "attach",
        "Use a session that another program created, without changing it",
        _attach,
        _attach_arguments,
        examples=(
            "%agentbay attach session-04bdwabc",
            "%agentbay attach session-04bdwabc -s agent",
        ),
    ),
    Verb(
        "detach",
        "Leave an attached session unchanged",
        _detach,
        _named,
        examples=("%agentbay detach",),
    ),
    Verb(
        "extend",
        "Keep a session alive for some time, with or without a running cell",
        _extend,
        _extend_arguments,
        passes_cells=True,
        examples=("%agentbay extend 2h",),
    ),
)
