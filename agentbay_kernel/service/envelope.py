"""Reading the responses of both routes: the service's envelope around a tool's response.

An HTTP `Answer` becomes an `Envelope` (action route) or a `ToolResponse` (either route), or raises
an error. Forms, codes and texts are those of the AgentBay wire protocol.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agentbay_kernel.errors import (
    AuthenticationError,
    CommandError,
    InvalidResponseError,
    ResponseLostError,
    ServiceFaultError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.service.transport import Answer

# Characters that a message quotes of the service's text: enough to search for, not a whole page.
_LONGEST_QUOTE = 300
# A shorter secret would also be found in ordinary words.
_SHORTEST_SECRET = 8
# Fields of the service's responses that hold credentials (AgentBay wire protocol, CreateMcpSession,
# GetMcpResource), as JSON or as a Python literal, complete or cut off, also quoted in a string.
_CODED = re.compile(
    r"""((?:token|auth_?code|ticket|connectionproperties|signature|authorization)
        [\\"']*\s*[:=][\s\\"'\[({]*(?:bearer\s+)?[\\"']*)[^"'\\\s&,}]+""",
    re.IGNORECASE | re.VERBOSE,
)
_ADDRESS = re.compile(r"((?:https?|wss?)://[^/\s\"'\\?#<>]*)[^\s\"'\\<>]+", re.IGNORECASE)
_LOGIN = re.compile(r"NOT_LOGIN|Unauthori[sz]ed|InvalidApiKey|InvalidAccessKey", re.IGNORECASE)
_SESSION_GONE = re.compile(r"Invalid(Mcp)?Session\.NotFound|\[McpSession\] is not found")
_WRAPPING = re.compile(r"^code: \d+, | request id: [\w-]+\.?$")


@dataclass(frozen=True)
class Envelope:
    """A response of the action route: the request's id, `Data`, and all top-level fields."""

    request_id: str
    data: Any
    fields: dict[str, Any]


@dataclass(frozen=True)
class ToolResponse:
    """A tool's response: its text, and whether it is an error."""

    text: str
    is_error: bool
    request_id: str


