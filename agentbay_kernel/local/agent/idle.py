"""The agent while it has nothing to do: many sessions only run cells in their first worker.

It imports the rest, asyncio above all, when a call needs it. Until then it takes half the memory,
and no time from the worker, which starts beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
from collections import deque
from typing import Any

from agentbay_kernel.local.agent.identity import Identity
from agentbay_kernel.local.agent.workers import Worker


def serve(
    fd: int, options: dict[str, str], identity: Identity, weight: int | None, worker: Worker
) -> None:
    """Serve the local runtime's calls until their socket ends, then end this process.

    Arguments:
        fd: the socket.
        options: see `main`.
        identity: the users of agent and cells.
        weight: the open file for the nice value of the agent's group of processes.
        worker: the first worker.
    """
    first = os.getpid() == 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The first process of a namespace gets no signal without a handler. Elsewhere a handler
        # that does nothing: children would inherit SIG_IGN.
        signal.signal(number, signal.SIG_DFL if first else lambda *_: None)
    sock = socket.socket(fileno=fd)
    _send(sock, {"event": "started", "name": worker.name, "pid": worker.pid})
    waiting: tuple[dict[str, Any], deque[int]] | None = None
    # Without a PID namespace, the processes must be watched from the start.
    if first:
        try:
            waiting = _first_call(sock)
        except (EOFError, ConnectionError):
            return
    # asyncio imports ssl if it can. The agent needs no TLS: this saves a megabyte and 10 ms.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    from agentbay_kernel.local.agent import agent

    agent.serve(sock, options, identity, weight, worker, waiting)


def _first_call(sock: socket.socket) -> tuple[dict[str, Any], deque[int]] | None:
    """Wait for a call that needs more; return its frame and the descriptors that came with it.

    Return None if a process has ended: that is to be reported, or the process to be reaped.

    Raises:
        EOFError: the other end is closed.
    """
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    # A handler: without one, nothing is written to `waker`.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ready = select.poll()
    ready.register(sock, select.POLLIN)
    ready.register(woken, select.POLLIN)
    try:
        # One may have ended before there was a handler.
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if any(fd == woken.fileno() for fd, _ in ready.poll()):
                woken.recv(4096)
                continue
            frame, fds = _receive(sock)
            if frame["op"] != "hello":
                return frame, fds
            _send(sock, {"id": frame["id"], "ok": {"pid": os.getpid()}})
        return None
    finally:
        signal.set_wakeup_fd(-1)
        woken.close()
        waker.close()


def _receive(sock: socket.socket) -> tuple[dict[str, Any], deque[int]]:
    """Read a frame, and the descriptors that came with it."""
    data, fds, size = bytearray(), deque[int](), 4
    while len(data) < size:
        piece, more, _, _ = socket.recv_fds(sock, size - len(data), 4)
        if not piece:
            raise EOFError
        data += piece
        fds += more
        if len(data) == 4:
            size += struct.unpack(">I", data)[0]
    return json.loads(data[4:].decode("utf-8", "surrogatepass")), fds


def _send(sock: socket.socket, frame: dict[str, Any]) -> None:
    data = json.dumps(frame).encode()
    # A closed socket is seen by the next read.
    with contextlib.suppress(ConnectionError):
        sock.sendall(struct.pack(">I", len(data)) + data)
