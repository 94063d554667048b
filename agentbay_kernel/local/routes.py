"""The routes of the one listener.

In: the action route (`POST /?Action=...`), the LinkUrl route (`POST /link/ID/callTool`), the
WebSocket route and presigned addresses. Out: envelopes in the service's form.
"""

from __future__ import annotations

import json
import secrets
import uuid
from contextlib import suppress
from typing import Any

from tornado import web

from agentbay_kernel.local.faults import misbehave
from agentbay_kernel.local.listener import LoopbackHandler, Runtime
from agentbay_kernel.local.profile import FaultPlan
from agentbay_kernel.local.refusals import Refusal, not_found, not_logged_in
from agentbay_kernel.local.sessions import Session, SessionGone
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
        behaviour = self.runtime.behaviour
        await behaviour.delay()
        number = request_id()
        fault = None
        try:
            self._authenticate(fields.get("Authorization", ""))
            fault = behaviour.fault(action, fields.get("Name", ""))
            if fault is not None and fault.comes_first:
                await self._fail(fault, fields)
                return
            answer = await self.runtime.actions.perform(action, fields, number, fault)
            envelope = {
                "RequestId": number,
                "HttpStatusCode": 200,
                "Code": "ok",
                "Success": True,
                "Message": "",
                **answer,
            }
        except Refusal as refusal:
            envelope = self._refused(refusal, number)
            fault = None
        self.set_header("Content-Type", "application/json;charset=utf-8")
        body = json.dumps(envelope, ensure_ascii=False)
        await behaviour.transmit(len(body))
        if fault is not None:
            await misbehave(self, fault, body)
        else:
            self.finish(body)

    async def _fail(self, fault: FaultPlan, fields: dict[str, str]) -> None:
        """A fault that comes before anything is done."""
        if fault.kind == "key_refused":
            raise not_logged_in()
        if fault.kind == "expired":
            with suppress(SessionGone):
                self.runtime.sessions.expire(fields.get("SessionId", ""))
            raise not_found()
        await misbehave(self, fault)

    def _refused(self, refusal: Refusal, number: str) -> dict[str, Any]:
        self.set_status(refusal.status)
        return {
            "RequestId": number,
            "HostId": self.request.host,
            "Code": refusal.code,
            "HttpStatusCode": refusal.status,
            "Success": False,
            "Message": f"code: {refusal.status}, {refusal} request id: {number}",
        }

    def _authenticate(self, authorization: str) -> None:
        key = authorization.removeprefix("Bearer").strip()
        if not secrets.compare_digest(key.encode(), self.runtime.api_key.encode()):
            raise not_logged_in()


class LinkHandler(LoopbackHandler):
    """The LinkUrl route: tool calls with the session's token."""

    async def post(self, session_id: str) -> None:
        """One tool call."""
        behaviour = self.runtime.behaviour
        await behaviour.delay()
        session = self._authorized(session_id)
        if session is None:
            return
        try:
            request = json.loads(self.request.body)
            name, arguments = str(request["tool"]), dict(request.get("args") or {})
        except (ValueError, KeyError, AttributeError, TypeError):
            self.set_status(400)
            self.finish({"code": 400, "success": False, "message": "malformed request"})
            return
        fault = behaviour.fault("CallMcpTool", name)
        if fault is not None and fault.comes_first:
            await self._fail(fault, session_id)
            return
        number = str(request.get("requestId", ""))
        answer = await self.runtime.tools.serve(session, name, arguments, number, fault)
        result = {
            "isError": answer.is_error,
            "content": [{"type": "text", "text": answer.text}],
        }
        data = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}, ensure_ascii=False)
        document = {"code": 0, "success": True, "requestId": number, "data": data}
        body = json.dumps(document, ensure_ascii=False)
        await behaviour.transmit(len(body))
        if fault is not None:
            await misbehave(self, fault, body)
            return
        self.set_header("Content-Type", "application/json;charset=utf-8")
        self.finish(body)

    def _authorized(self, session_id: str) -> Session | None:
        token = self.request.headers.get("X-Access-Token", "")
        if not token:
            self._refuse("Jwt is missing")
            return None
        try:
            session = self.runtime.sessions.find(session_id)
        except SessionGone:
            self._refuse("Jwt verification fails")
            return None
        if not secrets.compare_digest(token.encode(), session.token.encode()):
            self._refuse("Jwt verification fails")
            return None
        return session

    async def _fail(self, fault: FaultPlan, session_id: str) -> None:
        if fault.kind in ("key_refused", "expired"):
            if fault.kind == "expired":
                self.runtime.sessions.expire(session_id)
            self._refuse("Jwt verification fails")
        else:
            await misbehave(self, fault)

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
