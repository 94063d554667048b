"""What an engine tells while it runs code, in the order in which it happens.

A run's events end with exactly one `Finished`.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

OUTPUT_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Stream:
    """A piece of `stdout` or `stderr`."""

    name: str
    text: str


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


async def limited(
    events: AsyncGenerator[Event], limit: int = OUTPUT_LIMIT
) -> AsyncGenerator[Event]:
    """A run's events, of whose output no more than about `limit` characters are passed on.

    Without it, code that prints for ever would exhaust the runtime's memory, not its own.
    """
    left = limit
    async with aclosing(events) as running:
        async for event in running:
            if isinstance(event, Stream | Result):
                if left < 0:
                    continue
                fits = left
                left -= _size(event)
                if left < 0:
                    if isinstance(event, Stream) and fits:
                        yield Stream(event.name, event.text[:fits])
                    yield Stream("stderr", f"Output beyond {limit // 2**20} MB is left out.\n")
                    continue
            yield event


def _size(event: Stream | Result) -> int:
    if isinstance(event, Stream):
        return len(event.text)
    return sum(len(value) for value in event.data.values() if isinstance(value, str))


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
