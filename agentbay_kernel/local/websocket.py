"""The WebSocket route: streaming `run_code`, pseudo-terminals, pushed file changes.

In: frames `{"invocationId", "source", "target", "data": {"method", "params"}}`. Out: frames with
the same id, and pushes with ids of their own (AgentBay wire protocol, WebSocket route). Frames
stay below 1 MiB, which is where the official client closes the connection.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from tornado.websocket import WebSocketClosedError, WebSocketHandler

from agentbay_kernel.local import file_tools
from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.answers import stream_frames
from agentbay_kernel.local.events import EngineError, Failure
from agentbay_kernel.local.faults import reset
from agentbay_kernel.local.listener import LoopbackHandler
from agentbay_kernel.local.profile import FaultPlan
from agentbay_kernel.local.sessions import Session, SessionGone
from agentbay_kernel.local.tools import ToolError

WATCH_INTERVAL_S = 0.3
STALLED_S = 60.0
PTY_SERVER = "PTY_SERVER"
GONE = 1001


class SocketHandler(WebSocketHandler, LoopbackHandler):
    """One connection to one session."""

    _session: Session | None = None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade, if the token is the session's."""
        token = self.request.headers.get("X-Access-Token", "")
        try:
            session = self.runtime.sessions.find(args[0])
        except SessionGone:
            session = None
        if session is None or not secrets.compare_digest(token.encode(), session.token.encode()):
            self.set_status(401)
            self.finish("Jwt verification fails" if token else "Jwt is missing")
            return
        self._session = session
        await super().get(*args, **kwargs)

    def open(self, *args: str, **kwargs: str) -> None:
        """The connection stands."""
        self.set_nodelay(True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._terminals: set[str] = set()
        self.session.touch()
        self.agent.on("terminal.output", self._on_terminal)
        self.agent.on("terminal.exit", self._on_terminal)
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
        """Stop what only this connection wanted; running code runs on, as at the service."""
        if self._session is None or not hasattr(self, "_watches"):
            return
        for watch in self._watches.values():
            watch.cancel()
        self.agent.off("terminal.output", self._on_terminal)
        self.agent.off("terminal.exit", self._on_terminal)
        self.agent.off("closed", self._on_gone)

    def _on_gone(self, _: dict[str, Any]) -> None:
        self.close(GONE, "session ended")

    def on_message(self, message: str | bytes) -> None:
        """One frame; unintelligible ones are ignored."""
        try:
            frame = json.loads(message)
            data = frame["data"]
            if isinstance(data, str):
                data = json.loads(data)
            number = frame.get("invocationId") or frame["requestId"]
            target, method, params = frame["target"], data["method"], data.get("params") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        self.session.touch()
        handlers: dict[str, Callable[[str, str, dict[str, Any]], Awaitable[None]]] = {
            "run_code": self._run_code,
            "subscribe_file_change": self._subscribe,
            "unsubscribe_file_change": self._unsubscribe,
        }
        handler = self._terminal if method.startswith("pty.") else handlers.get(method)
        if handler is None:
            self._send(number, target, {"error": f"unknown method: {method}"})
            return
        if method.startswith("pty."):
            params = {"do": method.removeprefix("pty."), **params}
        task = asyncio.get_running_loop().create_task(self._handle(handler, number, target, params))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(
        self,
        handler: Callable[[str, str, dict[str, Any]], Awaitable[None]],
        number: str,
        target: str,
        params: dict[str, Any],
    ) -> None:
        with self.session.in_use():
            try:
                await handler(number, target, params)
            except (AgentError, KeyError, TypeError, ValueError) as failure:
                self._send(number, target, {"error": f"{failure}"})

    def _send(self, number: str, source: str, data: dict[str, Any]) -> None:
        frame = {"invocationId": number, "source": source, "target": "SDK", "data": data}
        with suppress(WebSocketClosedError):
            self.write_message(json.dumps(frame))

    async def _send_in_turn(self, number: str, source: str, data: dict[str, Any]) -> None:
        """Send a frame, and wait until the client has taken it: it holds back who writes."""
        frame = {"invocationId": number, "source": source, "target": "SDK", "data": data}
        try:
            async with asyncio.timeout(STALLED_S):
                await self.write_message(json.dumps(frame))
        except TimeoutError:
            # The session's next cell must not wait for a client that reads no more.
            self._drop()
        except WebSocketClosedError:
            pass

    async def _run_code(self, number: str, target: str, params: dict[str, Any]) -> None:
        if self.session.status != "RUNNING":
            self._send(number, target, {"error": f"The session is {self.session.status}."})
            return
        behaviour = self.runtime.behaviour
        fault = behaviour.fault("CallMcpTool", "run_code", streaming=True)
        if fault is not None and fault.comes_first:
            if fault.kind == "expired":
                self.runtime.sessions.expire(self.session.id)
            elif fault.kind != "hang":
                self._drop()
            return
        with behaviour.recorded(self.session.id, number, "run_code", params, fault):
            await self._stream(number, target, params, fault)

    def _drop(self) -> None:
        """The connection breaks without a word."""
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
                    for data in stream_frames(event, failure):
                        sequence += 1
                        data |= {"method": "run_code", "mode": "stream", "seq": sequence}
                        if kind == "hang" or (kind == "end_missing" and data["phase"] == "end"):
                            continue
                        await self.runtime.behaviour.transmit(len(data.get("chunk", "")))
                        await self._send_in_turn(number, target, data)
                        if kind == "end_twice" and data["phase"] == "end":
                            self._send(number, target, data)
                        if kind in ("ws_drop", "reset"):
                            self._drop()
        except (ToolError, EngineError) as problem:
            error = {
                "code": type(problem).__name__,
                "message": str(problem),
                "traceId": uuid.uuid4().hex,
            }
            self._send(number, target, {"phase": "error", "error": error})

    async def _terminal(self, number: str, target: str, params: dict[str, Any]) -> None:
        do = params["do"]
        if do not in ("create", "input", "resize", "list", "connect", "kill"):
            self._send(number, target, {"error": f"unknown method: pty.{do}"})
            return
        if do == "create":
            for key in ("cols", "rows"):
                if not 1 <= int(params.get(key, 24)) <= 500:
                    self._send(number, target, {"error": f"{key} must be between 1 and 500"})
                    return
        result = await self.agent.call("terminal", **params)
        if do not in ("input", "resize"):
            self._send(number, target, {"method": f"pty.{do}", "result": result})

    def _on_terminal(self, event: dict[str, Any]) -> None:
        self.session.touch()
        data = {"eventType": "pty." + event["event"].partition(".")[2], **event}
        del data["event"]
        if "data" in data:
            data["encoding"] = "base64"
        self._send(uuid.uuid4().hex, PTY_SERVER, data)

    async def _subscribe(self, number: str, target: str, params: dict[str, Any]) -> None:
        path = params["path"]
        watcher = uuid.uuid4().hex
        await file_tools.change_events(self.session, path, watcher)
        await self._unwatch(path)
        self._watches[path] = asyncio.get_running_loop().create_task(
            self._watch(target, path, watcher)
        )
        self._send(number, target, {"phase": "end", "status": "finished"})

    async def _unsubscribe(self, number: str, target: str, params: dict[str, Any]) -> None:
        await self._unwatch(params["path"])
        self._send(number, target, {"phase": "end", "status": "finished"})

    async def _unwatch(self, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            watch.cancel()

    async def _watch(self, target: str, path: str, watcher: str) -> None:
        with suppress(AgentError):
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                events = await file_tools.change_events(self.session, path, watcher)
                if events:
                    data = {"eventType": "file_change", "path": path, "events": events}
                    self._send(uuid.uuid4().hex, target, data)
