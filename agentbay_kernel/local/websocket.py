"""The WebSocket route: streaming `run_code`, pseudo-terminals, pushed file changes.

A client sends frames `{"invocationId", "source", "target", "data": {"method", "params"}}`. It gets
frames with the same id, and pushes with new ids (AgentBay wire protocol, WebSocket route). Frames
are smaller than 1 MiB: the official client closes the connection at that size.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from tornado.websocket import WebSocketClosedError, WebSocketHandler

from agentbay_kernel.local import file_tools, turns
from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.answers import MUCH, stream_frames
from agentbay_kernel.local.events import EngineError, Failure, Result, Stream
from agentbay_kernel.local.faults import reset
from agentbay_kernel.local.listener import LoopbackHandler, as_json
from agentbay_kernel.local.parsing import read_object
from agentbay_kernel.local.profile import FaultPlan
from agentbay_kernel.local.sessions import Session, SessionGone
from agentbay_kernel.local.tools import ToolError

WATCH_INTERVAL_S = 0.3
PTY_SERVER = "PTY_SERVER"
GONE, MALFORMED, BINARY, TOO_SLOW = 1001, 1007, 1003, 1008
# Calls of a connection at a time, characters of an id, bytes that a client has not read.
CALLS_LIMIT = 64
NAME_LIMIT = 200
UNREAD_LIMIT = 8 * 1024 * 1024
UNREAD_S = 30.0
# File changes in one frame.
EVENTS_IN_FRAME = 1_000
PTY_METHODS = ("create", "input", "resize", "list", "connect", "kill")


@dataclass(frozen=True)
class _Call:
    """A client's frame, parsed."""

    number: str
    target: str
    method: str
    params: dict[str, Any]


def _read_call(message: str) -> _Call:
    """Parse a client's frame.

    Raises:
        ValueError: it is invalid.
    """
    frame = read_object(message)
    data = frame.get("data")
    if isinstance(data, str):
        data = read_object(data)
    if not isinstance(data, dict):
        raise ValueError("`data` must be an object")
    number = frame.get("invocationId") or frame.get("requestId")
    params = data.get("params") or {}
    named = {"invocationId": number, "target": frame.get("target"), "method": data.get("method")}
    for name, value in named.items():
        if not isinstance(value, str) or len(value) > NAME_LIMIT:
            raise ValueError(f"`{name}` must be a short string")
    if not isinstance(params, dict):
        raise ValueError("`params` must be an object")
    return _Call(str(number), str(frame["target"]), str(data["method"]), params)


