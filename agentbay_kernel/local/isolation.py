"""Chooses the isolation of sessions, and reports what it confines, for banners and status.

A sandbox is tried once, before the runtime announces itself.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local import bubblewrap, cgroup
from agentbay_kernel.local.bubblewrap import BubblewrapConfinement
from agentbay_kernel.local.cgroup import MEMORY, PROCESSES
from agentbay_kernel.local.confinement import Confinement, Interpreter, inspect_interpreter
from agentbay_kernel.local.plain import PlainConfinement
from agentbay_kernel.local.settings import MEGABYTE, Settings
from agentbay_kernel.local.syscall_filter import allow_list


@dataclass(frozen=True)
class Report:
    """What is confined.

    `level` is bubblewrap or none, `summary` one line, `confined` and `not_confined` one short
    sentence for each promise, `reason` why there is no isolation, `cure` the fix.
    """

    level: str
    summary: str
    confined: tuple[str, ...]
    not_confined: tuple[str, ...]
    reason: str = ""
    cure: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(it) if isinstance(it, tuple) else it for name, it in fields.items()}


@dataclass(frozen=True)
class Isolation:
    """The chosen isolation: `make` returns a new confinement, `report` is what it promises.

    The argument of `make` is a directory for the files of a session without isolation.
    `interpreter` is the Python of sessions.
    """

    make: Callable[[Path], Confinement]
    report: Report
    interpreter: Interpreter


class Choice:
    """An attempt to set up the isolation that the settings ask for; `result` waits for its end.

    Arguments:
        settings: `isolation` is auto, required or none.

    Raises:
        LocalRuntimeError: the interpreter does not run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._interpreter = inspect_interpreter(settings.python)
        self._probe: bubblewrap.Probe | None = None
        # A separate user id isolates better than a user namespace, but needs root.
        self._own_uid = sys.platform == "linux" and os.geteuid() == 0
        if settings.isolation != "none" and sys.platform == "linux":
            self._probe = bubblewrap.Probe(settings, self._interpreter, self._own_uid)

    def result(self) -> Isolation:
        """Return the isolation that works here.

        Raises:
            LocalRuntimeError: isolation is required and does not work.
        """
        settings, interpreter = self._settings, self._interpreter
        cure = ""
        if settings.isolation == "none":
            reason = "it was switched off (--isolation none)"
        elif self._probe is None:
            reason = "it needs Linux"
        else:
            reason, cure = self._probe.reason(), self._probe.cure
            if not reason:
                return _bubblewrapped(settings, interpreter, self._own_uid)
            if self._own_uid and not bubblewrap.Probe(settings, interpreter, False).reason():
                return _bubblewrapped(settings, interpreter, own_uid=False)
        if settings.isolation == "required":
            raise LocalRuntimeError(
                f"Isolation is required but not available: {reason}. No code was run. "
                f"{cure and cure + ' '}To run code that is not isolated: "
                "AGENTBAY_LOCAL_ISOLATION=none, or `serve --isolation none`."
            )
        report = _plain_report(settings, reason, cure)
        return Isolation(
            lambda folder: PlainConfinement(settings, interpreter, folder), report, interpreter
        )


def _bubblewrapped(settings: Settings, interpreter: Interpreter, own_uid: bool) -> Isolation:
    limits = settings.limits
    parents, no_cgroup = cgroup.find(settings.cgroup)
    by_kernel = {name for parent in parents for name in parent.controllers}
    counted = "by the kernel (cgroup)" if MEMORY in by_kernel else "from outside, 4 times a second"
    confined = [
        "files: the system is read-only, your home is not there, "
        "/workspace and /tmp are the session's own and end with it",
        "processes: only the session's own are seen, all of them end with it",
        "environment: none of your variables, keys or tokens",
        f"memory: {_megabytes(limits.memory)} for all processes and files of a session, "
        f"counted {counted}",
        f"disk: {_megabytes(limits.disk)} in each of /workspace and /tmp, "
        f"{_megabytes(limits.file_size)} a file",
        f"processor: {limits.cpu_s} s for one process",
        "agent: cells can't stop, signal or read what watches them"
        + (", which has a user id of its own" if own_uid else ""),
    ]
    not_confined = [
        "the kernel of the operating system is shared: this is no virtual machine",
        "the number of sessions, and what all of them use together",
    ]
    network = "network: none but the session's own loopback"
    if settings.network:
        not_confined.insert(0, "network: this machine's, its loopback services included")
    else:
        confined.insert(0, network)
    if MEMORY not in by_kernel:
        not_confined.append(
            "memory of the system for a session (pipes, sockets, page cache): not counted, "
            f"because there is no cgroup: {no_cgroup or 'the one given has no memory limit'}"
        )
    if allow_list() is not None:
        confined.append("system calls: an allow list; sockets: local, IPv4, IPv6, route netlink")
    else:
        not_confined.append("system calls: there is no list for this machine")
    # Root outside is exempt from the limit, also as another user inside a user namespace.
    if PROCESSES in by_kernel:
        confined.append(f"processes and threads: {limits.processes} of a session (cgroup)")
    elif own_uid or os.geteuid() != 0:
        confined.append(f"processes and threads: {limits.processes} of a session")
    else:
        not_confined.append("the number of processes (the limit does not hold for root)")
    report = Report(
        level="bubblewrap",
        summary="isolated by bubblewrap, "
        + ("WITH this machine's network" if settings.network else "without network"),
        confined=tuple(confined),
        not_confined=tuple(not_confined),
    )
    return Isolation(
        lambda _: BubblewrapConfinement(settings, interpreter, own_uid, parents),
        report,
        interpreter,
    )


def _plain_report(settings: Settings, reason: str, cure: str) -> Report:
    limits = settings.limits
    confined = [
        "environment: none of your variables, keys or tokens",
        "directories: a working directory, HOME and TMPDIR of the session's own, removed with it",
        "processes: all of a session's end with it",
        f"files: {_megabytes(limits.file_size)} each",
        f"processor: {limits.cpu_s} s for one process",
        "JavaScript (Node 20 or newer): writes no files elsewhere and starts no processes",
    ]
    if sys.platform == "linux":
        confined.append(f"memory: {_megabytes(limits.memory)} for a session's processes")
    return Report(
        level="none",
        summary="NOT isolated: code can read and change all that you can",
        confined=tuple(confined),
        not_confined=(
            "your files: Python and commands can read and change them",
            "the network",
            "your other processes: Python and commands can end them",
            "the number of processes",
            "disk space",
        ),
        reason=reason,
        cure=cure,
    )


def _megabytes(size: int) -> str:
    return f"{size // MEGABYTE} MB"
