"""The action route: named actions at the service's endpoint, with the API key in the form.

Only actions that can safely be repeated are repeated after faults, with random waits. The request
form and the version are those of the AgentBay wire protocol.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

from agentbay_kernel._version import __version__
from agentbay_kernel.errors import (
    CommandError,
    ResponseLostError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)
from agentbay_kernel.service.endpoint import Endpoint, place_of
from agentbay_kernel.service.envelope import Envelope, Quote, read_envelope
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.transport import Transport

VERSION = "2025-05-06"
USER_AGENT = f"agentbay-kernel/{__version__}"
MOST_ATTEMPTS = 4
# Actions whose responses contain session tokens.
_TELL_TOKENS = ("CreateMcpSession", "GetSession")
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0

T = TypeVar("T")
_log = get_logger("service")


class Actions:
    """Calls actions with one key at one endpoint. Thread-safe.

    Arguments:
        timeout_s: seconds for a response, unless the call sets another limit.
    """

    def __init__(
        self, transport: Transport, endpoint: Endpoint, api_key: str, timeout_s: float
    ) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.place = place_of(endpoint.url)
        self.quote = Quote(api_key)
        self._api_key = api_key
        self._timeout_s = timeout_s

    @property
    def api_key(self) -> str:
        """The API key, which is never shown."""
        return self._api_key

    def call(
        self,
        action: str,
        fields: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        answer_within_s: float | None = None,
        total_s: float | None = None,
    ) -> Envelope:
        """Call an action once.

        Arguments:
            query: fields that the action takes in the query.
            answer_within_s: seconds for the response; `timeout_s` unless given.
            total_s: seconds for connection and response together; no limit unless given.

        Raises:
            CommandError: the action was not done, or its response was lost.
        """
        url_query = {
            "Action": action,
            "Format": "json",
            "Version": VERSION,
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "SignatureNonce": secrets.token_hex(16),
            **(query or {}),
        }
        answer = self.transport.post(
            f"{self.endpoint.url}/?{urlencode(url_query)}",
            urlencode({"Authorization": f"Bearer {self._api_key}", **fields}).encode("ascii"),
            {
                "x-acs-action": action,
                "x-acs-version": VERSION,
                "User-Agent": USER_AGENT,
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            answer_within_s=answer_within_s or self._timeout_s,
            total_s=total_s,
        )
        tokens = action not in _TELL_TOKENS
        answer = replace(answer, body=self.quote.without_secrets(answer.body, tokens=tokens))
        return read_envelope(answer, place=self.place, quote=self.quote)

    def call_repeatable(
        self,
        action: str,
        fields: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> Envelope:
        """Call an action that does no harm when it is done twice, again after faults.

        Arguments:
            total_s: seconds for all attempts together.

        Raises:
            CommandError: the failure of the last attempt.
        """
        ends_at = None if total_s is None else time.monotonic() + total_s

        def once() -> Envelope:
            left_s = None if ends_at is None else max(0.05, ends_at - time.monotonic())
            return self.call(action, fields, query=query, total_s=left_s)

        return repeat(once, is_transient_fault, what=action, ends_at=ends_at)


def is_transient_fault(error: CommandError) -> bool:
    """Return whether the same request may succeed a moment later."""
    if isinstance(error, ServiceFaultError):
        return error.status >= 500
    return isinstance(error, ServiceUnreachableError | ResponseLostError | ThrottledError)


def repeat(
    attempt: Callable[[], T],
    again: Callable[[CommandError], bool],
    *,
    what: str,
    ends_at: float | None = None,
    attempts: int = MOST_ATTEMPTS,
) -> T:
    """Return the result of `attempt`, which is repeated after errors that `again` accepts.

    The waits are random, up to a limit that doubles. If the service asks for a pause, it is added,
    up to 5 seconds.

    Arguments:
        what: the attempt's name in the log.
        ends_at: `time.monotonic` time after which no attempt starts.
        attempts: most attempts.
    """
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except CommandError as error:
            if number == attempts or not again(error):
                raise
            wait_s = _wait_s(number, error)
            if ends_at is not None and time.monotonic() + wait_s >= ends_at:
                raise
            _log.info("%s: attempt %d failed (%s)", what, number, type(error).__name__)
        time.sleep(wait_s)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _wait_s(number: int, error: CommandError) -> float:
    asked = error.retry_after_s if isinstance(error, ThrottledError) else 0.0
    jitter = random.uniform(0.0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (number - 1)))
    return min(asked, _LONGEST_WAIT_S) + jitter
