"""The JavaScript of one session: a Node worker that the session's agent starts and relays.

In: a script and a timeout in seconds. Out: events as they happen. The context persists and keeps
a plain script's rules. An overrunning script is interrupted, then its process killed; a worker
that died is started again for the next run, whose first event says that the variables are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections.abc import AsyncGenerator
from typing import Any

from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.confinement import Confinement
from agentbay_kernel.local.events import (
    EngineError,
    Event,
    Failure,
    Finished,
    Result,
    Stream,
    died,
    killed,
    timed_out,
)
from agentbay_kernel.local.node import MISSING, find_node

START_TIMEOUT_S = 30.0
INTERRUPT_GRACE_S = 2.0
MEGABYTE = 1024 * 1024
STATE_LOST = (
    "The JavaScript process ended unexpectedly; a new one was started, all variables are lost.\n"
)


class JavaScriptEngine:
    """One persistent JavaScript context.

    Arguments:
        heap: bytes that its objects may use; None is Node's own limit.
        stateless: True starts a fresh process for every run.
    """

    def __init__(
        self, confinement: Confinement, heap: int | None = None, stateless: bool = False
    ) -> None:
        self._confinement = confinement
        self._agent = confinement.agent
        self._heap = heap
        self.stateless = stateless
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._name = ""
        self._running = 0
        self._alive = False
        self._count = 0
        self._lost = False
        self._agent.on("line", self._on_line)
        self._agent.on("exit", self._on_exit)
        self._agent.on("closed", lambda _: self._on_exit(killed(self._name)))

    def _on_line(self, event: dict[str, Any]) -> None:
        if event["name"] != self._name:
            return
        with contextlib.suppress(ValueError):
            frame = json.loads(event["line"])
            # What an earlier script prints late belongs to nobody any more.
            if frame.get("id") in (None, self._running):
                self._queue.put_nowait(frame)

    def _on_exit(self, event: dict[str, Any]) -> None:
        if event["name"] == self._name:
            if self._alive:
                self._lost = True
            self._alive = False
            self._count = 0
            self._queue.put_nowait(
                {
                    "event": "exit",
                    "code": event["code"],
                    "memory": event["memory"],
                    "log": event["log"],
                }
            )

    async def _start(self) -> None:
        node = await asyncio.get_running_loop().run_in_executor(None, find_node)
        if node is None:
            raise EngineError(MISSING)
        worker = f"{self._confinement.folders.library}/agentbay_kernel/sandbox/node_worker.js"
        heap = [f"--max-old-space-size={self._heap // MEGABYTE}"] if self._heap else []
        self._queue = asyncio.Queue()
        self._name = f"javascript{next(self._numbers)}"
        try:
            await self._agent.call(
                "start",
                name=self._name,
                argv=[node, *heap, *self._confinement.node_flags(node), worker],
                env={},
                files={},
                control=True,
            )
            async with asyncio.timeout(START_TIMEOUT_S):
                first = await self._queue.get()
                # Node may warn (of its permissions being experimental) before it is ready.
                while first.get("event") not in ("ready", "exit"):
                    first = await self._queue.get()
        except (AgentError, TimeoutError) as failure:
            raise EngineError(f"Node could not be started: {failure or 'no answer'}") from failure
        if first.get("event") != "ready":
            raise EngineError(f"Node could not be started: {first.get('log', '').strip()[-2000:]}")
        self._alive = True

    async def execute(self, code: str, timeout_s: float) -> AsyncGenerator[Event]:
        """Run a script; the last event is `Finished`.

        Raises:
            EngineError: there is no Node or it did not start, so nothing was run.
        """
        async with self._lock:
            if not self._alive:
                await self._start()
            if self._lost:
                self._lost = False
                yield Stream("stderr", STATE_LOST)
            async for event in self._run(code, timeout_s):
                yield event
            if self.stateless:
                await self._stop()

    async def _run(self, code: str, timeout_s: float) -> AsyncGenerator[Event]:
        begun = time.monotonic()
        number = self._running = next(self._numbers)
        self._count += 1
        count = self._count
        request = {"id": number, "op": "run", "code": code}
        try:
            await self._agent.call("line", name=self._name, line=json.dumps(request))
        except AgentError as failure:
            raise EngineError(f"Node is gone: {failure}. The code was not run.") from failure
        deadline = begun + timeout_s
        interrupted = False
        failure_event: Failure | None = None
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    frame = await self._queue.get()
            except TimeoutError:
                if interrupted:
                    await self._stop()
                    failure_event = timed_out(timeout_s, lost=True)
                    break
                interrupted = True
                deadline = time.monotonic() + INTERRUPT_GRACE_S
                await self._signal(signal.SIGINT)
                continue
            kind = frame.get("event")
            if kind == "exit":
                self._lost = False
                failure_event = died("WorkerDied", "JavaScript", frame["code"], frame["memory"])
                break
            if frame.get("id") != number:
                continue
            if kind == "done":
                break
            if kind == "error":
                failure_event = Failure(frame["name"], frame["value"], frame["stack"] + "\n")
            elif kind in ("stdout", "stderr"):
                yield Stream(kind, frame["text"])
            elif kind == "result":
                yield Result(frame["data"], frame["metadata"], main=True)
        if interrupted and failure_event is not None and failure_event.name == "KeyboardInterrupt":
            failure_event = timed_out(timeout_s, lost=False)
        self._running = 0
        if failure_event is not None:
            yield failure_event
        yield Finished(count, time.monotonic() - begun)

    async def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(AgentError):
            await self._agent.call("signal", name=self._name, signal=int(number))

    async def _stop(self) -> None:
        await self._signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while (await self._queue.get()).get("event") != "exit":
                    pass
        self._alive = False
        self._lost = False
        self._count = 0
