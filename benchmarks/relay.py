"""A relay before a local runtime that counts what passes, and puts distance between.

In: a runtime's address. Out: an address that leads there, and the bytes each way.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PIECE = 64 * 1024


@dataclass
class Relay:
    """A running relay: its address, and what has passed so far."""

    endpoint: str
    sent: int = 0
    received: int = 0


@contextlib.contextmanager
def relaying(endpoint: str, delay_s: float = 0.0) -> Iterator[Relay]:
    """Relay connections to `endpoint`, an http address of this machine.

    Arguments:
        delay_s: how long every byte travels, each way; half a round trip.
    """
    host, _, port = endpoint.removeprefix("http://").rpartition(":")
    with socket.create_server((host, 0)) as listener:
        mine = f"{host}:{listener.getsockname()[1]}"
        # The runtime names its address in what it answers. Replacing it must keep lengths.
        if len(mine) != len(f"{host}:{port}"):
            raise RuntimeError(f"{mine} and {endpoint} differ in length; try again.")
        relay = Relay(f"http://{mine}")

        def carry(source: socket.socket, sink: socket.socket, inwards: bool) -> None:
            deliver = _late(sink, delay_s) if delay_s else sink.sendall
            with contextlib.suppress(OSError):
                while data := source.recv(PIECE):
                    if inwards:
                        relay.sent += len(data)
                    else:
                        relay.received += len(data)
                        data = data.replace(f"{host}:{port}".encode(), mine.encode())
                    deliver(data)
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection((host, int(port)))
                    for one in (near, far):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for pair in ((near, far, True), (far, near, False)):
                        threading.Thread(target=carry, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield relay
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _late(sink: socket.socket, delay_s: float) -> Callable[[bytes], None]:
    """Delivers to a socket after a while, in order; more may set out meanwhile."""
    travelling: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def arrive() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = travelling.get()
                time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(data)

    threading.Thread(target=arrive, daemon=True).start()
    return lambda data: travelling.put((time.monotonic() + delay_s, data))
