"""Control groups: the kernel's own limits on a session's memory and processes, if it has any.

A cgroup is only made in one that was delegated to the runtime: named by `--cgroup` or, in version
2, marked by systemd. Any other may be in use by another program.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

MEMORY, PROCESSES = "memory", "pids"
# The file that holds a limit, in version 2 and in version 1.
LIMIT_FILES = {
    MEMORY: ("memory.max", "memory.limit_in_bytes"),
    PROCESSES: ("pids.max", "pids.max"),
}
EVENTS = ("memory.events", "memory.oom_control")
DELEGATED = ("trusted.delegate", "user.delegate")
# The two versions share no event for the end of the last process.
REMOVAL_ATTEMPTS, REMOVAL_INTERVAL_S = 200, 0.05
MOUNT = Path("/sys/fs/cgroup")

_numbers = itertools.count()


@dataclass(frozen=True)
class Parent:
    """A cgroup that contains those of sessions, and the limits that it can set."""

    path: Path
    controllers: tuple[str, ...]

    def make(self, limits: dict[str, int]) -> Cgroup:
        """Make a cgroup with those of these limits that it can set.

        Raises:
            OSError: it can't be made.
        """
        path = self.path / f"agentbay-{os.getpid()}-{next(_numbers)}"
        path.mkdir()
        try:
            for controller in self.controllers:
                (path / _limit_file(path, controller)).write_text(str(limits[controller]))
        except OSError:
            path.rmdir()
            raise
        return Cgroup(path)


class Cgroup:
    """One session's cgroup."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def join(self) -> None:
        """Move the calling process into it."""
        os.write(self._members, b"0")

    def memory_kills(self) -> int:
        """Return how many of its processes the kernel has killed because memory ran out."""
        for name in EVENTS:
            with contextlib.suppress(OSError):
                for line in (self._path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    async def remove(self) -> None:
        """Remove it when its processes, which were killed, have ended."""
        os.close(self._members)
        for _ in range(REMOVAL_ATTEMPTS):
            with contextlib.suppress(OSError):
                self._path.rmdir()
                break
            await asyncio.sleep(REMOVAL_INTERVAL_S)


def find(setting: str) -> tuple[list[Parent], str]:
    """Return the parents of sessions' cgroups, or why there are none.

    `setting` is auto, none, a directory, or several (version 1) separated by `:`.
    """
    if setting == "none":
        return [], "switched off (--cgroup none)"
    if setting != "auto":
        found = [parent for part in setting.split(":") if (parent := _usable(Path(part)))]
        return found, "" if found else f"no cgroup can be made in {setting}"
    own = _own()
    # systemd can put a unit's processes into a cgroup below the delegated one.
    for path in (own.parent, own) if own else ():
        if any(_has_attribute(path, name) for name in DELEGATED):
            parent = _usable(path)
            return ([parent], "") if parent else ([], f"no cgroup can be made in {path}")
    return [], "none was delegated to this runtime"


def _own() -> Path | None:
    """Return this process's cgroup of version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::"):
            path = MOUNT / line[3:].lstrip("/")
            return path if (path / "cgroup.controllers").exists() else None
    return None


def _has_attribute(path: Path, name: str) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(path, name) == b"1"
    return False


def _usable(path: Path) -> Parent | None:
    """Return the parent at a path if a cgroup can be made in it."""
    with contextlib.suppress(OSError):
        if (path / "cgroup.controllers").exists():
            for controller in LIMIT_FILES:
                with contextlib.suppress(OSError):
                    (path / "cgroup.subtree_control").write_text(f"+{controller}")
        _remove_leftovers(path)
        trial = path / f"agentbay-{os.getpid()}-trial{next(_numbers)}"
        trial.mkdir()
        try:
            found = tuple(name for name in LIMIT_FILES if _limit_file(trial, name))
        finally:
            trial.rmdir()
        if found:
            return Parent(path, found)
    return None


def _remove_leftovers(path: Path) -> None:
    """Remove the cgroups of runtimes that were killed; they are empty."""
    for left in path.glob("agentbay-*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                left.rmdir()


def _limit_file(path: Path, controller: str) -> str:
    return next((name for name in LIMIT_FILES[controller] if (path / name).exists()), "")
