"""Processor priority: a cell that starts comes before those that run long, and before the work of
agents: file operations, and reading what commands print.

Linux shares the processor among groups of processes, one for each session of processes (`setsid`),
if `kernel.sched_autogroup_enabled` is set and no cgroup shares it. A group's weight can be lowered
and raised again without privileges. Without such groups, nothing changes. A weight is lowered only
while other cells need the processor: otherwise other programs would gain.
"""

from __future__ import annotations

import asyncio
import errno
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentbay_kernel.local.agent_client import AgentClient, AgentError

# A run longer than SHORT_S is put behind each run that starts, for LINGER_S.
SHORT_S = 0.25
LINGER_S = 2.0
FIRST, BEHIND = 0, 10
# Linux accepts one change in 0.1 s, of all ordinary users together.
RETRY_S = 0.15
# An agent's work that takes longer than BRIEF_S is put behind, until none was done for PAUSE_S.
BRIEF_S = 0.02
PAUSE_S = 1.0


class Priority:
    """The weight of one group.

    Arguments:
        process: the directory in /proc of its first process.
    """

    def __init__(self, process: Path) -> None:
        self._file = process / "autogroup"
        self._wanted = self._set = FIRST
        self._retry: asyncio.TimerHandle | None = None

    def change(self, nice: int) -> None:
        """Set this weight, soon."""
        self._wanted = nice
        if self._retry is None:
            self._apply()

    def _apply(self) -> None:
        self._retry = None
        if self._wanted == self._set:
            return
        try:
            self._file.write_text(str(self._wanted))
            self._set = self._wanted
        except BlockingIOError:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._apply)
        except PermissionError:
            self._refused()
        except OSError:
            # There are no groups, or the process has ended.
            pass

    def _refused(self) -> None:
        """Do nothing: this user may not write the file."""


class AgentPriority(Priority):
    """The weight of an agent's group. Only root and the agent itself may change it.

    Arguments:
        process: the directory in /proc of the agent.
        call: of the agent's client.
    """

    def __init__(self, process: Path, call: Callable[..., Awaitable[Any]]) -> None:
        super().__init__(process)
        self._call = call
        self._asking: asyncio.Task[None] | None = None

    def _refused(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(self._wanted))

    async def _ask(self, nice: int) -> None:
        try:
            await self._call("weigh", nice=nice)
        except AgentError as failure:
            if failure.errno == errno.EAGAIN:
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._apply)
        else:
            self._set = nice
            self._retry = asyncio.get_running_loop().call_later(0, self._apply)
        finally:
            self._asking = None


class Runs:
    """The runs of all sessions: which are long, and which started last.

    An agent's work is a run that counts as long soon, and never puts others behind.
    """

    def __init__(self) -> None:
        self._long: set[Priority] = set()
        self._working: Counter[Priority] = Counter()
        self._relaxing: dict[Priority, asyncio.TimerHandle] = {}
        self._recent: dict[Priority, asyncio.TimerHandle] = {}

    def begin(self, run: Priority) -> asyncio.TimerHandle:
        """Note that a run starts; return an argument for `end`."""
        loop = asyncio.get_running_loop()
        if run in self._recent:
            self._recent[run].cancel()
        self._recent[run] = loop.call_later(LINGER_S, self._forget, run)
        self._update()
        return loop.call_later(SHORT_S, self._becomes_long, run)

    def end(self, run: Priority, clock: asyncio.TimerHandle) -> None:
        """Note that a run has ended, or must end soon."""
        clock.cancel()
        self._long.discard(run)
        run.change(FIRST)

    @contextmanager
    def command(self, agent: AgentClient, proc: Path) -> Iterator[str]:
        """Count a command as a run; yield the name under which the agent reports its start.

        Arguments:
            agent: starts it.
            proc: the sandbox's /proc, as a path outside.
        """
        name = uuid.uuid4().hex
        entries: list[tuple[Priority, asyncio.TimerHandle]] = []

        def started(event: dict[str, Any]) -> None:
            if event["name"] == name and not entries:
                run = Priority(proc / str(int(event["pid"])))
                entries.append((run, self.begin(run)))

        agent.on("started", started)
        try:
            yield name
        finally:
            agent.off("started", started)
            for run, clock in entries:
                self.end(run, clock)

    @contextmanager
    def working(self, work: Priority) -> Iterator[None]:
        """Count an agent's work as a run: file operations, and reading what a command prints."""
        loop = asyncio.get_running_loop()
        if work in self._relaxing:
            self._relaxing.pop(work).cancel()
        self._working[work] += 1
        clock = loop.call_later(BRIEF_S, self._becomes_long, work)
        try:
            yield
        finally:
            clock.cancel()
            self._working[work] -= 1
            if not self._working[work]:
                del self._working[work]
                self._relaxing[work] = loop.call_later(PAUSE_S, self._relax, work)

    def _relax(self, work: Priority) -> None:
        del self._relaxing[work]
        self._long.discard(work)
        work.change(FIRST)

    def _becomes_long(self, run: Priority) -> None:
        self._long.add(run)
        self._update()

    def _forget(self, run: Priority) -> None:
        del self._recent[run]
        self._update()

    def _update(self) -> None:
        for run in self._long:
            run.change(BEHIND if self._recent.keys() - {run} else FIRST)


runs = Runs()
