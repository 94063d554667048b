"""The actions on contexts and on file transfer (AgentBay wire protocol, contexts)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from agentbay_kernel.local.confinement import TRANSFER_FOLDER
from agentbay_kernel.local.contexts import ContextGone, Contexts, ContextsFull
from agentbay_kernel.local.parsing import integer_field, json_field
from agentbay_kernel.local.refusals import Refusal, invalid_parameter
from agentbay_kernel.local.sessions import Sessions

Fields = dict[str, str]
PAGE = 10
FILES_PAGE = 50


class ContextActions:
    """Carries out actions on contexts.

    Arguments:
        contexts: the contexts.
        sessions: the sessions whose files are exchanged.
        address: returns the absolute address of a path under the endpoint.
    """

    def __init__(
        self, contexts: Contexts, sessions: Sessions, address: Callable[[str], str]
    ) -> None:
        self._contexts = contexts
        self._sessions = sessions
        self._address = address

    async def perform(self, action: str, fields: Fields) -> dict[str, Any]:
        """Carry out an action; return the fields that its response adds to the envelope.

        Raises:
            Refusal: the service refuses.
        """
        try:
            return await self.table[action](self, fields)
        except ContextGone as failure:
            raise Refusal(
                "InvalidContext.NotFound", f"Resource [Context] {failure} is not found."
            ) from None
        except ContextsFull as failure:
            raise Refusal("ExceedLimit", str(failure)) from None

    async def _load_internal(self, fields: Fields) -> dict[str, Any]:
        """Return the context through which a session's files are transferred."""
        session = self._sessions.find(fields.get("SessionId", ""))
        kinds = json_field(fields, "ContextTypes", '["file_transfer"]')
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise invalid_parameter("ContextTypes must be a list of strings.")
        context = self._contexts.transfer_context(session)
        return {
            "Data": [
                {"ContextId": context.id, "ContextPath": TRANSFER_FOLDER, "ContextType": kind}
                for kind in kinds
            ]
        }

    async def _get(self, fields: Fields) -> dict[str, Any]:
        """Return a context by name or id, and make it if asked."""
        if fields.get("ContextId"):
            return {"Data": self._contexts.find(fields["ContextId"]).as_data()}
        make = fields.get("AllowCreate", "").lower() == "true"
        context = self._contexts.get_or_make(fields.get("Name", ""), make)
        if context is None:
            raise ContextGone(fields.get("Name", ""))
        return {"Data": context.as_data()}

    async def _list(self, fields: Fields) -> dict[str, Any]:
        """List contexts, in pages."""
        size = integer_field(fields, "MaxResults", PAGE, 1)
        start = integer_field(fields, "NextToken", 0, 0)
        found = self._contexts.listed()
        return {
            "Data": [context.as_data() for context in found[start : start + size]],
            "NextToken": str(start + size) if start + size < len(found) else "",
            "MaxResults": size,
            "TotalCount": len(found),
        }

    async def _list_files(self, fields: Fields) -> dict[str, Any]:
        """List the files of a context that are in a directory, in pages."""
        size = integer_field(fields, "MaxResults", 0, 1)
        if size:
            start = integer_field(fields, "NextToken", 0, 0)
        else:
            size = integer_field(fields, "PageSize", FILES_PAGE, 1)
            start = size * (integer_field(fields, "PageNumber", 1, 1) - 1)
            start = integer_field(fields, "NextToken", start, 0)
        context = self._contexts.find(fields.get("ContextId", ""))
        found = self._contexts.files_in(context, fields.get("ParentFolderPath", ""))
        return {
            "Data": found[start : start + size],
            "Count": len(found),
            "MaxResults": size,
            "NextToken": str(start + size) if start + size < len(found) else "",
        }

    async def _delete_file(self, fields: Fields) -> dict[str, Any]:
        """Delete a file of a context."""
        self._contexts.delete_file(fields.get("ContextId", ""), fields.get("FilePath", ""))
        return {}

    async def _modify(self, fields: Fields) -> dict[str, Any]:
        """Rename a context."""
        self._contexts.find(fields.get("Id", "")).name = fields.get("Name", "")
        return {}

    async def _delete(self, fields: Fields) -> dict[str, Any]:
        """Delete a context and its files."""
        self._contexts.delete(fields.get("Id", ""))
        return {}

    async def _upload_url(self, fields: Fields) -> dict[str, Any]:
        """Return a presigned address for an upload."""
        return self._presigned(fields, writes=True)

    async def _download_url(self, fields: Fields) -> dict[str, Any]:
        """Return a presigned address for a download."""
        return self._presigned(fields, writes=False)

    def _presigned(self, fields: Fields, writes: bool) -> dict[str, Any]:
        token, expires = self._contexts.presign(
            fields.get("ContextId", ""), fields.get("FilePath", ""), writes
        )
        return {"Data": {"Url": self._address(f"/oss/{token}"), "ExpireTime": expires}}

    async def _sync(self, fields: Fields) -> dict[str, Any]:
        """Copy a file between a context and a session."""
        session = self._sessions.find(fields.get("SessionId", ""))
        if fields.get("ContextId") and fields.get("Path"):
            await self._contexts.sync(
                session, fields["ContextId"], fields["Path"], fields.get("Mode") or "upload"
            )
        return {}

    async def _info(self, fields: Fields) -> dict[str, Any]:
        """Return how the copying of files ended."""
        session = self._sessions.find(fields.get("SessionId", ""))
        status = self._contexts.tasks(
            session,
            fields.get("ContextId", ""),
            fields.get("Path", ""),
            fields.get("TaskType", ""),
        )
        return {"Data": {"ContextStatus": status}}

    table: ClassVar[dict[str, Callable[[ContextActions, Fields], Awaitable[dict[str, Any]]]]] = {
        "GetAndLoadInternalContext": _load_internal,
        "GetContext": _get,
        "ListContexts": _list,
        "ModifyContext": _modify,
        "DeleteContext": _delete,
        "DescribeContextFiles": _list_files,
        "DeleteContextFile": _delete_file,
        "GetContextFileUploadUrl": _upload_url,
        "GetContextFileDownloadUrl": _download_url,
        "SyncContext": _sync,
        "GetContextInfo": _info,
    }
