"""Output at the speed that a notebook server passes on.

In: a cell's messages. Out: the same, streams in pieces, with waits between them. jupyter_server
drops what is above 1,000,000 bytes of streams a second and 1,000 messages a second, each averaged
over 3 seconds, and a stream message that is too large alone is dropped whole (jupyter_server,
`ZMQChannelsWebsocketConnection`: iopub_data_rate_limit, iopub_msg_rate_limit, rate_limit_window).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from agentbay_kernel.execution.messages import Message, stream

# Characters in one stream message.
PIECE = 64 * 1024


def in_pieces(message: Message) -> Iterator[Message]:
    """A message as it is, or a long stream message as several."""
    text = message.content["text"] if message.type == "stream" else ""
    if len(text) <= PIECE:
        yield message
        return
    for start in range(0, len(text), PIECE):
        yield stream(message.content["name"], text[start : start + PIECE])


class Bucket:
    """Lets through a burst, then a steady rate.

    Arguments:
        burst: how much may go at once.
        rate: how much a second after that.
    """

    def __init__(self, burst: float, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._level, self._at = 0.0, time.monotonic()

    def pour(self, amount: float) -> float:
        """Seconds to wait before this amount may go."""
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + amount
        self._at = now
        return max(0.0, (self._level - self._burst) / self._rate)


class Pace:
    """One front end's pace, over all its cells."""

    def __init__(self) -> None:
        # Below the server's limits, whose window does not begin when ours does.
        self._bytes = Bucket(2_000_000, 800_000)
        self._messages = Bucket(2_000, 800)

    def wait_s(self, message: Message) -> float:
        """Seconds to wait before this message is sent."""
        size = len(message.content["text"]) if message.type == "stream" else 0
        return max(self._bytes.pour(size), self._messages.pour(1))
