"""The WebSocket route of a session: calls whose responses come in many frames, as they happen.

There is one connection, opened when it is first needed and closed when it is idle. One thread reads
from it, any thread can send. A call that was sent is never sent again. Route, envelope and
heartbeat are those of the AgentBay wire protocol.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentbay_kernel.errors import (
    AuthenticationError,
    CommandError,
    InvalidResponseError,
    ResponseLostError,
    ServiceFaultError,
    ServiceUnreachableError,
)
from agentbay_kernel.service.actions import USER_AGENT
from agentbay_kernel.service.deadline import Deadlines, Exchange
from agentbay_kernel.service.endpoint import place_of
from agentbay_kernel.service.envelope import Quote, decode_json
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.transport import Transport

if TYPE_CHECKING:
    from websocket import WebSocket

# The official client pings every 20 s and waits as long for the response.
PING_EVERY_S = 20.0
# An open connection might count as use of the session, so an idle one is closed.
IDLE_S = 60.0
# The official client accepts 1 MiB; a service may send larger messages to other clients.
LARGEST_MESSAGE = 64 * 1024 * 1024
# Bytes of one call that may wait for its reader. Beyond that, reading pauses, at most this long.
_MOST_WAITING = 16 * 1024 * 1024
_LONGEST_PAUSE_S = 120.0
_HANDSHAKE_S = 10.0
_SEND_S = 30.0
_LOOK_S = 1.0
_CONTROL_PLANE = "WEBSOCKET_SERVER"
# A non-blocking socket has nothing to read now, or can't send more now.
_WANT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_deadlines = Deadlines()
_log = get_logger("websocket")


class WebSocketCall:
    """A call that was sent, and its response.

    Arguments:
        place: the server's name in messages.
        within_s: seconds for the whole response.
        silence_s: seconds without a frame after which the response counts as lost.
    """

    def __init__(self, place: str, within_s: float, silence_s: float | None) -> None:
        self.id = uuid.uuid4().hex
        self.ended = False
        # Whether its end did not come in time. Then its connection may be broken too.
        self.lost = False
        #: The server's name in messages.
        self.place = place
        self._within_s = within_s
        self._silence_s = silence_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[dict[str, Any], int]] = deque()
        self._size = 0
        self._paused_s = 0.0
        self._failure: CommandError | None = None
        self._heard_at = time.monotonic()
        self._ends_at = self._heard_at + within_s

    def receive(self, within_s: float | None = None) -> dict[str, Any] | None:
        """Return the `data` of the next frame, or None if none came within that time.

        Arguments:
            within_s: seconds to wait; None waits as long as the response may take.

        Raises:
            ResponseLostError: the connection broke, or the response did not end in time.
            ServiceFaultError, InvalidResponseError: the service failed, or its response is
                invalid.
        """
        asked_at = time.monotonic()
        with self._changed:
            while True:
                if self._waiting:
                    data, size = self._waiting.popleft()
                    self._size -= size
                    self._changed.notify_all()
                    return data
                if self._failure is not None:
                    raise self._failure
                now = time.monotonic()
                if within_s is not None and now >= asked_at + within_s:
                    return None
                lost_at = self._ends_at + self._paused_s
                if self._silence_s is not None:
                    lost_at = min(lost_at, self._heard_at + self._silence_s)
                if now >= lost_at:
                    self._failure = self._lost()
                    continue
                wake_at = lost_at if within_s is None else min(lost_at, asked_at + within_s)
                self._changed.wait(wake_at - now)

    def close(self) -> None:
        """Ignore the rest of the response. The service does not notice, and completes the call."""
        with self._changed:
            self.ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def put(self, data: dict[str, Any], size: int) -> None:
        """Add a frame that arrived; wait while too many bytes are unread.

        Arguments:
            data: the frame's `data`.
            size: the frame's bytes.
        """
        with self._changed:
            paused_at = self._heard_at = time.monotonic()
            if paused_at > self._ends_at + self._paused_s:
                self._fail(self._lost())
            while self._size > _MOST_WAITING and not self.ended:
                self._changed.wait(_LOOK_S)
                if time.monotonic() - paused_at + self._paused_s > _LONGEST_PAUSE_S:
                    self._fail(
                        ResponseLostError(
                            f"{self.place} sent output faster than it was taken; what came after "
                            "is lost. The code may have run on: print less, or write to a file."
                        )
                    )
            self._heard_at = time.monotonic()
            self._paused_s += self._heard_at - paused_at
            if not self.ended:
                self._waiting.append((data, size))
                self._size += size
                self._changed.notify_all()

    def fail(self, failure: CommandError) -> None:
        """End the call with an error, which `receive` raises after the frames that arrived."""
        with self._changed:
            self._fail(failure)

    def _fail(self, failure: CommandError) -> None:
        self._failure = self._failure or failure
        self.ended = True
        self._changed.notify_all()

    def _lost(self) -> ResponseLostError:
        self.ended = self.lost = True
        waited_s = time.monotonic() - self._ends_at + self._within_s
        return ResponseLostError(
            f"The request was sent to {self.place}, and its response did not end within "
            f"{waited_s:.0f} s. Whether the code is still running is unknown; it was not sent "
            "again."
        )


class WebSocketRoute:
    """Calls over the WebSocket of one session. Thread-safe.

    Arguments:
        url: the session's address, which is trusted.
        token: the session's token.
        transport: makes the connections.
        quote: hides secrets in the service's text.
    """

    def __init__(self, url: str, token: str, transport: Transport, quote: Quote) -> None:
        self._url = url
        self._token = token
        self._transport = transport
        self._quote = quote
        self._place = place_of(url)
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def leads_to(self, url: str, token: str) -> bool:
        """Return whether the route uses this address and this token."""
        return (self._url, self._token) == (url, token)

    def call(
        self,
        target: str,
        method: str,
        params: Mapping[str, Any],
        *,
        within_s: float,
        silence_s: float | None = None,
    ) -> WebSocketCall:
        """Send a call, once.

        Arguments:
            target: the server of the tool.
            within_s, silence_s: see `WebSocketCall`.

        Raises:
            AuthenticationError: the token was refused; nothing was sent.
            ServiceUnreachableError: no connection; nothing was sent.
        """
        with self._lock:
            reused = self._connection
            connection = reused if reused is not None and reused.open else self._connect()
            self._connection = connection
        call = WebSocketCall(self._place, within_s, silence_s)
        frame = {
            "invocationId": call.id,
            "source": "SDK",
            "target": target,
            "data": {"method": method, "mode": "stream", "params": dict(params)},
        }
        text = json.dumps(frame)
        if connection.send(call, text):
            return call
        # The service can't run a call from an incomplete frame, so the call may be sent again.
        with self._lock:
            if self._connection is connection:
                self._connection = self._connect()
            connection = self._connection or self._connect()
        if connection.send(call, text):
            return call
        raise ServiceUnreachableError(
            f"The WebSocket of {self._place} closes as soon as something is sent. Nothing ran."
        )

    def close(self) -> None:
        """Close the connection; calls that have not ended fail."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close("it was closed here")

    def _connect(self) -> _Connection:
        # Imported here: most uses of the client need no WebSocket.
        from websocket import WebSocket, WebSocketBadStatusException, WebSocketException

        connected = self._transport.connect(self._url)
        duplex = Duplex(connected, _HANDSHAKE_S, _SEND_S)
        opened: Any = WebSocket(skip_utf8_validation=True)
        failure: CommandError
        try:
            with Exchange(_deadlines, _HANDSHAKE_S) as exchange:
                exchange.begin(connected)
                opened.connect(
                    self._url,
                    socket=duplex,
                    header={"X-Access-Token": self._token, "User-Agent": USER_AGENT},
                    suppress_origin=True,
                    redirect_limit=0,
                )
            if not exchange.expired:
                return _Connection(opened, duplex, self._place, self._quote)
            failure = self._unopened("no whole response in time")
        except WebSocketBadStatusException as refusal:
            failure = self._refused(refusal.status_code)
        except (WebSocketException, TooMuchError, OSError, ValueError) as error:
            failure = self._unopened(type(error).__name__)
        duplex.close()
        # Raised here and not in the handler: the library's error contains the server's text.
        raise failure

    def _unopened(self, why: str) -> ServiceUnreachableError:
        return ServiceUnreachableError(
            f"The WebSocket of {self._place} could not be opened ({why}). Nothing was sent."
        )

    def _refused(self, status: int | None) -> CommandError:
        if status in (401, 403):
            return AuthenticationError(
                f"The session's WebSocket at {self._place} refused its token (HTTP {status})."
            )
        return ServiceUnreachableError(
            f"{self._place} refused a WebSocket (HTTP {status}). Nothing was sent."
        )


