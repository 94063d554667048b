"""The HTTP server, and the base of all request handlers: checks and limits for each request.

A request passes these checks before its body is read: the Host is a loopback name, it does not come
from a page in a browser, the target is a path, the route takes its method and content type, the
sender has the route's token, and the body is not larger than the route takes. The action route's
key is in the body: it is searched while the body arrives, and the bytes before it are limited, for
each request and for all together.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
import sys
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

from tornado import httputil, iostream, web
from tornado.httpserver import HTTPServer

from agentbay_kernel.local import turns
from agentbay_kernel.local.actions import Actions
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.contexts import Contexts
from agentbay_kernel.local.sessions import Sessions
from agentbay_kernel.local.tools import Tools

LOOPBACK = re.compile(
    r"(?:https?://)?(?P<authority>(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?)(?:/[!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
KILOBYTE = 1024
MEGABYTE = 1024 * KILOBYTE
CONTROL_LIMIT = 256 * KILOBYTE
TOOL_LIMIT = 16 * MEGABYTE
UPLOAD_LIMIT = 1024 * MEGABYTE
HEAD_LIMIT = 16 * KILOBYTE
# Smaller bodies are read at once; larger ones share a limited memory.
SMALL_BODY = 64 * KILOBYTE
# One at a time: one wide character makes a string four times as large in memory.
LARGE_BODIES = TOOL_LIMIT
# Bytes of a body whose key has not come yet, and of all of these together.
KEYLESS_LIMIT = MEGABYTE
KEYLESS_BODIES = 8 * MEGABYTE
SEND_PIECE = 128 * KILOBYTE
WAITING_LIMIT = 100
CONNECTIONS_LIMIT = 500
# Longest wait for a request's headers, from the end of the request before.
HEAD_S = 120.0
BODY_S = 60.0
SEND_S = 60.0
UPLOAD_S = 3600.0
# A Content-Length with more digits is larger than any limit.
_DIGITS = 15

_log = logging.getLogger(__name__)


class BodyBudget:
    """The memory that large bodies share, given in the order of requests.

    Arguments:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_crowded(self) -> bool:
        """Whether too many requests wait already."""
        return len(self._waiting) >= WAITING_LIMIT

    async def take(self, size: int) -> None:
        """Wait until that many bytes are free, and take them."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        place = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place[1].cancelled():
                self._free += size
            self._admit()
            raise

    def release(self, size: int) -> None:
        """Release bytes."""
        self._free += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, place = self._waiting.popleft()
            if not place.done():
                self._free -= size
                place.set_result(None)


@dataclass(frozen=True)
class Runtime:
    """What request handlers need."""

    api_key: str
    sessions: Sessions
    tools: Tools
    actions: Actions
    contexts: Contexts
    behaviour: Behaviour
    # For large bodies, and for bodies whose key has not come yet.
    bodies: BodyBudget
    keyless_bodies: BodyBudget


class _Server(HTTPServer):
    """Serves a limited number of connections."""

    def handle_stream(self, stream: iostream.IOStream, address: tuple[Any, ...]) -> None:
        if len(self._connections) >= CONNECTIONS_LIMIT:
            stream.close()
            return
        super().handle_stream(stream, address)


def serve_application(
    application: web.Application,
    ssl_options: ssl.SSLContext | None = None,
    header_s: float = HEAD_S,
    body_s: float = BODY_S,
) -> HTTPServer:
    """Return a server of these routes that limits what a connection may cost.

    Arguments:
        header_s: seconds for a request's headers, from the end of the request before.
        body_s: seconds for a request's body, unless its route gives it more.
    """
    # A connection that is refused or not HTTP is not worth a log entry.
    for name in ("tornado.general", "tornado.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return _Server(
        _Delegate(application),
        ssl_options=ssl_options,
        idle_connection_timeout=header_s,
        body_timeout=body_s,
        max_header_size=HEAD_LIMIT,
        # Bodies are streamed in pieces; the handlers count them.
        max_buffer_size=2 * MEGABYTE,
        max_body_size=CONTROL_LIMIT,
    )


class _Delegate(httputil.HTTPServerConnectionDelegate):
    def __init__(self, application: web.Application) -> None:
        self._application = application

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        return _HostJudge(self._application.start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _HostJudge(httputil.HTTPMessageDelegate):
    """Reduces the Host header, which the official client sends with a scheme, to an authority.

    Any host but loopback becomes one name, which the handler refuses: tornado's own refusal of a
    malformed host has no message.
    """

    def __init__(self, wrapped: httputil.HTTPMessageDelegate) -> None:
        self._wrapped = wrapped

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        hosts = headers.get_list("Host")
        if len(hosts) != 1:
            raise httputil.HTTPInputError("A request has one Host header")
        found = LOOPBACK.fullmatch(hosts[0])
        headers["Host"] = found["authority"] if found else "not-served.invalid"
        return self._wrapped.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._wrapped.data_received(chunk)

    def finish(self) -> None:
        self._wrapped.finish()

    def on_connection_close(self) -> None:
        self._wrapped.on_connection_close()


@web.stream_request_body
class LoopbackHandler(web.RequestHandler):
    """The base of all handlers: checks a request before its body is read."""

    # What a route takes.
    methods: ClassVar[tuple[str, ...]] = ()
    content_type: ClassVar[str | None] = None
    body_s: ClassVar[float | None] = None
    held_in_memory: ClassVar[bool] = True

    def initialize(self, runtime: Runtime) -> None:
        """Take the route's arguments; tornado calls it."""
        self.runtime = runtime
        self._limit = 0
        self._size = 0
        self._held = 0
        self._budget = runtime.bodies
        self._young = turns.begin()

    def admit(self) -> int | None:
        """Check the sender; return the largest body in bytes.

        If the sender is refused, the response has been sent and the result is None.
        """
        return 0

    async def prepare(self) -> None:
        """Refuse a request that is invalid whatever its body."""
        limit = self._judge()
        if limit is None:
            return
        self._limit = limit
        length = self.request.headers.get("Content-Length")
        chunked = "Transfer-Encoding" in self.request.headers
        # None if it is not a number or negative: tornado refuses that when it reads the body.
        size = int(length) if length and length.isdecimal() and len(length) <= _DIGITS else None
        if (length or "").isdecimal() and (size is None or size > limit):
            self.refuse_size()
            return
        connection: Any = self.request.connection
        # Counted here, so that the refusal has a message.
        connection.set_max_body_size(sys.maxsize)
        if self.body_s is not None:
            connection.set_body_timeout(self.body_s)
        expected = size if size is not None else limit if length or chunked else 0
        if expected > SMALL_BODY and self.held_in_memory:
            await self._enter(expected)

    def _judge(self) -> int | None:
        request = self.request
        origin = request.headers.get("Origin")
        own = (f"http://{request.host}", f"https://{request.host}")
        if not LOOPBACK.fullmatch(request.host):
            self.refuse(403, "Forbidden", "Only loopback addresses are served.")
        elif "Sec-Fetch-Site" in request.headers or (origin is not None and origin not in own):
            self.refuse(403, "Forbidden", "Pages in a browser are not served.")
        elif not (request.uri or "").startswith("/") or (request.uri or "").startswith("//"):
            self.refuse(400, "InvalidRequest", "The target of a request must be a path.")
        elif request.method not in self.methods:
            self.set_header("Allow", ", ".join(self.methods))
            self.refuse(405, "InvalidRequest", f"This route takes {', '.join(self.methods)}.")
        elif not self._has_its_type():
            self.refuse(415, "InvalidRequest", f"The body must be {self.content_type}.")
        else:
            return self.admit()
        return None

    def _has_its_type(self) -> bool:
        headers = self.request.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            return False
        empty = headers.get("Content-Length", "0") == "0" and "Transfer-Encoding" not in headers
        if empty or self.content_type is None:
            return True
        return headers.get("Content-Type", "").partition(";")[0].strip() == self.content_type

    async def _enter(self, size: int) -> None:
        budget = self._budget
        if budget.is_crowded:
            self.refuse(503, "Throttling", "Too many large requests at once; try again.")
            return
        try:
            async with asyncio.timeout(BODY_S):
                await budget.take(size)
        except TimeoutError:
            self.refuse(503, "Throttling", "Too many large requests at once; try again.")
            return
        self._held = size

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Count and take a piece of the body."""
        self._size += len(chunk)
        if self._size > self._limit:
            self.drop()
            self.refuse_size()
            return None
        self.take(chunk)
        return None

    def take(self, chunk: bytes) -> None:
        """Take a piece of the body."""

    def drop(self) -> None:
        """Delete what was taken: the body was too large, or its connection ended."""

    def refuse(self, status: int, code: str, message: str) -> None:
        """Send an error in the service's form."""
        self.set_status(status)
        self.reply({"Code": code, "Message": message, "HttpStatusCode": status, "Success": False})

    def refuse_size(self) -> None:
        """Send the error for a body that is too large."""
        self.refuse(413, "InvalidRequest", f"The body has more than {self._limit:,} bytes.")

    def reply(self, document: Any) -> None:
        """Send a JSON document."""
        length = self.request.headers.get("Content-Length", "0")
        is_length = length.isdecimal() and len(length) <= _DIGITS
        chunked = "Transfer-Encoding" in self.request.headers
        if chunked or not is_length or self._size < int(length):
            # The rest of the body is not read: tornado closes the connection without this header.
            self.set_header("Connection", "close")
        self.set_header("Content-Type", "application/json;charset=utf-8")
        self.finish(as_json(document))

    async def send(self, body: Iterable[bytes], size: int) -> None:
        """Send these pieces, `size` bytes in all, as fast as the client takes them."""
        self.set_header("Content-Type", "application/json;charset=utf-8")
        self.set_header("Content-Length", str(size))
        waiting = 0
        try:
            async with asyncio.timeout(SEND_S):
                for piece in body:
                    self.write(piece)
                    waiting += len(piece)
                    if waiting >= SEND_PIECE:
                        waiting = 0
                        await self.flush()
                        await turns.give_way()
                await self.finish()
        except iostream.StreamClosedError:
            # The client is gone.
            pass
        except TimeoutError:
            connection: Any = self.request.connection
            connection.close()

    def on_finish(self) -> None:
        """Release the request's memory: the response is complete."""
        self._leave()

    def on_connection_close(self) -> None:
        """Release what the request has: the client is gone."""
        super().on_connection_close()
        self.drop()
        self._leave()

    def _leave(self) -> None:
        turns.end(self._young)
        held, self._held = self._held, 0
        if held:
            self._budget.release(held)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an unexpected error in the service's form too."""
        if status_code < 500:
            self.refuse(status_code, "InvalidRequest", "The request is malformed.")
            return
        self.refuse(500, "InternalError", "the local runtime failed; its standard error shows how")

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log an unexpected error without the address, which may contain a token."""
        if isinstance(value, web.HTTPError | iostream.StreamClosedError) or typ is None:
            return
        if value is not None:
            _log.error("A request failed", exc_info=(typ, value, tb))

    def compute_etag(self) -> None:
        """Return no ETag: no two responses are the same."""


class NotFoundHandler(LoopbackHandler):
    """Refuses any other path."""

    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")

    def admit(self) -> int | None:
        """Refuse the request."""
        self.refuse(404, "InvalidRequest", "There is no such route.")
        return None


def as_json(document: Any) -> bytes:
    """Return a document as JSON in UTF-8; half of a surrogate pair, which has none, is replaced."""
    text = json.dumps(document, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
