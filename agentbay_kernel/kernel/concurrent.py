"""A kernel whose requests each have their own status, outputs and reply, even at the same time.

Each message is a task with its own context (`contextvars`). Its parent is set there, so it is the
same from its busy status to its idle status. ipykernel 7.4 has one context for all messages of a
shell: a message beside a cell replaces the cell's parent.

Cells take turns, also cells of the control channel. So does every message that must keep its
position among the cells. Comm messages and introspection requests (completion, inspection) are
handled at once; the handler of comm messages keeps their order. A request beside a cell ends with
its own idle status. A page takes the latest status for the kernel's, so a busy status of the cell
follows.

Requests of a debugger take their own turns: a slow one delays neither an interrupt nor a cell,
unless it sets breakpoints. While the debugger halts the cell, no busy status follows their idle
status.

Subshells are neither advertised nor created: the sandbox can't run their cells beside those of the
main shell.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar, copy_context
from typing import Any

import zmq
from ipykernel.kernelbase import Kernel
from jupyter_client.jsonutil import json_clean

JsonObject = dict[str, Any]

# Whether the request that is being handled passes a running cell.
_passes: ContextVar[bool] = ContextVar("passes", default=False)
# Whether it came by the control channel, although it is a request of the shell.
_by_control: ContextVar[bool] = ContextVar("by_control", default=False)

_SET_BREAKPOINTS = ("setBreakpoints", "setFunctionBreakpoints", "setExceptionBreakpoints")
# How long a cell waits for breakpoints that were set before it.
_BREAKPOINTS_S = 5.0


class ConcurrentKernel(Kernel):
    """A kernel that handles requests concurrently.

    Subclasses define in `passes_cells` which requests don't wait for their turn.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The request of the running cell, and when its turn started (monotonic clock, seconds).
        self._cell: JsonObject | None = None
        self._cell_began = 0.0
        # Cells that wait for their turn.
        self._waiting = 0
        # Ids of cells of the control channel that are not idle yet.
        self._of_control: set[str] = set()
        self._debug_turn = asyncio.Lock()
        # Requests that set breakpoints and have no reply yet; used on the control channel's thread.
        self._breakpoints: set[asyncio.Future[None]] = set()
        # The control channel sends its statuses on its own thread.
        self._status_lock = threading.Lock()

    def passes_cells(self, request: JsonObject) -> bool:
        """Return whether this request may pass a running cell.

        Arguments:
            request: a message as `Session.deserialize` returns it.
        """
        return False

    @property
    def is_passing(self) -> bool:
        """Whether the request that is being handled passes a running cell."""
        return _passes.get()

    async def shell_main(self, subshell_id: str | None, msg: Any) -> None:
        """Handle a message of the shell channel, at once or in its turn."""
        await asyncio.create_task(self._handle(msg), context=copy_context())

    async def dispatch_control(self, msg: Any) -> None:
        """Handle a message of the control channel; a cell there must not delay an interrupt."""
        request = self._read(msg)
        if request is not None and request["header"]["msg_type"] == "debug_request":
            await self._handle_debugging(msg, time.monotonic())
            return
        if request is None or request["header"]["msg_type"] != "execute_request":
            await super().dispatch_control(msg)
            return
        identity = request["header"]["msg_id"]
        with self._status_lock:
            waits = self._cell is not None or self._waiting > 0 or bool(self._of_control)
            self._of_control.add(identity)
        _by_control.set(True)
        asyncio.run_coroutine_threadsafe(self._handle(msg, waits), self.io_loop.asyncio_loop)  # type: ignore[attr-defined]
        _by_control.set(False)

    async def _handle_debugging(self, msg: Any, arrived_at: float) -> None:
        if self.session is None:
            return
        ident, frames = self.session.feed_identities(msg, copy=False)
        request = self.session.deserialize(frames, content=True, copy=False)
        replied: asyncio.Future[None] = asyncio.Future()
        if request["content"].get("command") in _SET_BREAKPOINTS:
            self._breakpoints.add(replied)
        try:
            async with self._debug_turn:
                self._publish_status("busy", "control", request)
                try:
                    content = await self.answer_debugger(request["content"], arrived_at)
                    self.session.send(
                        self.control_stream, "debug_reply", json_clean(content), request, ident
                    )
                except Exception:
                    self.log.exception("A request of a debugger failed")
                self._publish_status("idle", "control", request)
        finally:
            self._breakpoints.discard(replied)
            replied.set_result(None)

    async def _wait_for_breakpoints(self) -> None:
        """Wait until the breakpoints are set that came by the control channel before a cell.

        Runs on that channel's thread.
        """
        if self.control_stream is None:
            return
        self.control_stream.flush(zmq.POLLIN)
        # After the loop's next turn, all read messages have started to be handled.
        await asyncio.sleep(0)
        if self._breakpoints:
            await asyncio.wait(set(self._breakpoints), timeout=_BREAKPOINTS_S)

    async def answer_debugger(self, request: JsonObject, arrived_at: float) -> JsonObject:
        """Return the content of the debug_reply to that of a debug_request.

        Arguments:
            arrived_at: when the request arrived (monotonic clock, seconds).
        """
        raise NotImplementedError

    @property
    def is_debugged(self) -> bool:
        """Whether a debugger is on."""
        return False

    @property
    def is_halted(self) -> bool:
        """Whether a debugger halts the running cell; then an idle status leaves the page idle."""
        return False

    async def _handle(self, msg: Any, waits: bool = True) -> None:
        """Handle a message at once or in its turn.

        Arguments:
            waits: whether it was sent after a cell, so that it is aborted if that cell fails. On
                the shell channel the end of aborting has its position among the messages. A message
                of the control channel can overtake it.
        """
        request = self._read(msg)
        is_cell = request is not None and request["header"]["msg_type"] == "execute_request"
        # A cell that is aborted is aborted in its turn.
        if request is not None and not (is_cell and self._aborting) and self.passes_cells(request):
            _passes.set(is_cell)
            await self.dispatch_shell(msg)
            return
        self._waiting += is_cell
        try:
            await self._main_asyncio_lock.acquire()
        finally:
            self._waiting -= is_cell
        try:
            if is_cell:
                self._cell, self._cell_began = request, time.monotonic()
            aborting, self._aborting = self._aborting, self._aborting and waits
            try:
                if is_cell and self.is_debugged:
                    waiting = asyncio.run_coroutine_threadsafe(
                        self._wait_for_breakpoints(), self.control_thread.io_loop.asyncio_loop
                    )
                    await asyncio.wrap_future(waiting)
                await self.dispatch_shell(msg)
            finally:
                if not waits:
                    self._aborting = self._aborting or aborting
        finally:
            self._cell = None
            if is_cell and request is not None:
                self._of_control.discard(request["header"]["msg_id"])
            self._main_asyncio_lock.release()

    def _read(self, msg: Any) -> JsonObject | None:
        if self.session is None:
            return None
        try:
            _, frames = self.session.feed_identities(msg, copy=False)
            # A message whose content is unpacked counts as received, and is refused the next time.
            request: JsonObject = self.session.deserialize(frames, content=False, copy=False)
            request["content"] = self.session.unpack(request["content"])
        except Exception:
            # The base class reports the error.
            return None
        return request

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        if status == "starting":
            # Front ends that subscribed during the start get their welcome before other messages.
            self.iopub_thread.schedule(self._welcome)
        with self._status_lock:
            super()._publish_status(status, channel, parent)
            if status != "idle":
                return
            ended = (parent or self.get_parent(channel)).get("header", {}).get("msg_id")
            self._of_control.discard(ended)
            if self._cell is None:
                return
            if ended == self._cell["header"]["msg_id"]:
                self._cell = None
            elif not self.is_halted:
                super()._publish_status("busy", "shell", self._cell)

    def _welcome(self) -> None:
        """Read new subscriptions; runs on the thread of the iopub channel."""
        if (subscribers := getattr(self.iopub_thread, "_xpub_stream", None)) is not None:
            subscribers.flush(zmq.POLLIN)

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """Abort the requests after a failed cell, but not if it ran beside another cell."""
        if not self.is_passing:
            super()._abort_queues(subshell_id)

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; send the reply on the channel that the request came by."""
        await super().execute_request(self._reply_stream(stream), ident, parent)

    def _send_abort_reply(self, stream: Any, msg: Any, idents: Any) -> None:
        super()._send_abort_reply(self._reply_stream(stream), msg, idents)

    def _reply_stream(self, stream: Any) -> Any:
        if not _by_control.get() or self.control_stream is None:
            return stream
        return _ControlStream(self.control_stream)

    async def create_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Refuse the request; see the module's docstring."""
        if self.session is not None:
            content = {"status": "error", "evalue": "This kernel has no subshells."}
            self.session.send(socket, "create_subshell_reply", content, parent, ident)


class _ControlStream:
    """The control channel's stream for use on other threads, as far as a session needs it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def send_multipart(self, *parts: Any, **options: Any) -> None:
        """Send a message soon."""
        self._stream.io_loop.add_callback(self._stream.send_multipart, *parts, **options)
