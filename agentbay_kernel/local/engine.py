"""The engine of one language in one session: it runs code in a worker, one run at a time.

A run that exceeds its timeout is interrupted, then its process is killed. A worker that has died is
started again; the next run's first event reports that the variables are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.confinement import Confinement
from agentbay_kernel.local.events import (
    HEAD_LIMIT,
    MEGABYTE,
    TAIL_LIMIT,
    Cut,
    EngineError,
    Event,
    Failure,
    Finished,
    Result,
    Stream,
    died,
    timed_out,
)
from agentbay_kernel.local.priority import runs
from agentbay_kernel.local.worker import CUT, Frame, Inbox, Worker, started

START_TIMEOUT_S = 60.0
# How long an interrupted cell may take to end before its process is killed.
INTERRUPT_GRACE_S = 2.0
# How long its traceback may take, once the cell fails.
TRACEBACK_GRACE_S = 10.0
STATE_LOST = "The {} process ended unexpectedly; a new one was started, all variables are lost.\n"


class Engine:
    """One persistent worker."""

    language = ""
    # The error's name when the process ends.
    death = ""

    def __init__(self, confinement: Confinement) -> None:
        self._confinement = confinement
        self._agent = confinement.agent
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._starting: asyncio.Task[Worker] | None = None
        self._worker: Worker | None = None
        self._count = 0

    async def argv(self) -> list[str]:
        """Return the worker's command line.

        Raises:
            EngineError: it can't be started.
        """
        raise NotImplementedError

    async def prepare(self) -> None:
        """Prepare the worker for a run."""

    async def ready(self) -> None:
        """Wait until the worker is ready.

        Raises:
            EngineError: it does not start.
        """
        starting = self._starting or self._begin(self._start())
        try:
            self._worker = await asyncio.shield(starting)
        except EngineError:
            self._starting = None
            raise

    def _begin(self, starting: Coroutine[Any, Any, Worker]) -> asyncio.Task[Worker]:
        """Start the worker in the background; `ready` waits for it."""
        self._starting = asyncio.get_running_loop().create_task(starting)
        # Without this, asyncio warns about a failure that no run has waited for.
        self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._starting

    def _new_worker(self) -> Worker:
        name = f"{self.language.lower()}{next(self._numbers)}"
        return Worker(self._agent, name, lambda: self._confinement.proc)

    async def _start(self) -> Worker:
        argv = await self.argv()
        return await self._started(self._new_worker(), argv)

    async def _started(self, worker: Worker, argv: list[str] | None) -> Worker:
        try:
            problem = await started(worker, argv, START_TIMEOUT_S)
            if problem:
                raise EngineError(f"{self.language} could not be started: {problem}")
        except BaseException:
            worker.close()
            raise
        return worker

    def _forget(self) -> None:
        """Forget a worker that has ended."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._starting = None
        self._count = 0

    async def execute(
        self, code: str, timeout_s: float, head: int = HEAD_LIMIT
    ) -> AsyncGenerator[Event]:
        """Run code; the last event is `Finished`.

        Arguments:
            code: the code.
            timeout_s: seconds after which it is interrupted.
            head: bytes at the start of its output that are sent.

        Raises:
            EngineError: the worker did not start, so nothing was run.
        """
        async with self._lock:
            lost = False
            await self.ready()
            if self._worker is not None and self._worker.exited.is_set():
                lost = True
                self._forget()
                await self.ready()
            await self.prepare()
            if lost:
                yield Stream("stderr", STATE_LOST.format(self.language))
            async for event in self.run(code, timeout_s, head=head):
                yield event

    async def run(
        self, code: str, timeout_s: float, silent: bool = False, head: int = HEAD_LIMIT
    ) -> AsyncGenerator[Event]:
        """Run code in the current worker."""
        started_at = time.monotonic()
        worker = self._worker
        if worker is None or worker.exited.is_set():
            raise EngineError(
                f"The {self.language} process ended; the code was not run. Run it again."
            )
        number = next(self._numbers)
        inbox = Inbox(worker)
        overrun = _Overrun(worker, inbox)
        inbox.on_failing = overrun.failing.set
        loop = asyncio.get_running_loop()
        request = {"id": number, "op": "run", "code": code, "silent": silent}
        request |= {"head": head, "tail": TAIL_LIMIT, "timeout": timeout_s * 1000}
        tasks = [
            loop.create_task(_send(worker, request)),
            loop.create_task(inbox.fill(number)),
        ]
        long = runs.begin(worker.priority)

        def interrupt() -> None:
            # It needs the processor now: its time to end is short.
            runs.end(worker.priority, long)
            overrun.start()

        clock = loop.call_later(timeout_s, interrupt)
        failure: Failure | None = None
        cutting = interrupted = False
        try:
            while (frame := await inbox.get()) is not None and frame.event != "done":
                if frame.event == "cutting":
                    cutting = True
                elif frame.event == "cut":
                    cutting = False
                    counts = {key: frame.data[key] for key in CUT}
                    yield Cut(**counts).note()
                elif frame.event == "error":
                    data = frame.data
                    failure = Failure(data["name"], data["value"], data["stack"] + "\n")
                    interrupted = bool(data.get("interrupted"))
                else:
                    event = _event_of(frame)
                    if event is not None:
                        yield event
        finally:
            clock.cancel()
            runs.end(worker.priority, long)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            # A late interrupt must not reach the next run.
            await overrun.finish()
            inbox.close()
        if inbox.left_out:
            yield Stream("stderr", "Output after the interrupt is left out: nobody read it.\n")
        if frame is None:
            if cutting:
                note = f"\n... output after the first {head // MEGABYTE} MB is lost ...\n"
                yield Stream("stderr", note)
            assert worker.exit is not None
            if overrun.killed:
                failure = timed_out(timeout_s, lost=True)
            else:
                exit_ = worker.exit
                failure = died(self.death, self.language, exit_["code"], exit_["memory"])
            self._forget()
        else:
            self._count = frame.data.get("count", self._count + 1)
            if failure is not None and failure.name == "KeyboardInterrupt":
                interrupted = interrupted or overrun.started
            if interrupted:
                failure = timed_out(timeout_s, lost=False)
        if failure is not None:
            yield failure
        yield Finished(self._count, time.monotonic() - started_at)

    async def stop(self) -> None:
        """End the worker; the next run starts another one."""
        if self._worker is not None:
            with contextlib.suppress(AgentError):
                await self._worker.kill()
            self._forget()

    def close(self) -> None:
        """Close the worker's socket; the confinement ends the process."""
        if self._starting is not None:
            self._starting.cancel()
        # A run in progress ends with its process and closes it then.
        if self._worker is not None and not self._lock.locked():
            self._forget()


