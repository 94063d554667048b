"""The daemon: one process with the local runtimes of a user's programs, one runtime for each.

`own_runtime.py` starts it and connects to its Unix socket. A program sends the settings of its
runtime as a line of JSON. The response is the runtime's announcement, or {"error"}. When the
connection ends, so does the runtime; when the last has ended, so does this process.

Run as `python -m agentbay_kernel.local.daemon DESCRIPTOR PATH`, of the listening socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.local.own_runtime import LOCK_WITHIN_S, locked
from agentbay_kernel.local.process import listen, new_key, open_runtime, stop_by_signal
from agentbay_kernel.local.settings import MEGABYTE, Limits, Settings

if TYPE_CHECKING:
    from agentbay_kernel.local.runtime import LocalRuntime

# Until the next attempt, if another process holds the lock.
RETRY_S = 0.05


class Daemon:
    """Serves a listening socket until no program is connected.

    Arguments:
        listener: the socket; a connection to it waits already.
        address: its path.
        stop: when it is set, all runtimes end.
    """

    def __init__(self, listener: socket.socket, address: Path, stop: asyncio.Event) -> None:
        self._listener = listener
        self._address = address
        self._inode = address.stat().st_ino
        self._stop = stop
        self._programs: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()

    async def serve(self) -> None:
        """Serve until the last program has gone, or until `stop` is set and all runtimes ended."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener, self._accept)
        stopping = loop.create_task(self._stop.wait())
        ending = loop.create_task(self._end_unused())
        await asyncio.wait([stopping, ending], return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set() and not ending.done():
            ending.cancel()
            with contextlib.suppress(OSError), locked(self._address.parent, LOCK_WITHIN_S):
                self._close()
        if self._programs:
            await asyncio.wait(self._programs)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            program = asyncio.get_running_loop().create_task(self._serve_program(connection))
            self._programs.add(program)
            program.add_done_callback(self._remove)

    def _remove(self, program: asyncio.Task[None]) -> None:
        self._programs.discard(program)
        self._left.set()

    async def _end_unused(self) -> None:
        """Wait until no program is connected, and let none connect any more."""
        while True:
            await self._left.wait()
            self._left.clear()
            while not self._programs:
                try:
                    # Programs connect while they hold the lock: one that has done so is accepted.
                    with locked(self._address.parent, within_s=0):
                        self._accept()
                        if not self._programs:
                            self._close()
                            return
                except TimeoutError:
                    await asyncio.sleep(RETRY_S)
                except OSError:
                    # The directory is gone, or others can open it: no program comes that way.
                    self._close()
                    return

    def _close(self) -> None:
        """Remove the socket, and the directory unless another daemon has its socket there."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            if self._address.stat().st_ino == self._inode:
                self._address.unlink()
            self._address.parent.rmdir()

    async def _serve_program(self, connection: socket.socket) -> None:
        """Serve a program's runtime until its connection ends, or `stop` is set."""
        reader, writer = await asyncio.open_connection(sock=connection)
        with contextlib.closing(writer):
            line = await self._unless_stopped(reader.readline())
            if not line.endswith(b"\n"):
                return
            runtime, announcement = await _open(json.loads(line))
            writer.write(json.dumps(announcement).encode() + b"\n")
            if runtime is not None:
                try:
                    await runtime.prepare()
                    await self._unless_stopped(reader.read())
                finally:
                    await runtime.end()

    async def _unless_stopped(self, reading: Coroutine[Any, Any, bytes]) -> bytes:
        """Return what is read, or nothing if the connection breaks or `stop` is set."""
        loop = asyncio.get_running_loop()
        read, stop = loop.create_task(reading), loop.create_task(self._stop.wait())
        await asyncio.wait([read, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not read.done():
            read.cancel()
            return b""
        with contextlib.suppress(ConnectionError):
            return read.result()
        return b""


async def _open(fields: dict[str, Any]) -> tuple[LocalRuntime | None, dict[str, Any]]:
    """Open a runtime; return it and its announcement, or None and the error."""
    limits = Limits(memory=fields.pop("memory_mb") * MEGABYTE)
    sock = listen()
    try:
        runtime = await open_runtime(sock, new_key(), Settings(limits=limits, **fields))
    except AgentBayError as failure:
        message = str(failure)
    except Exception:
        message = traceback.format_exc()
    else:
        return runtime, runtime.announcement()
    sock.close()
    return None, {"error": message}


async def main() -> None:
    """Serve the socket that the arguments name."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    # Sessions must not inherit it.
    listener.set_inheritable(False)
    listener.setblocking(False)
    await Daemon(listener, Path(sys.argv[2]), stop_by_signal()).serve()


if __name__ == "__main__":
    asyncio.run(main())
