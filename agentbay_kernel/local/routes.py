"""The routes of the one listener.

In: the action route (`POST /?Action=...`), the LinkUrl route (`POST /link/ID/callTool`), the
WebSocket route and presigned addresses. Out: envelopes in the service's form.
"""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any

from tornado import web

from agentbay_kernel.local.listener import LoopbackHandler, Runtime
from agentbay_kernel.local.refusals import Refusal
from agentbay_kernel.local.sessions import SessionGone
from agentbay_kernel.local.tools import settle
from agentbay_kernel.local.transfer import FileHandler
from agentbay_kernel.local.websocket import SocketHandler


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
            (r"/ws/([^/]+)", SocketHandler, arguments),
            (r"/oss/([^/]+)", FileHandler, arguments),
        ],
        log_function=lambda handler: None,
    )
