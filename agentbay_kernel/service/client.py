"""AgentBay: the client that creates, finds and deletes sessions.

In: a key, an endpoint, parameters. Out: results with `success`; what the service did not answer
is raised.
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
from agentbay_kernel.service.transport import LARGEST_ANSWER, Transport

_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_TIMEOUT_MS = 60_000

_log = get_logger("client")


class AgentBay:
    """A client of the AgentBay service. Thread-safe.

    Arguments:
        api_key: the key; else `AGENTBAY_API_KEY`, else that of the nearest `.env` file.
        region_id: the region; else `AGENTBAY_REGION_ID`, also from `.env`.
        endpoint: a host or an address; else `AGENTBAY_ENDPOINT`. It wins over a region.
        env_file: a file to read instead of the nearest `.env`.
        largest_answer: bytes of one answer, unpacked, that are taken; a larger one is an error.

    `AGENTBAY_TIMEOUT_MS` is how long an action may take to answer; 60000 unless set.

    Raises:
        ConfigurationError: there is no key, or a setting is not valid.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        region_id: str | None = None,
        endpoint: str | None = None,
        env_file: str | Path | None = None,
        largest_answer: int = LARGEST_ANSWER,
    ) -> None:
        found = find_credentials(api_key, region_id, endpoint, env_file=env_file)
        if not found.api_key:
            raise ConfigurationError(
                "There is no AgentBay API key. Set AGENTBAY_API_KEY in the environment or in a "
                ".env file, or pass api_key=...; without an account, set AGENTBAY_BACKEND=local "
                "to run code on this machine."
            )
        timeout_s = _action_timeout_s()
        self._transport = Transport(min(_CONNECT_TIMEOUT_S, timeout_s), largest_answer)
        self._actions = Actions(self._transport, found.endpoint, found.api_key, timeout_s)

    def __repr__(self) -> str:
        return f"AgentBay(endpoint={self.endpoint.url!r})"

    def __enter__(self) -> AgentBay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go."""
        return self._actions.endpoint

    @property
    def api_key(self) -> str:
        """The key. A secret: it is for another client, and never shown or written down."""
        return self._actions.api_key

    def create(self, params: CreateSessionParams | None = None) -> SessionResult:
        """Create a session.

        Its label makes sure of one: when an answer is lost, the sessions are listed by it, and
        what is found is taken.

        Returns:
            `success`, the `session`, or `error_message` and `failure` (a `QuotaError` when the
            account has no free slot).

        Raises:
            CommandError: the service was not reached, or whether there is a session stayed
                unknown.
        """
        try:
            session, request_id = create_session(self._actions, params or CreateSessionParams())
        except (CommandError, SessionError) as error:
            return refused(SessionResult, error)
        return SessionResult(request_id=request_id, session=session)

    @contextlib.contextmanager
    def session(self, params: CreateSessionParams | None = None) -> Iterator[Session]:
        """Create a session for a `with` block and delete it at the block's end, however it ends.

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
        """A session that exists, by its id.

        Raises:
            CommandError: the service was not reached, or answered nonsense.
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
        """One page of the sessions that have all these labels.

        Arguments:
            page: which page, from 1; the pages before it are asked for as well.
            limit: sessions a page, at most 100.
            status: only those, for example RUNNING.

        Raises:
            CommandError: the service was not reached, or answered nonsense.
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
        """All sessions that have these labels, entries as in `SessionListResult.session_ids`.

        Raises:
            CommandError: the service refused, was not reached, or answered nonsense.
        """
        return list_all(self._actions, labels, status=status)

    def delete(
        self, session: Session, wait: bool = True, timeout_s: float | None = None
    ) -> DeleteResult:
        """End a session; the same as `session.delete`."""
        return session.delete(wait, timeout_s)

    def delete_by_id(self, session_id: str, timeout_s: float | None = None) -> DeleteResult:
        """End a session of which only the id is known; returns when the service has accepted.

        Arguments:
            timeout_s: seconds for all of it.

        Raises:
            CommandError: the service was not reached, or answered nonsense.
        """
        return Session(self._actions, session_id, Access()).delete(wait=False, timeout_s=timeout_s)

    def local_report(self) -> dict[str, Any]:
        """What a local runtime tells of itself, its isolation above all; the service has no such
        action and refuses.

        Raises:
            CommandError: there is no local runtime at the endpoint.
        """
        data = self._actions.call_repeatable("LocalControl", {}).data
        return data if isinstance(data, dict) else {}

    def close(self) -> None:
        """Close the connections. Sessions live on at the service."""
        self._transport.close()


def opened(result: SessionResult) -> Session:
    """The session of an answer, or its refusal raised."""
    if result.session is None:
        raise result.failure or SessionError(result.error_message)
    return result.session


def _delete_quietly(session: Session) -> None:
    """Delete it; an error must not hide the one that the block ends with."""
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
