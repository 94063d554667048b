"""A process that ends the sessions of a kernel that had no time left for it.

In: one JSON object on stdin: where the service is, its key, the state file's folder, the labels of
the sessions. Out: nothing; the sessions' records are struck from the state file. What it can't end
within ten minutes stays written down and is ended by the next start.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.service import AgentBay
from agentbay_kernel.sessions.ending import end_record
from agentbay_kernel.sessions.registry import Registry
from agentbay_kernel.sessions.statefile import StateFile
from agentbay_kernel.threads import Backoff

_TRY_FOR_S = 600.0
_LONGEST_PAUSE_S = 15.0


def main() -> int:
    """Read the task, finish it. Returns the exit status."""
    task = json.load(sys.stdin)
    # A closed terminal is no reason to leave a session behind.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    registry = Registry(StateFile(Path(task["state_dir"])), "", 1)
    with AgentBay(task["api_key"], region_id=task["region"], endpoint=task["endpoint"]) as client:
        return 0 if finish(client, registry, task["create_labels"]) else 1


def finish(client: AgentBay, registry: Registry, create_labels: list[str]) -> bool:
    """End the sessions of these records; says whether all have ended."""
    left = registry.take_over(create_labels)
    give_up_at, backoff = time.monotonic() + _TRY_FOR_S, Backoff(0.5, _LONGEST_PAUSE_S)
    while True:
        ended = [record for record in left if end_record(client, record)]
        registry.forget(record.create_label for record in ended)
        left = [record for record in left if record not in ended]
        if not left or not backoff.sleep(give_up_at):
            return not left


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AgentBayError:
        sys.exit(1)
