"""Calls of the bridge: `run_code` that carries bytes to a sandbox and brings bytes back.

In: a call for `sandbox/bridge.py`, as JSON. Out: its answers, one where the session answers once,
as many as there are where it streams. What a route carries, and how long a call may wait on it, is
known here.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import (
    BridgeError,
    CommandError,
    InvalidResponseError,
    KernelEndedError,
    ResponseLostError,
    ServiceUnreachableError,
    SilentSessionError,
)
from agentbay_kernel.execution.bridge.decoder import Answer, Lines, read_answer
from agentbay_kernel.service import CodeChunk, CodeExecutionResult, Session
from agentbay_kernel.threads import Backoff

# How long a call waits for something to happen: one that can be woken, one that can't, one that
# streams and can be woken. Waking may fail at any time, so none waits for long.
WAIT_S, _WAIT_DEAF_S, _WAIT_STREAM_S = 1.0, 0.4, 4.0
_TIMEOUT_S, _STREAM_TIMEOUT_S = 30, 60
# A call that streams says something at its end at the latest.
_SILENCE_S = 13.0
# A call that streams ends after so many bytes: then the sandbox may forget them.
_MOST_STREAMED = 16 * 1024 * 1024
# What a call ends with whose bridge is held by another front end (sandbox/bridge.py).
_TAKEN = "BridgeTakenError"
# What a call ends with that was stopped from outside; the bridge itself is well.
_STOPPED = ("TimeoutError", "KeyboardInterrupt")


@dataclass(frozen=True)
class Route:
    """What one call carries: bytes back and bytes there, packed; `linger_s` is how long output
    waits for the end of what caused it."""

    room: int
    most_sent: int
    linger_s: float

    def largest_piece(self, data: bytearray) -> tuple[bytes, str]:
        """As much from the start of the data as one call takes there, and that packed."""
        room = self.most_sent
        size = room * 3 // 4 - 64
        piece = bytes(data[:size])
        packed = base64.b64encode(zlib.compress(piece)).decode()
        # Code packs to a fraction, pictures hardly; base64 adds a third.
        if len(piece) == size and len(packed) < room // 2:
            larger = bytes(data[: size * room // len(packed) * 9 // 10])
            repacked = base64.b64encode(zlib.compress(larger)).decode()
            if len(repacked) <= room:
                piece, packed = larger, repacked
        return piece, packed


# Frames of a WebSocket are best below 1 MiB.
_STREAM = Route(400_000, 600_000, 0.006)
LINGER_S = 0.15


class BridgeTransport:
    """Makes the calls of the bridge of that name in one session, one at a time."""

    def __init__(self, session: Session, module: str) -> None:
        self._session = session
        self._module = module
        self._wait_stream_s = _WAIT_STREAM_S

    @property
    def stream(self) -> bool:
        """Do answers come while a call waits?"""
        return self._session.can_stream

    @property
    def route(self) -> Route:
        """The one that the next call takes."""
        if self.stream:
            return _STREAM
        capacity = self._session.capacity("run_code")
        # Code is quoted on its way, so that not all of it is there for the bytes.
        return Route(capacity.received, capacity.sent * 4 // 5, LINGER_S)

    def wait_s(self, wakeable: bool) -> float:
        """How long the next call may wait for something to happen."""
        wait_s = self._wait_stream_s if self.stream else WAIT_S
        return wait_s if wakeable else min(wait_s, _WAIT_DEAF_S)

    def answers(self, call: dict[str, Any]) -> Iterator[Answer]:
        """Make a call.

        Raises:
            BridgeError: there is no bridge any more.
            CommandError: the service failed; whether the call was made may be unknown.
        """
        streams = self.stream
        call = {**call, "most": _MOST_STREAMED} if streams else call
        # The call is data in JSON; `repr` of plain ASCII is a safe literal.
        code = f"__import__('sys').modules[{self._module!r}].exchange({json.dumps(call)!r})"
        began_at = time.monotonic()
        result = yield from self._streamed(code) if streams else self._answered(code)
        if result.error is not None and result.error.name in _STOPPED:
            # Something between here and there allows calls less time than was thought.
            self._wait_stream_s = max(_WAIT_DEAF_S, (time.monotonic() - began_at) / 2)
            raise ResponseLostError(f"A collecting call was stopped: {result.error_message}")
        if result.error is not None and result.error.name == _TAKEN:
            raise KernelEndedError(
                "Another notebook, or another kernel of this one, has taken up the bridge of this "
                "session, so it can't be used here at the same time. What was sent before runs "
                "on there. Give each notebook a session of its own; the next cell takes the "
                "bridge back."
            )
        if not result.success:
            raise BridgeError(
                "The sandbox lost the notebook's kernel, and its variables with it "
                f"({result.error_message})."
            )

    def _answered(self, code: str) -> Generator[Answer, None, CodeExecutionResult]:
        result = self._session.code.run_code(code, "python", _TIMEOUT_S)
        if result.success:
            yield read_answer("".join(result.logs.stdout).strip().rpartition("\n")[2])
        return result

    def _streamed(self, code: str) -> Generator[Answer, None, CodeExecutionResult]:
        lines = Lines()
        with self._session.code.stream_code(
            code, "python", _STREAM_TIMEOUT_S, silence_s=_SILENCE_S
        ) as events:
            for event in events:
                if isinstance(event, CodeExecutionResult):
                    return event
                if isinstance(event, CodeChunk) and event.name == "stdout":
                    yield from map(read_answer, lines.feed(event.text))
        raise InvalidResponseError("A collecting call ended without its end.")


_PATIENCE_S = 60.0
# Code that runs is not given up as soon as code that was never sent.
_PATIENCE_UNSENT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class RetryPolicy:
    """That of one exchange."""

    def __init__(self) -> None:
        self._asked_at = time.monotonic()
        self._failing_since = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._unsent = True

    def wait(self, error: CommandError, answered_at: float, started: bool) -> None:
        """Wait until it may be tried again.

        Arguments:
            error: how the attempt failed.
            answered_at: when the session last answered, by the monotonic clock in seconds.
            started: has the session code that was posted?

        Raises:
            CommandError: it is enough; says what became of the code as far as it is known.
        """
        now = time.monotonic()
        self._failing_since = max(self._failing_since or now, answered_at)
        self._unsent = self._unsent and isinstance(error, ServiceUnreachableError)
        patience_s = _PATIENCE_S if started or not self._unsent else _PATIENCE_UNSENT_S
        silent_s = now - max(self._asked_at, answered_at)
        if not self._backoff.sleep(self._failing_since + patience_s):
            if self._unsent and not started:
                raise error
            raise SilentSessionError(
                f"The session did not respond for {silent_s:.0f} s. Whether this cell runs, ran "
                "or was not begun is not known now; it is never sent again. The next cell finds "
                "out and shows what this one printed; `%agentbay top` shows what runs. The last "
                f"attempt: {error}"
            ) from error
