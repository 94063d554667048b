"""How long a session that does not answer is asked again.

In: the failures of one exchange, as they happen. Out: a wait before the next attempt, a word to
whoever waits for output, and in the end the error that says what is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agentbay_kernel.errors import CommandError, ServiceUnreachableError, SilentSessionError

_PATIENCE_S = 60.0
# Code that runs is not given up as soon as code that was never sent.
_PATIENCE_UNSENT_S = 5.0
# Whoever waits is told of a silence that lasts.
_TELL_AFTER_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Patience:
    """That of one exchange.

    Arguments:
        tell: says something of our own in the running cell.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = False
        self._asked_at = time.monotonic()
        self._failing_since = 0.0
        self._pause_s = _FIRST_PAUSE_S
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
        if silent_s > _TELL_AFTER_S and not self._told:
            self._told = True
            self._tell(
                f"AgentBay: the session has not answered for {silent_s:.0f} s. What runs in it "
                "runs on; the connection is tried again.\n"
            )
        if now + self._pause_s > self._failing_since + patience_s:
            if self._unsent and not started:
                raise error
            raise SilentSessionError(
                f"The session did not answer for {silent_s:.0f} s. Whether this cell runs, ran "
                "or was not begun is not known now; it is never sent again. The next cell finds "
                "out and shows what this one printed; `%agentbay look` shows what runs. The last "
                f"attempt: {error}"
            ) from error
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
