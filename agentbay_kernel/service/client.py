"""AgentBay: the client that creates, finds and deletes sessions.

Its methods return results with `success`. They raise an error if no valid response came.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import (
    CommandError,
    ConfigurationError,
    SessionError,
    SessionNotFoundError,
)
from agentbay_kernel.service.access import Access
from agentbay_kernel.service.actions import Actions
from agentbay_kernel.service.creation import CreateSessionParams, create_session
from agentbay_kernel.service.endpoint import Endpoint, find_credentials
from agentbay_kernel.service.listing import list_all, list_page
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.results import (
    DeleteResult,
    SessionListResult,
    refused,
)
from agentbay_kernel.service.session import Session, SessionResult, open_session
from agentbay_kernel.service.transport import LARGEST_RESPONSE, Transport

_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_TIMEOUT_MS = 60_000

_log = get_logger("client")


class AgentBay:
    """A client of the AgentBay service. Thread-safe.

    Arguments:
        api_key: the key; unless given, `AGENTBAY_API_KEY`, or that of the nearest `.env` file.
        region_id: the region; unless given, `AGENTBAY_REGION_ID`, also from `.env`.
        endpoint: a host or an address; unless given, `AGENTBAY_ENDPOINT`. It wins over a region.
        env_file: a file to read instead of the nearest `.env`.
        largest_response: most bytes of one response, unpacked. A larger one is an error.

    `AGENTBAY_TIMEOUT_MS` sets the milliseconds that an action may take; 60000 unless set.

    Raises:
        ConfigurationError: there is no key, or a setting is invalid.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        region_id: str | None = None,
        endpoint: str | None = None,
        env_file: str | Path | None = None,
        largest_response: int = LARGEST_RESPONSE,
    ) -> None:
        found = find_credentials(api_key, region_id, endpoint, env_file=env_file)
        if not found.api_key:
            raise ConfigurationError(
                "There is no AgentBay API key. Set AGENTBAY_API_KEY in the environment or in a "
                ".env file, or pass api_key=...; without an account, set AGENTBAY_BACKEND=local "
                "to run code on this machine."
            )
        timeout_s = _action_timeout_s()
        self._transport = Transport(min(_CONNECT_TIMEOUT_S, timeout_s), largest_response)
        self._actions = Actions(self._transport, found.endpoint, found.api_key, timeout_s)

    def __repr__(self) -> str:
        return f"AgentBay(endpoint={self.endpoint.url!r})"

    def __enter__(self) -> AgentBay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that requests are sent to."""
        return self._actions.endpoint

    @property
    def api_key(self) -> str:
        """Return the key, a secret, for use by another client. Never show or store it."""
        return self._actions.api_key

    def create(self, params: CreateSessionParams | None = None) -> SessionResult:
        """Create a session.

        A label makes sure that only one session is created: if a response is lost, the client
        looks for a session with this label and uses it.

        Arguments:
            params: image, labels and lifetime; the defaults of `CreateSessionParams` unless given.

        Returns:
            A result with `success` and the `session`, or with `error_message` and `failure` (a
            `QuotaError` if the account has no free slot).

        Raises:
            CommandError: the service was not reached, or it is unknown whether there is a session.
        """
        try:
            session, request_id = create_session(self._actions, params or CreateSessionParams())
        except (CommandError, SessionError) as error:
            return refused(SessionResult, error)
        return SessionResult(request_id=request_id, session=session)

    @contextlib.contextmanager
    def session(self, params: CreateSessionParams | None = None) -> Iterator[Session]:
        """Create a session for a `with` block and delete it at the block's end, also after errors.

        Arguments:
            params: as for `create`.

        Yields:
            The session.

        Raises:
            QuotaError: the account has no free slot.
            CommandError: the service refused or was not reached.
        """
        session = opened(self.create(params))
        try:
            yield session
        finally:
            _delete_quietly(session)

    def get(self, session_id: str) -> SessionResult:
        """Find a session by its id.

        Arguments:
            session_id: the session's name at the service.

        Returns:
            A result with `success` and the `session`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        try:
            envelope = self._actions.call_repeatable("GetSession", {"SessionId": session_id})
            session = open_session(self._actions, envelope, session_id)
        except CommandError as error:
            return refused(SessionResult, error)
        return SessionResult(request_id=envelope.request_id, session=session)

    def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        page: int | None = None,
        limit: int = 10,
        status: str | None = None,
    ) -> SessionListResult:
        """Return one page of the sessions that have all these labels.

        Arguments:
            labels: values by names; all sessions unless given.
            page: number of the page, from 1. The pages before it are requested as well.
            limit: most sessions of a page, at most 100.
            status: only sessions with this status, for example `RUNNING`.

        Returns:
            A result with `success`, `session_ids`, `next_token` and `total_count`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        token = ""
        try:
            for number in range(1, max(1, page or 1)):
                passed = list_page(self._actions, labels, limit=limit, status=status, token=token)
                token = passed.next_token
                if not token:
                    return SessionListResult(
                        success=False,
                        error_message=f"There is no page {page}: the last one is {number}.",
                    )
            return list_page(self._actions, labels, limit=limit, status=status, token=token)
        except CommandError as error:
            return refused(SessionListResult, error)

    def list_all(
        self, labels: Mapping[str, str] | None = None, *, status: str | None = None
    ) -> Iterator[dict[str, str]]:
        """Iterate over all sessions that have these labels.

        Arguments:
            labels: values by names; all sessions unless given.
            status: only sessions with this status, for example `RUNNING`.

        Returns:
            An iterator of entries, as in `SessionListResult.session_ids`.

        Raises:
            CommandError: the service refused, was not reached, or returned an invalid response.
        """
        return list_all(self._actions, labels, status=status)

    def delete(
        self, session: Session, wait: bool = True, timeout_s: float | None = None
    ) -> DeleteResult:
        """Delete a session; the same as `Session.delete`.

        Arguments:
            session: the session.
            wait: return when the session has ended, not when the service has accepted.
            timeout_s: seconds for all of it; 300 if it waits, unless given.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        return session.delete(wait, timeout_s)

    def delete_by_id(self, session_id: str, timeout_s: float | None = None) -> DeleteResult:
        """Delete a session by its id. Return when the service has accepted the request.

        Arguments:
            session_id: the session's name at the service.
            timeout_s: seconds for all of it; the client's own limits unless given.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        return Session(self._actions, session_id, Access()).delete(wait=False, timeout_s=timeout_s)

    def local_report(self) -> dict[str, Any]:
        """Return a local runtime's report about itself. The service has no such action.

        Returns:
            The decoded JSON of the report: `isolation`, limits, version.

        Raises:
            CommandError: there is no local runtime at the endpoint.
        """
        data = self._actions.call_repeatable("LocalControl", {}).data
        return data if isinstance(data, dict) else {}

    def close(self) -> None:
        """Close the connections. Sessions stay at the service."""
        self._transport.close()


def opened(result: SessionResult) -> Session:
    """Return the session of a result; raise the error of a refusal."""
    if result.session is None:
        raise result.failure or SessionError(result.error_message)
    return result.session


def _delete_quietly(session: Session) -> None:
    """Delete a session, and only log errors: they must not hide the error of the block."""
    try:
        done = session.delete(wait=False)
        if done.success or isinstance(done.failure, SessionNotFoundError):
            return
        problem = done.error_message
    except CommandError as error:
        problem = str(error)
    _log.warning("The session %s was not deleted: %s", session.session_id, problem)


def _action_timeout_s() -> float:
    text = os.environ.get("AGENTBAY_TIMEOUT_MS") or str(_DEFAULT_TIMEOUT_MS)
    try:
        timeout_s = float(text) / 1000
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 3600:
        raise ConfigurationError(
            f"AGENTBAY_TIMEOUT_MS={text!r} is not a number of milliseconds. Unset it or set it, "
            "for example, to 60000."
        )
    return timeout_s