class _Connection:
    """One open connection; a thread reads from it until it ends."""

    def __init__(self, opened: WebSocket, duplex: Duplex, place: str, quote: Quote) -> None:
        self._opened = opened
        self._duplex = duplex
        self._place = place
        self._quote = quote
        self._lock = threading.Lock()
        self._calls: dict[str, WebSocketCall] = {}
        self._used_at = time.monotonic()
        self._why_closed = ""
        self._doubtful = False
        duplex.read_within_s = _LOOK_S
        threading.Thread(target=self._read, name="agentbay-websocket", daemon=True).start()

    @property
    def open(self) -> bool:
        """Whether calls can be sent."""
        with self._lock:
            self._doubtful = self._doubtful or any(call.lost for call in self._calls.values())
            return not self._why_closed and not self._doubtful

    def send(self, call: WebSocketCall, frame: str) -> bool:
        """Send a call's frame; return False if it could not be sent completely."""
        with self._lock:
            if self._why_closed:
                return False
            self._calls[call.id] = call
            self._used_at = time.monotonic()
        try:
            self._opened.send_text(frame)
        except Exception as error:
            with self._lock:
                self._calls.pop(call.id, None)
            # After an incomplete frame, the service can't read any other.
            self.close(f"sending failed: {type(error).__name__}")
            return False
        return True

    def close(self, why: str) -> None:
        """End the connection. Any thread can call it."""
        with self._lock:
            self._why_closed = self._why_closed or why
        self._duplex.shutdown()

    def _read(self) -> None:
        from websocket import ABNF, WebSocketTimeoutException

        pinged_at = heard_at = time.monotonic()
        why = ""
        self._duplex.allowance = LARGEST_MESSAGE
        try:
            while not self._why_closed:
                # Control frames count too: a pong shows that the connection works.
                opcode = None
                with contextlib.suppress(WebSocketTimeoutException):
                    opcode, data = self._opened.recv_data(control_frame=True)
                if opcode == ABNF.OPCODE_CLOSE:
                    why = f"the other side closed it ({_status(data)})"
                    break
                if opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
                    self._take(data)
                    self._duplex.allowance = LARGEST_MESSAGE
                now = time.monotonic()
                if opcode is not None:
                    heard_at = now
                if now - pinged_at >= PING_EVERY_S:
                    if heard_at < pinged_at:
                        why = f"nothing came for {now - heard_at:.0f} s"
                        break
                    self._opened.ping()
                    pinged_at = now
                if self._close_if_idle(now):
                    break
        except TooMuchError:
            why = f"a message was larger than {LARGEST_MESSAGE // 2**20} MB, which is not taken"
        except Exception as error:
            # Whatever error the library raises, the open calls must end.
            why = f"the connection broke: {type(error).__name__}"
        self._end(why)

    def _close_if_idle(self, now: float) -> bool:
        with self._lock:
            for call in [call for call in self._calls.values() if call.ended]:
                self._doubtful = self._doubtful or call.lost
                del self._calls[call.id]
            if self._calls:
                self._used_at = now
            if now - self._used_at < IDLE_S and (self._calls or not self._doubtful):
                return False
            self._why_closed = "it was idle"
            return True

    def _end(self, why: str) -> None:
        with self._lock:
            self._why_closed = self._why_closed or why
            calls, self._calls = list(self._calls.values()), {}
        self._duplex.close()
        _log.debug("The WebSocket of %s ended: %s", self._place, self._why_closed)
        for call in calls:
            call.fail(
                ResponseLostError(
                    f"The request was sent to {self._place} by WebSocket, and no whole response "
                    "came:"
                    f" {self._why_closed}. The code may have run, and may still be running; it was "
                    "not sent again."
                )
            )

    def _take(self, message: bytes) -> None:
        try:
            frame = decode_json(self._quote.without_secrets(message).decode("utf-8"))
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            _log.warning("%s sent a frame that is no JSON object; ignored", self._place)
            return
        number = frame.get("invocationId") or frame.get("requestId")
        with self._lock:
            call = self._calls.get(number) if isinstance(number, str) else None
        if call is None or call.ended:
            return
        try:
            data = self._data(frame)
        except CommandError as failure:
            self._forget(call)
            call.fail(failure)
            return
        call.put(data, len(message))
        if data.get("phase") in ("end", "error"):
            self._forget(call)

    def _forget(self, call: WebSocketCall) -> None:
        with self._lock:
            self._calls.pop(call.id, None)
            self._used_at = time.monotonic()

    def _data(self, frame: dict[str, Any]) -> dict[str, Any]:
        data = frame.get("data")
        if isinstance(data, str):
            with contextlib.suppress(ValueError):
                data = decode_json(data)
        said = frame.get("error") if frame.get("source") == _CONTROL_PLANE else None
        if said is None and isinstance(data, dict):
            said = data.get("error")
        if said and isinstance(said, str):
            raise ServiceFaultError(
                f"{self._place} could not run the code: {self._quote(said)}. Whether it ran is "
                "unknown."
            )
        if frame.get("source") == _CONTROL_PLANE:
            return {"phase": "end"}
        if not isinstance(data, dict) or not isinstance(data.get("phase"), str):
            raise InvalidResponseError(
                f"{self._place} sent something that is not part of a response: "
                f"{self._quote(data)}. "
                "The code may have run; its output is lost."
            )
        return data


