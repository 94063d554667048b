"""The near end of the bridge: Jupyter messages carried to a sandbox's kernel by `run_code` calls.

In: requests for the kernel in the sandbox. Out: what it answered, sorted by request. One thread
makes the calls, one after the other, for as long as something is to be sent or awaited. A call
is an exchange of bytes at offsets (see sandbox/bridge.py), so one that failed is made again
without anything being posted twice or lost. Where the session streams, a call answers on and on;
what must be sent while one waits in the sandbox goes in by `Waker`.
"""

from __future__ import annotations

import base64
import functools
import json
import threading
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import (
    AnswerLostError,
    BridgeError,
    CommandError,
    InvalidAnswerError,
    KernelEndedError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)
from agentbay_kernel.execution.limit import OutputLimit
from agentbay_kernel.execution.request import Carried, Request
from agentbay_kernel.execution.waking import MOST_BROUGHT, Waker
from agentbay_kernel.service import CodeChunk, CodeExecutionResult, Session

# The action route carries about 63 KB a message, envelope included; LinkUrl has no known limit,
# and frames of a WebSocket are best below 1 MiB.
_ROOM_ACTION, _ROOM_LINK, _ROOM_STREAM = 44_000, 4_000_000, 400_000
_MOST_SENT_ACTION, _MOST_SENT_LINK, _MOST_SENT_STREAM = 40_000, 2_000_000, 600_000
# How long a call waits for something to happen: one that can be woken, one that can't, one that
# streams and can be woken. The gateway ends each after 60 s.
_WAIT_S, _WAIT_DEAF_S, _WAIT_STREAM_S = 1.0, 0.4, 50.0
# How long output waits for the end of what caused it, in a call that answers once or streams.
_LINGER_S, _LINGER_STREAM_S = 0.15, 0.006
_CALL_TIMEOUT_S, _STREAM_TIMEOUT_S = 30, 60
# A call that streams says something every 5 s.
_SILENCE_S = 13.0
# A call that streams ends after so many bytes: then the sandbox may forget them.
_MOST_STREAMED = 16 * 1024 * 1024
# The sandbox keeps this many bytes for a front end that does not collect.
_BOUND = 64 * 1024 * 1024
# How long a service that fails is asked again.
_PATIENCE_S = 60.0
_PATIENCE_UNSENT_S = 5.0
_MOST_FAILED_WAKES = 3
_REPEATABLE = (
    AnswerLostError,
    InvalidAnswerError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)
# What a call ends with that was stopped from outside; the bridge itself is well.
_STOPPED = ("TimeoutError", "KeyboardInterrupt")
_MODULE = "_agentbay_bridge"
# The far end's modules by the names under which they find each other, its main one last.
_SOURCES = {"agentbay_kernel.sandbox.outbox": "outbox.py", _MODULE: "bridge.py"}


@functools.cache
def _installing_code() -> str:
    folder = Path(__file__).parents[1] / "sandbox"
    packed = {
        name: base64.b64encode(zlib.compress(folder.joinpath(file).read_bytes(), 9)).decode()
        for name, file in _SOURCES.items()
    }
    return (
        "import base64, sys, types, zlib\n"
        f"for _name, _packed in {packed!r}.items():\n"
        "    _m = sys.modules[_name] = types.ModuleType(_name)\n"
        "    exec(zlib.decompress(base64.b64decode(_packed)), _m.__dict__)\n"
        f"_m.start({_BOUND})\n"
    )


