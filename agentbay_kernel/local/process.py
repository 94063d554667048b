"""What the processes that serve local runtimes have in common: `serve.py` and `daemon.py`."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.local.settings import Settings

if TYPE_CHECKING:
    from agentbay_kernel.local.runtime import LocalRuntime

HOST = "127.0.0.1"


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on this machine alone, by default on a free port.

    Raises:
        ConfigurationError: the port can't be used.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as failure:
        sock.close()
        raise ConfigurationError(
            f"Port {port} can't be used: {failure.strerror}. Choose another with --port."
        ) from failure
    sock.listen(128)
    sock.setblocking(False)
    return sock


def new_key() -> str:
    """Return a random API key."""
    return f"akm-{secrets.token_hex(16)}"


def stop_by_signal() -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT or SIGHUP sets."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


async def open_runtime(
    sock: socket.socket,
    key: str,
    settings: Settings,
    profile: Path | None = None,
    log: Path | None = None,
    tls: bool = False,
) -> LocalRuntime:
    """Return a runtime that accepts requests.

    Arguments:
        sock: it listens already, so that connections wait during the imports that take time.
        key: the API key.
        settings: how its sessions are made.
        profile: a file that says how to behave, for tests.
        log: a file that gets a line for each tool call.
        tls: whether to serve https.

    Raises:
        ConfigurationError: the profile is invalid.
        LocalRuntimeError: sessions can't be made as the settings say.
    """
    from agentbay_kernel.local import isolation
    from agentbay_kernel.local.agent.limits import free_at_once

    free_at_once()
    # Its trial sandbox runs while the rest is imported. This process may serve other runtimes, so
    # nothing waits in the event loop.
    choice = await asyncio.to_thread(isolation.Choice, settings)
    from agentbay_kernel.local.behaviour import Behaviour
    from agentbay_kernel.local.profile import load_profile
    from agentbay_kernel.local.runtime import LocalRuntime

    behaviour = Behaviour(load_profile(profile), log)
    isolated = await asyncio.to_thread(choice.result)
    runtime = LocalRuntime(sock, key, settings, isolated, behaviour, tls=tls)
    runtime.start()
    return runtime
