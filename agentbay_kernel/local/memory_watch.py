"""The memory limit of a sandbox, watched from outside, so that nothing inside can stop it.

It counts each process's own memory and its share of shared memory, and the files in memory. It
kills the largest process while the sum exceeds the limit. It does not see what only a cgroup
counts: buffers of pipes and sockets, the page cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from agentbay_kernel.local.agent_client import AgentClient, AgentError

INTERVAL_S = 0.25
# A process that starts another shares its memory for a moment: it would count twice.
CONFIRM_S = 0.03
# Intervals to wait for the end of a killed process, before the whole session is ended.
KILL_ROUNDS = 20
# Seconds to wait for the agent, which may be busy. The next round shows whether it killed.
ANSWER_S = 1.0
AGENT = 1

# One thread for all sessions: reading /proc must not hold up the event loop.
_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")


@dataclass
class Usage:
    """Bytes of each process, by its id inside, and of the files in memory."""

    processes: dict[int, int] = field(default_factory=dict)
    files: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self.processes.values()) + self.files


class MemoryWatch:
    """Watches one sandbox.

    Arguments:
        root: the sandbox's root directory as a path outside; its /proc lists the processes.
        folders: its directories that are in memory.
        limit: bytes.
        agent: kills a process.
        end: ends the session, if that does not help.
    """

    def __init__(
        self,
        root: Path,
        folders: tuple[str, ...],
        limit: int,
        agent: AgentClient,
        end: Callable[[], None],
    ) -> None:
        self._proc = root / "proc"
        self._folders = [root / folder.lstrip("/") for folder in folders]
        self._limit = limit
        self._agent = agent
        self._end = end

    async def run(self) -> None:
        """Watch until cancelled; a session that can't be watched is ended."""
        try:
            await self._run()
        except Exception:
            self._end()
            raise

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        victim, waited = 0, 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            if not await loop.run_in_executor(_reader, self._exceeded):
                continue
            if victim and waited < KILL_ROUNDS and _alive(self._proc / str(victim)):
                # Its memory is free only when it has ended.
                waited += 1
                continue
            await asyncio.sleep(CONFIRM_S)
            usage = await loop.run_in_executor(_reader, self.measure)
            if usage.total <= self._limit:
                continue
            # Files outlive processes: if there is none to kill, only the session's end frees them.
            if not usage.processes or waited == KILL_ROUNDS:
                self._end()
                return
            victim, waited = max(usage.processes, key=lambda pid: usage.processes[pid]), 0
            with contextlib.suppress(AgentError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._agent.call("kill_for_memory", pid=victim)

    def _exceeded(self) -> bool:
        """Return whether the limit is exceeded; measure exactly only if it may be."""
        return self._estimate() > self._limit and self.measure().total > self._limit

    def _estimate(self) -> int:
        """Return an upper bound of the usage: shared memory counts for each process."""
        fields = ("RssAnon", "RssShmem", "VmSwap", "VmPTE")
        return self._files() + sum(
            sum(values.get(name, 0) for name in fields)
            for values in (_values(path / "status", "RssAnon") for path in self._processes())
        )

    def measure(self) -> Usage:
        """Return the usage: shared memory counts once."""
        devices = set()
        for folder in self._folders:
            with contextlib.suppress(OSError):
                devices.add(folder.stat().st_dev)
        usage = Usage(files=self._files())
        for path in self._processes():
            if path.name != str(AGENT) and _alive(path):
                usage.processes[int(path.name)] = _share(path, devices)
        return usage

    def _processes(self) -> list[Path]:
        try:
            return [path for path in self._proc.iterdir() if path.name.isdigit()]
        except OSError:
            return []

    def _files(self) -> int:
        used = 0
        for folder in self._folders:
            with contextlib.suppress(OSError):
                found = os.statvfs(folder)
                used += (found.f_blocks - found.f_bfree) * found.f_frsize
        return used


def _alive(process: Path) -> bool:
    """Return whether a process still runs; its first thread may end before the others."""
    for folder in (process, *_threads(process)):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def _share(process: Path, devices: set[int]) -> int:
    """Return a process's own memory and its share of shared memory, without files in memory."""
    status = _values(process / "status", "RssAnon")
    # Page tables are never shared.
    tables = status.get("VmPTE", 0)
    rollup = _values(process / "smaps_rollup", "Pss_Anon")
    if not rollup:
        return status.get("RssAnon", 0) + status.get("RssShmem", 0) + tables
    shared = rollup.get("Pss_Shmem", 0)
    if shared:
        shared = max(0, shared - _mapped_files(process, devices))
    return rollup["Pss_Anon"] + shared + rollup.get("SwapPss", 0) + tables


def _mapped_files(process: Path, devices: set[int]) -> int:
    """Return a process's share of mapped files, which `statvfs` counts already."""
    found = 0
    counted = False
    # Pages that the process has written to are its own copies, not the file's.
    for text in _lines(process, "smaps"):
        name, _, rest = text.partition(" ")
        if not name.endswith(":"):
            major, _, minor = text.split()[3].partition(":")
            counted = os.makedev(int(major, 16), int(minor, 16)) in devices
            share = 0
        elif counted and name == "Pss:":
            share = int(rest.split()[0]) * 1024
        elif counted and name == "Anonymous:":
            found += max(0, share - int(rest.split()[0]) * 1024)
    return found


def _values(path: Path, needed: str) -> dict[str, int]:
    """Return the kB fields of a file of /proc, in bytes; empty if `needed` is missing."""
    values = {}
    for line in _lines(path.parent, path.name, needed):
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            values[name] = int(rest.split()[0]) * 1024
    return values


def _lines(process: Path, name: str, needed: str = "") -> list[str]:
    """Return a process's file, or a thread's if the first thread has ended before the others."""
    for folder in (process, *_threads(process)):
        with contextlib.suppress(OSError):
            text = (folder / name).read_text("utf-8", "replace")
            if text and needed in text:
                return text.splitlines()
    return []


def _threads(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []
