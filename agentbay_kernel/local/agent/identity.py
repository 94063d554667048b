"""The user ids of agent and cells: no process inside may stop, signal or trace the agent.

The agent is the first process of its PID namespace, so signals from inside don't reach it. It is
not dumpable, so its memory and descriptors are closed to others. If the runtime is root, it also
has a different user id from the cells. Standard library only.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

# From linux/prctl.h and linux/capability.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64
CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7
# The first byte of an operation's result if that is a text and not JSON.
TEXT = b"T"
# Bytes of a text in one piece: as much as a pipe holds.
PIECE = 65536
# The first descriptor after the standard ones.
KEPT = 3


class Identity:
    """The two users of a session.

    Arguments:
        cells: the user id of cells; None if it is the agent's.
    """

    def __init__(self, cells: int | None = None) -> None:
        self._cells = cells

    @property
    def popen_arguments(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen` that start a process as the cells' user."""
        if self._cells is None:
            return {}
        return {"user": self._cells, "group": self._cells, "extra_groups": []}

    def become_agent(self, agent: int, folders: tuple[str, ...]) -> None:
        """Change from root to the agent's user, who may only start and end the cells' processes.

        The cells' user becomes the owner of `folders`.
        """
        assert self._cells is not None
        for folder in folders:
            os.chown(folder, self._cells, self._cells)
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in range(CAPABILITIES):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(agent, agent, agent)
        os.setresuid(agent, agent, agent)
        _set_capabilities(1 << CAP_KILL | 1 << CAP_SETGID | 1 << CAP_SETUID)
        # The change of user has cleared the flag.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    @contextlib.contextmanager
    def as_cells_user(self) -> Iterator[None]:
        """Make this thread create and open files as the cells' user."""
        if self._cells is None:
            yield
            return
        libc = ctypes.CDLL(None)
        user, group = os.geteuid(), os.getegid()
        libc.setfsgid(self._cells)
        libc.setfsuid(self._cells)
        try:
            yield
        finally:
            libc.setfsuid(user)
            libc.setfsgid(group)

    def run(
        self,
        operation: Callable[..., Any],
        arguments: dict[str, Any],
        take: Callable[[bytes], None],
        fd: int | None = None,
    ) -> Any:
        """Run a function in a process of the cells' user.

        A text that it returns is passed to `take` in pieces, in UTF-8. Another value must be JSON,
        and is returned. A descriptor becomes the function's argument `fd`.

        The process stays in the agent's session, and so in the group with the agent's weight. In
        it, links in the workspace lead only to what cells may open: in the agent itself, /proc/self
        would be the agent.

        Raises:
            OSError: the function raised it, or its process was killed.
            Exception: the function raised it; with the same type if that is a common one.
        """
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                kept = [write_end] if fd is None else [write_end, fd]
                # First to higher numbers, so that neither is overwritten.
                kept = [fcntl.fcntl(one, fcntl.F_DUPFD, KEPT + len(kept)) for one in kept]
                for place, one in enumerate(kept, KEPT):
                    os.dup2(one, place)
                os.closerange(KEPT + len(kept), os.sysconf("SC_OPEN_MAX"))
                if fd is not None:
                    arguments = {**arguments, "fd": KEPT + 1}
                if self._cells is not None:
                    os.setresgid(self._cells, self._cells, self._cells)
                    os.setresuid(self._cells, self._cells, self._cells)
                    _set_capabilities(0)
                with os.fdopen(KEPT, "wb") as result:
                    done = _attempt(operation, arguments)
                    value = done.get("value")
                    if isinstance(value, str):
                        value = value.encode("utf-8", "replace")
                    if isinstance(value, bytes):
                        result.write(TEXT)
                        result.write(value)
                    else:
                        result.write(json.dumps(done).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write_end)
        try:
            with os.fdopen(read_end, "rb", buffering=0) as result:
                text = result.read(1)
                if text == TEXT:
                    while piece := result.read(PIECE):
                        take(piece)
                    text = b'{"value": null}'
                else:
                    text += result.readall()
        finally:
            _, status = os.waitpid(child, 0)
        if status != 0:
            raise OSError(5, "the process of this operation was killed")
        found = json.loads(text)
        if "value" in found:
            return found["value"]
        kind = getattr(builtins, found["kind"], None)
        if "errno" in found:
            raise OSError(found["errno"], *found["about"])
        if kind in (ValueError, TypeError, RecursionError, MemoryError):
            raise kind(found["message"])
        raise RuntimeError(f"{found['kind']}: {found['message']}")


def _attempt(operation: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": operation(**arguments)}
    except OSError as failure:
        about = [failure.strerror or str(failure)]
        if failure.filename is not None:
            about.append(str(failure.filename))
        return {"kind": "OSError", "errno": failure.errno or 5, "about": about}
    except Exception as failure:
        return {"kind": type(failure).__name__, "message": str(failure)}


def close_to_others() -> None:
    """Let no process read this one's memory, environment or descriptors."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _set_capabilities(kept: int) -> None:
    """Keep these capabilities for this process, and none for programs that it executes."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capabilities can't be dropped")
