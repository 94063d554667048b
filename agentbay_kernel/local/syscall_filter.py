"""The system-call filter of a sandbox: an allow list, compiled to a seccomp program for bwrap.

`syscalls.txt` names every call and its verdict; this module has the rules for arguments and the
compiler. A filter can't read memory that an argument points to: if that decides, the call is
refused as a whole.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("syscalls.txt")
# Audit architecture and column of `syscalls.txt`.
MACHINES = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}
# x86_64 has a second table of the same calls; its numbers start here.
X32 = 0x40000000

# From linux/filter.h and linux/seccomp.h.
LOAD, JUMP, JUMP_EQUAL, JUMP_ABOVE, JUMP_ANY_BIT, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16

# Opcode, jump if true, jump if false, operand. Jumps count from the next instruction.
Instruction = tuple[int, int, int, int]

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
NETLINK_ROUTE = 0
# The default of a family, ICMP, TCP, UDP, ICMPv6.
PROTOCOLS = (0, 1, 6, 17, 58)
# Threads and processes, but no namespaces.
CLONE_FLAGS = 0x81FDFFFF
# CLONE_FS, CLONE_FILES, CLONE_SYSVSEM.
UNSHARE_FLAGS = 0x40600
# PER_LINUX, PER_LINUX32, both with UNAME26, and the query of the present one.
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
PRIO_USER, IOPRIO_WHO_USER = 2, 3
# The agent is the first process of the sandbox.
AGENT = 1


@dataclass(frozen=True)
class OneOf:
    """The argument is one of these values."""

    argument: int
    values: tuple[int, ...]
    error: int = errno.EPERM


@dataclass(frozen=True)
class NoneOf:
    """The argument differs from all of these values."""

    argument: int
    values: tuple[int, ...]
    error: int = errno.EPERM


@dataclass(frozen=True)
class OnlyBits:
    """The argument has only these bits."""

    argument: int
    mask: int
    error: int = errno.EPERM


Rule = OneOf | NoneOf | OnlyBits

# `socket` has its own function (`_socket`): the meaning of a protocol depends on the family.
RULES: dict[str, tuple[Rule, ...]] = {
    "clone": (OnlyBits(0, CLONE_FLAGS),),
    "unshare": (OnlyBits(0, UNSHARE_FLAGS),),
    "socketpair": (OneOf(0, (AF_UNIX, AF_INET, AF_INET6), errno.EAFNOSUPPORT),),
    "personality": (OneOf(0, PERSONALITIES),),
    # Limits of another process could stop the agent; 0 is the caller.
    "prlimit64": (OneOf(0, (0,)),),
    # A cell must not take the processor from the agent, which watches it.
    "setpriority": (NoneOf(0, (PRIO_USER,)), NoneOf(1, (AGENT,))),
    "ioprio_set": (NoneOf(0, (IOPRIO_WHO_USER,)), NoneOf(1, (AGENT,))),
    "sched_setaffinity": (NoneOf(0, (AGENT,)),),
    "sched_setattr": (NoneOf(0, (AGENT,)),),
    "sched_setparam": (NoneOf(0, (AGENT,)),),
    "sched_setscheduler": (NoneOf(0, (AGENT,)),),
}


@functools.cache
def allow_list(machine: str | None = None) -> bytes | None:
    """Return the program for a machine (this one by default), None for an unknown one."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return None
    architecture, _ = MACHINES[machine]
    absent = (RETURN, 0, 0, REFUSE | errno.ENOSYS)
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        absent,
        (LOAD, 0, 0, NUMBER),
        *_search(_spans(machine)),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


@functools.cache
def verdicts(machine: str) -> dict[str, tuple[int, str]]:
    """Return the number and the verdict of every call that a machine has."""
    column = MACHINES[machine][1]
    rows = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return {row[0]: (int(row[column]), row[3]) for row in rows if row[column] != "-"}


def _spans(machine: str) -> list[tuple[int, list[Instruction]]]:
    """Return the first number of each range of calls with the same program, and the program."""
    absent: list[Instruction] = [(RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    known = {}
    for name, (number, verdict) in verdicts(machine).items():
        if verdict == "allow":
            known[number] = [(RETURN, 0, 0, ALLOW)]
        elif verdict == "arguments":
            known[number] = _socket() if name == "socket" else _check(RULES[name])
        elif verdict == "refuse":
            known[number] = [(RETURN, 0, 0, REFUSE | errno.EPERM)]
    spans: list[tuple[int, list[Instruction]]] = []
    # One beyond the last: future calls, and the x32 table.
    for number in range(max(known) + 2):
        body = known.get(number, absent)
        if not spans or spans[-1][1] != body:
            spans.append((number, body))
    assert max(known) < X32
    return spans


def _search(spans: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """Return a binary search for the span that contains the number."""
    if len(spans) == 1:
        return spans[0][1]
    middle = len(spans) // 2
    below = _search(spans[:middle])
    # A conditional jump reaches 255 instructions, this one any distance.
    return [
        (JUMP_ABOVE, 0, 1, spans[middle][0]),
        (JUMP, 0, 0, len(below)),
        *below,
        *_search(spans[middle:]),
    ]


def _check(rules: tuple[Rule, ...]) -> list[Instruction]:
    """Return a program that allows a call if all rules hold. It reads the lower halves of the
    arguments, as the kernel does."""
    program: list[Instruction] = []
    for rule in rules:
        program.append((LOAD, 0, 0, ARGUMENTS + 8 * rule.argument))
        refusal = (RETURN, 0, 0, REFUSE | rule.error)
        if isinstance(rule, OnlyBits):
            program += [(JUMP_ANY_BIT, 0, 1, ~rule.mask & 0xFFFFFFFF), refusal]
            continue
        count = len(rule.values)
        if isinstance(rule, OneOf):
            for left, value in zip(range(count, 0, -1), rule.values, strict=True):
                program.append((JUMP_EQUAL, left, 0, value))
            program.append(refusal)
        else:
            for value in rule.values:
                program += [(JUMP_EQUAL, 0, 1, value), refusal]
    return [*program, (RETURN, 0, 0, ALLOW)]


def _socket() -> list[Instruction]:
    """Return the program of `socket`: local and internet sockets, and route netlink."""
    netlink = _check((OneOf(2, (NETLINK_ROUTE,), errno.EAFNOSUPPORT),))
    internet = _check((OneOf(2, PROTOCOLS, errno.EPROTONOSUPPORT),))
    return [
        (LOAD, 0, 0, ARGUMENTS),
        (JUMP_EQUAL, 0, len(netlink), AF_NETLINK),
        *netlink,
        (JUMP_EQUAL, 1, 0, AF_INET),
        (JUMP_EQUAL, 0, len(internet), AF_INET6),
        *internet,
        *_check((OneOf(0, (AF_UNIX,), errno.EAFNOSUPPORT),)),
    ]
