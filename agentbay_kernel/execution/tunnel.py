"""The near end of the bridge: Jupyter messages carried to a sandbox's kernel by `run_code` calls.

In: requests for the kernel in the sandbox. Out: what it answered, sorted by request. One thread
makes the calls, one after the other, for as long as something is to be sent or awaited. A call
is an exchange of bytes at offsets (see sandbox/bridge.py), so one that failed is made again
without anything being posted twice or lost.
"""

from __future__ import annotations

import base64
import functools
import json
import queue
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import (
    AnswerLostError,
    BridgeError,
    CommandError,
    InvalidAnswerError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)
from agentbay_kernel.execution.limit import OutputLimit
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import Session

# The action route carries about 63 KB a message, envelope included; LinkUrl has no known limit.
_ROOM_ACTION, _ROOM_LINK = 44_000, 4_000_000
_MOST_SENT_ACTION, _MOST_SENT_LINK = 40_000, 2_000_000
# How long a call waits for something to happen, and how long output waits for a cell's end.
_WAIT_S, _LINGER_S = 1.0, 0.15
_CALL_TIMEOUT_S = 30
# The sandbox keeps this many bytes for a front end that does not collect.
_BOUND = 64 * 1024 * 1024
# How long a service that fails is asked again.
_PATIENCE_S = 60.0
_PATIENCE_UNSENT_S = 5.0
_REPEATABLE = (
    AnswerLostError,
    InvalidAnswerError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)
_MODULE = "_agentbay_bridge"
_INSTALLED = "bridge ready"

# A message on its way: {"c": channel, "h": header, "p": parent header, "m": metadata,
# "b": content, "x": [buffers, base64]}.
Carried = dict[str, Any]


@functools.cache
def _installing_code() -> str:
    source = Path(__file__).parents[1].joinpath("sandbox", "bridge.py").read_bytes()
    packed = base64.b64encode(zlib.compress(source, 9)).decode()
    return (
        "import base64, sys, types, zlib\n"
        f"_m = types.ModuleType({_MODULE!r})\n"
        f"exec(zlib.decompress(base64.b64decode({packed!r})), _m.__dict__)\n"
        f"_m.start({_BOUND})\n"
        f"sys.modules[{_MODULE!r}] = _m\n"
        f"print({_INSTALLED!r})\n"
    )


class Request:
    """A request that was posted, and what comes back for it."""

    def __init__(self, channel: str, kind: str, limit: OutputLimit | None, id: str) -> None:
        self.id = id or uuid.uuid4().hex
        self._channel = channel
        # Comm messages have no reply: they end with the idle status alone.
        self._replied = kind.endswith("_request")
        # Offset of the inward stream behind this request: the sandbox has it when that arrived.
        self.ends_at = 0
        # Applied where messages arrive, so that none that won't be shown waits in memory.
        self._limit = limit
        self._arrived: queue.SimpleQueue[Carried | CommandError | None] = queue.SimpleQueue()
        self._reply: Carried | None = None
        self._idle = False

    @property
    def ended(self) -> bool:
        """Are its reply and its idle status here?"""
        return self._idle and (self._reply is not None or not self._replied)

    def deliver(self, message: Carried) -> None:
        """Take a message whose parent this request is."""
        kind = message["h"]["msg_type"]
        if message["c"] == self._channel and kind.endswith("_reply"):
            self._reply = message
        elif kind == "status":
            self._idle = self._idle or message["b"].get("execution_state") == "idle"
        elif (
            kind != "stream"
            or self._limit is None
            or self._limit.admits(str(message["b"].get("text")))
        ):
            self._arrived.put(message)
        if self.ended:
            if self._reply is not None:
                self._arrived.put(self._reply)
            self._arrived.put(None)

    def fail(self, error: CommandError) -> None:
        """No more will come."""
        self._arrived.put(error)

    def answers(self) -> Iterator[Carried]:
        """What comes back, as it comes; the reply, if there is one, is the last.

        Raises:
            CommandError: the tunnel broke before the reply.
        """
        while (arrived := self._arrived.get()) is not None:
            if isinstance(arrived, CommandError):
                raise arrived
            yield arrived


