"""The behaviour of a runtime: its current profile, its faults, and the journal of tool calls.

The journal is the file of `serve --log`: one line of JSON for each tool call.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentbay_kernel.local.faults import Faults
from agentbay_kernel.local.profile import FaultPlan, Profile


class Behaviour:
    """How the runtime behaves now.

    Arguments:
        profile: the first one.
        log: the journal's file; None for no journal.
    """

    def __init__(self, profile: Profile, log: Path | None = None) -> None:
        self._log = log
        self.use(profile)

    def use(self, profile: Profile) -> None:
        """Switch to a profile; the count of calls starts again."""
        self.profile = profile
        self._faults = Faults(profile)

    def fault(self, action: str, tool: str = "", streaming: bool = False) -> FaultPlan | None:
        """Return what goes wrong with this call. Call it once for each: it counts."""
        return self._faults.draw(action, tool, streaming)

    async def delay(self) -> None:
        """Wait as long as the profile's latency."""
        if self.profile.latency_ms:
            await asyncio.sleep(self.profile.latency_ms / 1000)

    async def transmit(self, size: int) -> None:
        """Wait as long as the profile's bandwidth needs for a response of that many bytes."""
        if self.profile.bandwidth:
            await asyncio.sleep(size / self.profile.bandwidth)

    @contextlib.contextmanager
    def recorded(
        self,
        session: str,
        call_id: str,
        tool: str,
        arguments: dict[str, Any],
        fault: FaultPlan | None,
    ) -> Iterator[None]:
        """Add a call to the journal when it ends."""
        if self._log is None:
            yield
            return
        start = time.time()
        source = str(arguments.get("code", arguments.get("command", "")))
        try:
            yield
        finally:
            line = {
                "time": start,
                "session": session,
                "call_id": call_id,
                "tool": tool,
                "language": arguments.get("language"),
                "sha256": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
                "start": start,
                "end": time.time(),
                "fault": None if fault is None else fault.kind,
            }
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")
