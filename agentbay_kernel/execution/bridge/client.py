"""The local end of the bridge: `run_code` calls carry Jupyter messages to a sandbox's kernels.

Requests go to the kernels in the sandbox. Their messages come back sorted by request; messages
without a request are late output. One thread makes one call after the other while there is
something to send, to wait for or to collect. A call exchanges bytes at offsets (see
sandbox/bridge.py), so a failed call can be repeated, and nothing is posted twice or lost. While a
call waits in the sandbox, `Wakeup` sends it what is posted.
"""

from __future__ import annotations

import base64
import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    TRANSIENT_FAILURES,
    BridgeError,
    CommandError,
    InvalidResponseError,
    KernelEndedError,
    ResponseLostError,
    ServiceUnreachableError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.execution.bridge.decoder import (
    Answer,
    Decoder,
    IdOwners,
    Refused,
    WireMessage,
    read_start,
)
from agentbay_kernel.execution.bridge.installer import MODULE, installing_code
from agentbay_kernel.execution.bridge.requests import LateOutputWindow, PendingRequests, Request
from agentbay_kernel.execution.bridge.transport import BridgeTransport, RetryPolicy
from agentbay_kernel.execution.bridge.wakeup import MOST_BROUGHT, Wakeup
from agentbay_kernel.execution.output_limit import OutputLimit
from agentbay_kernel.service import Session
from agentbay_kernel.service.log import get_logger

_INSTALL_TIMEOUT_S = 30
_MOST_FAILED_WAKES = 3
# The kernel's usage comes with a response every 5 s (sandbox/usage.py).
_USAGE_VALID_S = 10.0
# Most debugger events that wait for their reader. A session has a few a second.
_MOST_EVENTS = 10_000
_log = get_logger("bridge")


class OutgoingStream:
    """The stream to the bridge: bytes at offsets, so that none arrives twice.

    `sent` ≤ `carried` ≤ `posted`, and `unsent` has the bytes from `sent` to `posted`. Only an
    offset in the sandbox's response changes `sent`. The owner must lock this object.

    Arguments:
        known: number of bytes that the bridge had before.
    """

    def __init__(self, known: int = 0) -> None:
        self.unsent = bytearray()
        # Numbers of bytes: all that were posted; those that the sandbox confirmed; those that are
        # being sent or were confirmed; those that may have arrived without confirmation.
        self.posted = self.sent = self.carried = self.doubtful = known

    def add(self, line: bytes) -> int:
        """Add bytes; return the offset behind them."""
        self.unsent += line
        self.posted += len(line)
        return self.posted

    def confirm(self, known: int) -> None:
        """Note how many bytes the sandbox has."""
        del self.unsent[: max(0, known - self.sent)]
        self.sent = max(self.sent, known)

    def not_carried(self) -> tuple[int, bytes]:
        """Return the bytes that are not being sent, and the offset of the first."""
        offset = max(self.carried, self.sent)
        return offset, bytes(self.unsent[offset - self.sent :])

    def doubt(self) -> None:
        """Note that the bytes that are being sent may have arrived."""
        self.doubtful = max(self.doubtful, self.carried)

    def give_up(self) -> int:
        """Drop all bytes that were not confirmed; return the offset up to which they may be there.

        Empty lines replace the bytes that are being sent. So later offsets are right whether these
        bytes arrived or not, and none of them runs later.
        """
        self.unsent[:] = b"\n" * max(0, self.carried - self.sent)
        self.posted = self.sent + len(self.unsent)
        return max(self.sent, self.doubtful)


class IncomingStream:
    """The stream from the bridge: bytes at offsets, so that none is lost or read twice.

    Arguments:
        start: offset of the first byte for this client.
    """

    def __init__(self, start: int = 0) -> None:
        # Offsets behind the bytes that are here, and behind the last whole message. Bytes before
        # `read` are never requested again.
        self.after = self.read = start

    def take(self, answer: Answer) -> bytes:
        """Return the new bytes of a response.

        Raises:
            InvalidResponseError: bytes before them are missing.
        """
        if answer.start > self.after:
            raise InvalidResponseError("The bridge's response has a gap.")
        data = answer.data[self.after - answer.start :]
        self.after += len(data)
        return data