class Tunnel:
    """Carries messages for one session. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Condition()
        self._unsent = bytearray()
        self._posted = 0  # inward bytes there are
        self._sent = 0  # of these, those that the sandbox has
        self._after = 0  # outward bytes that are here
        self._line = bytearray()
        self._requests: dict[str, Request] = {}
        self._pumping = False
        self._newest: str | None = None
        self.kernel_pid: int | None = None
        by_link = bool(session.link_url and "run_code" in session.tools)
        self._room = _ROOM_LINK if by_link else _ROOM_ACTION
        self._most_sent = _MOST_SENT_LINK if by_link else _MOST_SENT_ACTION

    def install(self) -> None:
        """Start the bridge in the sandbox.

        Raises:
            BridgeError: the sandbox can't have one; says why.
            CommandError: the service failed.
        """
        result = self._session.code.run_code(_installing_code(), "python", _CALL_TIMEOUT_S)
        if not result.success:
            raise BridgeError(f"the sandbox can't run a bridge: {result.error_message}")
        if "".join(result.logs.stdout).strip() != _INSTALLED:
            raise BridgeError("the sandbox did not answer as a Python process that keeps its state")

    def post(
        self,
        channel: str,
        kind: str,
        content: dict[str, Any],
        *,
        parent: dict[str, Any] | None = None,
        awaited: bool = True,
        buffers: tuple[bytes, ...] = (),
        metadata: dict[str, Any] | None = None,
        limit: OutputLimit | None = None,
        message_id: str = "",
    ) -> Request:
        """Send a message to the kernel in the sandbox.

        Arguments:
            awaited: will something come back for it?
            message_id: the front end's id of this message. Widgets name it to the front end, so
                it must be the same on both sides.
        """
        request = Request(channel, kind, limit, message_id)
        header = {
            "msg_id": request.id,
            "msg_type": kind,
            "username": "",
            "session": "agentbay",
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "version": "5.3",
        }
        message = {
            "c": channel,
            "h": header,
            "p": parent or {},
            "m": metadata or {},
            "b": content,
            "x": [base64.b64encode(part).decode() for part in buffers],
        }
        with self._lock:
            line = json.dumps(message).encode() + b"\n"
            self._unsent += line
            self._posted += len(line)
            request.ends_at = self._posted
            if awaited:
                self._requests[request.id] = request
            if kind == "execute_request":
                self._newest = request.id
            if not self._pumping:
                self._pumping = True
                threading.Thread(target=self._pump, name="agentbay-tunnel", daemon=True).start()
        return request

    def _pump(self) -> None:
        while True:
            with self._lock:
                if not self._unsent and not self._requests:
                    self._pumping = False
                    return
            try:
                self._exchange_patiently()
            except CommandError as error:
                self._fail_all(error)
                return

    def _exchange_patiently(self) -> None:
        began, pause_s = time.monotonic(), 0.1
        unsent = True
        while True:
            try:
                return self._exchange()
            except _REPEATABLE as error:
                unsent = unsent and isinstance(error, ServiceUnreachableError)
                with self._lock:
                    started = any(request.ends_at <= self._sent for request in self._in_order())
                # Code that runs is not given up as soon as code that was never sent.
                patience_s = _PATIENCE_S if started or not unsent else _PATIENCE_UNSENT_S
                if time.monotonic() + pause_s > began + patience_s:
                    if unsent and not started:
                        raise
                    raise BridgeError(
                        f"The session did not answer for {patience_s:.0f} s. Code that was "
                        f"running may run on; its output is lost. The last attempt: {error}"
                    ) from error
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)

    def _in_order(self) -> list[Request]:
        return list(self._requests.values())

    def _fail_all(self, error: CommandError) -> None:
        with self._lock:
            failed, self._requests = self._in_order(), {}
            self._unsent.clear()
            self._posted = self._sent
            self._pumping = False
        for request in failed:
            request.fail(error)

    def _exchange(self) -> None:
        with self._lock:
            piece = bytes(self._unsent[: self._most_sent * 3 // 4 - 64])
            until = self._newest if self._newest in self._requests else None
            self._newest = None
            offset = self._sent
        call = {
            "at": offset,
            "in": base64.b64encode(zlib.compress(piece)).decode(),
            "after": self._after,
            "room": self._room,
            "wait": _WAIT_S if len(piece) == len(self._unsent) else 0.0,
            "linger": _LINGER_S if until else 0.0,
            "until": until,
        }
        # The call is data in JSON; `repr` of plain ASCII is a safe literal.
        code = f"__import__('sys').modules[{_MODULE!r}].exchange({json.dumps(call)!r})"
        result = self._session.code.run_code(code, "python", _CALL_TIMEOUT_S)
        if not result.success:
            raise BridgeError(
                "The sandbox lost the notebook's kernel, and its variables with it: "
                f"{result.error_message}"
            )
        try:
            answer = json.loads("".join(result.logs.stdout).strip().splitlines()[-1])
            data = zlib.decompress(base64.b64decode(answer["out"], validate=True))
            known = int(answer["known"])
        except (ValueError, KeyError, IndexError, TypeError, zlib.error) as error:
            raise InvalidAnswerError(f"The bridge's answer was not readable: {error}") from error
        self.kernel_pid = answer["pid"]
        with self._lock:
            del self._unsent[: max(0, known - self._sent)]
            self._sent = max(self._sent, known)
            self._after += len(data)
        self._line += data
        *lines, rest = bytes(self._line).split(b"\n")
        self._line[:] = rest
        for line in lines:
            self._deliver(json.loads(line))

    def _deliver(self, message: Carried) -> None:
        if message["c"] == "bridge":
            return
        with self._lock:
            request = self._requests.get(message["p"].get("msg_id", ""))
            if request is not None:
                request.deliver(message)
                if request.ended:
                    del self._requests[request.id]


def as_message(carried: Carried) -> Message:
    """A carried message as this project's own."""
    buffers = tuple(base64.b64decode(part) for part in carried.get("x", ()))
    return Message(carried["h"]["msg_type"], carried["b"], carried["m"], buffers)
