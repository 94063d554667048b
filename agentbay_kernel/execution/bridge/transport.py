"""Calls of the bridge: `run_code` that carries bytes to a sandbox and brings bytes back.

A call for `sandbox/bridge.py` is JSON. It has one response, or many if the session streams. This
module decides how much a route can carry, and how long a call may wait on it.
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

# Seconds that a call waits for output: one that can be woken, one that can't, one that streams and
# can be woken. Wakeups may fail at any time, so no call waits for long.
WAIT_S, _WAIT_UNWAKEABLE_S, _WAIT_STREAM_S = 1.0, 0.4, 4.0
_TIMEOUT_S, _STREAM_TIMEOUT_S = 30, 60
# A call that streams sends something at its end at the latest, so a longer silence is a failure.
_SILENCE_S = 13.0
# A call that streams ends after so many bytes, so that the sandbox can delete them.
_MOST_STREAMED = 16 * 1024 * 1024
# The error of a call if another front end has taken over the bridge (sandbox/bridge.py).
_TAKEN = "BridgeTakenError"
# The errors of a call that was stopped from outside; the bridge itself works.
_STOPPED = ("TimeoutError", "KeyboardInterrupt")


@dataclass(frozen=True)
class Route:
    """The capacity of one call.

    `room` is the number of packed bytes of a response, `most_sent` that of a call. Output waits for
    `linger_s` seconds for the end of its request, so that both come together.
    """

    room: int
    most_sent: int
    linger_s: float

    def largest_piece(self, data: bytearray) -> tuple[bytes, str]:
        """Return as many bytes of the data's start as one call can send, plain and packed."""
        room = self.most_sent
        size = room * 3 // 4 - 64
        piece = bytes(data[:size])
        packed = base64.b64encode(zlib.compress(piece)).decode()
        # Packing makes code much smaller, but not pictures; base64 adds a third.
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
    """Makes the calls of one bridge in one session, one at a time."""

    def __init__(self, session: Session, module: str) -> None:
        self._session = session
        self._module = module
        self._wait_stream_s = _WAIT_STREAM_S

    @property
    def stream(self) -> bool:
        """Whether responses come while a call waits."""
        return self._session.can_stream

    @property
    def route(self) -> Route:
        """The route of the next call."""
        if self.stream:
            return _STREAM
        capacity = self._session.capacity("run_code")
        # Code is sent as a quoted string, so the bytes can't use all of its characters.
        return Route(capacity.received, capacity.sent * 4 // 5, LINGER_S)

    def wait_s(self, wakeable: bool) -> float:
        """Return the seconds for which the next call may wait for output."""
        wait_s = self._wait_stream_s if self.stream else WAIT_S
        return wait_s if wakeable else min(wait_s, _WAIT_UNWAKEABLE_S)

    def answers(self, call: dict[str, Any]) -> Iterator[Answer]:
        """Make a call and yield its responses.

        Raises:
            KernelEndedError: another front end has taken over the bridge.
            BridgeError: the bridge no longer exists.
            CommandError: the service failed; whether the call was made may be unknown.
        """
        streams = self.stream
        call = {**call, "most": _MOST_STREAMED} if streams else call
        # The call is data in JSON; `repr` of plain ASCII is a safe literal.
        code = f"__import__('sys').modules[{self._module!r}].exchange({json.dumps(call)!r})"
        began_at = time.monotonic()
        result = yield from self._streamed(code) if streams else self._answered(code)
        if result.error is not None and result.error.name in _STOPPED:
            # Something between here and the sandbox allows calls less time than expected.
            self._wait_stream_s = max(_WAIT_UNWAKEABLE_S, (time.monotonic() - began_at) / 2)
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
# The time is shorter for code that was never sent than for code that may run.
_PATIENCE_UNSENT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class RetryPolicy:
    """The pauses between the attempts of one exchange, and when it finally fails."""

    def __init__(self) -> None:
        self._asked_at = time.monotonic()
        self._failing_since = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._unsent = True

    def wait(self, error: CommandError, answered_at: float, started: bool) -> None:
        """Wait until the next attempt.

        Arguments:
            error: the error of the last attempt.
            answered_at: when the session last responded, in seconds of the monotonic clock.
            started: whether posted code has arrived in the session.

        Raises:
            CommandError: the exchange has failed for too long; the message shows what is known
                about the code.
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
