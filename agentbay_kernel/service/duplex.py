"""A socket that one thread reads and others write at the same time, TLS or not.

In: a connected socket. Out: what the WebSocket library asks of a socket: `recv`, `send`. A read
ends with TimeoutError after a while without data, and when more came than was allowed.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time

_WANT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TooMuchError(Exception):
    """More arrived than was allowed."""


class Duplex:
    """Wraps a socket for one reader and many writers.

    Arguments:
        connected: the socket; it belongs to this object from now on.
        read_within_s: seconds after which a read without data is a TimeoutError; may be changed.
        write_within_s: seconds after which data that does not leave is a TimeoutError.
    """

    def __init__(
        self, connected: socket.socket, read_within_s: float, write_within_s: float
    ) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self.read_within_s = read_within_s
        self._write_within_s = write_within_s
        # A TLS connection may not be read and written at the same moment.
        self._turn = threading.Lock()
        self._readable = selectors.DefaultSelector()
        self._readable.register(connected, selectors.EVENT_READ)
        self._closed = False
        # Bytes that may still arrive; whoever reads sets it anew for each message.
        self.allowance = 64 * 1024

    def gettimeout(self) -> None:
        """The library is told that calls block: waiting is done here."""

    def settimeout(self, seconds: float | None) -> None:
        """Ignored: waiting is done here."""

    def fileno(self) -> int:
        """The socket's own."""
        return self._socket.fileno()

    def recv(self, size: int) -> bytes:
        """Some bytes, b"" at the end.

        Raises:
            TimeoutError: nothing came in time.
            TooMuchError: more came than `allowance`.
        """
        ends_at = time.monotonic() + self.read_within_s
        while True:
            try:
                with self._turn:
                    data = self._socket.recv(size)
            except _WANT:
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or not self._readable.select(left_s):
                    raise TimeoutError("nothing arrived") from None
                continue
            self.allowance -= len(data)
            if self.allowance < 0:
                raise TooMuchError
            return data

    def send(self, data: bytes) -> int:
        """Send some of it; returns how much.

        Raises:
            TimeoutError: nothing left in time.
        """
        ends_at = time.monotonic() + self._write_within_s
        while True:
            try:
                with self._turn:
                    return self._socket.send(data)
            except _WANT:
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or self._closed:
                    raise TimeoutError("nothing left") from None
                with selectors.DefaultSelector() as writable:
                    writable.register(self._socket, selectors.EVENT_WRITE)
                    writable.select(left_s)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection; a waiting reader sees its end. From any thread."""
        self._closed = True
        # Not SSLSocket.shutdown, which would pull TLS from under the reading thread.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Let go of the socket. By the reading thread, when it is done."""
        self.shutdown()
        with self._turn:
            self._readable.close()
            self._socket.close()
