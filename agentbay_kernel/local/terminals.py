"""The output of a session's terminals, from the agent to all connected clients.

The agent sends a limited amount and waits for an acknowledgement. So a terminal is as fast as its
slowest reader. Without readers, a bounded amount a second is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentbay_kernel.local.agent_client import AgentClient, AgentError

# Sends an event; the future is done when the client has taken it.
Reader = Callable[[dict[str, Any]], asyncio.Future[None] | None]

# Before an acknowledgement of output without readers.
PAUSE_S = 0.02


class TerminalOutput:
    """Sends the events of one session's terminals to its readers.

    Arguments:
        agent: the session's.
    """

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent
        self.readers: list[Reader] = []
        self._tasks: set[asyncio.Task[None]] = set()
        agent.on("terminal.output", self._on_event)
        agent.on("terminal.exit", self._on_event)

    def _on_event(self, event: dict[str, Any]) -> None:
        # Not in a task: readers must get events in order.
        waiting = [done for reader in list(self.readers) if (done := reader(event)) is not None]
        # Only some events ask for an acknowledgement, also of the bytes before them.
        due = event.get("due", 0)
        if due:
            work = self._acknowledge(event["ptySessionId"], due, waiting)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _acknowledge(self, name: str, size: int, waiting: list[asyncio.Future[None]]) -> None:
        if waiting:
            await asyncio.wait(waiting)
        else:
            await asyncio.sleep(PAUSE_S)
        await self.release(name, size)

    async def release(self, name: str, size: int | None = None) -> None:
        """Acknowledge that many bytes of a terminal; without a size, all that it has sent."""
        with suppress(AgentError):
            taken = {"ptySessionId": name, "size": size}
            await self._agent.call("terminal", do="taken", arguments=taken)