class Quote:
    """Quotes the service's text in a message: shortened, on one line, with secrets hidden.

    It hides the key and all tokens, also tokens that only this text contains. Of addresses, only
    the host is shown: paths and queries may hold credentials.

    Arguments:
        key: the API key.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key
        self._secrets = (key,) if key else ()

    def hide(self, secret: str) -> None:
        """Hide this string too from now on."""
        if secret and secret not in self._secrets:
            self._secrets = (*self._secrets, secret)

    def without_secrets(self, body: bytes, *, tokens: bool = True) -> bytes:
        """Return a response with the key and the tokens replaced by "***".

        A service has no reason to send them back. If it does, they must not appear in an output.

        Arguments:
            tokens: whether to replace the tokens too, and not only the key.
        """
        for secret in self._secrets if tokens else self._secrets[:1]:
            if len(secret) >= _SHORTEST_SECRET:
                body = body.replace(secret.encode(), b"***")
        return body

    def __call__(self, text: object) -> str:
        words = " ".join(str(text)[: 100 * _LONGEST_QUOTE].split())
        for secret in self._secrets:
            words = words.replace(secret, "***")
        words = _ADDRESS.sub(r"\1/...", _CODED.sub(r"\1***", words))
        return words if len(words) <= _LONGEST_QUOTE else words[:_LONGEST_QUOTE] + "..."


def decode_json(text: str) -> Any:
    """Decode JSON that comes from outside.

    NaN and the infinities become null, as in JavaScript: Python's own encoder produces them, and a
    cell must not be lost because of a number that a page can't show. Half surrogate pairs, which
    later encoders refuse, become U+FFFD.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number with too many digits.
    """
    try:
        value = json.loads(text, parse_constant=lambda _name: None)
        return _without_surrogates(value) if "\\ud" in text or "\\uD" in text else value
    except RecursionError:
        raise ValueError("too deeply nested") from None


def nests_deeper(value: Any, depth: int) -> bool:
    """Return whether objects and lists are nested more than `depth` levels deep."""
    level = [value]
    while level and depth:
        depth -= 1
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return bool(level) and isinstance(level[0], dict | list)


def read_envelope(answer: Answer, *, place: str, quote: Quote) -> Envelope:
    """Read a response of the action route.

    Raises:
        SessionNotFoundError, AuthenticationError, ThrottledError, ServiceFaultError: the service
            refused the request or failed.
        ResponseLostError: a gateway returned 502 or 504 in place of a response.
        InvalidResponseError: it is a redirect, or not a response of the protocol.
    """
    fields = _open(answer, place, quote)
    if fields.get("Success") is False and not fields.get("Data"):
        raise _fault(answer, fields, place=place, quote=quote)
    return Envelope(_text(fields.get("RequestId")), fields.get("Data"), fields)


def read_action_tool(envelope: Envelope, *, place: str, quote: Quote) -> ToolResponse:
    """Return the tool's response in a response to CallMcpTool.

    Raises:
        InvalidResponseError: there is no such response, or it has values of wrong types.
    """
    data = envelope.data
    if isinstance(data, str):
        data = _decode_nested(data, place, quote)
    if not isinstance(data, dict) or "content" not in data:
        raise InvalidResponseError(
            f"{place} returned a tool's response without its text, with the fields "
            f"{quote(sorted(envelope.fields)[:10])}. Whether the code ran is unknown.",
            request_id=envelope.request_id,
        )
    return _tool_answer(data, envelope.request_id, place)


def read_link_tool(answer: Answer, request_id: str, *, place: str, quote: Quote) -> ToolResponse:
    """Return the tool's response in a response of the LinkUrl route.

    Raises:
        AuthenticationError: the session's token was refused (HTTP 401 or 403).
        ServiceFaultError: the service failed to call the tool.
        and the errors of `read_envelope` and `read_action_tool`.
    """
    fields = _open(answer, place, quote)
    if fields.get("success") is False and not fields.get("data"):
        raise _fault(answer, fields, place=place, quote=quote)
    request_id = _text(fields.get("requestId")) or request_id
    data = fields.get("data")
    if isinstance(data, str):
        data = _decode_nested(data, place, quote)
    if isinstance(data, dict) and isinstance(data.get("error"), dict) and "result" not in data:
        raise ServiceFaultError(
            f"{place} could not call the tool: {quote(data['error'].get('message'))}.",
            request_id=request_id,
            code=_text(data["error"].get("code")),
            status=answer.status,
        )
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, dict):
        raise InvalidResponseError(
            f"{place} returned a tool's response without its text, with the fields "
            f"{quote(sorted(fields)[:10])}. Whether the code ran is unknown.",
            request_id=request_id,
        )
    return _tool_answer(result, request_id, place)


def _tool_answer(result: dict[str, Any], request_id: str, place: str) -> ToolResponse:
    content = result.get("content")
    if not isinstance(content, list):
        raise InvalidResponseError(
            f"{place} returned a tool's response without a list of content. Whether the code ran "
            "is "
            "unknown.",
            request_id=request_id,
        )
    text: object = ""
    if content:
        # The service's tools return one item; its text may have any of these names.
        first = content[0]
        keys = ("text", "blob", "data")
        text = (
            next((first[key] for key in keys if first.get(key) is not None), None)
            if isinstance(first, dict)
            else first
        )
    if isinstance(text, dict | list):
        text = json.dumps(text, ensure_ascii=False)
    is_error = result.get("isError", False)
    if not isinstance(text, str) or not isinstance(is_error, bool | None):
        raise InvalidResponseError(
            f"{place} returned a tool's response with a value of a wrong type. Whether the code "
            "ran is "
            "unknown.",
            request_id=request_id,
        )
    return ToolResponse(text, bool(is_error), request_id)


def _open(answer: Answer, place: str, quote: Quote) -> dict[str, Any]:
    """Return the document in a response; raise an error for a refusal or an invalid response."""
    _refuse_redirect(answer, place)
    try:
        fields = decode_json(answer.body.decode("utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("not an object")
    except ValueError as error:
        if answer.status >= 400:
            raise _fault(answer, {}, place=place, quote=quote) from None
        shown = quote(_start(answer.body)) or f"{len(answer.body):,} bytes"
        raise InvalidResponseError(
            f"{place} returned something that is not a response of AgentBay ({quote(error)}): "
            f"{shown}. Whether the code ran is unknown. If it happens again, check "
            "AGENTBAY_ENDPOINT and the proxy settings."
        ) from None
    if answer.status >= 400:
        raise _fault(answer, fields, place=place, quote=quote)
    return fields


def _start(body: bytes) -> str:
    """Return the start of a page, for example of a proxy, for a message.

    It is shown if it is HTML, else up to the first bracket or quote: in broken JSON, it is unknown
    which values are secrets.
    """
    start = body[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    return start if start.startswith("<") else re.split(r"[^\w\s.,:;()!?/-]", start, maxsplit=1)[0]


def _decode_nested(text: str, place: str, quote: Quote) -> Any:
    try:
        return decode_json(text)
    except ValueError as error:
        raise InvalidResponseError(
            f"{place} returned a document that can't be read ({quote(error)}). Whether the "
            "code ran is unknown."
        ) from None


def _refuse_redirect(answer: Answer, place: str) -> None:
    if 300 <= answer.status < 400:
        try:
            target = urlsplit(answer.headers.get("Location", "")).hostname or "nowhere"
        except ValueError:
            target = "nowhere"
        raise InvalidResponseError(
            f"{place} redirected to {target[:100]} (HTTP {answer.status}). That is not followed, "
            "so that neither code nor key goes there; the code did not run. Check "
            "AGENTBAY_ENDPOINT, and whether a proxy asks for a log-in."
        )


def _fault(answer: Answer, fields: dict[str, Any], *, place: str, quote: Quote) -> CommandError:
    """Return the error for a refusal or a failure of the service."""
    status = answer.status
    request_id = _text(fields.get("RequestId") or fields.get("requestId"))
    code = _text(fields.get("Code") or fields.get("code"))
    message = _text(fields.get("Message") or fields.get("message"))
    # The service adds the status and the request's id to its message; errors have their own fields.
    message = _WRAPPING.sub("", message)
    if not fields:
        message = _start(answer.body)
    said = quote(f"[{code}] {message}" if code else message) or f"HTTP {status}"
    if status == 429 or code.startswith("Throttling") or _says_wait(answer):
        return ThrottledError(
            f"{place} received too many requests ({said}). Nothing was done: wait a moment and "
            "try again.",
            request_id=request_id,
            retry_after_s=_seconds(answer.headers.get("Retry-After")),
        )
    if _SESSION_GONE.search(f"{code} {message}"):
        return SessionNotFoundError(
            f"The session does not exist: it was released, was deleted, or never was ({said}). "
            "Its variables and files are gone; create a new session.",
            request_id=request_id,
        )
    if _LOGIN.search(code) or status == 401 or (status == 403 and not code):
        return AuthenticationError(
            f"The API key was refused ({said}). Check AGENTBAY_API_KEY, and that the key belongs "
            "to the region in AGENTBAY_REGION_ID: keys are bound to one.",
            request_id=request_id,
        )
    if status in (502, 504):
        return ResponseLostError(
            f"{place} returned no response ({said}, HTTP {status}). Whether the code ran, or "
            "is still running, is unknown; it was not sent again.",
            request_id=request_id,
            status=status,
        )
    unknown = " Whether the code ran is unknown." if status >= 500 else ""
    return ServiceFaultError(
        f"{place} returned an error: {said} (HTTP {status}).{unknown}",
        request_id=request_id,
        code=code,
        status=status,
    )


def _says_wait(answer: Answer) -> bool:
    return answer.status >= 400 and _seconds(answer.headers.get("x-acs-retry-after")) > 0


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value
