"""The events of a run. The last one is `Finished`, exactly once."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

MEGABYTE = 2**20
# Of a run's output, this much of the start and of the end is sent, in bytes of the response. A
# bridge's longest call (16 MB, packed as text) fits the start. The workers keep to it
# (`sandbox/python_engine.py`, `sandbox/node_worker.js`).
HEAD_LIMIT = 24 * MEGABYTE
TAIL_LIMIT = 4 * MEGABYTE
# The same for the start, if the output is collected for one response.
COLLECTED_LIMIT = 12 * MEGABYTE


@dataclass(frozen=True)
class Stream:
    """A piece of `stdout` or `stderr`; `size` is about its bytes in a response."""

    name: str
    text: str
    size: int = 0


@dataclass(frozen=True)
class Result:
    """A MIME bundle: the value of the last expression if `main`, else a display.

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
    """The code failed: the exception's name, its message, the traceback as plain text."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True)
class Finished:
    """The run has ended. `count` is its number in this session and language."""

    count: int
    seconds: float


@dataclass
class Cut:
    """Output that is left out: characters of the streams, and displays with their bytes."""

    stdout: int = 0
    stderr: int = 0
    displays: int = 0
    displayed: int = 0

    def add(self, event: Stream | Result) -> None:
        """Count one event."""
        if isinstance(event, Result):
            self.displays += 1
            self.displayed += event.size
        elif event.name == "stdout":
            self.stdout += len(event.text)
        else:
            self.stderr += len(event.text)

    def note(self) -> Stream:
        """Return the note that is shown in its place."""
        parts = [
            f"{count:,} characters of {name}"
            for name, count in (("stdout", self.stdout), ("stderr", self.stderr))
            if count
        ]
        if self.displays:
            megabytes = self.displayed / MEGABYTE
            parts.append(f"{self.displays:,} displays ({megabytes:.1f} MB)")
        return Stream("stderr", f"\n... {' and '.join(parts)} are left out here ...\n")


Event = Stream | Result | Failure | Finished


async def limited(events: AsyncGenerator[Event], head: int) -> AsyncGenerator[Event]:
    """Yield a run's events; leave out output beyond the limits of its worker.

    A worker keeps to its limits, unless code of its session has taken it over.

    Arguments:
        events: all of them.
        head: bytes at the start of the output.
    """
    room = head + TAIL_LIMIT + MEGABYTE
    cut = Cut()
    async with aclosing(events) as running:
        async for event in running:
            if isinstance(event, Stream | Result):
                room -= event.size
                if room < 0:
                    cut.add(event)
                    continue
            elif cut != Cut():
                yield cut.note()
                cut = Cut()
            yield event


def timed_out(timeout_s: float, lost: bool) -> Failure:
    """Return the failure of code that exceeded its timeout; `lost` if its process was killed."""
    state = "the process was killed, all variables are lost" if lost else "variables are kept"
    value = f"the code ran longer than {timeout_s:g} s and was stopped; {state}"
    return Failure("TimeoutError", value, f"TimeoutError: {value}\n")


def died(name: str, language: str, code: int, memory: bool) -> Failure:
    """Return the failure of code whose process ended.

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
    """Return an agent's exit event for a process that ended with its sandbox."""
    return {"name": name, "code": -signal.SIGKILL, "memory": False, "log": "the sandbox ended"}


class EngineError(Exception):
    """The code was not run; the message says why."""
