"""`jupyter agentbay sessions list | delete | prune`: sessions, outside of any notebook.

In: the user's state file, the service. Out: tables on stdout. Here a person is at work, so what
cells may not do is allowed: deleting any session of the account, by its id.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from agentbay_kernel.config import load_settings
from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs.sessions import session_grid, session_rows


def list_sessions(options: Namespace) -> int:
    """Show this user's sessions, or with `--all` every one that the key has."""
    manager = SessionManager(load_settings())
    try:
        rows = session_rows(manager, everything=options.all)
    finally:
        manager.close()
    if options.json:
        print(json.dumps({"sessions": rows}, indent=2))
    elif rows:
        print(session_grid(rows)["text/plain"])
    else:
        print("There are no sessions." if options.all else "No session of yours is known here.")
    return 0


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
