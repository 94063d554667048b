"""The actions on contexts, and the ones of file transfer.

In: the fields of a request. Out: an envelope's fields, or `Refusal` (AgentBay wire protocol,
contexts).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from agentbay_kernel.local.confinement import TRANSFER_FOLDER
from agentbay_kernel.local.contexts import ContextGone, Contexts
from agentbay_kernel.local.refusals import Refusal
from agentbay_kernel.local.sessions import Sessions

Fields = dict[str, str]
PAGE = 10


class ContextActions:
    """Carries out actions on contexts.

    Arguments:
        contexts: the contexts.
        sessions: the sessions whose files are exchanged.
        address: makes an absolute address of a path under the endpoint.
    """

    def __init__(
        self, contexts: Contexts, sessions: Sessions, address: Callable[[str], str]
    ) -> None:
        self._contexts = contexts
        self._sessions = sessions
        self._address = address

    def table(self) -> dict[str, Callable[[Fields], Awaitable[dict[str, Any]]]]:
        """The actions by name."""
        return {
            name: self._refusing(action)
            for name, action in {
                "GetAndLoadInternalContext": self._load_internal,
                "GetContext": self._get,
                "ListContexts": self._list,
                "ModifyContext": self._modify,
                "DeleteContext": self._delete,
                "GetContextFileUploadUrl": self._upload_url,
                "GetContextFileDownloadUrl": self._download_url,
                "SyncContext": self._sync,
                "GetContextInfo": self._info,
            }.items()
        }

    def _refusing(
        self, action: Callable[[Fields], Awaitable[dict[str, Any]]]
    ) -> Callable[[Fields], Awaitable[dict[str, Any]]]:
        async def perform(fields: Fields) -> dict[str, Any]:
            try:
                return await action(fields)
            except ContextGone as failure:
                raise Refusal(
                    "InvalidContext.NotFound", f"Resource [Context] {failure} is not found."
                ) from None

        return perform

    async def _load_internal(self, fields: Fields) -> dict[str, Any]:
        session = self._sessions.find(fields.get("SessionId", ""))
        context = self._contexts.transfer_context(session)
        kinds = json.loads(fields.get("ContextTypes") or '["file_transfer"]')
        return {
            "Data": [
                {"ContextId": context.id, "ContextPath": TRANSFER_FOLDER, "ContextType": kind}
                for kind in kinds
            ]
        }

    async def _get(self, fields: Fields) -> dict[str, Any]:
        if fields.get("ContextId"):
            return {"Data": self._contexts.find(fields["ContextId"]).described()}
        make = fields.get("AllowCreate", "").lower() == "true"
        context = self._contexts.get_or_make(fields.get("Name", ""), make)
        if context is None:
            raise ContextGone(fields.get("Name", ""))
        return {"Data": context.described()}

    async def _list(self, fields: Fields) -> dict[str, Any]:
        size = int(fields.get("MaxResults") or PAGE)
        start = int(fields.get("NextToken") or 0)
        found = self._contexts.listed()
        return {
            "Data": [context.described() for context in found[start : start + size]],
            "NextToken": str(start + size) if start + size < len(found) else "",
            "MaxResults": size,
            "TotalCount": len(found),
        }

    async def _modify(self, fields: Fields) -> dict[str, Any]:
        self._contexts.find(fields.get("Id", "")).name = fields.get("Name", "")
        return {}

    async def _delete(self, fields: Fields) -> dict[str, Any]:
        self._contexts.delete(fields.get("Id", ""))
        return {}

    async def _upload_url(self, fields: Fields) -> dict[str, Any]:
        return self._presigned(fields, writes=True)

    async def _download_url(self, fields: Fields) -> dict[str, Any]:
        return self._presigned(fields, writes=False)

    def _presigned(self, fields: Fields, writes: bool) -> dict[str, Any]:
        token, expires = self._contexts.presign(
            fields.get("ContextId", ""), fields.get("FilePath", ""), writes
        )
        return {"Data": {"Url": self._address(f"/oss/{token}"), "ExpireTime": expires}}

    async def _sync(self, fields: Fields) -> dict[str, Any]:
        session = self._sessions.find(fields.get("SessionId", ""))
        if fields.get("ContextId") and fields.get("Path"):
            await self._contexts.sync(
                session, fields["ContextId"], fields["Path"], fields.get("Mode") or "upload"
            )
        return {}

    async def _info(self, fields: Fields) -> dict[str, Any]:
        session = self._sessions.find(fields.get("SessionId", ""))
        status = self._contexts.tasks(
            session,
            fields.get("ContextId", ""),
            fields.get("Path", ""),
            fields.get("TaskType", ""),
        )
        return {"Data": {"ContextStatus": status}}
