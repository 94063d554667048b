"""Owners of sessions: which process created a session, and whether it is provably dead.

A session is deleted only if its owner is certainly DEAD. Any doubt makes it UNKNOWN: another
machine, another container, an incomplete record.
"""

from __future__ import annotations

import enum
import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

# The process namespace of a Linux system itself (include/uapi/linux/nsfs.h, PROC_PID_INIT_INO).
OUTERMOST_SPACE = "pid:[4026531836]"
_GONE_STATES = ("Z", "X", "x")


class Fate(enum.Enum):
    """The status of an owner."""

    ALIVE = "alive"
    DEAD = "ended"
    UNKNOWN = "elsewhere"


@dataclass(frozen=True)
class Owner:
    """A process that creates sessions.

    `id` is random and is in its sessions' labels. The rest stays on this machine: `host` is
    the machine's id and name, `boot` the id of its boot, `space` the process namespace (a container
    has its own), `pid` and `started` the process. Empty means that the system does not report it.
    """

    id: str
    host: str
    boot: str
    space: str
    pid: int
    started: str


@dataclass(frozen=True)
class Place:
    """The system that a process runs in: `host`, `boot` and `space`, as in an owner."""

    host: str
    boot: str
    space: str


def this_place() -> Place:
    """Return the machine, its boot and the process namespace of this process."""
    return Place(_host(), _boot(), _space())


def this_process() -> Owner:
    """Return this process, with a new random id."""
    pid, here = os.getpid(), this_place()
    started = process_start(pid) or ""
    return Owner(uuid.uuid4().hex, here.host, here.boot, here.space, pid, started)


def owner_status(owner: Owner, here: Place | None = None) -> Fate:
    """Return whether that process is alive; DEAD only if it is certain.

    Arguments:
        here: the system of this process; determined by default.
    """
    here = here or this_place()
    if owner.host != here.host or owner.pid <= 0 or not owner.started:
        return Fate.UNKNOWN
    if owner.boot != here.boot:
        # Containers of one image can have the same host id on two machines. If neither is a
        # container, the same id and name mean this machine before its last start.
        rebooted = bool(owner.boot and here.boot and not here.host.startswith("/"))
        outside = owner.space == here.space == OUTERMOST_SPACE
        return Fate.DEAD if rebooted and outside else Fate.UNKNOWN
    if owner.space != here.space:
        return Fate.UNKNOWN
    return Fate.ALIVE if process_start(owner.pid) == owner.started else Fate.DEAD


def process_start(pid: int) -> str | None:
    """Return when a process started, in a form that is only for comparison; None if it has ended.

    On Linux these are the clock ticks since the boot, which a clock change does not affect.
    """
    return _ticks(pid) if Path("/proc/self/stat").exists() else _create_time(pid)


def _ticks(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in brackets, may contain any character. The state follows it; the start is field 22
    # of the whole line (proc_pid_stat(5)).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in _GONE_STATES else fields[19]


def _create_time(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE
        return None if gone else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _host() -> str:
    return f"{_machine_id()}/{platform.node()}"


def _machine_id() -> str:
    return _line_of("/etc/machine-id") or _line_of("/var/lib/dbus/machine-id")


def _boot() -> str:
    return _line_of("/proc/sys/kernel/random/boot_id")


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _line_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""
