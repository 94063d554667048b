"""A filter that keeps a sandbox from making user namespaces of its own.

In: the machine's architecture. Out: a seccomp program, as bwrap takes it on a descriptor. Inside a
new user namespace code would have privileges again, enough to mount file systems of any size and
so to get around the limit on disk. Linux numbers of system calls are a stable interface.
"""

from __future__ import annotations

import platform
import struct

CLONE_NEWUSER = 0x10000000
EPERM, ENOSYS = 1, 38
# From linux/filter.h and linux/seccomp.h.
LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
# The second table of system calls that x86 has.
OTHER_TABLE = 0x40000000
# audit architecture, clone, unshare, setns, clone3
CALLS = {
    "x86_64": (0xC000003E, 56, 272, 308, 435),
    "aarch64": (0xC00000B7, 220, 97, 268, 435),
}


def no_user_namespaces(machine: str | None = None) -> bytes | None:
    """The program for a machine (this one by default), or None for one that is not known."""
    calls = CALLS.get(machine or platform.machine())
    if calls is None:
        return None
    architecture, clone, unshare, setns, clone3 = calls
    # A jump counts from the instruction after it; the last three are where they lead.
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 0, 9, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_ABOVE, 8, 0, OTHER_TABLE),
        # Its flags are in memory, where a filter can't look; libraries fall back to clone.
        (JUMP_EQUAL, 7, 0, clone3),
        (JUMP_EQUAL, 5, 0, setns),
        (JUMP_EQUAL, 1, 0, clone),
        (JUMP_EQUAL, 0, 2, unshare),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_ANY_BIT, 1, 0, CLONE_NEWUSER),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE | EPERM),
        (RETURN, 0, 0, REFUSE | ENOSYS),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
