"""Creating exactly one session over a network that loses responses.

Each request to create a session has its own label. If its response is lost, the sessions with this
label show whether the session was created. CreateMcpSession and the life-cycle fields are those of
the AgentBay wire protocol.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from agentbay_kernel.errors import (
    CommandError,
    ConfigurationError,
    InvalidResponseError,
    QuotaError,
    ResponseLostError,
    ServiceFaultError,
    ServiceUnreachableError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.service.actions import Actions, repeat
from agentbay_kernel.service.listing import list_all
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.session import Session, label_problem, open_session

CREATE_LABEL = "agentbay_kernel_create"
DEFAULT_IDLE_MIN = 15
DEFAULT_MAX_MIN = 480
_ATTEMPTS = 3
# Seconds for everything, and how many of them are kept for finding a session after a lost response.
_WITHIN_S, _LOOK_S = 85.0, 25.0
# Seconds for each request that deletes a second session.
_TIDY_S = 10.0
_QUOTA_WORDS = ("exceed limit", "concurrency limit")

_log = get_logger("client")


@dataclass(frozen=True)
class CreateSessionParams:
    """The parameters of a new session.

    Arguments:
        image_id: the image; code needs `code_latest`.
        labels: strings by names, to find the session again. `CREATE_LABEL` may hold a random
            string of the caller, which identifies this request.
        idle_release_timeout_min: minutes without use after which the service ends the session.
        max_runtime_min: minutes after which the service ends it in any case.

    Without the last two, the account's own lifetime applies. With one of them, the other is 15 or
    480 minutes: the service reads them as minutes only if both are sent.

    Raises:
        ConfigurationError: a label or a number is invalid.
    """

    image_id: str = "code_latest"
    labels: Mapping[str, str] | None = None
    idle_release_timeout_min: int | None = None
    max_runtime_min: int | None = None

    def __post_init__(self) -> None:
        problem = label_problem(self.labels or {})
        if problem:
            raise ConfigurationError(f"The session's labels are not valid. {problem}")
        for minutes in (self.idle_release_timeout_min, self.max_runtime_min):
            if minutes is not None and (type(minutes) is not int or minutes < 1):
                raise ConfigurationError(
                    f"A session's life cycle is in whole minutes, at least 1, not {minutes!r}."
                )

    def fields(self) -> dict[str, str]:
        """Build the fields of CreateMcpSession, except for labels.

        Returns:
            Strings by the names of the fields.
        """
        fields = {"ImageId": self.image_id}
        if self.idle_release_timeout_min is not None or self.max_runtime_min is not None:
            fields["Timeout"] = str(self.idle_release_timeout_min or DEFAULT_IDLE_MIN)
            fields["MaxRuntime"] = str(self.max_runtime_min or DEFAULT_MAX_MIN)
        return fields


def create_session(actions: Actions, params: CreateSessionParams) -> tuple[Session, str]:
    """Create a session within 90 seconds; return it and the id of the request that created it.

    Raises:
        QuotaError: the account has no free session slot.
        CommandError: the service refused or was not reached, or it is unknown whether there is a
            session.
    """
    labels = dict(params.labels or {})
    mark = {CREATE_LABEL: labels.get(CREATE_LABEL) or uuid.uuid4().hex}
    fields = {
        **params.fields(),
        "Labels": json.dumps({**labels, **mark}),
        "LoginRegionId": actions.endpoint.region_id,
    }
    unanswered = False
    settled = True
    ends_at = time.monotonic() + _WITHIN_S

    def attempt() -> tuple[Session, str]:
        nonlocal unanswered, settled
        try:
            left_s = max(1.0, ends_at - _LOOK_S - time.monotonic())
            envelope = actions.call("CreateMcpSession", fields, total_s=left_s)
            return open_session(actions, envelope), envelope.request_id
        except CommandError as error:
            if not _is_fate_unknown(error):
                raise
            _log.warning("The creation got no response; looking for its session: %s", error)
            unanswered, settled = True, False
            try:
                found = _find(actions, mark, ends_at)
            except CommandError as unknown:
                # Not `unknown`: it may report that nothing was sent, which is true of the search
                # only.
                raise error from unknown
            settled = True
            if found is None:
                raise
            return found

    def again(error: CommandError) -> bool:
        # No second create while it is unknown whether the last one was done.
        return settled and _is_worth_another(error)

    try:
        session, request_id = repeat(
            attempt, again, what="create", attempts=_ATTEMPTS, ends_at=ends_at - _LOOK_S
        )
    except CommandError as error:
        raise _quota_error(error) or error from None
    if unanswered:
        _delete_strays(actions, mark, session.session_id)
    return session, request_id


def _find(actions: Actions, mark: Mapping[str, str], ends_at: float) -> tuple[Session, str] | None:
    def left_s() -> float:
        return max(1.0, ends_at - time.monotonic())

    for entry in list_all(actions, mark, within_s=left_s()):
        try:
            envelope = actions.call_repeatable(
                "GetSession", {"SessionId": entry["sessionId"]}, total_s=left_s()
            )
        except SessionNotFoundError:
            continue
        return open_session(actions, envelope, entry["sessionId"]), envelope.request_id
    return None


def _delete_strays(actions: Actions, mark: Mapping[str, str], kept: str) -> None:
    # The service may have done a create late, after its response was lost and another was sent.
    try:
        listed = list_all(actions, mark, within_s=_TIDY_S)
        strays = [entry["sessionId"] for entry in listed]
        for session_id in strays:
            if session_id != kept:
                actions.call_repeatable(
                    "DeleteSessionAsync", {"SessionId": session_id}, total_s=_TIDY_S
                )
    except CommandError as error:
        _log.warning("Could not look for a second session of one create: %s", error)


def _is_fate_unknown(error: CommandError) -> bool:
    if isinstance(error, ServiceFaultError):
        return error.status >= 500
    return isinstance(error, ResponseLostError | InvalidResponseError)


def _is_worth_another(error: CommandError) -> bool:
    # Errors with an unknown result come here only if the service has no session with the label.
    return _is_fate_unknown(error) or isinstance(error, ServiceUnreachableError | ThrottledError)


def _quota_error(error: CommandError) -> QuotaError | None:
    said = str(error).lower()
    if not isinstance(error, ServiceFaultError) or not any(w in said for w in _QUOTA_WORDS):
        return None
    return QuotaError(
        f"The account has no free session slot: {error} Delete a session that is no longer "
        "needed, or wait until one is released."
    )
