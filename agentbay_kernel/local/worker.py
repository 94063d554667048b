"""The client of a worker: the process in a sandbox that runs the cells of one language.

Both workers exchange lines of JSON (`sandbox/python_engine.py`, `sandbox/node_worker.js`) over a
socket that the runtime makes. The worker gets its end through the agent, so output goes only to the
runtime. A writer blocks while nobody reads. Code of a session can write anything to the socket: a
line has a limit, and an invalid one is left out.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentbay_kernel.local.agent_client import (
    LARGE,
    AgentClient,
    AgentError,
    Turn,
    as_bytes,
)
from agentbay_kernel.local.events import killed
from agentbay_kernel.local.priority import Priority
from agentbay_kernel.local.turns import give_way

MEGABYTE = 2**20
# A little more than the workers' own limit (`sandbox/python_engine.py`).
LINE_LIMIT = 13 * MEGABYTE
# Of a line without its strings: when parsed, that takes much more memory than its bytes.
STRUCTURE_LIMIT = 3 * MEGABYTE
CHUNK = 128 * 1024
# Bytes of frames that wait for the reader of a run.
INBOX_LIMIT = MEGABYTE
# Bytes that a frame takes beside its line.
OVERHEAD = 128
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
OUTPUTS = ("stdout", "stderr", "display", "result")
# Counts of what a worker has left out.
CUT = ("stdout", "stderr", "displays", "displayed")
# Bytes of a run's output. After MUCH, other runs come first. FLOOD is more than a worker sends: if
# code of the session has written that to the socket, each further frame waits.
MUCH = 256 * 1024
FLOOD = 40 * MEGABYTE
FLOOD_PAUSE_S = 0.005


@dataclass(frozen=True)
class Frame:
    """A line of a worker: its event, its data, and about its bytes in a response."""

    event: str
    data: dict[str, Any]
    size: int


class Worker:
    """One worker, started by the agent.

    Arguments:
        agent: of the sandbox.
        name: its name for the agent.
        proc: returns the sandbox's /proc, as a path outside; called when the sandbox has started.
    """

    def __init__(self, agent: AgentClient, name: str, proc: Callable[[], Path]) -> None:
        self._agent = agent
        self._proc = proc
        self._pid = 0
        self.name = name
        self._socket: socket.socket | None = None
        self._changed = asyncio.Event()
        self._unread = bytearray()
        self._scanned = 0
        # Has it sent so much that others come first?
        self.prints_much = False
        # Held while its line is large, or the reader has a large frame.
        self.turn = Turn()
        self._skipping = False
        # The agent's event, when the process has ended.
        self.exit: dict[str, Any] | None = None
        self.exited = asyncio.Event()
        agent.on("started", self._on_started)
        agent.on("exit", self._on_exit)
        agent.on("closed", self._on_closed)

    def open(self) -> socket.socket:
        """Make the socket; return the worker's end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        return theirs

    async def start(self, argv: list[str]) -> None:
        """Start the process.

        Raises:
            AgentError: the agent could not.
        """
        with self.open() as theirs:
            await self._agent.call("start", name=self.name, argv=argv, pass_fd=theirs.fileno())

    @cached_property
    def priority(self) -> Priority:
        """The weight of its processes."""
        return Priority(self._proc() / str(self._pid))

    def _on_started(self, event: dict[str, Any]) -> None:
        if event["name"] == self.name:
            self._pid = int(event["pid"])

    def _on_exit(self, event: dict[str, Any]) -> None:
        if event["name"] == self.name and self.exit is None:
            self.exit = event
            self.exited.set()
            self._changed.set()

    def _on_closed(self, _: dict[str, Any]) -> None:
        # If the sandbox is gone, a run must not wait for its timeout.
        self._on_exit(killed(self.name))

    async def send(self, frame: dict[str, Any]) -> None:
        """Send a request; wait until the socket has taken it."""
        assert self._socket is not None
        data = as_bytes(frame) + b"\n"
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker and its children; it is delivered when this returns."""
        await self._agent.call("signal", name=self.name, signal=int(number))

    async def kill(self) -> None:
        """End the process."""
        await self.signal(signal.SIGKILL)
        await self.exited.wait()

    async def read(self) -> Frame | None:
        """Return the next frame, or None when the process has ended and all of it was read."""
        while True:
            end = self._unread.find(b"\n", self._scanned)
            if end >= 0:
                with memoryview(self._unread) as unread:
                    line = bytes(unread[:end])
                del self._unread[: end + 1]
                self._scanned = 0
                skipped, self._skipping = self._skipping, False
                frame = _left_out() if skipped else _parse(line)
                self.turn.received()
                if frame is None or frame.size <= LARGE:
                    self.turn.end()
                if frame is not None:
                    return frame
                continue
            self._scanned = len(self._unread)
            if self._scanned > LARGE and not self._skipping:
                await self.turn.begin(self._skip)
            if self._scanned > LINE_LIMIT or self._skipping:
                self._skip()
            if not await self._receive():
                return None

    def _skip(self) -> None:
        """Read the rest of a line without keeping it."""
        self._skipping = True
        self._unread.clear()
        self._scanned = 0
        self.turn.end()

    async def _receive(self) -> bool:
        """Read what is there; False at the end."""
        loop = asyncio.get_running_loop()
        sock = self._socket
        assert sock is not None
        while True:
            self._changed.clear()
            ended = self.exit is not None
            try:
                data = sock.recv(CHUNK)
            except BlockingIOError:
                # An ended process writes no more.
                if ended:
                    return False
                loop.add_reader(sock, self._changed.set)
                try:
                    await self._changed.wait()
                finally:
                    loop.remove_reader(sock)
                continue
            except OSError:
                data = b""
            if data:
                self._unread += data
                # Let others run between two reads.
                if self.prints_much:
                    await give_way()
                else:
                    await asyncio.sleep(0)
                return True
            if ended:
                return False
            # It closed its socket: either it is ending, or its timeout ends it.
            await self.exited.wait()

    def close(self) -> None:
        """Close the socket."""
        self.turn.end()
        self._agent.off("started", self._on_started)
        self._agent.off("exit", self._on_exit)
        self._agent.off("closed", self._on_closed)
        if self._socket is not None:
            self._socket.close()


def _parse(line: bytes) -> Frame | None:
    """Parse a line; return None if it is not a frame."""
    if len(line) > STRUCTURE_LIMIT and len(STRING.sub(b"", line)) > STRUCTURE_LIMIT:
        return _left_out()
    try:
        data = json.loads(line)
        event = data["event"]
        if event in ("stdout", "stderr"):
            valid = isinstance(data["text"], str)
        elif event in ("display", "result"):
            transient = data.get("transient", {})
            valid = all(
                isinstance(one, dict) for one in (data["data"], data["metadata"], transient)
            )
        elif event == "error":
            valid = all(isinstance(data[key], str) for key in ("name", "value", "stack"))
        elif event == "cut":
            valid = all(isinstance(data[key], int) for key in CUT)
        else:
            valid = isinstance(event, str) and isinstance(data.get("count", 0), int)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A response is JSON in JSON in JSON: each escape doubles twice.
    # Looking for one takes much less time than counting.
    escapes = line.count(b"\\") if b"\\" in line else 0
    size = len(line) + 2 * escapes + OVERHEAD
    return Frame(event, data, size) if valid else None


def _left_out() -> Frame:
    text = f"Something larger than {LINE_LIMIT // MEGABYTE} MB is left out.\n"
    return Frame("stderr", {"event": "stderr", "text": text}, len(text))


class Inbox:
    """A queue of one run's frames, between the worker and the run's reader.

    While it is full, the worker is not read. After `drop_output` it drops output instead: the run
    must end, even if its reader has stalled.

    Arguments:
        worker: sends the frames.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # Is a large frame in here or with the reader? Is it with the reader?
        self._large = self._taken = False
        self._passed = 0
        self._frames: deque[Frame | None] = deque()
        self._size = 0
        self._drops = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self.left_out = 0
        # Called when the run reports that it fails.
        self.on_failing: Callable[[], None] = lambda: None

    async def put(self, frame: Frame | None) -> None:
        """Wait for room, then add a frame, or None for the end of the process."""
        while self._size > INBOX_LIMIT and not self._drops:
            self._room.clear()
            await self._room.wait()
        if frame is not None:
            full = self._size > INBOX_LIMIT or (self._large and frame.size > LARGE)
            if full and frame.event in OUTPUTS:
                self.left_out += 1
                return
            self._size += frame.size
            self._large = self._large or frame.size > LARGE
        self._frames.append(frame)
        self._filled.set()
        # Nothing is read while a large frame is in memory.
        while self._large and not self._drops:
            self._room.clear()
            await self._room.wait()

    async def get(self) -> Frame | None:
        """Take the next frame; the one before is no longer needed."""
        self._end_turn()
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        if frame is not None:
            self._size -= frame.size
        self._room.set()
        self._taken = frame is not None and frame.size > LARGE
        return frame

    def _end_turn(self) -> None:
        if self._taken:
            self._taken = self._large = False
            self._worker.turn.end()
            self._room.set()

    def close(self) -> None:
        """Drop all frames: the run has no reader any more."""
        self._frames.clear()
        self._worker.turn.end()

    def drop_output(self) -> None:
        """Drop output from now on, instead of waiting for the reader."""
        self._drops = True
        self._room.set()

    async def fill(self, run: int) -> None:
        """Read a run's frames from the worker, to its end."""
        while True:
            self._worker.prints_much = self._passed > MUCH
            if self._passed > FLOOD:
                await asyncio.sleep(FLOOD_PAUSE_S)
            frame = await self._worker.read()
            self._passed += frame.size if frame is not None else 0
            if frame is not None and frame.event == "failing" and frame.data.get("id") == run:
                self.on_failing()
                continue
            # Late output of an earlier run has no reader.
            if frame is None or frame.data.get("id", run) == run:
                await self.put(frame)
            else:
                self._worker.turn.end()
            if frame is None or (frame.event == "done" and frame.data.get("id") == run):
                return


async def started(worker: Worker, argv: list[str] | None, timeout_s: float) -> str:
    """Start a worker, unless it starts with its sandbox, and wait until it is ready; return why it
    failed, or an empty string."""
    try:
        async with asyncio.timeout(timeout_s):
            if argv is not None:
                await worker.start(argv)
            while (frame := await worker.read()) is not None:
                worker.turn.end()
                if frame.event == "ready":
                    return ""
    except AgentError as failure:
        return str(failure)
    except TimeoutError:
        await worker.kill()
        return f"it did not respond {timeout_s:.0f} s after its start"
    assert worker.exit is not None
    return str(worker.exit["log"]).strip()[-2000:]
