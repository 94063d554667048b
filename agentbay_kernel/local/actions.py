"""The control plane: one function for each action of the service (AgentBay wire protocol, actions).

A function takes the fields of a request, query and form merged. It returns fields of the response's
envelope, or raises `Refusal`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.context_actions import ContextActions
from agentbay_kernel.local.contexts import Contexts
from agentbay_kernel.local.parsing import integer_field, json_field, number_field, read_object
from agentbay_kernel.local.profile import FaultPlan, read_profile
from agentbay_kernel.local.refusals import (
    Refusal,
    invalid_parameter,
    no_such_action,
    not_found,
)
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
# The only action that is not in the table: it also takes the request's id and its fault.
TOOL_CALL = "CallMcpTool"


class Actions:
    """Carries out actions.

    Arguments:
        sessions: the sessions.
        tools: their tools.
        contexts: the contexts.
        behaviour: what `LocalControl` changes.
        routes: returns a session's Token, LinkUrl and WsUrl fields, if they are offered.
        address: returns the absolute address of a path under the endpoint.
        told: returns facts about the runtime for `LocalControl`.
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
        self._context_actions = ContextActions(contexts, sessions, address)

    async def perform(
        self, action: str, fields: Fields, request_id: str, fault: FaultPlan | None
    ) -> dict[str, Any]:
        """Carry out an action; return the fields that its response adds to the envelope.

        Arguments:
            action: its name.
            fields: query and form merged.
            request_id: of this request.
            fault: what will go wrong with the response, for the journal.

        Raises:
            Refusal: the service refuses.
        """
        try:
            if action == TOOL_CALL:
                return await self._call_tool(fields, request_id, fault)
            if action in ContextActions.table:
                return await self._context_actions.perform(action, fields)
            if action in self.table:
                return await self.table[action](self, fields)
            raise no_such_action(action)
        except SessionGone:
            raise not_found() from None
        except WrongStatus as failure:
            raise Refusal("OperationDenied.SessionStatus", str(failure)) from None

    def _find(self, fields: Fields) -> Session:
        return self._sessions.find(fields.get("SessionId", ""))

    async def _create(self, fields: Fields) -> dict[str, Any]:
        """Create a session."""
        labels = _labels(fields)
        lifetime = Lifetime.of(
            number_field(fields, "Timeout"),
            number_field(fields, "MaxRuntime"),
            fields.get("ManualRelease", "").lower() == "true",
            self._sessions.default_idle_s,
        )
        requested = _requested_contexts(fields)
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
        self._record_contexts(session, requested)
        return {"Data": {"Success": True, "ErrMsg": "", **self._description(session)}}

    def _record_contexts(self, session: Session, requested: list[tuple[str, str]]) -> None:
        """Report the contexts of a new session as loaded; their files are not copied into it."""
        for context_id, path in requested:
            self._contexts.record_task(
                session,
                {
                    "contextId": context_id,
                    "path": path,
                    "taskType": "download",
                    "status": "Success",
                    "errorMessage": "",
                    "startTime": 0,
                    "finishTime": 0,
                },
            )

    def _description(self, session: Session) -> dict[str, Any]:
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
        """Return a session with its addresses."""
        session = self._find(fields)
        data = {**self._description(session), "Status": session.status, "contexts": []}
        return {"Data": data}

    async def _get_detail(self, fields: Fields) -> dict[str, Any]:
        """Return the status of a session, also of one that is ending."""
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
        """Return the address of a session for a browser; nothing is served there."""
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
        """List sessions by labels, status and image, in pages."""
        labels = _labels(fields)
        size = integer_field(fields, "MaxResults", PAGE, 1)
        start = integer_field(fields, "NextToken", 0, 0)
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
        """Run a tool of a session."""
        session = self._find(fields)
        limit = self._behaviour.profile.message_limit
        if limit is not None and len(fields.get("Args", "").encode()) > limit:
            raise _too_large(limit)
        try:
            arguments = read_object(fields.pop("Args", "") or "{}")
        except ValueError as failure:
            raise invalid_parameter(f"Args must be a JSON object: {failure}.") from None
        name = fields.get("Name", "")
        result = await self._tools.serve(session, name, arguments, request_id, fault)
        if limit is not None and result.size > limit:
            result.close()
            raise _too_large(limit)
        return {"Data": result}

    async def _delete(self, fields: Fields) -> dict[str, Any]:
        """Delete a session."""
        self._sessions.delete(fields.get("SessionId", ""))
        return {}

    async def _pause(self, fields: Fields) -> dict[str, Any]:
        """Pause a session: it refuses calls, its processes continue."""
        self._sessions.pause(fields.get("SessionId", ""))
        return {}

    async def _resume(self, fields: Fields) -> dict[str, Any]:
        """Resume a paused session."""
        self._sessions.resume(fields.get("SessionId", ""))
        return {}

    async def _refresh(self, fields: Fields) -> dict[str, Any]:
        """Restart the idle time of a session."""
        self._find(fields).touch()
        return {}

    async def _set_label(self, fields: Fields) -> dict[str, Any]:
        """Replace a session's labels."""
        self._find(fields).labels = _labels(fields)
        return {}

    async def _get_label(self, fields: Fields) -> dict[str, Any]:
        """Return a session's labels."""
        return {"Data": {"Labels": json.dumps(self._find(fields).labels)}}

    async def _control(self, fields: Fields) -> dict[str, Any]:
        """Describe this runtime, or set its profile; the service has no such action."""
        if "Profile" in fields:
            try:
                self._behaviour.use(read_profile(json_field(fields, "Profile", "{}")))
            except (ValueError, TypeError) as failure:
                raise invalid_parameter(f"Profile can't be used: {failure}") from None
        data = {**self._told(), "profile": self._behaviour.profile.as_data()}
        return {"Data": {**data, "sessions": len(self._sessions.running())}}

    async def _get_link(self, fields: Fields) -> dict[str, Any]:
        """Return an address for a port of a session; nothing is served there."""
        session = self._find(fields)
        kind = fields.get("ProtocolType") or "wss"
        port = fields.get("Port") or "443"
        return {"Data": {"Url": f"{kind}://127.0.0.1:{port}/?sessionId={session.id}"}}

    async def _list_tools(self, fields: Fields) -> dict[str, Any]:
        """List the tools."""
        tools = [
            {**tool, "description": "", "inputSchema": {}, "tool": tool["name"]}
            for tool in self._tools.listed()
        ]
        return {"Data": json.dumps(tools)}

    table: ClassVar[dict[str, Callable[[Actions, Fields], Awaitable[dict[str, Any]]]]] = {
        "CreateMcpSession": _create,
        "GetSession": _get,
        "GetSessionDetail": _get_detail,
        "GetMcpResource": _get_resource,
        "ListSession": _list,
        "DeleteSessionAsync": _delete,
        "ReleaseMcpSession": _delete,
        "RefreshSessionIdleTime": _refresh,
        "SetLabel": _set_label,
        "GetLabel": _get_label,
        "ListMcpTools": _list_tools,
        "GetLink": _get_link,
        "PauseSessionAsync": _pause,
        "ResumeSessionAsync": _resume,
        "LocalControl": _control,
    }
    call_tool = _call_tool


# Every action and its function.
ACTIONS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    **Actions.table,
    **ContextActions.table,
    TOOL_CALL: Actions.call_tool,
}


def _labels(fields: Fields) -> dict[str, str]:
    try:
        return read_labels(fields.get("Labels", ""))
    except ValueError as failure:
        raise invalid_parameter(f"Labels can't be read: {failure}.") from None


def _requested_contexts(fields: Fields) -> list[tuple[str, str]]:
    """Return ids and paths of the contexts for a new session."""
    entries = json_field(fields, "PersistenceDataList", "[]")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise invalid_parameter("PersistenceDataList must be a list of objects.")
    return [(str(it.get("ContextId", "")), str(it.get("Path", ""))) for it in entries]


def _too_large(limit: int) -> Refusal:
    return Refusal("InternalError", f"The message is larger than {limit} bytes.", 500)


def _resource_url(session: Session) -> str:
    return f"http://127.0.0.1/?resourceId=p-{session.id[-12:]}&authcode=local"
