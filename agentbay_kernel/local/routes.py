"""The routes of the listener: the action route (`POST /?Action=...`), the LinkUrl route
(`POST /link/ID/callTool`), the WebSocket route and presigned addresses."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

from tornado import web

from agentbay_kernel.local.actions import ACTIONS, TOOL_CALL
from agentbay_kernel.local.answers import ToolResult
from agentbay_kernel.local.faults import inject_fault
from agentbay_kernel.local.listener import (
    CONTROL_LIMIT,
    KEYLESS_LIMIT,
    SMALL_BODY,
    TOOL_LIMIT,
    UPLOAD_LIMIT,
    LoopbackHandler,
    NotFoundHandler,
    Runtime,
    as_json,
)
from agentbay_kernel.local.parsing import read_form, read_object
from agentbay_kernel.local.profile import FaultPlan
from agentbay_kernel.local.refusals import (
    Refusal,
    invalid_parameter,
    no_such_action,
    not_found,
    not_logged_in,
)
from agentbay_kernel.local.sessions import Session, SessionGone
from agentbay_kernel.local.transfer import FileHandler
from agentbay_kernel.local.turns import give_way
from agentbay_kernel.local.websocket import SocketHandler

REQUEST_ID_LIMIT = 200
# The key in a form; a match needs the end of the field.
_KEY = re.compile(rb"(?:^|&)Authorization=([^&]*)&")
# In place of a result's text.
_PLACEHOLDER = "TEXT"


def request_id() -> str:
    """Return a new id in the service's form."""
    return str(uuid.uuid4()).upper()


class BodyHandler(LoopbackHandler):
    """The base of a route that needs the whole body."""

    def initialize(self, runtime: Runtime) -> None:
        """Take the route's arguments; tornado calls it."""
        super().initialize(runtime)
        self._body = bytearray()

    def take(self, chunk: bytes) -> None:
        """Store a piece of the body."""
        self._body += chunk

    def drop(self) -> None:
        """Delete the body."""
        self._body = bytearray()

    def whole_body(self) -> str:
        """Return the body, once.

        Raises:
            ValueError: it is not UTF-8.
        """
        body, self._body = self._body, bytearray()
        return body.decode()

    async def send_result(
        self,
        result: ToolResult,
        document: Callable[[dict[str, Any]], dict[str, Any]],
        fault: FaultPlan | None,
        levels: int = 1,
    ) -> None:
        """Send a tool's result, whose text is never in memory as a whole.

        Arguments:
            result: is closed here.
            document: returns the response with a result in it.
            fault: what goes wrong.
            levels: how many nested strings of JSON the text is in.
        """
        try:
            content = [{"type": "text", "text": _PLACEHOLDER}]
            around = as_json(document({"content": content, "isError": result.is_error}))
            # The last one: the client's own strings come before it.
            before, _, behind = around.rpartition(_PLACEHOLDER.encode())
            size = len(before) + len(behind)
            # Escaping twice takes less than the memory of what is escaped.
            for part in result.escaped(levels):
                size += len(part)
                if len(part) > SMALL_BODY // 2:
                    await give_way()
            body = itertools.chain([before], result.escaped(levels), [behind])
            await self.runtime.behaviour.transmit(size)
            if fault is not None:
                await inject_fault(self, fault, b"".join(body).decode())
            else:
                await self.send(body, size)
        finally:
            result.close()


