"""A place on loopback that nothing of a contained output may reach, over HTTP or UDP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Beacon:
    """What was asked of it: the first lines of requests.

    Chromium opens a connection for a navigation before it knows that a policy forbids it, and
    sends nothing over it. That is not counted.
    """

    port: int
    requests: list[str] = field(default_factory=list)
    datagrams: int = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Begin to count anew."""
        self.requests.clear()
        self.datagrams = 0


@contextlib.contextmanager
def listening_beacon() -> Iterator[Beacon]:
    """A beacon on a free port, TCP and UDP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", port))
            beacon = Beacon(port)
            threading.Thread(target=_accept, args=(listener, beacon), daemon=True).start()
            threading.Thread(target=_receive, args=(datagrams, beacon), daemon=True).start()
            yield beacon
            # Closing alone does not wake who waits for them.
            for waited in (listener, datagrams):
                with contextlib.suppress(OSError):
                    waited.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, beacon: Beacon) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, beacon), daemon=True).start()


def _answer(connection: socket.socket, beacon: Beacon) -> None:
    with connection:
        connection.settimeout(10)
        try:
            line = connection.recv(4096).split(b"\r\n", 1)[0]
            if line:
                beacon.requests.append(line.decode("latin-1"))
                connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            return


def _receive(datagrams: socket.socket, beacon: Beacon) -> None:
    while True:
        try:
            if not datagrams.recv(2048):
                return
        except OSError:
            return
        beacon.datagrams += 1
