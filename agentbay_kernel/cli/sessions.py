"""`jupyter agentbay sessions list | delete | prune`: sessions, outside of any notebook.

In: the user's state file, the service. Out: tables on stdout. Here a person is at work, so what
cells may not do is allowed: deleting any session of the account, by its id.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from agentbay_kernel.config import load_settings
from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.sessions import Record, SessionManager, whose
from agentbay_kernel.sessions.ownership import Owner
from agentbay_kernel.verbs.bundles import grid


def list_sessions(options: Namespace) -> int:
    """Show this user's sessions, or with `--all` every one that the key has."""
    manager = SessionManager(load_settings())
    try:
        here = manager.store.registry.owner
        records = {record.session_id: record for record in manager.store.own_records()}
        if options.all:
            rows = [
                _row(entry["sessionId"], entry.get("sessionStatus", ""), records, here)
                for entry in manager.store.listed()
            ]
        else:
            rows = [_row(session_id, "", records, here) for session_id in records]
    finally:
        manager.close()
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        names = ("session", "name", "age", "status", "belongs to")
        print(grid(names, [[str(value) for value in row.values()] for row in rows])["text/plain"])
    else:
        print("There are no sessions." if options.all else "No session of yours is known here.")
    return 0


def _row(session_id: str, status: str, records: dict[str, Record], here: Owner) -> dict[str, Any]:
    record = records.get(session_id)
    if record is None:
        return {
            "session": session_id,
            "name": "-",
            "age": "-",
            "status": status or "-",
            "owner": "not known on this machine",
        }
    return {
        "session": session_id or "(being created)",
        "name": record.name,
        "age": f"{record.age_s / 60:.0f} min",
        "status": status or record.stage,
        "owner": whose(record, here),
    }


def delete_sessions(options: Namespace) -> int:
    """Delete sessions by their ids, or with `--mine` all that stand in this user's state file."""
    manager = SessionManager(load_settings())
    failed = 0
    try:
        ids = list(options.ids)
        if options.mine:
            ids += [
                record.session_id for record in manager.store.own_records() if record.session_id
            ]
        for session_id in ids:
            try:
                manager.store.delete_by_id(session_id)
                print(f"Deleted {session_id}")
            except AgentBayError as error:
                failed += 1
                print(f"Not deleted: {session_id}: {error}", file=sys.stderr)
    finally:
        manager.close()
    if not ids and options.mine:
        print("Nothing to delete: no session of yours is known here.")
    elif not ids:
        print("Nothing to delete. Name sessions, or use --mine for all of yours.", file=sys.stderr)
        return 2
    return 1 if failed else 0


def prune_sessions(options: Namespace) -> int:
    """Delete the sessions that ended kernels of this user left behind."""
    manager = SessionManager(load_settings())
    try:
        pruned = manager.store.prune()
    finally:
        manager.close()
    for record in pruned.deleted:
        session = record.session_id or "a session that was being created"
        print(f"Deleted {session} ({one_line(record.name)})")
    for record in pruned.failed:
        print(f"Not deleted yet: {record.session_id} ({one_line(record.name)})", file=sys.stderr)
    if not pruned.deleted and not pruned.failed:
        print("Nothing to delete: no session is left behind.")
    return 1 if pruned.failed else 0
