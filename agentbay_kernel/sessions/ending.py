"""Deletion of sessions, reliable even if little time is left.

Sessions that have ended are removed from the state file. If the time is too short, a separate
process (`finisher`) deletes the rest, and continues when this process is gone. It gets the key
through a pipe, never in an argument or a file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from agentbay_kernel.errors import AgentBayError, SessionNotFoundError
from agentbay_kernel.service import CREATE_LABEL, AgentBay, get_logger
from agentbay_kernel.sessions.registry import Registry
from agentbay_kernel.sessions.statefile import Record

# A create request without a response may still be executed so much later.
_LATE_CREATE_S = 90.0
# How long deletes get before a separate process takes over; Jupyter waits 2 seconds in all.
_PROMPT_S = 0.8

_log = get_logger("ending")


def end_record(client: AgentBay, record: Record, timeout_s: float | None = None) -> bool:
    """Delete a record's session.

    Arguments:
        timeout_s: seconds for each request; without it, failed requests are retried.

    Returns:
        True if the session has certainly ended.
    """
    if record.session_id:
        return _delete(client, record.session_id, timeout_s)
    # Its create was on the way: any session with its label is the one.
    try:
        found = [row["sessionId"] for row in client.list_all({CREATE_LABEL: record.create_label})]
    except AgentBayError as error:
        _log.info("Could not look for the session of a create: %s", error)
        return False
    deleted = [_delete(client, session_id, timeout_s) for session_id in found]
    if found:
        return all(deleted)
    return record.age_s > _LATE_CREATE_S


def _delete(client: AgentBay, session_id: str, timeout_s: float | None) -> bool:
    try:
        answer = client.delete_by_id(session_id, timeout_s)
    except AgentBayError as error:
        _log.info("%s could not be deleted yet: %s", session_id, error)
        return False
    return answer.success or isinstance(answer.failure, SessionNotFoundError)


def end_now(client: AgentBay, registry: Registry, create_labels: Iterable[str]) -> None:
    """End sessions before this process ends: within a second, or in a separate process."""
    records = registry.give_up(create_labels)
    ended: list[str] = []

    def end(record: Record) -> None:
        if end_record(client, record, _PROMPT_S):
            ended.append(record.create_label)

    threads = [threading.Thread(target=end, args=(one,), daemon=True) for one in records]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PROMPT_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    done = list(ended)
    left = [record.create_label for record in records if record.create_label not in done]
    if left:
        start_finisher(client, registry, left)
    registry.forget(done)


def start_finisher(client: AgentBay, registry: Registry, create_labels: Iterable[str]) -> None:
    """Start a separate process that ends these sessions, however long the service takes."""
    task = {
        "endpoint": client.endpoint.url,
        "region": client.endpoint.region_id,
        "api_key": client.api_key,
        "state_dir": str(registry.folder),
        "create_labels": list(create_labels),
    }
    flags = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(
        subprocess, "CREATE_NEW_PROCESS_GROUP", 0
    )
    try:
        process = subprocess.Popen(
            # -P: nothing is imported from the working directory.
            [sys.executable, "-P", "-m", "agentbay_kernel.sessions.finisher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=registry.folder,
            # It must outlive this process and signals to its group.
            start_new_session=True,
            creationflags=flags,
        )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(json.dumps(task).encode())
    except OSError as error:
        # The state file records that these sessions must end: the next start ends them.
        _log.warning("The process that deletes sessions could not be started: %s", error)


# A server restarts a killed kernel within seconds. A kernel that was idle for long before it was
# killed gets that time too.
_LOOK_AGAIN_S = 15.0


@dataclass(frozen=True)
class Pruned:
    """The result of `prune`: the deleted sessions, and those that could not be deleted yet."""

    deleted: tuple[Record, ...] = ()
    failed: tuple[Record, ...] = ()


def prune(client: AgentBay, registry: Registry, grace_s: float) -> Pruned:
    """Delete the sessions that dead kernels left at the client's service.

    Arguments:
        grace_s: seconds for which a dead kernel's session waits to be reclaimed.

    Raises:
        StateFileError: the state file can't be used; nothing was deleted.
    """
    found = registry.abandoned(client.endpoint.url, grace_s)
    if not found:
        return Pruned()
    if any(record.stage != "ending" for record in found):
        time.sleep(min(grace_s, _LOOK_AGAIN_S))
    deleted: list[Record] = []
    failed: list[Record] = []
    for record in registry.claim_abandoned(found):
        (deleted if end_record(client, record) else failed).append(record)
    registry.forget(record.create_label for record in deleted)
    return Pruned(tuple(deleted), tuple(failed))
