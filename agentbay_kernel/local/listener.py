"""The one listener: HTTP requests and WebSockets on a loopback address.

In: requests for the action route (`POST /?Action=...`) and the LinkUrl route
(`POST /link/ID/callTool`). Out: envelopes in the service's form. A request that names another
host than this machine is refused, so that no page in a browser can reach the runtime by a name
of its own.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from tornado import httputil, web

from agentbay_kernel.local.actions import Actions, Refusal
from agentbay_kernel.local.sessions import SessionGone, Sessions
from agentbay_kernel.local.tools import Tools, settle

LOOPBACK_NAMES = {"127.0.0.1", "localhost", "::1"}
SCHEME = re.compile(r"^https?://")
BODY_LIMIT = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Runtime:
    """What request handlers need."""

    api_key: str
    sessions: Sessions
    tools: Tools
    actions: Actions


class SchemeTolerantServer(httputil.HTTPServerConnectionDelegate):
    """Accepts a `Host` header that carries a scheme, as the official client sends it."""

    def __init__(self, application: web.Application) -> None:
        self._application = application

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """One request."""
        return _SchemeStripper(self._application.start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        """A connection ended."""
        self._application.on_close(server_conn)


class _SchemeStripper(httputil.HTTPMessageDelegate):
    def __init__(self, wrapped: httputil.HTTPMessageDelegate) -> None:
        self._wrapped = wrapped

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        host = headers.get("Host")
        if host is not None:
            headers["Host"] = SCHEME.sub("", host).partition("/")[0]
        return self._wrapped.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._wrapped.data_received(chunk)

    def finish(self) -> None:
        self._wrapped.finish()

    def on_connection_close(self) -> None:
        self._wrapped.on_connection_close()


class LoopbackHandler(web.RequestHandler):
    """Base of all handlers: refuses what does not address this machine by a loopback name."""

    def initialize(self, runtime: Runtime) -> None:
        """Called by tornado with the route's arguments."""
        self.runtime = runtime

    def prepare(self) -> None:
        """Refuse a foreign host before anything is read from the request."""
        if self.request.host_name.strip("[]") not in LOOPBACK_NAMES:
            self.set_status(403)
            self.finish({"Code": "Forbidden", "Message": "Only loopback addresses are served."})

    def compute_etag(self) -> None:
        """Answers are never the same twice."""


def request_id() -> str:
    """A new id in the service's form."""
    return str(uuid.uuid4()).upper()


class ActionHandler(LoopbackHandler):
    """The action route."""

    async def post(self) -> None:
        """One action."""
        fields = {
            key: values[-1].decode("utf-8", "replace")
            for key, values in self.request.arguments.items()
        }
        action = fields.get("Action") or self.request.headers.get("x-acs-action", "")
        envelope: dict[str, Any] = {"RequestId": request_id()}
        try:
            self._authenticate(fields.get("Authorization", ""))
            answer = await self.runtime.actions.perform(action, fields)
            envelope |= {"HttpStatusCode": 200, "Code": "ok", "Success": True, "Message": ""}
            envelope |= answer
        except Refusal as refusal:
            self.set_status(refusal.status)
            envelope |= {
                "HostId": self.request.host,
                "Code": refusal.code,
                "HttpStatusCode": refusal.status,
                "Success": False,
                "Message": f"code: {refusal.status}, {refusal} request id: {envelope['RequestId']}",
            }
        self.set_header("Content-Type", "application/json;charset=utf-8")
        self.finish(json.dumps(envelope, ensure_ascii=False))

    def _authenticate(self, authorization: str) -> None:
        key = authorization.removeprefix("Bearer").strip()
        if not secrets.compare_digest(key.encode(), self.runtime.api_key.encode()):
            raise Refusal("NOT_LOGIN", "You are not logged in or your login token has expired.")


class LinkHandler(LoopbackHandler):
    """The LinkUrl route: tool calls with the session's token."""

    async def post(self, session_id: str) -> None:
        """One tool call."""
        token = self.request.headers.get("X-Access-Token", "")
        try:
            session = self.runtime.sessions.find(session_id)
        except SessionGone:
            self._refuse("Jwt verification fails")
            return
        if not token:
            self._refuse("Jwt is missing")
            return
        if not secrets.compare_digest(token.encode(), session.token.encode()):
            self._refuse("Jwt verification fails")
            return
        try:
            body = json.loads(self.request.body)
            name, arguments = body["tool"], body.get("args") or {}
        except (ValueError, KeyError, AttributeError, TypeError):
            self.set_status(400)
            self.finish({"code": 400, "success": False, "message": "malformed request"})
            return
        with session.in_use():
            answer = await settle(self.runtime.tools.call(session, name, arguments))
        number = body.get("requestId", "")
        result = {
            "isError": answer.is_error,
            "content": [{"type": "text", "text": answer.text}],
        }
        data = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}, ensure_ascii=False)
        self.finish({"code": 0, "success": True, "requestId": number, "data": data})

    def _refuse(self, words: str) -> None:
        self.set_status(401)
        self.set_header("Content-Type", "text/plain")
        self.finish(words)


def make_application(runtime: Runtime) -> web.Application:
    """All routes."""
    arguments = {"runtime": runtime}
    return web.Application(
        [
            (r"/", ActionHandler, arguments),
            (r"/link/([^/]+)/callTool", LinkHandler, arguments),
        ],
        log_function=lambda handler: None,
    )
