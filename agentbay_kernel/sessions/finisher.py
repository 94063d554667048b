"""A process that ends the sessions of a kernel that had no time left for it.

It reads one JSON object from stdin: the service's address, its key, the state file's directory, the
labels of the sessions. It removes the sessions' records from the state file. Sessions that it can't
end within ten minutes keep their records, and the next start ends them.
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
    """Read the task and finish it; return the exit status."""
    task = json.load(sys.stdin)
    # Closing a terminal must not leave a session behind.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    registry = Registry(StateFile(Path(task["state_dir"])), "", 1)
    with AgentBay(task["api_key"], region_id=task["region"], endpoint=task["endpoint"]) as client:
        return 0 if finish(client, registry, task["create_labels"]) else 1


def finish(client: AgentBay, registry: Registry, create_labels: list[str]) -> bool:
    """End the sessions of these records; return whether all have ended."""
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
