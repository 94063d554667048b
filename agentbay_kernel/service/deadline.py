"""A deadline for a whole exchange, where sockets only know one for each read.

In: an exchange on a connection and the moment it must be over. Out: its socket is shut down at
that moment, so that the thread reading from it goes on. Without it, a server that sends a byte
every few seconds holds a cell for hours. One daemon thread serves all exchanges of the process.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Exchange:
    """One request and its answer, as far as the connection has got.

    `sent` is true once a byte of the request may have left; `expired` once the deadline was
    reached.
    """

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds
        self.sent = False
        self.expired = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def uses(self, connected: socket.socket) -> None:
        """Name the socket that the deadline holds for.

        Raises:
            TimeoutError: the deadline was reached while it was being connected.
        """
        with self._lock:
            if self.expired:
                raise TimeoutError("connected too late")
            self._socket = connected

    def extend(self, seconds: float) -> None:
        """Allow more time, as an answer that is really arriving gets."""
        self.ends_at += seconds

    def cut(self) -> None:
        """Shut the socket down; whoever reads from it sees the end."""
        with self._lock:
            self.expired = True
            if self._socket is not None:
                # Not SSLSocket.shutdown, which would pull TLS from under the reading thread.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def release(self) -> None:
        """The socket goes back to the pool, where this deadline must not reach it."""
        with self._lock:
            self._socket = None


class Deadlines:
    """Cuts exchanges that are over time. Thread-safe; its thread lives only while needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exchanges: set[Exchange] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    @contextlib.contextmanager
    def watch(self, exchange: Exchange) -> Iterator[None]:
        """Within this context the exchange is cut when its time is over."""
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
        try:
            yield
        finally:
            with self._changed:
                self._exchanges.discard(exchange)
            exchange.release()

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