def _status(close: bytes) -> str:
    return f"status {int.from_bytes(close[:2], 'big')}" if len(close) >= 2 else "without a status"


class TooMuchError(Exception):
    """Raised if more bytes arrive than are allowed."""


class Duplex:
    """A socket, with or without TLS, for one reader and many writers, as the library needs it.

    Arguments:
        connected: the socket; this object owns it from now on.
        read_within_s: seconds without data after which `recv` raises TimeoutError; may be changed.
        write_within_s: seconds after which `send` raises TimeoutError if it could send nothing.
    """

    def __init__(
        self, connected: socket.socket, read_within_s: float, write_within_s: float
    ) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self.read_within_s = read_within_s
        self._write_within_s = write_within_s
        # A TLS connection can't be read and written at the same time.
        self._turn = threading.Lock()
        self._readable = selectors.DefaultSelector()
        self._readable.register(connected, selectors.EVENT_READ)
        self._closed = False
        # Bytes that may still arrive; the reader sets it for each message.
        self.allowance = 64 * 1024

    def gettimeout(self) -> None:
        """Return None, for calls that block: this class does the waiting itself."""

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: this class does the waiting itself."""

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def recv(self, size: int) -> bytes:
        """Receive some bytes, b"" at the end.

        Raises:
            TimeoutError: nothing came in time.
            TooMuchError: more than `allowance` bytes came.
        """
        ends_at = time.monotonic() + self.read_within_s
        while True:
            try:
                with self._turn:
                    data = self._socket.recv(size)
            except _WANT:
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or not self._readable.select(left_s):
                    raise TimeoutError("nothing arrived") from None
                continue
            self.allowance -= len(data)
            if self.allowance < 0:
                raise TooMuchError
            return data

    def send(self, data: bytes) -> int:
        """Send some of the data; return the number of bytes.

        Raises:
            TimeoutError: nothing could be sent in time.
        """
        ends_at = time.monotonic() + self._write_within_s
        while True:
            try:
                with self._turn:
                    return self._socket.send(data)
            except _WANT:
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or self._closed:
                    raise TimeoutError("nothing left") from None
                with selectors.DefaultSelector() as writable:
                    writable.register(self._socket, selectors.EVENT_WRITE)
                    writable.select(left_s)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection, so that a waiting reader sees its end. Any thread can call it."""
        self._closed = True
        # Not SSLSocket.shutdown, which would remove TLS while the other thread reads.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Close the socket. The reading thread calls it at its end."""
        self.shutdown()
        with self._turn:
            self._readable.close()
            self._socket.close()
