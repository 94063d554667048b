"""The behaviour in force: the profile, its faults, and the journal of calls.

In: profiles, calls. Out: the current profile, a fault for a call, one JSON line for each tool call
in the file that `serve --log` names.
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
        profile: to begin with.
        log: file that a line is added to for each tool call; None for no journal.
    """

    def __init__(self, profile: Profile, log: Path | None = None) -> None:
        self._log = log
        self.use(profile)

    def use(self, profile: Profile) -> None:
        """From now on behave so; calls are counted anew."""
        self.profile = profile
        self._faults = Faults(profile)

    def fault(self, action: str, tool: str = "", streaming: bool = False) -> FaultPlan | None:
        """What goes wrong with this call, drawn once for each."""
        return self._faults.draw(action, tool, streaming)

    async def delay(self) -> None:
        """Before a request is looked at."""
        if self.profile.latency_ms:
            await asyncio.sleep(self.profile.latency_ms / 1000)

    async def transmit(self, size: int) -> None:
        """While an answer of that many bytes travels."""
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
        """Write the journal's line about a call when it ends."""
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
