"""Sandboxes: each is a confinement with its agent and two engines, pre-warmed or made on demand."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local.confinement import Confinement
from agentbay_kernel.local.isolation import Isolation
from agentbay_kernel.local.javascript_engine import JavaScriptEngine
from agentbay_kernel.local.priority import AgentPriority
from agentbay_kernel.local.python_engine import PythonEngine
from agentbay_kernel.local.settings import Settings, temporary_directory
from agentbay_kernel.local.terminals import TerminalOutput

FOLDER_PREFIX = "agentbay-local-"
REFILL_DELAY_S = 0.5


class Sandbox:
    """A confinement with its agent and engines, which one session uses."""

    def __init__(self, confinement: Confinement, python: PythonEngine, settings: Settings) -> None:
        self.confinement = confinement
        self.agent = confinement.agent
        self.terminals = TerminalOutput(self.agent)
        process = confinement.proc / str(self.agent.pid)
        self.priority = AgentPriority(process, self.agent.call)
        self.python = python
        self.javascript = JavaScriptEngine(confinement, heap=settings.limits.memory)

    async def end(self) -> None:
        """Kill its processes and remove its files."""
        self.python.close()
        await self.confinement.end()


class Sandboxes:
    """Makes sandboxes, and keeps as many pre-warmed ones as the settings say.

    A pre-warmed one has a started Python, and no session has used it. None is ever reused.
    """

    def __init__(self, settings: Settings, isolation: Isolation) -> None:
        self._settings = settings
        self._isolation = isolation
        self.folder, self._lock = _make_base()
        self._ended = False
        self._prewarmed: list[asyncio.Task[Sandbox]] = []
        self._wanted = max(settings.prewarm, int(settings.first_ahead))

    def prepare(self) -> None:
        """Start to make the pre-warmed ones that are missing."""
        while not self._ended and len(self._prewarmed) < self._wanted:
            self._prewarmed.append(asyncio.get_running_loop().create_task(self._make()))
        self._wanted = self._settings.prewarm

    async def take(self) -> Sandbox:
        """Return a sandbox for a new session: a pre-warmed one, or a new one.

        Raises:
            LocalRuntimeError: it could not be made.
        """
        # The next one must not compete with the first cell of the session that takes this one.
        asyncio.get_running_loop().call_later(REFILL_DELAY_S, self.prepare)
        while self._prewarmed:
            made = self._prewarmed.pop(0)
            with contextlib.suppress(LocalRuntimeError):
                sandbox = await made
                if not sandbox.agent.closed.is_set():
                    return sandbox
        return await self._make()

    async def _make(self) -> Sandbox:
        confinement = self._isolation.make(self.folder)
        python = PythonEngine(confinement, prepares_kernel=self._settings.kernels)
        try:
            await confinement.start(python.first_worker())
        except BaseException:
            python.close()
            raise
        return Sandbox(confinement, python, self._settings)

    async def end(self) -> None:
        """End the pre-warmed ones and remove the runtime's directory."""
        self._ended = True
        for made in self._prewarmed:
            with contextlib.suppress(LocalRuntimeError):
                await (await made).end()
        self._prewarmed = []
        # It may hold large contexts, and this process may have other runtimes.
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        self._lock.close()


def _make_base() -> tuple[Path, Any]:
    """Make a private directory for this runtime, locked while it runs; remove those of runtimes
    that were killed."""
    parent = temporary_directory()
    for left in parent.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError), (left / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    base = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
    held = (base / "lock").open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)
    return base, held
