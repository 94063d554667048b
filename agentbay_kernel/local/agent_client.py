"""The local runtime's end of a session's agent: calls out, answers and events in.

In: a connected socket. Out: `call(op, ...)` awaits one answer; events go to the function that was
registered for their name. A descriptor can go with a call; none is ever taken from the sandbox. A
text comes in pieces before its answer, and is never in memory as a whole.
The frames are described in `agentbay_kernel.local.agent.agent`.
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

# Code in the session could take over its agent; it must not be able to exhaust the runtime too.
FRAME_LIMIT = 32 * 1024 * 1024

CHUNK = 256 * 1024
# Characters of a string that are written at once.
PIECE = 64 * 1024
# A frame that is larger is one of much data.
SMALL = 4 * 1024

# Bytes of a sandbox that are read at once. One larger message, of whatever sandbox, is in memory
# at a time: as a text and as values it takes several times its bytes.
LARGE = 1024 * 1024
# How long its sender may take.
TURN_S = 10.0
_large = asyncio.Lock()

# The first byte of a frame that is a piece of a text; then the call's number, in eight bytes.
PART = b"\0"
PART_HEAD = 9

EventHandler = Callable[[dict[str, Any]], None]


class AgentError(Exception):
    """The agent could not do what was asked; `errno` is the operating system's, or -1."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


# Whoever moves much data does so in small steps, one of them in each turn of the event loop.
bulk = asyncio.Lock()


class Turn:
    """The right to have a large message in memory; a writer whose turn it is not is not read."""

    def __init__(self) -> None:
        self._begun = False
        self._clock: asyncio.TimerHandle | None = None

    async def begin(self, late: Callable[[], None]) -> None:
        """Wait for the turn, unless it has begun; `late` is called if the message does not end."""
        if not self._begun:
            await _large.acquire()
            self._begun = True
            self._clock = asyncio.get_running_loop().call_later(TURN_S, late)

    def received(self) -> None:
        """The message is there; whoever takes it may need longer."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def end(self) -> None:
        """Let others have theirs."""
        self.received()
        if self._begun:
            self._begun = False
            _large.release()


def as_bytes(frame: dict[str, Any]) -> bytearray:
    """A frame as JSON: no character takes more bytes than it had.

    A long string is never there as a whole: one wide character makes it four times as large.
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
    """One agent, at the other end of the socket `far`.

    It can be called before it has started: the calls wait in the socket.
    """

    def __init__(self) -> None:
        self._socket, self.far = socket.socketpair()
        self._socket.setblocking(False)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._takers: dict[int, Callable[[bytes], None]] = {}
        self._handlers: dict[str, list[EventHandler]] = {}
        # As it is called inside.
        self.pid = 0
        self._writing = asyncio.Lock()
        self.closed = asyncio.Event()

    def open(self) -> None:
        """Begin to listen."""
        self._pump_task = asyncio.get_running_loop().create_task(self._pump(self._socket))

    async def connect(self) -> None:
        """Wait until the agent answers."""
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
        """One operation of the agent.

        Arguments:
            op: its name.
            pass_fd: a descriptor that the agent gets a copy of.
            take: called with each piece of the operation's text; what it raises ends the call.
            arguments: what it takes. Names that come from a client are keys of a dictionary in it.

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
            # Half a frame would be the end of the session.
            sending = asyncio.ensure_future(self._send(data, pass_fd))
            # It may wait long for the answer.
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
                    # Others have their turn, however much there is.
                    if size > SMALL:
                        async with bulk:
                            await asyncio.sleep(0)
                    else:
                        await asyncio.sleep(0)
                    continue
                await turn.begin(self.close)
                data = await _read(sock, size)
                text = data.decode("utf-8", "surrogatepass")
                del data
                self._receive(json.loads(text))
                del text
                # Whoever waited has it.
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
            # Whoever is sending fails by this, and only then the descriptor is free.
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
        """A piece of a text."""
        number = int.from_bytes(data[len(PART) : PART_HEAD])
        take = self._takers.get(number)
        if take is None:
            return
        try:
            take(bytes(data[PART_HEAD:]))
        except (OSError, AgentError) as failure:
            # It can't be kept; what follows of it is not looked at.
            del self._takers[number]
            answer = self._waiting.get(number)
            if answer is not None and not answer.done():
                answer.set_exception(failure)

    def close(self) -> None:
        """End the connection, which ends the session's processes."""
        # The pump sees the end and closes it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


async def _read(sock: socket.socket, size: int) -> bytearray:
    """The next bytes of a socket.

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