class _Overrun:
    """The end of a run that exceeds its timeout: an interrupt, then a kill."""

    def __init__(self, worker: Worker, inbox: Inbox) -> None:
        self._worker = worker
        self._inbox = inbox
        self._interrupt: asyncio.Task[None] | None = None
        self._kill: asyncio.Task[None] | None = None
        self.failing = asyncio.Event()
        self.killed = False

    @property
    def started(self) -> bool:
        """Whether the run was interrupted."""
        return self._interrupt is not None

    def start(self) -> None:
        """Interrupt the run."""
        self._inbox.drop_output()
        self.failing.clear()
        loop = asyncio.get_running_loop()
        self._interrupt = loop.create_task(self._signal(signal.SIGINT))
        self._kill = loop.create_task(self._end())

    async def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(AgentError):
            await self._worker.signal(number)

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.failing.wait(), INTERRUPT_GRACE_S)
            await asyncio.sleep(TRACEBACK_GRACE_S)
        self.killed = True
        await self._signal(signal.SIGKILL)

    async def finish(self) -> None:
        """Wait for signals that were sent; the run has ended."""
        if self._interrupt is not None and self._kill is not None:
            await self._interrupt
            if self.killed:
                await self._kill
            self._kill.cancel()


async def _send(worker: Worker, request: dict[str, object]) -> None:
    # `Inbox.fill` notices a worker that has gone.
    with contextlib.suppress(OSError):
        await worker.send(request)


def _event_of(frame: Frame) -> Event | None:
    data = frame.data
    if frame.event in ("stdout", "stderr"):
        return Stream(frame.event, data["text"], frame.size)
    if frame.event in ("display", "result"):
        return Result(
            data=data["data"],
            metadata=data["metadata"],
            main=frame.event == "result",
            display_id=data.get("transient", {}).get("display_id"),
            update=bool(data.get("update")),
            size=frame.size,
        )
    return None
