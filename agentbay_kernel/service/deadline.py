"""A deadline for a whole exchange, where sockets only know one for each read.

In: an exchange and how long its answer may take. Out: its socket is shut down when the time is
over, so that the thread reading from it goes on. Without it, a server that sends a byte every
few seconds holds a cell for hours. One daemon thread serves all exchanges of the process.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time


class Exchange:
    """One request and its answer, as far as the connection has got. A context manager.

    `sent` is true once a byte of the request may have left; `expired` once the deadline was
    reached. Another thread than the deadline's never touches it.

    Arguments:
        answer_s: seconds for the answer, from when the request is sent.
        latest: when all must be over (of `time.monotonic`).
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
        """The request is about to leave by this socket: the time begins to run.

        Raises:
            TimeoutError: connecting took all the time; nothing may be sent any more.
        """
        now = time.monotonic()
        if now >= self._latest:
            raise TimeoutError("connected too late")
        self.sent = True
        self.ends_at = min(now + self._answer_s, self._latest)
        self._socket = connected
        self._deadlines.add(self)

    def extend(self, seconds: float) -> None:
        """Allow more time, as an answer that is really arriving gets."""
        self.ends_at = min(self.ends_at + seconds, self._latest)

    def cut(self) -> None:
        """Shut the socket down; whoever reads from it sees the end."""
        self.expired = True
        if self._socket is not None:
            # Not SSLSocket.shutdown, which would pull TLS from under the reading thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Deadlines:
    """Cuts exchanges that are over time. Thread-safe; its thread lives only while needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exchanges: set[Exchange] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def add(self, exchange: Exchange) -> None:
        """Watch an exchange from now on."""
        with self._changed:
            self._exchanges.add(exchange)
            # After a fork the thread is gone although it is still named here.
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
        """Watch it no longer: its socket is left alone from now on, another may be using it."""
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