class BridgeClient:
    """Carries messages for one session. Thread-safe.

    Arguments:
        id_owners: the owners of the notebook's displays and comms, if it has other sandboxes too.
        module: the bridge's name in the sandbox's Python.
    """

    def __init__(
        self, session: Session, id_owners: IdOwners | None = None, module: str = MODULE
    ) -> None:
        self._session = session
        self._module = module
        self._decoder = Decoder(id_owners or IdOwners())
        self._calls = BridgeTransport(session, module)
        self._lock = threading.Lock()
        self._posting = threading.Condition(self._lock)
        self._outgoing, self._incoming = OutgoingStream(), IncomingStream()
        self._pending = PendingRequests()
        self._pumping = False
        self._call = ""  # id of the current call
        self._call_waits = False  # whether it may wait in the sandbox for output
        self._call_listens = False  # whether it waits there also without a pending request
        self._answered_at = 0.0
        self._asked_at = 0.0  # start of the current exchange
        self._wakeup = Wakeup(session, "", 0)
        self._holder = 0
        self._probed = False  # whether a wakeup was tried
        self._wakeable = False  # whether wakeups reach a call that waits
        self._is_unwakeable = False  # whether wakeups worked before, but failed too often
        self._waking = False
        self._late_window = LateOutputWindow()
        self.kernel_pid: int | None = None
        #: Different for each bridge.
        self.name = ""
        # The content of the sandbox kernel's usage_reply, and when it arrived.
        self._usage: dict[str, Any] = {}
        self._usage_at = 0.0
        # Path of a file in the sandbox in which a cell finds all that the cell before it printed.
        self.output_path = ""
        # Events of the debugger, for its reader; None if there is no reader.
        self._events: queue.Queue[dict[str, Any] | None] | None = None

    def install(self, shown: Callable[[str], int] | None = None) -> None:
        """Start the bridge in the sandbox, or take over the one that runs there.

        Arguments:
            shown: returns the offset up to which the notebook has shown the outward stream of the
                bridge of that name; None if this was not recorded.

        Raises:
            BridgeError: the sandbox can't run a bridge; the message shows why.
            CommandError: the service failed.
        """
        result = self._session.code.run_code(
            installing_code(self._module), "python", _INSTALL_TIMEOUT_S
        )
        if not result.success:
            raise BridgeError(f"the sandbox can't run a bridge: {result.error_message}")
        try:
            start = read_start("".join(result.logs.stdout))
        except InvalidResponseError:
            raise BridgeError(
                "the sandbox did not respond like a Python process that keeps its state"
            ) from None
        self.kernel_pid, self.output_path = start.pid, start.output
        self.name = f"{start.pid} {start.pipe}"
        self._outgoing = OutgoingStream(start.known)
        self._incoming = IncomingStream(
            max(start.start, shown(self.name) if shown is not None else 0)
        )
        self._decoder.offset = self._incoming.after
        if start.known:
            self._pending.expect_left_behind()
        self._holder = start.holder
        self._wakeup = Wakeup(self._session, start.pipe, start.holder)

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
        """Send a message to a kernel in the sandbox.

        Arguments:
            channel: a channel of Jupyter for the Python kernel, `node` for JavaScript.
            awaited: whether messages will come back for it.
            limit: the output limit of a notebook's cell; None for other messages.
            message_id: the front end's id of this message. Widgets send it to the front end, so it
                must be the same on both sides.
            subshell: id of the sandbox kernel's subshell that handles the message; the main shell
                if empty.
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
        if kind == "comm_open":
            self._decoder.note_opened(str(content.get("comm_id")))
        # A newline before it too: an earlier line may have been dropped halfway.
        line = b"\n" + json.dumps(message).encode() + b"\n"
        with self._lock:
            request.ends_at = self._outgoing.add(line)
            # A call that has nothing to wait for ends by itself.
            waits = self._call_waits and bool(self._pending or self._call_listens)
            if awaited:
                self._pending.expect(request)
            self._posting.notify()
            if not self._pumping:
                self._start_pump()
            elif waits and self._wakeable and not self._waking:
                self._waking = True
                threading.Thread(target=self._wake, name="agentbay-wake", daemon=True).start()
            elif waits:
                self._probe()
        return request

    def _probe(self) -> None:
        """Test once whether wakeups reach a call that waits. The caller must hold the lock.

        Until a response confirms it, no call waits for long. A cell that ends in its first call
        does not need the test, which is work for the sandbox.
        """
        if not self._probed:
            self._probed = True
            threading.Thread(target=self._wakeup.probe, name="agentbay-probe", daemon=True).start()

    @property
    def usage(self) -> dict[str, Any]:
        """The usage of the sandbox's kernel in the last response: the content of a usage_reply."""
        with self._lock:
            old = time.monotonic() - self._usage_at > _USAGE_VALID_S
            # No response since then, so nothing was running.
            return {**self._usage, "kernel_cpu": 0.0} if old else dict(self._usage)

    @property
    def silent_s(self) -> float:
        """The seconds for which the session has not responded to a pending request; else 0."""
        with self._lock:
            if not (self._pumping and self._pending):
                return 0.0
            return time.monotonic() - max(self._asked_at, self._answered_at)

    def listen(self, what: str, seconds: float) -> None:
        """Collect late output, of threads and timers, from now on.

        Arguments:
            what: name of the output's source, for `stop_listening`.
            seconds: how long to collect it.
        """
        with self._lock:
            self._late_window.begin(what, seconds)
            self._pending.listen()
            self._probe()
            if not self._pumping:
                self._start_pump()

    def stop_listening(self, what: str) -> None:
        """Stop collecting late output of this source: no more will come."""
        with self._lock:
            self._late_window.end(what)
            self._end_idle_call()

    def late(self) -> Iterator[WireMessage] | None:
        """Return the late output: messages without a pending request, until the connection ends.

        Only the first call returns it; later calls return None.
        """
        return self._pending.late()

    def debug_events(self) -> Iterator[dict[str, Any]]:
        """Return the debugger's events from now on, for one reader.

        They end with the connection, or when another reader calls this.
        """
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._end_debug_events()
        self._events = events
        return iter(events.get, None)

    @property
    def has_debugger(self) -> bool:
        """Whether there is a reader of the debugger's events."""
        return self._events is not None

    def _end_debug_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.put(None)

    def close(self, error: CommandError | None = None) -> None:
        """Stop collecting late output; with an error, fail the pending requests too.

        Their code continues in the sandbox; their readers get the error.
        """
        with self._lock:
            self._late_window.end_all()
            self._end_idle_call()
        self._decoder.close()
        self._pending.close()
        self._end_debug_events()
        if error is not None:
            self._fail_all(error)

    def _start_pump(self) -> None:
        self._pumping = True
        threading.Thread(target=self._pump, name="agentbay-bridge", daemon=True).start()

    def _pump(self) -> None:
        while True:
            with self._lock:
                if not self._outgoing.unsent and not self._pending:
                    if not self._late_window:
                        self._pumping = False
                        return
                    if not (self._calls.stream and self._wakeable):
                        self._posting.wait(self._late_window.backoff.pause_s)
            try:
                self._exchange_patiently()
            except CommandError as error:
                self._fail_all(error)
                return
            except Exception as error:
                # After any error, cells must not wait without end.
                _log.exception("The connection to a bridge failed")
                self._fail_all(
                    BridgeError(
                        f"The bridge to the sandbox's kernel failed here ({type(error).__name__}). "
                        "Code that was running may run on; its output is lost."
                    )
                )
                return

    def _exchange_patiently(self) -> None:
        retry = RetryPolicy()
        with self._lock:
            self._asked_at = time.monotonic()
        while True:
            try:
                return self._exchange()
            except TRANSIENT_FAILURES as error:
                with self._lock:
                    started = any(r.ends_at <= self._outgoing.sent for r in self._pending.awaited)
                retry.wait(error, self._answered_at, started)

    def _fail_all(self, error: CommandError) -> None:
        self._end_debug_events()
        gone = isinstance(error, SessionNotFoundError)
        if gone or isinstance(error, BridgeError):
            self._decoder.close()
        with self._lock:
            there = self._outgoing.give_up()
            self._late_window.end_all()
            self._pumping = False
        if gone:
            # This call was refused. Requests of earlier calls had arrived, and ended with the
            # session.
            self._pending.fail_all(
                ResponseLostError(f"It ended with its session, before a response: {error}"),
                until=there,
            )
        self._pending.fail_all(error)

    def _exchange(self) -> None:
        with self._lock:
            call = self._next_call()
        try:
            for answer in self._calls.answers(call):
                self._receive(answer)
            with self._lock:
                if self._call_waits and self._pending:
                    # It waited, and the pending request takes longer.
                    self._probe()
        except TRANSIENT_FAILURES as error:
            if not isinstance(error, ServiceUnreachableError | ThrottledError):
                with self._lock:
                    self._outgoing.doubt()
                if self._wakeable:
                    # It may still wait in the sandbox, and block the next call.
                    self._release(call["id"])
            raise
        except KernelEndedError:
            raise
        except BridgeError as error:
            # The bridge has responded before, so this sandbox can run one again.
            if self._answered_at:
                raise KernelEndedError(f"{error} The next cell starts a new one.") from error
            raise
        finally:
            with self._lock:
                self._call, self._call_waits, self._call_listens = "", False, False

    def _next_call(self) -> dict[str, Any]:
        route, inward = self._calls.route, self._outgoing
        piece, packed = route.largest_piece(inward.unsent)
        # Without wakeups, a call that only collects late output must not wait: it would block the
        # next cell.
        listens = self._calls.stream and self._wakeable and bool(self._late_window)
        waits = (self._pending or listens) and len(piece) == len(inward.unsent)
        wait_s = self._calls.wait_s(self._wakeable) if waits else 0.0
        if not self._pending:
            wait_s = min(wait_s, self._late_window.left_s)
        self._call, self._call_waits, self._call_listens = uuid.uuid4().hex, wait_s > 0, listens
        inward.carried = inward.sent + len(piece)
        brought = [
            request.id
            for request in self._pending.awaited
            if inward.sent < request.ends_at <= inward.carried
        ]
        return {
            "id": self._call,
            "holder": self._holder,
            "at": inward.sent,
            "in": packed,
            "after": self._incoming.after,
            "forget": self._incoming.read,
            "room": route.room,
            "wait": wait_s,
            "linger": route.linger_s,
            "until": brought,
            "listen": listens,
        }

    def _receive(self, answer: Answer) -> None:
        """Handle a response."""
        if answer.known > self._outgoing.posted:
            raise InvalidResponseError("The bridge reports more messages than it was sent.")
        with self._lock:
            data = self._incoming.take(answer)
            self._outgoing.confirm(answer.known)
            self._answered_at = time.monotonic()
            if answer.usage is not None:
                self._usage, self._usage_at = answer.usage, self._answered_at
            self._wakeable = answer.heard and not self._is_unwakeable
            self._late_window.heard(bool(data))
        for message in self._decoder.feed(data):
            if isinstance(message, Refused) or message["c"] != "bridge":
                if isinstance(message, dict) and message["h"]["msg_type"] == "debug_event":
                    self._take_debug_event(message["b"])
                    continue
                self._pending.sort(message)
                if isinstance(message, Refused) and message.question:
                    # The cell waits for input that no user can give, so it is interrupted.
                    cell = {"cell": message.request}
                    self.post("control", "interrupt_request", cell, awaited=False)
            else:
                self._hear_bridge(message)
        with self._lock:
            self._incoming.read = self._decoder.offset
            self._end_idle_call()

    def _take_debug_event(self, event: dict[str, Any]) -> None:
        # Not passed on by its request, which may have ended.
        if self._events is not None and self._events.qsize() < _MOST_EVENTS:
            self._events.put(event)

    def _end_idle_call(self) -> None:
        """End a call that has nothing to wait for: else the next cell would have to wake it."""
        if self._call_listens and not self._pending and not self._late_window:
            self._call_listens = False
            self._release(self._call)

    def _release(self, call: str) -> None:
        """End a call that may wait in the sandbox, without waiting for its end."""
        threads.start(lambda: self._wakeup.release(call))

    def _hear_bridge(self, message: WireMessage) -> None:
        if "died" in message:
            raise KernelEndedError(
                f"The notebook's kernel in the sandbox ended (status {message['died']}), and "
                "its variables with it. The next cell starts a new one."
            )
        if "quiet" in message:
            self.stop_listening(str(message["quiet"]))
        elif "dropped" in message:
            self._pending.tell(
                f"\n[AgentBay: {int(message['dropped']):,} messages of this session were dropped "
                "in the sandbox: nobody collected them, and it keeps only so much.]\n"
            )

    def _wake(self) -> None:
        """Send what is posted while a call waits, until nothing is left to send."""
        failed = 0
        while True:
            with self._lock:
                call = self._call
                offset, fresh = self._outgoing.not_carried()
                forget = self._incoming.read
                if failed == _MOST_FAILED_WAKES:
                    self._wakeable, self._is_unwakeable = False, True
                if not (call and fresh and self._wakeable):
                    self._waking = False
                    return
            if len(fresh) > MOST_BROUGHT:
                # End the call; the next one sends the bytes.
                done = self._wakeup.release(call)
                brought = 0
            else:
                done = self._wakeup.bring(offset, fresh, forget)
                brought = len(fresh)
            with self._lock:
                failed += not done
                if done and self._call == call:
                    self._outgoing.carried = offset + brought
                if done and not brought:
                    self._waking = False
                    return
