"""The JavaScript engine of one session: a Node worker (`sandbox/node_worker.js`).

Its context persists; cells run in it as plain scripts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from agentbay_kernel.local.confinement import Confinement
from agentbay_kernel.local.engine import Engine
from agentbay_kernel.local.events import HEAD_LIMIT, EngineError, Event
from agentbay_kernel.local.node import MISSING, find_node

MEGABYTE = 1024 * 1024


class JavaScriptEngine(Engine):
    """One persistent JavaScript context.

    Arguments:
        heap: bytes for its objects; None for Node's default.
        stateless: True starts a fresh process for every run.
    """

    language = "JavaScript"
    death = "WorkerDied"

    def __init__(
        self, confinement: Confinement, heap: int | None = None, stateless: bool = False
    ) -> None:
        super().__init__(confinement)
        self._heap = heap
        self.stateless = stateless

    async def argv(self) -> list[str]:
        """Return the command of Node and its script.

        Raises:
            EngineError: there is no Node.
        """
        node = await asyncio.get_running_loop().run_in_executor(None, find_node)
        if node is None:
            raise EngineError(MISSING)
        heap = [f"--max-old-space-size={self._heap // MEGABYTE}"] if self._heap else []
        worker = f"{self._confinement.folders.library}/agentbay_kernel/sandbox/node_worker.js"
        return [node, *heap, *self._confinement.node_flags(node), worker]

    async def execute(
        self, code: str, timeout_s: float, head: int = HEAD_LIMIT
    ) -> AsyncGenerator[Event]:
        """Run a script; the last event is `Finished`.

        Raises:
            EngineError: there is no Node or it did not start, so nothing was run.
        """
        async for event in super().execute(code, timeout_s, head):
            yield event
        if self.stateless:
            await self.stop()