class ActionHandler(BodyHandler):
    """The action route: one action of the control plane, or a tool call."""

    methods = ("POST",)
    content_type = "application/x-www-form-urlencoded"

    def admit(self) -> int | None:
        """Refuse an unknown action, or a wrong key in the query; it may also be in the body."""
        self._number = request_id()
        self._expected = self._searched = 0
        try:
            self._query = self._read(lambda: self.request.query)
            self._action = self._query.get("Action") or self.request.headers.get("x-acs-action", "")
            if self._action not in ACTIONS and self._action != TOOL_CALL:
                raise no_such_action(self._action)
            self._has_key = "Authorization" in self._query
            if self._has_key:
                self._authenticate(self._query["Authorization"])
        except Refusal as refusal:
            self._refused(refusal)
            return None
        return TOOL_LIMIT if self._action == TOOL_CALL else CONTROL_LIMIT

    async def _enter(self, size: int) -> None:
        """Wait for memory when the key has come."""
        self._expected = size
        if self._has_key:
            await super()._enter(size)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take a piece of the body, and look for the key in what has come."""
        if self._finished:
            return None
        super().data_received(chunk)
        return None if self._has_key or self._finished else self._look_for_key()

    async def _look_for_key(self) -> None:
        found = _KEY.search(self._body, self._searched)
        if found is not None:
            self._has_key = True
            try:
                self._authenticate(unquote_plus(found[1].decode("latin-1")))
            except Refusal as refusal:
                self.drop()
                self._refused(refusal)
                return
            self._leave()
            self._budget = self.runtime.bodies
            if self._expected:
                await super()._enter(self._expected)
            return
        self._searched = max(0, self._body.rfind(b"&"))
        if self._size > KEYLESS_LIMIT:
            self.drop()
            message = f"The key must come within the first {KEYLESS_LIMIT:,} bytes of the form."
            self.refuse(413, "InvalidRequest", message)
        elif self._size > SMALL_BODY and not self._held:
            self._budget = self.runtime.keyless_bodies
            await super()._enter(KEYLESS_LIMIT)

    async def post(self) -> None:
        """Carry out one action."""
        if self._finished:
            return
        behaviour = self.runtime.behaviour
        await behaviour.delay()
        fault = None
        try:
            fields = {**self._query, **self._read(self.whole_body)}
            self._authenticate(fields.get("Authorization", ""))
            fault = behaviour.fault(self._action, fields.get("Name", ""))
            if fault is not None and fault.prevents_call:
                await self._fail(fault, fields)
                return
            added = await self.runtime.actions.perform(self._action, fields, self._number, fault)
        except Refusal as refusal:
            self._refused(refusal)
            return
        envelope = {
            "RequestId": self._number,
            "HttpStatusCode": 200,
            "Code": "ok",
            "Success": True,
            "Message": "",
            **added,
        }
        if self._action == TOOL_CALL:
            await self.send_result(added["Data"], lambda data: {**envelope, "Data": data}, fault)
            return
        body = as_json(envelope)
        await behaviour.transmit(len(body))
        if fault is not None:
            await inject_fault(self, fault, body.decode())
        else:
            await self.send([body], len(body))

    def _read(self, text: Callable[[], str]) -> dict[str, str]:
        try:
            return read_form(text())
        except ValueError as failure:
            raise invalid_parameter(f"The form can't be read: {failure}.") from None

    async def _fail(self, fault: FaultPlan, fields: dict[str, str]) -> None:
        """Respond with a fault that prevents the call."""
        if fault.kind == "key_refused":
            raise not_logged_in()
        if fault.kind == "expired":
            with suppress(SessionGone):
                self.runtime.sessions.expire(fields.get("SessionId", ""))
            raise not_found()
        await inject_fault(self, fault)

    def _refused(self, refusal: Refusal) -> None:
        self.set_status(refusal.status)
        number = self._number
        self.reply(
            {
                "RequestId": number,
                "HostId": self.request.host,
                "Code": refusal.code,
                "HttpStatusCode": refusal.status,
                "Success": False,
                "Message": f"code: {refusal.status}, {refusal} request id: {number}",
            }
        )

    def _authenticate(self, authorization: str) -> None:
        """Refuse a wrong key."""
        key = authorization.removeprefix("Bearer").strip()
        if not secrets.compare_digest(key.encode(), self.runtime.api_key.encode()):
            raise not_logged_in()


class LinkHandler(BodyHandler):
    """The LinkUrl route: tool calls with the session's token."""

    methods = ("POST",)
    content_type = "application/json"

    def admit(self) -> int | None:
        """Refuse a wrong token."""
        token = self.request.headers.get("X-Access-Token", "")
        try:
            session = self.runtime.sessions.find(self.path_args[0])
        except SessionGone:
            session = None
        if session is None or not secrets.compare_digest(token.encode(), session.token.encode()):
            self._refuse("Jwt verification fails" if token else "Jwt is missing")
            return None
        self._session = session
        return TOOL_LIMIT

    async def post(self, session_id: str) -> None:
        """Carry out one tool call."""
        behaviour = self.runtime.behaviour
        await behaviour.delay()
        try:
            name, arguments, number = _tool_call(self.whole_body())
        except ValueError as failure:
            self.set_status(400)
            self.reply({"code": 400, "success": False, "message": f"malformed request: {failure}"})
            return
        fault = behaviour.fault(TOOL_CALL, name)
        if fault is not None and fault.prevents_call:
            await self._fail(fault, session_id)
            return
        session: Session = self._session
        done = await self.runtime.tools.serve(session, name, arguments, number, fault)
        await self.send_result(done, lambda result: _response(result, number), fault, 2)

    async def _fail(self, fault: FaultPlan, session_id: str) -> None:
        if fault.kind in ("key_refused", "expired"):
            if fault.kind == "expired":
                self.runtime.sessions.expire(session_id)
            self._refuse("Jwt verification fails")
        else:
            await inject_fault(self, fault)

    def _refuse(self, message: str) -> None:
        self.set_status(401)
        self.set_header("Content-Type", "text/plain")
        self.finish(message)


def _tool_call(body: str) -> tuple[str, dict[str, Any], str]:
    """Return name, arguments and id of a call.

    Raises:
        ValueError: the body is invalid.
    """
    document = read_object(body)
    name, arguments = document.get("tool"), document.get("args", {})
    number = document.get("requestId", "")
    if not isinstance(name, str):
        raise ValueError("`tool` must be a string")
    if not isinstance(arguments, dict):
        raise ValueError("`args` must be an object")
    if not isinstance(number, str) or len(number) > REQUEST_ID_LIMIT:
        raise ValueError("`requestId` must be a short string")
    return name, arguments, number


def _response(result: dict[str, Any], number: str) -> dict[str, Any]:
    """Return the response of the LinkUrl route; it contains another document as a string."""
    data = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}, ensure_ascii=False)
    return {"code": 0, "success": True, "requestId": number, "data": data}


# Each route, its handler, and the largest body in bytes.
ROUTES: tuple[tuple[str, type[LoopbackHandler], int], ...] = (
    (r"/", ActionHandler, TOOL_LIMIT),
    (r"/link/([^/]+)/callTool", LinkHandler, TOOL_LIMIT),
    (r"/ws/([^/]+)", SocketHandler, 0),
    (r"/oss/([^/]+)", FileHandler, UPLOAD_LIMIT),
)


def make_application(runtime: Runtime) -> web.Application:
    """Return the application with all routes."""
    arguments = {"runtime": runtime}
    return web.Application(
        [(path, handler, arguments) for path, handler, _ in ROUTES],
        default_handler_class=NotFoundHandler,
        default_handler_args=arguments,
        log_function=lambda handler: None,
        websocket_max_message_size=TOOL_LIMIT,
    )
