"""A session inside one bubblewrap sandbox: its own processes, files, network and user id.

The sandbox holds the session's agent, and so everything that the session starts. Its files are in
memory and end with it. The runtime reaches them through /proc, so nothing of the machine is
writable from inside.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local.cgroup import MEMORY, PROCESSES, Cgroup, Parent
from agentbay_kernel.local.confinement import (
    PACKAGE,
    START,
    TRANSFER_FOLDER,
    Confinement,
    Folders,
    Interpreter,
    Launch,
)
from agentbay_kernel.local.memory_watch import MemoryWatch
from agentbay_kernel.local.node import candidates
from agentbay_kernel.local.settings import MEGABYTE, Settings
from agentbay_kernel.local.syscall_filter import MACHINES, allow_list, verdicts

WORKSPACE = "/workspace"
TEMPORARY = "/tmp"
RUN = "/run/agentbay"
LIBRARY = "/opt/agentbay"
COMPLETION = f"{LIBRARY}/completion"
# File systems that are memory.
IN_MEMORY = (WORKSPACE, TEMPORARY, "/dev/shm", RUN)
HOSTNAME = "sandbox"
NAMESPACE_UID = 1000
# If the runtime is root, each session gets two unused user ids: its cells' and its agent's. The
# limit on processes does not hold for root, not even in a user namespace.
FIRST_UID = 1_879_048_192
SESSIONS_PER_RUNTIME = 2048
PROBE_TIMEOUT_S = 20
INSTALL = "Install bubblewrap (apt install bubblewrap)."
ALLOW = (
    "This system must let it make user namespaces; a container must be started so that it may: "
    'docs/how-to/local-runtime.md, "In a container".'
)
# Ubuntu's own restriction, since 23.10.
RESTRICTED = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
ALLOW_HERE = (
    "This system restricts the namespaces that it needs. To allow them until the next start: "
    f"sudo sysctl -w kernel.{RESTRICTED.name}=0"
)
RUN_SIZE = 64 * MEGABYTE
# bwrap, the agent and its threads.
OWN_PROCESSES = 24
KEYCTL_JOIN_SESSION_KEYRING = 1
SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl",
)
NETWORK_FILES = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf")
# Takes a session's user id, then runs its interpreter: fails if a session would.
PROBE = (
    "import os, sys; uid = int(sys.argv[1]); "
    "uid and (os.setgroups([]), os.setresgid(uid, uid, uid), os.setresuid(uid, uid, uid)); "
    "os.execv(sys.argv[2], [sys.argv[2], '-I', '-S', '-c', ''])"
)

_numbers = itertools.count()
_LIBC = ctypes.CDLL(None)


def _next_uid() -> int:
    slot = os.getpid() % 65536
    return FIRST_UID + 2 * (slot * SESSIONS_PER_RUNTIME + next(_numbers) % SESSIONS_PER_RUNTIME)


class BubblewrapConfinement(Confinement):
    """One sandbox.

    Arguments:
        own_uid: give the session its own user ids (root only), else a user namespace.
        parents: cgroups in which the session gets its own.
    """

    def __init__(
        self,
        settings: Settings,
        interpreter: Interpreter,
        own_uid: bool,
        parents: list[Parent],
    ) -> None:
        super().__init__(settings, interpreter)
        self._own_uid = own_uid
        self._uid = _next_uid() if own_uid else NAMESPACE_UID
        self._memory_watch: asyncio.Task[None] | None = None
        self._parents = parents
        self._cgroups: list[Cgroup] = []
        self.folders = Folders(WORKSPACE, TEMPORARY, RUN, "", LIBRARY)

    def _command(self, fd: int, first: Launch) -> list[str]:
        limits = self._settings.limits
        most = {MEMORY: limits.memory + RUN_SIZE, PROCESSES: limits.processes + OWN_PROCESSES}
        try:
            self._cgroups = [parent.make(most) for parent in self._parents]
        except OSError as failure:
            raise LocalRuntimeError(f"The session's cgroup can't be made: {failure}") from failure
        self._info, info = os.pipe()
        filtering: list[str] = []
        program = allow_list()
        if program is not None:
            self._passed_fds.append(_readable(program))
            filtering = ["--seccomp", str(self._passed_fds[-1])]
        # Asked once: the environment must name it only if it is bound here.
        self._cache = super()._completion_cache()
        cache = ["--ro-bind", str(self._cache), COMPLETION] if self._cache else []
        users = _text(
            f"root:x:0:0:root:/root:/bin/sh\nsandbox:x:{self._uid}:{self._uid}::{WORKSPACE}:/bin/bash\n"
        )
        groups = _text(f"root:x:0:\nsandbox:x:{self._uid}:\n")
        self._passed_fds += [info, users, groups]
        uids = (self._uid + 1, self._uid) if self._own_uid else None
        names: list[str] = []
        if not self._settings.network:
            hosts = _text(f"127.0.0.1 localhost {HOSTNAME}\n")
            self._passed_fds.append(hosts)
            names = ["--perms", "0644", "--ro-bind-data", str(hosts), "/etc/hosts"]
        return [
            *sandbox_command(self._settings, self._interpreter, self._own_uid),
            *filtering,
            *("--info-fd", str(info)),
            *("--perms", "0644", "--ro-bind-data", str(users), "/etc/passwd"),
            *("--perms", "0644", "--ro-bind-data", str(groups), "/etc/group"),
            *names,
            *cache,
            *("--remount-ro", "/", "--"),
            *(self._interpreter.path, "-I", "-S", "-c", START, LIBRARY),
            *self.agent_arguments(fd, first, owner=False, uids=uids),
        ]

    def _completion_cache(self) -> Path | None:
        return Path(COMPLETION) if self._cache else None

    def _before_exec(self) -> None:
        for cgroup in self._cgroups:
            cgroup.join()
        # The session must not have the user's keys. Cells can't join another keyring.
        _join_new_keyring()

    async def _started(self) -> None:
        text = await asyncio.get_running_loop().run_in_executor(None, self._read_info)
        self._root = f"/proc/{json.loads(text)['child-pid']}/root"
        # Also keeps the path of a socket far below its limit of about 100 bytes.
        self.folders = Folders(WORKSPACE, TEMPORARY, RUN, f"{self._root}{RUN}", LIBRARY)

    @property
    def proc(self) -> Path:
        """The /proc of the session's processes, as a path outside."""
        return Path(self._root, "proc")

    def _watch(self) -> None:
        limit = self._settings.limits.memory
        watch = MemoryWatch(Path(self._root), IN_MEMORY, limit, self.agent, self._kill)
        self._memory_watch = asyncio.get_running_loop().create_task(watch.run())
        # Sets the event's `memory` for the kernel's kills, which the agent does not know.
        self.agent.on("exit", self._on_exit)
        self._memory_kills = 0

    def _on_exit(self, event: dict[str, Any]) -> None:
        kills = sum(cgroup.memory_kills() for cgroup in self._cgroups)
        if kills > self._memory_kills and event["code"] == -signal.SIGKILL:
            event["memory"] = True
        self._memory_kills = kills

    async def _clean(self) -> None:
        if self._memory_watch is not None:
            self._memory_watch.cancel()
        for cgroup in self._cgroups:
            await cgroup.remove()
        self._cgroups = []

    def _read_info(self) -> str:
        with os.fdopen(self._info) as info:
            return info.read()

    def _path(self) -> list[str]:
        nodes = [str(Path(node).parent) for node in candidates()]
        return list(dict.fromkeys([*super()._path(), *nodes]))

    def _system_path(self) -> list[str]:
        return ["/usr/local/bin", "/usr/bin", "/bin"]


