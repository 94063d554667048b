"""Sweeping: deleting the sessions that a dead kernel left behind and nobody takes back.

In: the user's own state file, the service. Out: what was deleted and what was not, and why. Only
what stands in that file is touched, and of that only what belongs to a process that is provably
dead, was last alive longer ago than the grace time, and was not taken back meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from agentbay_kernel.service import AgentBay
from agentbay_kernel.sessions.ending import end_record
from agentbay_kernel.sessions.registry import Registry
from agentbay_kernel.sessions.statefile import Record

# A server that restarts a killed kernel does so within seconds; a kernel that was idle for long
# before it was killed is given that time too.
_LOOK_AGAIN_S = 15.0


@dataclass(frozen=True)
class Swept:
    """What a sweep did: the sessions that it deleted, and those it tried to but could not yet."""

    deleted: tuple[Record, ...] = ()
    failed: tuple[Record, ...] = ()


def sweep(client: AgentBay, registry: Registry, grace_s: float) -> Swept:
    """Delete what dead kernels left at the client's service.

    Arguments:
        grace_s: seconds for which a dead kernel's session waits to be taken back.

    Raises:
        StateFileError: the state file can't be used; nothing was deleted.
    """
    found = registry.abandoned(client.endpoint.url, grace_s)
    if not found:
        return Swept()
    if any(record.stage != "ending" for record in found):
        time.sleep(min(grace_s, _LOOK_AGAIN_S))
    deleted: list[Record] = []
    failed: list[Record] = []
    for record in registry.claim_abandoned(found):
        (deleted if end_record(client, record) else failed).append(record)
    registry.forget(record.mark for record in deleted)
    return Swept(tuple(deleted), tuple(failed))