class SocketHandler(WebSocketHandler, LoopbackHandler):
    """The WebSocket route: streaming `run_code`, terminals, pushed file changes."""

    _session: Session | None = None

    methods = ("GET",)

    def admit(self) -> int | None:
        """Refuse a wrong token."""
        token = self.request.headers.get("X-Access-Token", "")
        try:
            session = self.runtime.sessions.find(self.path_args[0])
        except SessionGone:
            session = None
        if session is None or not secrets.compare_digest(token.encode(), session.token.encode()):
            self.set_status(401)
            self.finish("Jwt verification fails" if token else "Jwt is missing")
            return None
        self._session = session
        return 0

    def check_origin(self, origin: str) -> bool:
        """Accept it: the listener has checked it."""
        return True

    def open(self, *args: str, **kwargs: str) -> None:
        """Start to serve the connection."""
        self.set_nodelay(True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._unread = 0
        self.session.touch()
        self.session.sandbox.terminals.readers.append(self._on_terminal)
        self.agent.on("closed", self._on_gone)

    @property
    def session(self) -> Session:
        """The session that this connection belongs to."""
        assert self._session is not None
        return self._session

    @property
    def agent(self) -> Any:
        """The session's agent."""
        return self.session.sandbox.agent

    def on_close(self) -> None:
        """Stop what only this connection uses; running code continues, as at the service."""
        if self._session is None or not hasattr(self, "_watches"):
            return
        for watch in self._watches.values():
            watch.cancel()
        self.session.sandbox.terminals.readers.remove(self._on_terminal)
        self.agent.off("closed", self._on_gone)

    def _on_gone(self, _: dict[str, Any]) -> None:
        self.close(GONE, "session ended")

    def on_message(self, message: str | bytes) -> None:
        """Handle a frame; an invalid one ends the connection."""
        if isinstance(message, bytes):
            self._refuse("a frame must be text", BINARY)
            return
        try:
            call = _read_call(message)
        except ValueError as failure:
            self._refuse(f"malformed frame: {failure}", MALFORMED)
            return
        self.session.touch()
        handlers: dict[str, Callable[[_Call], Awaitable[None]]] = {
            "run_code": self._run_code,
            "subscribe_file_change": self._subscribe,
            "unsubscribe_file_change": self._unsubscribe,
            **{f"pty.{name}": self._terminal for name in PTY_METHODS},
        }
        handler = handlers.get(call.method)
        if handler is None:
            self._push(call.number, call.target, {"error": f"unknown method: {call.method}"})
            return
        if len(self._tasks) >= CALLS_LIMIT:
            reason = f"a connection has at most {CALLS_LIMIT} calls at once"
            self._push(call.number, call.target, {"error": reason})
            return
        task = asyncio.get_running_loop().create_task(self._handle(handler, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, reason: str, code: int) -> None:
        self._push("", "", {"error": reason})
        self.close(code, reason[:100])

    async def _handle(self, handler: Callable[[_Call], Awaitable[None]], call: _Call) -> None:
        young = turns.begin()
        with self.session.in_use():
            try:
                await handler(call)
            except (AgentError, TypeError, ValueError, OverflowError) as failure:
                await self._send(call.number, call.target, {"error": f"{failure}"})
            finally:
                turns.end(young)

    async def _send(self, number: str, source: str, data: dict[str, Any]) -> None:
        """Send a frame, and wait until the client has taken it."""
        frame = {"invocationId": number, "source": source, "target": "SDK", "data": data}
        try:
            async with asyncio.timeout(UNREAD_S):
                await self.write_message(as_json(frame))
        except WebSocketClosedError:
            pass
        except TimeoutError:
            # A client that does not read must not block the code that runs.
            self._drop()

    def _push(self, number: str, source: str, data: dict[str, Any]) -> asyncio.Future[None] | None:
        """Send a frame; the future is done when the client has taken it.

        Drop a client that has not read too many bytes, or one frame for too long.
        """
        frame = as_json({"invocationId": number, "source": source, "target": "SDK", "data": data})
        if self._unread > UNREAD_LIMIT:
            self.close(TOO_SLOW, "frames were not read")
            self._drop()
            return None
        try:
            sent = self.write_message(frame)
        except WebSocketClosedError:
            return None
        self._unread += len(frame)
        clock = asyncio.get_running_loop().call_later(UNREAD_S, self._drop)
        sent.add_done_callback(lambda done: self._taken(len(frame), clock, done))
        return sent

    def _taken(self, size: int, clock: asyncio.TimerHandle, sent: asyncio.Future[None]) -> None:
        clock.cancel()
        self._unread -= size
        if not sent.cancelled():
            sent.exception()  # the connection ended, which is seen elsewhere

    async def _run_code(self, call: _Call) -> None:
        number, target = call.number, call.target
        if self.session.status != "RUNNING":
            await self._send(number, target, {"error": f"The session is {self.session.status}."})
            return
        behaviour = self.runtime.behaviour
        fault = behaviour.fault("CallMcpTool", "run_code", streaming=True)
        if fault is not None and fault.prevents_call:
            if fault.kind == "expired":
                self.runtime.sessions.expire(self.session.id)
            elif fault.kind != "hang":
                self._drop()
            return
        with behaviour.recorded(self.session.id, number, "run_code", call.params, fault):
            await self._stream(number, target, call.params, fault)

    def _drop(self) -> None:
        """Reset the connection."""
        stream: Any = getattr(self.ws_connection, "stream", None)
        if stream is not None:
            reset(stream)

    async def _stream(
        self, number: str, target: str, params: dict[str, Any], fault: FaultPlan | None
    ) -> None:
        failure: Failure | None = None
        kind = None if fault is None else fault.kind
        try:
            events = self.runtime.tools.run(
                self.session,
                params.get("code"),
                params.get("language", "python"),
                params.get("timeoutS", params.get("timeout_s")),
            )
            sequence = 0
            async with aclosing(events) as running:
                async for event in running:
                    if isinstance(event, Failure):
                        failure = event
                    much = isinstance(event, Stream | Result) and event.size > MUCH
                    for data in stream_frames(event, failure):
                        if much:
                            await turns.give_way()
                        sequence += 1
                        data |= {"method": "run_code", "mode": "stream", "seq": sequence}
                        if kind == "hang" or (kind == "end_missing" and data["phase"] == "end"):
                            continue
                        await self.runtime.behaviour.transmit(len(data.get("chunk", "")))
                        await self._send(number, target, data)
                        if kind == "end_twice" and data["phase"] == "end":
                            await self._send(number, target, data)
                        if kind in ("ws_drop", "reset"):
                            self._drop()
        except (ToolError, EngineError) as problem:
            error = {
                "code": type(problem).__name__,
                "message": str(problem),
                "traceId": uuid.uuid4().hex,
            }
            await self._send(number, target, {"phase": "error", "error": error})

    async def _terminal(self, call: _Call) -> None:
        do = call.method.removeprefix("pty.")
        if do == "create":
            for key in ("cols", "rows"):
                if call.params.get(key, 24) not in range(1, 501):
                    raise ValueError(f"{key} must be an integer between 1 and 500")
        result = await self.agent.call("terminal", do=do, arguments=call.params)
        if do not in ("input", "resize"):
            await self._send(call.number, call.target, {"method": call.method, "result": result})
        if do == "create":
            await self.session.sandbox.terminals.release(result["ptySessionId"])

    def _on_terminal(self, event: dict[str, Any]) -> asyncio.Future[None] | None:
        self.session.touch()
        data = {"eventType": "pty." + event["event"].partition(".")[2], **event}
        del data["event"]
        if "data" in data:
            del data["due"]
            data["encoding"] = "base64"
        return self._push(uuid.uuid4().hex, PTY_SERVER, data)

    async def _subscribe(self, call: _Call) -> None:
        path = _path(call)
        watcher = uuid.uuid4().hex
        await file_tools.change_events(self.session, path, watcher)
        await self._unwatch(path)
        self._watches[path] = asyncio.get_running_loop().create_task(
            self._watch(call.target, path, watcher)
        )
        await self._send(call.number, call.target, {"phase": "end", "status": "finished"})

    async def _unsubscribe(self, call: _Call) -> None:
        await self._unwatch(_path(call))
        await self._send(call.number, call.target, {"phase": "end", "status": "finished"})

    async def _unwatch(self, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            watch.cancel()

    async def _watch(self, target: str, path: str, watcher: str) -> None:
        try:
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                events = await file_tools.change_events(self.session, path, watcher)
                for start in range(0, len(events), EVENTS_IN_FRAME):
                    some = events[start : start + EVENTS_IN_FRAME]
                    data = {"eventType": "file_change", "path": path, "events": some}
                    await self._send(uuid.uuid4().hex, target, data)
        except AgentError as failure:
            # The directory is gone, or holds too many files by now.
            await self._send(uuid.uuid4().hex, target, {"error": str(failure)})
        finally:
            with suppress(AgentError):
                await file_tools.forget_watcher(self.session, path, watcher)


def _path(call: _Call) -> str:
    path = call.params.get("path")
    if not isinstance(path, str):
        raise ValueError("`path` must be a string")
    return path
