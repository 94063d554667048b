"""The client of a session's agent: sends calls, receives responses and events.

`agentbay_kernel.local.agent.agent` describes the frames. A call can pass a descriptor; none is ever
accepted from the sandbox. A text comes in pieces before its response, and is never in memory as a
whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from agentbay_kernel.local.turns import give_way

# Code of the session could take over its agent, but must not exhaust the runtime.
FRAME_LIMIT = 32 * 1024 * 1024

CHUNK = 256 * 1024
# Characters of a string that are written at once.
PIECE = 64 * 1024
# A larger frame counts as bulk data.
SMALL = 4 * 1024

# Only one larger message, of all sandboxes, is in memory at a time: as a string and as values it
# takes several times its bytes.
LARGE = 1024 * 1024
# How long its sender may take to send it.
TURN_S = 10.0
_large = asyncio.Lock()

# The first byte of a frame that is a piece of a text; then the call's number, in eight bytes.
PART = b"\0"
PART_HEAD = 9

EventHandler = Callable[[dict[str, Any]], None]


class AgentError(Exception):
    """A call of the agent failed; `errno` is the operating system's, or -1."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class Turn:
    """The right to have a large message in memory; without it, the sender is not read."""

    def __init__(self) -> None:
        self._begun = False
        self._clock: asyncio.TimerHandle | None = None

    async def begin(self, late: Callable[[], None]) -> None:
        """Wait for the turn, unless it has begun; call `late` if the message takes too long."""
        if not self._begun:
            await _large.acquire()
            self._begun = True
            self._clock = asyncio.get_running_loop().call_later(TURN_S, late)

    def received(self) -> None:
        """Stop the clock: the message is complete."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def end(self) -> None:
        """Give the turn to others."""
        self.received()
        if self._begun:
            self._begun = False
            _large.release()


def as_bytes(frame: dict[str, Any]) -> bytearray:
    """Return a frame as JSON, without escapes that make characters longer.

    A long string is never copied as a whole: one wide character makes it four times as large.
    """
    data = bytearray()
    _append(data, frame)
    return data


def _append(data: bytearray, value: Any) -> None:
    if isinstance(value, dict):
        before = b"{"
        for key, item in value.items():
            data += before + _dumped(key) + b": "
            _append(data, item)
            before = b", "
        data += b"}" if value else b"{}"
    elif isinstance(value, str):
        data += b'"'
        for at in range(0, len(value), PIECE):
            data += _dumped(value[at : at + PIECE])[1:-1]
        data += b'"'
    else:
        data += _dumped(value)


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half a character has no UTF-8.
        return json.dumps(value).encode()


class AgentClient:
    """The client of one agent, which gets the socket `far`.

    Calls can be made before the agent has started: they wait in the socket.
    """

    def __init__(self) -> None:
        self._socket, self.far = socket.socketpair()
        self._socket.setblocking(False)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._takers: dict[int, Callable[[bytes], None]] = {}
        self._handlers: dict[str, list[EventHandler]] = {}
        # The agent's process id inside the sandbox.
        self.pid = 0
        self._writing = asyncio.Lock()
        self.closed = asyncio.Event()

    def open(self) -> None:
        """Start to read the socket."""
        self._pump_task = asyncio.get_running_loop().create_task(self._pump(self._socket))

    async def connect(self) -> None:
        """Wait until the agent responds."""
        self.pid = int((await self.call("hello"))["pid"])

    def on(self, event: str, handler: EventHandler) -> None:
        """Call `handler` with every event of that name."""
        self._handlers.setdefault(event, []).append(handler)

    def off(self, event: str, handler: EventHandler) -> None:
        """Undo `on`."""
        self._handlers[event].remove(handler)

    async def call(
        self,
        op: str,
        *,
        pass_fd: int | None = None,
        take: Callable[[bytes], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Call an operation of the agent; return its value.

        Arguments:
            op: its name.
            pass_fd: a descriptor; the agent gets a copy.
            take: called with each piece of the operation's text; an error that it raises ends the
                call.
            arguments: of the operation. A client's own names must be keys of a dictionary in it.

        Raises:
            AgentError: the agent refused or failed, or it is gone.
        """
        if self.closed.is_set():
            raise AgentError(-1, "the session's sandbox has ended")
        number = next(self._numbers)
        head = {"id": number, "op": op, "passes": pass_fd is not None}
        data = as_bytes({**head, "arguments": arguments})
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if take is not None:
            self._takers[number] = take
        try:
            # A cancelled send would leave half a frame, which ends the session.
            sending = asyncio.ensure_future(self._send(data, pass_fd))
            # Free the data: the response may take long.
            del data
            arguments.clear()
            await asyncio.shield(sending)
            del sending
            return await answer
        except OSError:
            raise AgentError(-1, "the session's sandbox has ended") from None
        finally:
            self._waiting.pop(number, None)
            self._takers.pop(number, None)

    async def _send(self, data: bytearray, fd: int | None) -> None:
        loop = asyncio.get_running_loop()
        sock = self._socket
        async with self._writing:
            if self.closed.is_set():
                raise BrokenPipeError
            size = struct.pack(">I", len(data))
            while fd is not None:
                try:
                    size = size[socket.send_fds(sock, [size], [fd]) :]
                    break
                except BlockingIOError:
                    writable = asyncio.Event()
                    loop.add_writer(sock, writable.set)
                    await writable.wait()
                    loop.remove_writer(sock)
            await loop.sock_sendall(sock, size)
            await loop.sock_sendall(sock, data)

    async def _pump(self, sock: socket.socket) -> None:
        turn = Turn()
        try:
            while True:
                size = struct.unpack(">I", await _read(sock, 4))[0]
                if size > FRAME_LIMIT:
                    break
                if size <= LARGE:
                    data = await _read(sock, size)
                    if data.startswith(PART):
                        self._take(data)
                    else:
                        self._receive(json.loads(data))
                    del data
                    # Let others run between two frames.
                    if size > SMALL:
                        await give_way(pauses=False)
                    else:
                        await asyncio.sleep(0)
                    continue
                await turn.begin(self.close)
                data = await _read(sock, size)
                text = data.decode("utf-8", "surrogatepass")
                del data
                self._receive(json.loads(text))
                del text
                # Let the receiver take it.
                await asyncio.sleep(0)
                turn.end()
        except (EOFError, OSError, ValueError):
            pass
        finally:
            turn.end()
            self.closed.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(AgentError(-1, "the session's sandbox has ended"))
            for handler in self._handlers.get("closed", []):
                handler({})
            # This makes a send that waits fail; only then may the descriptor be closed.
            self.close()
            async with self._writing:
                sock.close()

    def _receive(self, frame: dict[str, Any]) -> None:
        if "event" in frame:
            for handler in list(self._handlers.get(frame["event"], [])):
                handler(frame)
            return
        answer = self._waiting.get(frame["id"])
        if answer is None or answer.done():
            return
        if "error" in frame:
            answer.set_exception(AgentError(frame["error"]["errno"], frame["error"]["message"]))
        else:
            answer.set_result(frame["ok"])

    def _take(self, data: bytearray) -> None:
        """Pass a piece of a text to its call."""
        number = int.from_bytes(data[len(PART) : PART_HEAD])
        take = self._takers.get(number)
        if take is None:
            return
        try:
            take(bytes(data[PART_HEAD:]))
        except (OSError, AgentError) as failure:
            # The rest of the text is ignored.
            del self._takers[number]
            answer = self._waiting.get(number)
            if answer is not None and not answer.done():
                answer.set_exception(failure)

    def close(self) -> None:
        """End the connection, which ends the session's processes."""
        # `_pump` reads the end and closes the socket.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


async def _read(sock: socket.socket, size: int) -> bytearray:
    """Read that many bytes of a socket.

    Raises:
        EOFError: it ended.
    """
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(sock, min(size - len(data), CHUNK))
        if not piece:
            raise EOFError
        data += piece
    return data
