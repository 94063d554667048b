"""The watch on a sandbox's memory, from outside: nothing inside can stop it or hide from it.

It counts what each process uses of its own and its share of what several use, and the files in
memory. The largest process is killed while that is more than allowed. What a cgroup would also
count (buffers of pipes and sockets, the page cache) is not seen from here.
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
# A process that starts another shares its memory with it for a moment, and counts twice then.
CONFIRM_S = 0.03
# Rounds that the end of a killed process is waited for before the whole session is ended.
PATIENCE = 20
# The agent may be busy; whether it has done it is seen from here.
ANSWER_S = 1.0
AGENT = 1

# One thread for all sessions: reading /proc must not hold up the event loop.
_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")


@dataclass
class Usage:
    """Bytes of each process by its id inside, and of the files in memory."""

    processes: dict[int, int] = field(default_factory=dict)
    files: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.processes.values()) + self.files


class MemoryWatch:
    """Watches one sandbox.

    Arguments:
        root: the sandbox's root folder as seen from here; its /proc lists the session's processes.
        folders: those of its folders that are in memory.
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
            if victim and waited < PATIENCE and _alive(self._proc / str(victim)):
                # What it holds is freed when it has ended.
                waited += 1
                continue
            await asyncio.sleep(CONFIRM_S)
            usage = await loop.run_in_executor(_reader, self.measure)
            if usage.total <= self._limit:
                continue
            # Files stay when processes end: without one to kill, only the session's end frees them.
            if not usage.processes or waited == PATIENCE:
                self._end()
                return
            victim, waited = max(usage.processes, key=lambda pid: usage.processes[pid]), 0
            with contextlib.suppress(AgentError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._agent.call("kill_for_memory", pid=victim)

    def _exceeded(self) -> bool:
        """Whether the limit is exceeded; asks for exact figures only near it."""
        return self._estimate() > self._limit and self.measure().total > self._limit

    def _estimate(self) -> int:
        """At least what is used: memory that several processes share counts for each."""
        fields = ("RssAnon", "RssShmem", "VmSwap", "VmPTE")
        return self._files() + sum(
            sum(values.get(name, 0) for name in fields)
            for values in (_values(path / "status", "RssAnon") for path in self._processes())
        )

    def measure(self) -> Usage:
        """What is used: memory that several processes share counts once."""
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
    """Whether it has not ended; its first thread may have, before the others."""
    for folder in (process, *_threads(process)):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def _share(process: Path, devices: set[int]) -> int:
    """A process's own memory and its share of what it shares, without files in memory."""
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
    """The share of mapped files that `statvfs` counts already."""
    found = 0
    counted = False
    # What the process has written into its own copy of a page is not the file's.
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
    """The fields of a file of /proc that are in kB, as bytes; empty where `needed` is missing."""
    values = {}
    for line in _lines(path.parent, path.name, needed):
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            values[name] = int(rest.split()[0]) * 1024
    return values


def _lines(process: Path, name: str, needed: str = "") -> list[str]:
    """A file of a process; of its threads, where the first one has ended before the others."""
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
