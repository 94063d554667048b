"""The user ids of agent and cells: no process inside may stop, signal or trace the agent.

The agent is the first process of its PID namespace, so signals from inside don't reach it. It is
not dumpable, so its memory and descriptors are closed to others. If the runtime is root, it also
has a different user id from the cells. Imports next to nothing: see `main`. Standard library only.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Made = TypeVar("Made")

# From linux/prctl.h, signal(7) and linux/capability.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
SIGKILL = 9
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64
CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7


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
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)

    def become_cells(self) -> None:
        """Change this process to the cells' user, for ever."""
        if self._cells is not None:
            os.setgroups([])
            os.setresgid(self._cells, self._cells, self._cells)
            os.setresuid(self._cells, self._cells, self._cells)
            _set_capabilities(0)

    def as_cells(self, make: Callable[[], Made]) -> Made:
        """Return what a function returns that makes and opens files, as the cells' user."""
        if self._cells is None:
            return make()
        libc = ctypes.CDLL(None)
        user, group = os.geteuid(), os.getegid()
        libc.setfsgid(self._cells)
        libc.setfsuid(self._cells)
        try:
            return make()
        finally:
            libc.setfsuid(user)
            libc.setfsgid(group)


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
