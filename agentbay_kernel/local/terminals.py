"""What the terminals of a session put out, on its way from the agent to all who are connected.

The agent sends a little and waits until it was taken. So a terminal is as fast as its slowest
reader; one that nobody reads puts out a bounded amount a second, which is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentbay_kernel.local.agent_client import AgentClient, AgentError

# Passes an event on, and returns what is done when its reader has taken it.
Reader = Callable[[dict[str, Any]], asyncio.Future[None] | None]

# Between the pieces of what nobody reads.
PAUSE_S = 0.02


class TerminalOutput:
    """Passes on the events of one session's terminals.

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
        # In this turn of the loop: readers get events in their order.
        waiting = [done for reader in list(self.readers) if (done := reader(event)) is not None]
        # One event of many, which asks for the bytes of those before it too.
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
        """Let a terminal put out that much again; without a size: as much as a terminal may."""
        with suppress(AgentError):
            taken = {"ptySessionId": name, "size": size}
            await self._agent.call("terminal", do="taken", arguments=taken)
