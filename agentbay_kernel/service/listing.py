"""Lists of sessions by their labels, one page or all pages.

ListSession, its fields and its NextToken are those of the AgentBay wire protocol.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from agentbay_kernel.errors import InvalidResponseError
from agentbay_kernel.service.actions import Actions
from agentbay_kernel.service.results import SessionListResult

LARGEST_PAGE = 100
# A service whose pages never end must not block a caller.
_MOST_PAGES = 1000
_NAMES = ("SessionId", "SessionStatus", "AppInstanceId", "ImageId")


def list_page(
    actions: Actions,
    labels: Mapping[str, str] | None,
    *,
    limit: int,
    status: str | None = None,
    token: str = "",
    within_s: float | None = None,
) -> SessionListResult:
    """Return one page: the one of `token`, or else the first.

    Arguments:
        limit: most sessions of the page, at most 100.
        within_s: seconds for the page; no limit unless given.

    Raises:
        CommandError: the service refused, was not reached, or returned an invalid response.
    """
    fields = {
        "Labels": json.dumps(dict(labels or {})),
        "MaxResults": str(min(max(1, limit), LARGEST_PAGE)),
    }
    if status:
        fields["Status"] = status
    if token:
        fields["NextToken"] = token
    envelope = actions.call_repeatable("ListSession", fields, total_s=within_s)
    entries = envelope.data if envelope.data is not None else []
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise InvalidResponseError(
            f"{actions.place} returned an invalid list of sessions.",
            request_id=envelope.request_id,
        )
    return SessionListResult(
        request_id=envelope.request_id,
        session_ids=[_entry(entry) for entry in entries],
        next_token=str(envelope.fields.get("NextToken") or ""),
        max_results=_number(envelope.fields.get("MaxResults")),
        total_count=_number(envelope.fields.get("TotalCount")),
    )


def list_all(
    actions: Actions,
    labels: Mapping[str, str] | None,
    *,
    status: str | None = None,
    within_s: float | None = None,
) -> Iterator[dict[str, str]]:
    """Yield the entries of all pages.

    Arguments:
        within_s: seconds for all pages together; no limit unless given.

    Raises:
        CommandError: as for `list_page`.
    """
    token = ""
    ends_at = None if within_s is None else time.monotonic() + within_s
    for _ in range(_MOST_PAGES):
        left_s = None if ends_at is None else max(0.05, ends_at - time.monotonic())
        page = list_page(
            actions, labels, limit=LARGEST_PAGE, status=status, token=token, within_s=left_s
        )
        yield from page.session_ids
        if not page.next_token or page.next_token == token:
            return
        token = page.next_token


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("SessionId"), str)


def _entry(entry: dict[str, Any]) -> dict[str, str]:
    return {name[0].lower() + name[1:]: str(entry.get(name) or "") for name in _NAMES}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
