"""The near end of the bridge: Jupyter messages carried to a sandbox's kernels by `run_code` calls.

In: requests for the kernels in the sandbox. Out: what they answered, sorted by request, and what
came unasked. One thread makes the calls, one after the other, for as long as something is to be
sent, awaited or listened for. A call is an exchange of bytes at offsets (see sandbox/bridge.py),
so one that failed is made again without anything being posted twice or lost. What must be sent
while a call waits in the sandbox goes in by `Wakeup`.
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
    PASSING_FAILURES,
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
# An answer brings what the kernel uses every 5 s (sandbox/usage.py).
_USAGE_VALID_S = 10.0
# So many events of a debugger may wait for their reader. A session has a few a second.
_MOST_EVENTS = 10_000
_log = get_logger("bridge")


class Inward:
    """What goes to the bridge: a stream of bytes at offsets, so that none arrives twice.

    `sent` ≤ `carried` ≤ `posted`, and `unsent` are the bytes from `sent` to `posted`. An offset of
    the sandbox's answer moves `sent`; nothing else does. Its owner locks it.

    Arguments:
        known: bytes that the bridge had before.
    """

    def __init__(self, known: int = 0) -> None:
        self.unsent = bytearray()
        # Bytes that there are; of these, those that the sandbox has; those on their way or there;
        # those that went and that nobody has confirmed.
        self.posted = self.sent = self.carried = self.doubtful = known

    def add(self, line: bytes) -> int:
        """Add bytes; returns the offset behind them."""
        self.unsent += line
        self.posted += len(line)
        return self.posted

    def confirm(self, known: int) -> None:
        """The sandbox has so many."""
        del self.unsent[: max(0, known - self.sent)]
        self.sent = max(self.sent, known)

    def not_carried(self) -> tuple[int, bytes]:
        """The offset of the first byte that is not on its way, and all from there."""
        offset = max(self.carried, self.sent)
        return offset, bytes(self.unsent[offset - self.sent :])

    def doubt(self) -> None:
        """What is on its way may be there or not."""
        self.doubtful = max(self.doubtful, self.carried)

    def give_up(self) -> int:
        """Send nothing of what waits; returns the offset up to which it may be there.

        In the place of what is on its way go empty lines, so that the offsets of what follows are
        right in either case, and nothing of it is run later.
        """
        self.unsent[:] = b"\n" * max(0, self.carried - self.sent)
        self.posted = self.sent + len(self.unsent)
        return max(self.sent, self.doubtful)


class Outward:
    """What comes from the bridge: a stream of bytes at offsets, so that none is lost or read twice.

    Arguments:
        start: offset of the first byte that is ours.
    """

    def __init__(self, start: int = 0) -> None:
        # Bytes that are here; of these, those of whole messages, never asked for again.
        self.after = self.read = start

    def take(self, answer: Answer) -> bytes:
        """Return what is new of an answer.

        Raises:
            InvalidResponseError: something before it is missing.
        """
        if answer.start > self.after:
            raise InvalidResponseError("The bridge's response has a gap.")
        data = answer.data[self.after - answer.start :]
        self.after += len(data)
        return data


class BridgeClient:
    """Carries messages for one session. Thread-safe.

    Arguments:
        claims: of the notebook's sandboxes on its displays and comms, where it has others too.
        module: name of the bridge in the sandbox's Python.
    """

    def __init__(
        self, session: Session, claims: IdOwners | None = None, module: str = MODULE
    ) -> None:
        self._session = session
        self._module = module
        self._decoder = Decoder(claims or IdOwners())
        self._calls = BridgeTransport(session, module)
        self._lock = threading.Lock()
        self._posting = threading.Condition(self._lock)
        self._inward, self._outward = Inward(), Outward()
        self._pending = PendingRequests()
        self._pumping = False
        self._call = ""  # id of the call that is on its way
        self._call_waits = False  # does it wait in the sandbox for what happens?
        self._call_listens = False  # does it wait there though no request is under way?
        self._answered_at = 0.0
        self._asked_at = 0.0  # when the exchange began that is under way
        self._wakeup = Wakeup(session, "", 0)
        self._holder = 0
        self._probed = False  # was it tried whether the bridge is reached while a call waits?
        self._wakeable = False  # is it?
        self._deaf = False  # was it, and is no longer?
        self._waking = False
        self._late_window = LateOutputWindow()  # to what may come unasked
        self.kernel_pid: int | None = None
        #: Another one for each bridge.
        self.name = ""
        # What the sandbox's kernel uses, as a usage_reply, and since when that is known.
        self._usage: dict[str, Any] = {}
        self._usage_at = 0.0
        # A file in the sandbox, for each cell with all that the cell before it printed.
        self.output_path = ""
        # Of the debugger, for its reader; None as long as there is no reader.
        self._events: queue.Queue[dict[str, Any] | None] | None = None

    def install(self, shown: Callable[[str], int] | None = None) -> None:
        """Start the bridge in the sandbox, or take up the one that runs there.

        Arguments:
            shown: returns how much of a bridge's outward stream the notebook has shown before;
                None if nobody noted that.

        Raises:
            BridgeError: the sandbox can't have one; says why.
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
        self._inward = Inward(start.known)
        self._outward = Outward(max(start.start, shown(self.name) if shown is not None else 0))
        self._decoder.offset = self._outward.after
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
            channel: one of Jupyter's for the Python kernel, `node` for JavaScript.
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
        if kind == "comm_open":
            self._decoder.note_opened(str(content.get("comm_id")))
        # A line of its own, also after one that was given up halfway.
        line = b"\n" + json.dumps(message).encode() + b"\n"
        with self._lock:
            request.ends_at = self._inward.add(line)
            # A call that waits for nothing any more ends by itself.
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
        """Try whether the bridge is reached while a call waits; the lock is held.

        Until an answer says that it was, no call waits for long. For cells that end in their first
        call this is not needed, and a sandbox has less to do without.
        """
        if not self._probed:
            self._probed = True
            threading.Thread(target=self._wakeup.probe, name="agentbay-probe", daemon=True).start()

    @property
    def usage(self) -> dict[str, Any]:
        """What the sandbox's kernel uses, as of the last answer: the content of a usage_reply."""
        with self._lock:
            old = time.monotonic() - self._usage_at > _USAGE_VALID_S
            # Nothing was under way since.
            return {**self._usage, "kernel_cpu": 0.0} if old else dict(self._usage)

    @property
    def silent_s(self) -> float:
        """For how many seconds the session has not answered, though it was asked."""
        with self._lock:
            if not (self._pumping and self._pending):
                return 0.0
            return time.monotonic() - max(self._asked_at, self._answered_at)

    def listen(self, what: str, seconds: float) -> None:
        """Collect what comes unasked, for so long from now: output of threads and timers.

        Arguments:
            what: who may send it, so that this one can say that nothing more will come.
        """
        with self._lock:
            self._late_window.begin(what, seconds)
            self._pending.listen()
            self._probe()
            if not self._pumping:
                self._start_pump()

    def stop_listening(self, what: str) -> None:
        """From there nothing more will come unasked."""
        with self._lock:
            self._late_window.end(what)
            self._end_idle_call()

    def late(self) -> Iterator[WireMessage] | None:
        """What comes unasked: messages of no request that is under way. Ends with the connection.
        None for all who ask but the first."""
        return self._pending.late()

    def debug_events(self) -> Iterator[dict[str, Any]]:
        """The debugger's events from now on, for one reader; ends with the connection, or with the
        next reader."""
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._end_debug_events()
        self._events = events
        return iter(events.get, None)

    @property
    def has_debugger(self) -> bool:
        """Does somebody read the debugger's events?"""
        return self._events is not None

    def _end_debug_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.put(None)

    def close(self, error: CommandError | None = None) -> None:
        """Listen no more, and with an error, collect no more: what is under way goes on in the
        sandbox, and whoever waits for it here gets the error."""
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
                if not self._inward.unsent and not self._pending:
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
                # Whatever it is, cells that wait must not wait for ever.
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
            except PASSING_FAILURES as error:
                with self._lock:
                    started = any(r.ends_at <= self._inward.sent for r in self._pending.awaited)
                retry.wait(error, self._answered_at, started)

    def _fail_all(self, error: CommandError) -> None:
        self._end_debug_events()
        gone = isinstance(error, SessionNotFoundError)
        if gone or isinstance(error, BridgeError):
            self._decoder.close()
        with self._lock:
            there = self._inward.give_up()
            self._late_window.end_all()
            self._pumping = False
        if gone:
            # The call was refused; what earlier calls had brought was there, and ended with it.
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
                    # It waited, and what it waited for takes longer.
                    self._probe()
        except PASSING_FAILURES as error:
            if not isinstance(error, ServiceUnreachableError | ThrottledError):
                with self._lock:
                    self._inward.doubt()
                if self._wakeable:
                    # It may be waiting in the sandbox still, in the way of the next one.
                    self._release(call["id"])
            raise
        except KernelEndedError:
            raise
        except BridgeError as error:
            # A bridge that has answered before is one that this sandbox can have again.
            if self._answered_at:
                raise KernelEndedError(f"{error} The next cell starts a new one.") from error
            raise
        finally:
            with self._lock:
                self._call, self._call_waits, self._call_listens = "", False, False

    def _next_call(self) -> dict[str, Any]:
        route, inward = self._calls.route, self._inward
        piece, packed = route.largest_piece(inward.unsent)
        # Where nothing wakes a call, one that only listens does not wait: the next cell would.
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
            "after": self._outward.after,
            "forget": self._outward.read,
            "room": route.room,
            "wait": wait_s,
            "linger": route.linger_s,
            "until": brought,
            "listen": listens,
        }

    def _receive(self, answer: Answer) -> None:
        """Take an answer."""
        if answer.known > self._inward.posted:
            raise InvalidResponseError("The bridge reports more messages than it was sent.")
        with self._lock:
            data = self._outward.take(answer)
            self._inward.confirm(answer.known)
            self._answered_at = time.monotonic()
            if answer.usage is not None:
                self._usage, self._usage_at = answer.usage, self._answered_at
            self._wakeable = answer.heard and not self._deaf
            self._late_window.heard(bool(data))
        for message in self._decoder.feed(data):
            if isinstance(message, Refused) or message["c"] != "bridge":
                if isinstance(message, dict) and message["h"]["msg_type"] == "debug_event":
                    self._take_debug_event(message["b"])
                    continue
                self._pending.sort(message)
                if isinstance(message, Refused) and message.question:
                    # Nobody will answer: the cell that asks ends.
                    cell = {"cell": message.request}
                    self.post("control", "interrupt_request", cell, awaited=False)
            else:
                self._hear_bridge(message)
        with self._lock:
            self._outward.read = self._decoder.offset
            self._end_idle_call()

    def _take_debug_event(self, event: dict[str, Any]) -> None:
        # Not under the request that they name, which may have ended: each stands for itself.
        if self._events is not None and self._events.qsize() < _MOST_EVENTS:
            self._events.put(event)

    def _end_idle_call(self) -> None:
        """A call that waits for nothing any more is ended: the next cell would have to wake it."""
        if self._call_listens and not self._pending and not self._late_window:
            self._call_listens = False
            self._release(self._call)

    def _release(self, call: str) -> None:
        """Let a call end that may wait in the sandbox; nobody waits here for that."""
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
        """Bring what was posted while a call waits, as long as there is such."""
        failed = 0
        while True:
            with self._lock:
                call = self._call
                offset, fresh = self._inward.not_carried()
                forget = self._outward.read
                if failed == _MOST_FAILED_WAKES:
                    self._wakeable, self._deaf = False, True
                if not (call and fresh and self._wakeable):
                    self._waking = False
                    return
            if len(fresh) > MOST_BROUGHT:
                # The call ends, and the next one brings it.
                done = self._wakeup.release(call)
                brought = 0
            else:
                done = self._wakeup.bring(offset, fresh, forget)
                brought = len(fresh)
            with self._lock:
                failed += not done
                if done and self._call == call:
                    self._inward.carried = offset + brought
                if done and not brought:
                    self._waking = False
                    return