def _largest_piece(data: bytearray, room: int) -> tuple[bytes, str]:
    """As much from the start of the data as fits when packed, and that."""
    size = room * 3 // 4 - 64
    piece = bytes(data[:size])
    packed = base64.b64encode(zlib.compress(piece)).decode()
    # Code packs to a fraction, pictures hardly; base64 adds a third.
    if len(piece) == size and len(packed) < room // 2:
        larger = bytes(data[: size * room // len(packed) * 9 // 10])
        repacked = base64.b64encode(zlib.compress(larger)).decode()
        if len(repacked) <= room:
            piece, packed = larger, repacked
    return piece, packed


class Tunnel:
    """Carries messages for one session. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._posted = 0  # inward bytes there are
        self._sent = 0  # of these, those that the sandbox has
        self._carried = 0  # of these, those that are on their way or there
        self._after = 0  # outward bytes that are here
        self._line = bytearray()
        self._requests: dict[str, Request] = {}
        self._pumping = False
        self._call = ""  # id of the call that is on its way
        self._answered_at = 0.0
        self._waker = Waker(session, "")
        self._wakeable = False  # is the bridge reached while a call waits?
        self._deaf = False  # was it, and is no longer?
        self._waking = False
        self._wait_stream_s = _WAIT_STREAM_S
        self.kernel_pid: int | None = None

    def install(self) -> None:
        """Start the bridge in the sandbox.

        Raises:
            BridgeError: the sandbox can't have one; says why.
            CommandError: the service failed.
        """
        result = self._session.code.run_code(_installing_code(), "python", _CALL_TIMEOUT_S)
        if not result.success:
            raise BridgeError(f"the sandbox can't run a bridge: {result.error_message}")
        try:
            told = json.loads("".join(result.logs.stdout))
            self.kernel_pid, pipe = int(told["pid"]), str(told["pipe"])
        except (ValueError, KeyError, TypeError):
            raise BridgeError(
                "the sandbox did not answer as a Python process that keeps its state"
            ) from None
        self._waker = Waker(self._session, pipe)
        # Until an answer says that the bridge heard it, no call waits for long.
        threading.Thread(target=self._waker.knock, name="agentbay-knock", daemon=True).start()

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
        subshell: str = "",
    ) -> Request:
        """Send a message to the kernel in the sandbox.

        Arguments:
            awaited: will something come back for it?
            message_id: the front end's id of this message. Widgets name it to the front end, so
                it must be the same on both sides.
            subshell: id of the subshell of the sandbox's kernel that answers; the main one if
                empty.
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
        if subshell:
            header["subshell_id"] = subshell
        message = {
            "c": channel,
            "h": header,
            "p": parent or {},
            "m": metadata or {},
            "b": content,
            "x": [base64.b64encode(part).decode() for part in buffers],
        }
        # A line of its own, also after one that was given up halfway.
        line = b"\n" + json.dumps(message).encode() + b"\n"
        with self._lock:
            self._unsent += line
            self._posted += len(line)
            request.ends_at = self._posted
            # A call that waits for nothing any more ends by itself.
            waits = bool(self._call and self._requests)
            if awaited:
                self._requests[request.id] = request
            if not self._pumping:
                self._pumping = True
                threading.Thread(target=self._pump, name="agentbay-tunnel", daemon=True).start()
            elif waits and self._wakeable and not self._waking:
                self._waking = True
                threading.Thread(target=self._wake, name="agentbay-wake", daemon=True).start()
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
        failing_since, pause_s = 0.0, 0.1
        unsent = True
        while True:
            try:
                return self._exchange()
            except _REPEATABLE as error:
                now = time.monotonic()
                failing_since = max(failing_since or now, self._answered_at)
                unsent = unsent and isinstance(error, ServiceUnreachableError)
                with self._lock:
                    started = any(r.ends_at <= self._sent for r in self._requests.values())
                # Code that runs is not given up as soon as code that was never sent.
                patience_s = _PATIENCE_S if started or not unsent else _PATIENCE_UNSENT_S
                if now + pause_s > failing_since + patience_s:
                    if unsent and not started:
                        raise
                    raise BridgeError(
                        f"The session did not answer for {patience_s:.0f} s. Code that was "
                        f"running may run on; its output is lost. The last attempt: {error}"
                    ) from error
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)

    def _fail_all(self, error: CommandError) -> None:
        with self._lock:
            failed, self._requests = list(self._requests.values()), {}
            self._unsent.clear()
            self._posted = self._sent
            self._pumping = False
        for request in failed:
            request.fail(error)

    def _exchange(self) -> None:
        streams = self._session.can_stream
        with self._lock:
            call = self._next_call(streams)
        # The call is data in JSON; `repr` of plain ASCII is a safe literal.
        code = f"__import__('sys').modules[{_MODULE!r}].exchange({json.dumps(call)!r})"
        began_at = time.monotonic()
        try:
            result = self._streamed(code) if streams else self._answered(code)
        except _REPEATABLE as error:
            if not isinstance(error, ServiceUnreachableError) and self._wakeable:
                # It may be waiting in the sandbox still, in the way of the next one.
                self._waker.release(call["id"])
            raise
        finally:
            with self._lock:
                self._call = ""
        if result.error is not None and result.error.name in _STOPPED:
            # Something between here and there allows calls less time than was thought.
            self._wait_stream_s = max(_WAIT_DEAF_S, (time.monotonic() - began_at) / 2)
            raise AnswerLostError(f"A collecting call was stopped: {result.error_message}")
        if not result.success:
            raise BridgeError(
                "The sandbox lost the notebook's kernel, and its variables with it: "
                f"{result.error_message}"
            )

    def _next_call(self, streams: bool) -> dict[str, Any]:
        by_link = bool(self._session.link_url and "run_code" in self._session.tools)
        if streams:
            room, most_sent, wait_s = _ROOM_STREAM, _MOST_SENT_STREAM, self._wait_stream_s
        elif by_link:
            room, most_sent, wait_s = _ROOM_LINK, _MOST_SENT_LINK, _WAIT_S
        else:
            room, most_sent, wait_s = _ROOM_ACTION, _MOST_SENT_ACTION, _WAIT_S
        if not self._wakeable:
            wait_s = min(wait_s, _WAIT_DEAF_S)
        piece, packed = _largest_piece(self._unsent, most_sent)
        self._call = uuid.uuid4().hex
        self._carried = self._sent + len(piece)
        brought = [
            request.id
            for request in self._requests.values()
            if self._sent < request.ends_at <= self._carried
        ]
        call = {
            "id": self._call,
            "at": self._sent,
            "in": packed,
            "after": self._after,
            "room": room,
            "wait": wait_s if len(piece) == len(self._unsent) else 0.0,
            "linger": _LINGER_STREAM_S if streams else _LINGER_S,
            "until": brought,
        }
        return {**call, "most": _MOST_STREAMED} if streams else call

    def _answered(self, code: str) -> CodeExecutionResult:
        result = self._session.code.run_code(code, "python", _CALL_TIMEOUT_S)
        if result.success:
            self._receive("".join(result.logs.stdout).strip().rpartition("\n")[2])
        return result

    def _streamed(self, code: str) -> CodeExecutionResult:
        line: list[str] = []
        with self._session.code.stream_code(
            code, "python", _STREAM_TIMEOUT_S, silence_s=_SILENCE_S
        ) as events:
            for event in events:
                if isinstance(event, CodeExecutionResult):
                    return event
                if not isinstance(event, CodeChunk) or event.name != "stdout":
                    continue
                first, *others = event.text.split("\n")
                line.append(first)
                for other in others:
                    self._receive("".join(line))
                    line = [other]
        raise InvalidAnswerError("A collecting call ended without its end.")

    def _receive(self, line: str) -> None:
        """Take a line of answer."""
        try:
            answer = json.loads(line)
            data = zlib.decompress(base64.b64decode(answer["out"], validate=True))
            known, offset = int(answer["known"]), int(answer["from"])
            heard = bool(answer["heard"])
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise InvalidAnswerError(f"The bridge's answer was not readable: {error}") from error
        if offset > self._after:
            raise InvalidAnswerError("The bridge's answer has a gap.")
        data = data[self._after - offset :]
        with self._lock:
            del self._unsent[: max(0, known - self._sent)]
            self._sent = max(self._sent, known)
            self._after += len(data)
            self._answered_at = time.monotonic()
            self._wakeable = heard and not self._deaf
        self._line += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._line).split(b"\n")
        self._line[:] = rest
        try:
            for message in lines:
                self._deliver(json.loads(message))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BridgeError(
                f"The sandbox's bridge sent a message that is none ({type(error).__name__})."
            ) from error

    def _deliver(self, message: Carried) -> None:
        if message["c"] == "bridge":
            if "died" in message:
                raise KernelEndedError(
                    f"The notebook's kernel in the sandbox ended (status {message['died']}), and "
                    "its variables with it. The next cell starts a new one."
                )
            return
        with self._lock:
            request = self._requests.get(message["p"].get("msg_id", ""))
            if request is not None:
                request.deliver(message)
                if request.ended:
                    del self._requests[request.id]

    def _wake(self) -> None:
        """Bring what was posted while a call waits, as long as there is such."""
        failed = 0
        while True:
            with self._lock:
                call = self._call
                offset = max(self._carried, self._sent)
                fresh = bytes(self._unsent[offset - self._sent :])
                if failed == _MOST_FAILED_WAKES:
                    self._wakeable, self._deaf = False, True
                if not (call and fresh and self._wakeable):
                    self._waking = False
                    return
            if len(fresh) > MOST_BROUGHT:
                # The call ends, and the next one brings it.
                done = self._waker.release(call)
                brought = 0
            else:
                done = self._waker.bring(offset, fresh)
                brought = len(fresh)
            with self._lock:
                failed += not done
                if done and self._call == call:
                    self._carried = offset + brought
                if done and not brought:
                    self._waking = False
                    return
