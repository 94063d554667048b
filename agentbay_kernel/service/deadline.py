"""A deadline for a whole exchange: sockets only have a timeout for each read.

At the deadline, the exchange's socket is shut down, so that the thread that reads from it
continues. Without it, a server that sends a byte every few seconds could block a cell for hours.
One daemon thread serves all exchanges of the process.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time


class Exchange:
    """A context manager for one request and its response, with its progress.

    `sent` is true after a byte of the request may have been sent, `expired` after the deadline was
    reached. Only the thread that makes the request and the thread of `Deadlines` use it.

    Arguments:
        answer_s: seconds for the response, from when the request is sent.
        latest: `time.monotonic` time at which everything must be over.
    """

    def __init__(self, deadlines: Deadlines, answer_s: float, latest: float = math.inf) -> None:
        self.sent = False
        self.expired = False
        self.ends_at = math.inf
        self._deadlines = deadlines
        self._answer_s = answer_s
        self._latest = latest
        self._socket: socket.socket | None = None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._deadlines.remove(self)

    def begin(self, connected: socket.socket) -> None:
        """Start the response's time: the request is about to be sent by this socket.

        Raises:
            TimeoutError: connecting took all the time, so nothing may be sent.
        """
        now = time.monotonic()
        if now >= self._latest:
            raise TimeoutError("connected too late")
        self.sent = True
        self.ends_at = min(now + self._answer_s, self._latest)
        self._socket = connected
        self._deadlines.add(self)

    def extend(self, seconds: float) -> None:
        """Allow more time, for a response that is arriving."""
        self.ends_at = min(self.ends_at + seconds, self._latest)

    def cut(self) -> None:
        """Shut down the socket, so that its reader sees the end."""
        self.expired = True
        if self._socket is not None:
            # Not SSLSocket.shutdown, which would remove TLS while the other thread reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Deadlines:
    """Ends exchanges at their deadlines. Thread-safe; its thread exists only while needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exchanges: set[Exchange] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def add(self, exchange: Exchange) -> None:
        """Start watching an exchange."""
        with self._changed:
            self._exchanges.add(exchange)
            # After a fork the thread does not exist, although `_thread` is still set.
            if self._thread is None or not self._thread.is_alive():
                self._wakes_at = exchange.ends_at
                self._thread = threading.Thread(
                    target=self._run, name="agentbay-deadlines", daemon=True
                )
                self._thread.start()
            elif exchange.ends_at < self._wakes_at:
                # Waking the thread for a later deadline would cost more than the request.
                self._changed.notify()

    def remove(self, exchange: Exchange) -> None:
        """Stop watching an exchange: its socket may be used for another one from now on."""
        with self._changed:
            self._exchanges.discard(exchange)

    def _run(self) -> None:
        with self._changed:
            while self._exchanges:
                now = time.monotonic()
                for exchange in [e for e in self._exchanges if e.ends_at <= now]:
                    self._exchanges.discard(exchange)
                    exchange.cut()
                if self._exchanges:
                    self._wakes_at = min(e.ends_at for e in self._exchanges)
                    self._changed.wait(max(0.0, self._wakes_at - now))
            self._thread = None
