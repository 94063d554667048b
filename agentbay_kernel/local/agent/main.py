"""The start of the agent: its identity, its limits, and the first worker.

A new session waits mostly for its Python to start. So the first worker is started before the agent
imports what it needs itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections import deque

from agentbay_kernel.local.agent import limits
from agentbay_kernel.local.agent.identity import Identity, close_to_others
from agentbay_kernel.local.agent.workers import FirstCall, Worker


def main() -> None:
    """Serve the socket whose file descriptor is the first argument.

    The second argument is JSON: {"run", "workspace", "owner", "uids", "limits"}; `uids` are the
    agent's and the cells' user ids, or null if they are the same. Different ones need root.
    """
    options = json.loads(sys.argv[2])
    weight = None
    with contextlib.suppress(OSError):
        # Before `close_to_others`, which closes these files to this process too.
        weight = os.open("/proc/self/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    identity = Identity()
    if options["uids"] is not None:
        agent_uid, cells_uid = options["uids"]
        identity = Identity(cells_uid)
        identity.become_agent(agent_uid, (options["workspace"], options["run"]))
    sock = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(sock.fileno(), False)
    os.chdir(options["workspace"])
    limits.apply(options["limits"])
    limits.free_at_once()
    first = os.getpid() == 1
    if first:
        close_to_others()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The first process of a namespace gets no signal without a handler. Elsewhere a handler
        # that does nothing: children would inherit SIG_IGN.
        signal.signal(number, signal.SIG_DFL if first else lambda *_: None)
    try:
        first_call = begin(sock, options["run"], options["workspace"], identity)
    except EOFError:
        return
    # asyncio imports ssl if it can. The agent needs no TLS: this saves a megabyte and 10 ms.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    from agentbay_kernel.local.agent.agent import serve

    serve(sock, options, identity, weight, first_call)


def begin(sock: socket.socket, run: str, workspace: str, identity: Identity) -> FirstCall:
    """Read the first frame; start a worker if it asks for one.

    Raises:
        EOFError: the other end is closed.
    """
    data, fds, size = b"", deque[int](), 4
    while len(data) < size:
        piece, more, _, _ = socket.recv_fds(sock, size - len(data), 4)
        if not piece:
            raise EOFError
        data += piece
        fds += more
        if len(data) == 4:
            size += struct.unpack(">I", data)[0]
    frame = json.loads(data[4:].decode("utf-8", "surrogatepass"))
    if frame["op"] != "start":
        return FirstCall(frame, fds)
    name, argv = frame["arguments"]["name"], frame["arguments"]["argv"]
    try:
        worker = Worker(name, argv, fds.popleft(), run, workspace, identity)
    except OSError as failure:
        return FirstCall(frame, fds, failure)
    return FirstCall(frame, fds, worker)