def _join_new_keyring() -> None:
    number = verdicts(platform.machine())["keyctl"][0] if platform.machine() in MACHINES else None
    if number is not None:
        _LIBC.syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def _readable(data: bytes) -> int:
    """Return a descriptor from which a few bytes can be read once."""
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


def _text(text: str) -> int:
    return _readable(text.encode())


def sandbox_command(settings: Settings, interpreter: Interpreter, own_uid: bool) -> list[str]:
    """Return bwrap's command line up to the descriptors and the program."""
    command = ["bwrap", "--die-with-parent", "--hostname", HOSTNAME, "--cap-drop", "ALL"]
    # Signals from inside don't reach the first process, which is the agent.
    command += ["--as-pid-1", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try"]
    if own_uid:
        # The agent keeps three of them, to start and end what its cells' user runs.
        for name in ("SETUID", "SETGID", "KILL", "CHOWN", "SETPCAP"):
            command += ["--cap-add", f"CAP_{name}"]
    else:
        command += ["--unshare-user", "--uid", str(NAMESPACE_UID), "--gid", str(NAMESPACE_UID)]
    if not settings.network:
        command += ["--unshare-net"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/lib", "/lib32", "/lib64", "/sbin"):
        if Path(name).is_symlink():
            command += ["--symlink", str(Path(name).readlink()), name]
        elif Path(name).exists():
            command += ["--ro-bind", name, name]
    # Directories that bwrap makes for a file would be open only to root.
    for path in ("/etc", "/var"):
        command += ["--perms", "0755", "--dir", path]
    for path in (*SYSTEM_FILES, *(NETWORK_FILES if settings.network else ())):
        command += ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dev", "/dev"]
    disk = str(settings.limits.disk)
    for path, size, mode in (
        ("/dev/shm", disk, "1777"),
        (TEMPORARY, disk, "1777"),
        (WORKSPACE, disk, "0755"),
        (RUN, str(RUN_SIZE), "0755"),
    ):
        command += ["--perms", mode, "--size", size, "--tmpfs", path]
    command += ["--perms", "1777", "--dir", TRANSFER_FOLDER]
    command += ["--symlink", "/tmp", "/var/tmp", "--remount-ro", "/dev"]
    package = f"{LIBRARY}/agentbay_kernel"
    shown = {path: path for path in _needed_folders(interpreter)}
    for inside in ("sandbox", "local/agent"):
        shown[str(PACKAGE / inside)] = f"{package}/{inside}"
    # A package of that name may be among the session's own: without this file, that one would be
    # imported. Not the real one: that would be compiled for each session.
    shown[str(PACKAGE / "sandbox/__init__.py")] = f"{package}/__init__.py"
    for source, target in shown.items():
        for parent in reversed(Path(target).parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", source, target]
    return [*command, "--chdir", WORKSPACE]


def is_restricted() -> bool:
    """Return whether this system restricts namespaces, as Ubuntu does."""
    try:
        return RESTRICTED.read_text().strip() == "1"
    except OSError:
        return False


def _needed_folders(interpreter: Interpreter) -> list[str]:
    """Return the directories of Python and Node that are not below /usr."""
    found = [interpreter.prefix, interpreter.base_prefix]
    for node in candidates():
        found += [str(Path(node).parent), str(Path(node).resolve().parent.parent)]
    needed: list[str] = []
    for path in found:
        if not any(Path(path).is_relative_to(shown) for shown in ("/usr", *needed)):
            needed.append(path)
    return needed


class Probe:
    """An attempt to start what a session would start; `reason` waits for its end.

    `cure` is the fix to show if it fails.

    Arguments:
        settings: how sessions are made.
        interpreter: their Python.
        own_uid: whether they get their own user id.
    """

    def __init__(self, settings: Settings, interpreter: Interpreter, own_uid: bool) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._problem = ""
        self.cure = ALLOW_HERE if is_restricted() else ALLOW
        if shutil.which("bwrap") is None:
            self._problem, self.cure = "bubblewrap (bwrap) is not installed", INSTALL
            return
        uid = FIRST_UID if own_uid else 0
        try:
            self._process = subprocess.Popen(
                [
                    *sandbox_command(settings, interpreter, own_uid),
                    *("--remount-ro", "/", "--", interpreter.path, "-I", "-S", "-c", PROBE),
                    *(str(uid), interpreter.path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as failure:
            self._problem = f"bubblewrap does not work here: {failure}"

    def reason(self) -> str:
        """Return why such a sandbox does not work here; empty if it does."""
        if self._process is None:
            return self._problem
        try:
            _, errors = self._process.communicate(timeout=PROBE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return f"bubblewrap did not start anything within {PROBE_TIMEOUT_S} s"
        if self._process.returncode == 0:
            return ""
        return f"bubblewrap does not work here: {errors.strip()[-300:] or 'it ended with an error'}"
