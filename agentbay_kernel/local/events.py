"""What an engine tells while it runs code, in the order in which it happens.

A run's events end with exactly one `Finished`.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

MEGABYTE = 2**20
# Of what one run puts out: so much of its beginning and so much of its end are passed on, in bytes
# of the answer. A bridge's longest call (16 MB, packed as text) fits the beginning.
HEAD_LIMIT = 24 * MEGABYTE
TAIL_LIMIT = 4 * MEGABYTE
# A run whose answer is collected, and encoded up to four times, has so much of it for sure (a
# bridge's call by a request brings 4 MB), and as much again from what all such runs share.
OWN_LIMIT = 6 * MEGABYTE
SHARED_LIMIT = 6 * MEGABYTE


@dataclass(frozen=True)
class Stream:
    """A piece of `stdout` or `stderr`; `size` is about what it takes in an answer."""

    name: str
    text: str
    size: int = 0


@dataclass(frozen=True)
class Result:
    """A MIME bundle: the value of the last expression if `main`, else something displayed.

    `display_id` names a display that a later one with `update` replaces.
    """

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    main: bool = False
    display_id: str | None = None
    update: bool = False
    size: int = 0


@dataclass(frozen=True)
class Failure:
    """The code failed: the exception's name, its message, the whole traceback as plain text."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True)
class Finished:
    """The run is over. `count` numbers the session's runs in this language, `seconds` it took."""

    count: int
    seconds: float


Event = Stream | Result | Failure | Finished


class Budget:
    """Bytes that the answers which are being collected may hold beside what each has for sure."""

    def __init__(self, size: int = SHARED_LIMIT) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Take bytes, if they are there."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Return bytes that were taken."""
        self._left += size


async def limited(
    events: AsyncGenerator[Event], budget: Budget | None = None
) -> AsyncGenerator[Event]:
    """A run's events, of whose output the beginning and the end are passed on.

    Without it, code that prints for ever would exhaust the runtime's memory, not its own. What
    takes the place of the middle says what it was.

    Arguments:
        events: all of them.
        budget: where memory beyond a run's own share comes from, if its output is collected.
    """
    middle = _Middle(TAIL_LIMIT)
    left = HEAD_LIMIT
    taken = 0
    try:
        async with aclosing(events) as running:
            async for event in running:
                if isinstance(event, Stream | Result):
                    left -= event.size
                    if budget is not None and 0 <= left < HEAD_LIMIT - OWN_LIMIT:
                        if budget.take(event.size):
                            taken += event.size
                        else:
                            left = -1
                    if left < 0:
                        middle.add(event)
                        continue
                else:
                    for kept in middle.end():
                        yield kept
                yield event
    finally:
        if budget is not None:
            budget.give_back(taken)


class _Middle:
    """What comes behind the beginning: counted, and its last part kept."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: deque[Stream | Result] = deque()
        self._size = 0
        self._characters = {"stdout": 0, "stderr": 0}
        self._displays = 0
        self._displayed = 0

    def add(self, event: Stream | Result) -> None:
        """Take one event, and let go of the oldest ones that there is no room for."""
        self._kept.append(event)
        self._size += event.size
        while self._size > self._room:
            gone = self._kept.popleft()
            self._size -= gone.size
            if isinstance(gone, Stream):
                self._characters[gone.name] += len(gone.text)
            else:
                self._displays += 1
                self._displayed += gone.size

    def end(self) -> list[Stream | Result]:
        """What is said of the events that are gone, and the ones that were kept."""
        gone = [f"{n:,} characters of {name}" for name, n in self._characters.items() if n]
        if self._displays:
            megabytes = self._displayed / MEGABYTE
            gone.append(f"{self._displays:,} displays ({megabytes:.1f} MB)")
        said = f"\n... {' and '.join(gone)} are left out here ...\n"
        found: list[Stream | Result] = [Stream("stderr", said)] if gone else []
        found += self._kept
        self._kept.clear()
        self._characters = dict.fromkeys(self._characters, 0)
        self._displays = 0
        return found


def timed_out(timeout_s: float, lost: bool) -> Failure:
    """The failure of code that overran; `lost` if its process had to be killed."""
    state = "the process was killed, all variables are lost" if lost else "variables are kept"
    value = f"the code ran longer than {timeout_s:g} s and was stopped; {state}"
    return Failure("TimeoutError", value, f"TimeoutError: {value}\n")


def died(name: str, language: str, code: int, memory: bool) -> Failure:
    """The failure of code whose process ended.

    `code` is negative for a signal; `memory` if it was killed for using too much.
    """
    if memory:
        how = "the session used more memory than it may"
    elif -code == signal.SIGXCPU:
        how = "it used more processor time than a process may"
    elif code < 0:
        how = f"signal {signal.Signals(-code).name}"
    else:
        how = f"exit status {code}"
    value = f"the {language} process ended ({how}) while it ran this code; all variables are lost"
    return Failure(name, value, f"{name}: {value}\n")


def killed(name: str) -> dict[str, Any]:
    """How the process of that name ended when its whole sandbox did: as an agent's event."""
    return {"name": name, "code": -signal.SIGKILL, "memory": False, "log": "the sandbox ended"}


class EngineError(Exception):
    """The code was not run, or nobody knows whether it was; the message says why."""
