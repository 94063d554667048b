"""The control plane: one function for each action of the service.

In: the fields of a request, query and form merged. Out: an envelope's fields, or `Refusal`
(AgentBay wire protocol, actions).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.context_actions import ContextActions
from agentbay_kernel.local.contexts import Contexts
from agentbay_kernel.local.profile import FaultPlan, read_profile
from agentbay_kernel.local.refusals import Refusal, not_found
from agentbay_kernel.local.sessions import (
    Lifetime,
    QuotaExceeded,
    Session,
    SessionGone,
    Sessions,
    WrongStatus,
    read_labels,
)
from agentbay_kernel.local.tools import Tools

Fields = dict[str, str]
PAGE = 10


class Actions:
    """Carries out actions.

    Arguments:
        sessions: the sessions.
        tools: their tools.
        contexts: the contexts.
        behaviour: what `LocalControl` changes.
        routes: the session's Token, LinkUrl and WsUrl fields, as far as they are offered.
        address: makes an absolute address of a path under the endpoint.
        told: what the runtime says of itself.
    """

    def __init__(
        self,
        sessions: Sessions,
        tools: Tools,
        contexts: Contexts,
        behaviour: Behaviour,
        routes: Callable[[Session], dict[str, Any]],
        address: Callable[[str], str],
        told: Callable[[], dict[str, Any]],
    ) -> None:
        self._contexts = contexts
        self._behaviour = behaviour
        self._sessions = sessions
        self._tools = tools
        self._routes = routes
        self._told = told
        self._table: dict[str, Callable[[Fields], Awaitable[dict[str, Any]]]] = {
            "CreateMcpSession": self._create,
            "GetSession": self._get,
            "GetSessionDetail": self._get_detail,
            "GetMcpResource": self._get_resource,
            "ListSession": self._list,
            "DeleteSessionAsync": self._delete,
            "ReleaseMcpSession": self._delete,
            "RefreshSessionIdleTime": self._refresh,
            "SetLabel": self._set_label,
            "GetLabel": self._get_label,
            "ListMcpTools": self._list_tools,
            "GetLink": self._get_link,
            "PauseSessionAsync": self._pause,
            "ResumeSessionAsync": self._resume,
            "LocalControl": self._control,
            **ContextActions(contexts, sessions, address).table(),
        }

    async def perform(
        self, action: str, fields: Fields, request_id: str, fault: FaultPlan | None
    ) -> dict[str, Any]:
        """The fields that an action's answer adds to the envelope.

        Arguments:
            action: its name.
            fields: query and form merged.
            request_id: of this request.
            fault: what will go wrong with the answer, for the journal.

        Raises:
            Refusal: the service says no.
        """
        handler = self._table.get(action)
        if handler is None and action != "CallMcpTool":
            raise Refusal("InvalidAction.NotFound", f"The specified action {action} is not found.")
        try:
            if handler is None:
                return await self._call_tool(fields, request_id, fault)
            return await handler(fields)
        except SessionGone:
            raise not_found() from None
        except WrongStatus as failure:
            raise Refusal("OperationDenied.SessionStatus", str(failure)) from None

    def _find(self, fields: Fields) -> Session:
        return self._sessions.find(fields.get("SessionId", ""))

    async def _create(self, fields: Fields) -> dict[str, Any]:
        try:
            labels = read_labels(fields.get("Labels", ""))
            lifetime = Lifetime.of(
                fields.get("Timeout", ""),
                fields.get("MaxRuntime", ""),
                fields.get("ManualRelease", "").lower() == "true",
                self._sessions.default_idle_s,
            )
        except ValueError as failure:
            raise Refusal("InvalidParameter", str(failure)) from None
        try:
            session = await self._sessions.create(
                fields.get("ImageId") or "linux_latest", labels, lifetime
            )
        except QuotaExceeded as failure:
            raise Refusal(
                "ExceedLimit", f"The number of sessions exceed limit, concurrency limit {failure}."
            ) from None
        except LocalRuntimeError as failure:
            raise Refusal("InternalError", str(failure), 500) from None
        self._note_contexts(session, fields.get("PersistenceDataList", ""))
        return {"Data": {"Success": True, "ErrMsg": "", **self._described(session)}}

    def _note_contexts(self, session: Session, text: str) -> None:
        """Contexts asked for at the start are reported as loaded; their files stay outside."""
        for entry in json.loads(text) if text else []:
            self._contexts.note(
                session,
                {
                    "contextId": entry.get("ContextId", ""),
                    "path": entry.get("Path", ""),
                    "taskType": "download",
                    "status": "Success",
                    "errorMessage": "",
                    "startTime": 0,
                    "finishTime": 0,
                },
            )

    def _described(self, session: Session) -> dict[str, Any]:
        return {
            "SessionId": session.id,
            "AppInstanceId": f"ai-{session.id[-12:]}",
            "ResourceId": f"p-{session.id[-12:]}",
            "ResourceUrl": _resource_url(session),
            "HttpPort": "",
            "NetworkInterfaceIp": "",
            "VpcResource": False,
            "ToolList": json.dumps(self._tools.listed()),
            **self._routes(session),
        }

    async def _get(self, fields: Fields) -> dict[str, Any]:
        session = self._find(fields)
        data = {**self._described(session), "Status": session.status, "contexts": []}
        return {"Data": data}

    async def _get_detail(self, fields: Fields) -> dict[str, Any]:
        session = self._sessions.detail(fields.get("SessionId", ""))
        ended = session.status == "FINISH"
        return {
            "Data": {
                "Status": session.status,
                "AppInstanceId": f"ai-{session.id[-12:]}",
                "ImageId": session.image,
                "ImageType": "CodeSpace",
                "IsDeleted": int(ended),
                "EndReason": session.end_reason,
                "RegionId": "local",
            }
        }

    async def _get_resource(self, fields: Fields) -> dict[str, Any]:
        session = self._find(fields)
        return {
            "Data": {
                "SessionId": session.id,
                "ResourceUrl": _resource_url(session),
                "DesktopInfo": {
                    "AppId": f"ai-{session.id[-12:]}",
                    "AuthCode": secrets.token_hex(8),
                    "ConnectionProperties": "",
                    "ResourceId": f"p-{session.id[-12:]}",
                    "ResourceType": "AIAgent",
                    "Ticket": secrets.token_hex(8),
                },
            }
        }

    async def _list(self, fields: Fields) -> dict[str, Any]:
        try:
            labels = read_labels(fields.get("Labels", ""))
            size = int(fields.get("MaxResults") or PAGE)
            start = int(fields.get("NextToken") or 0)
        except ValueError as failure:
            raise Refusal("InvalidParameter", str(failure)) from None
        if size <= 0 or start < 0:
            raise Refusal("InvalidParameter", "MaxResults must be greater than 0")
        found = self._sessions.select(labels, fields.get("Status", ""), fields.get("ImageId", ""))
        return {
            "Data": [
                {
                    "SessionId": session.id,
                    "SessionStatus": session.status,
                    "AppInstanceId": f"ai-{session.id[-12:]}",
                    "ImageId": session.image,
                }
                for session in found[start : start + size]
            ],
            "NextToken": str(start + size) if start + size < len(found) else "",
            "MaxResults": size,
            "TotalCount": len(found),
        }

    async def _call_tool(
        self, fields: Fields, request_id: str, fault: FaultPlan | None
    ) -> dict[str, Any]:
        session = self._find(fields)
        limit = self._behaviour.profile.message_limit
        if limit is not None and len(fields.get("Args", "").encode()) > limit:
            raise _too_large(limit)
        try:
            arguments = json.loads(fields.get("Args") or "{}")
        except ValueError:
            raise Refusal("InvalidParameter", "Args must be a JSON object") from None
        if not isinstance(arguments, dict):
            raise Refusal("InvalidParameter", "Args must be a JSON object")
        name = fields.get("Name", "")
        answer = await self._tools.serve(session, name, arguments, request_id, fault)
        if limit is not None and len(answer.text.encode()) > limit:
            raise _too_large(limit)
        content = [{"type": "text", "text": answer.text}]
        return {"Data": {"content": content, "isError": answer.is_error}}

    async def _delete(self, fields: Fields) -> dict[str, Any]:
        self._sessions.delete(fields.get("SessionId", ""))
        return {}

    async def _pause(self, fields: Fields) -> dict[str, Any]:
        self._sessions.pause(fields.get("SessionId", ""))
        return {}

    async def _resume(self, fields: Fields) -> dict[str, Any]:
        self._sessions.resume(fields.get("SessionId", ""))
        return {}

    async def _refresh(self, fields: Fields) -> dict[str, Any]:
        self._find(fields).touch()
        return {}

    async def _set_label(self, fields: Fields) -> dict[str, Any]:
        session = self._find(fields)
        try:
            session.labels = read_labels(fields.get("Labels", ""))
        except ValueError as failure:
            raise Refusal("InvalidParameter", str(failure)) from None
        return {}

    async def _get_label(self, fields: Fields) -> dict[str, Any]:
        return {"Data": {"Labels": json.dumps(self._find(fields).labels)}}

    async def _control(self, fields: Fields) -> dict[str, Any]:
        """Not the service's: tells of this runtime, and sets the profile if there is one."""
        if "Profile" in fields:
            try:
                self._behaviour.use(read_profile(json.loads(fields["Profile"])))
            except (ValueError, TypeError) as failure:
                raise Refusal("InvalidParameter", f"Profile can't be used: {failure}") from None
        data = {**self._told(), "profile": self._behaviour.profile.as_data()}
        return {"Data": {**data, "sessions": len(self._sessions.running())}}

    async def _get_link(self, fields: Fields) -> dict[str, Any]:
        session = self._find(fields)
        kind = fields.get("ProtocolType") or "wss"
        port = fields.get("Port") or "443"
        return {"Data": {"Url": f"{kind}://127.0.0.1:{port}/?sessionId={session.id}"}}

    async def _list_tools(self, fields: Fields) -> dict[str, Any]:
        tools = [
            {**tool, "description": "", "inputSchema": {}, "tool": tool["name"]}
            for tool in self._tools.listed()
        ]
        return {"Data": json.dumps(tools)}


def _too_large(limit: int) -> Refusal:
    return Refusal("InternalError", f"The message is larger than {limit} bytes.", 500)


def _resource_url(session: Session) -> str:
    return f"http://127.0.0.1/?resourceId=p-{session.id[-12:]}&authcode=local"
