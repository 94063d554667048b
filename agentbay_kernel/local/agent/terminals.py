"""Pseudo-terminals of a session: interactive shells that survive a client's disconnection.

- in: `create`, `input`, `resize`, `list`, `connect`, `kill` with the arguments of the service's PTY
  methods (AgentBay wire protocol, target PTY_SERVER), and `taken`
- out: events `terminal.output` (base64) and `terminal.exit`

After `WINDOW` bytes of output a terminal, and so its programs, waits for `taken`, which
acknowledges them. A new one waits until the client that made it knows its name.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from agentbay_kernel.local.agent.identity import Identity

# A client gets the terminal's name with the response, and would lose output before that.
FIRST_OUTPUT_DELAY_S = 0.15
KILLED = -9
# Bytes of output that are not acknowledged, and of one event.
WINDOW = 64 * 1024
PIECE = 16 * 1024
TERMINALS_LIMIT = 32
# Bytes of one input; the next ones wait until the program has read it.
INPUT_LIMIT = 1024 * 1024
# Ctrl-C and job control need a controlling terminal.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """One shell behind a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process, fd: int) -> None:
        self.process = process
        self.fd = fd
        self.killed = False
        # So that inputs are not mixed.
        self.writing = asyncio.Lock()
        self._in_flight = WINDOW
        self._to_be_acknowledged = 0
        self._changed = asyncio.Event()

    async def room(self) -> None:
        """Wait until more output may be sent."""
        while self._in_flight >= WINDOW and not self.killed:
            self._changed.clear()
            await self._changed.wait()

    def count_sent(self, size: int) -> int:
        """Count output; return the bytes to acknowledge with this event, 0 for not now."""
        self._in_flight += size
        self._to_be_acknowledged += size
        if self._to_be_acknowledged < WINDOW // 2:
            return 0
        due, self._to_be_acknowledged = self._to_be_acknowledged, 0
        return due

    def taken(self, size: int | None) -> None:
        """Note that bytes were read; all if no size is given."""
        self._in_flight -= self._in_flight if size is None else size
        self._changed.set()

    def kill(self) -> None:
        """End what runs in it, without waiting for acknowledgements."""
        self.killed = True
        self._changed.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Terminals:
    """All terminals of the session.

    Arguments:
        emit: called with each event.
        leaders: the ids of new process groups are added to it.
        identity: the user of the shells.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], Awaitable[None]],
        leaders: set[int],
        identity: Identity,
    ) -> None:
        self._identity = identity
        self._emit = emit
        self._leaders = leaders
        self._terminals: dict[str, Terminal] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, what: str, arguments: dict[str, Any]) -> Any:
        """Carry out one method; return its result."""
        if what == "create":
            return await self._create(**arguments)
        if what == "list":
            return {"ptySessionIds": list(self._terminals)}
        name = arguments["ptySessionId"]
        terminal = self._terminals.get(name)
        if terminal is None:
            raise FileNotFoundError(errno.ENOENT, f"PTY session {name} not found")
        if what == "connect":
            return {"ptySessionId": name}
        if what == "input":
            data = arguments["data"]
            raw = base64.b64decode(data) if arguments.get("encoding") == "base64" else data.encode()
            if len(raw) > INPUT_LIMIT:
                raise ValueError(f"an input has at most {INPUT_LIMIT:,} bytes")
            async with terminal.writing:
                await _write_all(terminal.fd, raw)
        elif what == "resize":
            _resize(terminal.fd, arguments["cols"], arguments["rows"])
        elif what == "kill":
            terminal.kill()
        elif what == "taken":
            terminal.taken(arguments["size"])
        return {}

    async def _create(
        self,
        cwd: str,
        envs: dict[str, str],
        cols: int = 80,
        rows: int = 24,
        shell: str | None = None,
    ) -> dict[str, str]:
        if len(self._terminals) >= TERMINALS_LIMIT:
            raise OSError(errno.EAGAIN, f"A session has at most {TERMINALS_LIMIT} terminals")
        ours, theirs = self._identity.as_cells(pty.openpty)
        try:
            _resize(ours, cols, rows)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", TAKE_TERMINAL),
                *([shell] if shell else ["bash", "--norc", "--noprofile"]),
                env={
                    "TERM": "xterm-256color",
                    "LANG": "en_US.UTF-8",
                    **envs,
                    "PS1": envs.get("PS1", r"\w$ "),
                },
                cwd=cwd,
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity.popen_arguments,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._leaders.add(process.pid)
        name = f"pty-{uuid.uuid4().hex[:12]}"
        terminal = self._terminals[name] = Terminal(process, ours)
        task = asyncio.get_running_loop().create_task(self._pump(name, terminal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"ptySessionId": name}

    async def _pump(self, name: str, terminal: Terminal) -> None:
        loop = asyncio.get_running_loop()
        await terminal.room()
        await asyncio.sleep(FIRST_OUTPUT_DELAY_S)
        os.set_blocking(terminal.fd, False)
        while data := await _read(loop, terminal.fd):
            due = terminal.count_sent(len(data))
            await self._emit(
                {
                    "event": "terminal.output",
                    "ptySessionId": name,
                    "data": base64.b64encode(data).decode(),
                    "due": due,
                }
            )
            await terminal.room()
        code = await terminal.process.wait()
        os.close(terminal.fd)
        del self._terminals[name]
        await self._emit(
            {
                "event": "terminal.exit",
                "ptySessionId": name,
                "exitCode": KILLED if terminal.killed else code,
            }
        )


async def _read(loop: asyncio.AbstractEventLoop, fd: int) -> bytes:
    """Return what has come, at most PIECE bytes; nothing at the end."""
    found = b""
    while len(found) < PIECE:
        try:
            data = os.read(fd, PIECE - len(found))
        except BlockingIOError:
            if found:
                break
            await _ready(loop.add_reader, loop.remove_reader, fd)
            continue
        except OSError:
            # EIO: on Linux, the terminal's last process has ended.
            break
        if not data:
            break
        found += data
    return found


async def _write_all(fd: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, fd)


async def _ready(add: Callable[..., None], remove: Callable[[int], bool], fd: int) -> None:
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)


def _resize(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
