"""What all request handlers share: what they may use, and whom they answer.

In: HTTP requests on a loopback address. Out: a refusal for each that names another host than this
machine, so that no page in a browser can reach the runtime by a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from tornado import httputil, web

from agentbay_kernel.local.actions import Actions
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.contexts import Contexts
from agentbay_kernel.local.sessions import Sessions
from agentbay_kernel.local.tools import Tools

LOOPBACK_NAMES = {"127.0.0.1", "localhost", "::1"}
SCHEME = re.compile(r"^https?://")
BODY_LIMIT = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Runtime:
    """What request handlers need."""

    api_key: str
    sessions: Sessions
    tools: Tools
    actions: Actions
    contexts: Contexts
    behaviour: Behaviour


class SchemeTolerantServer(httputil.HTTPServerConnectionDelegate):
    """Accepts a `Host` header that carries a scheme, as the official client sends it."""

    def __init__(self, application: web.Application) -> None:
        self._application = application

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """One request."""
        return _SchemeStripper(self._application.start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        """A connection ended."""
        self._application.on_close(server_conn)


class _SchemeStripper(httputil.HTTPMessageDelegate):
    def __init__(self, wrapped: httputil.HTTPMessageDelegate) -> None:
        self._wrapped = wrapped

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        host = headers.get("Host")
        if host is not None:
            headers["Host"] = SCHEME.sub("", host).partition("/")[0]
        return self._wrapped.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._wrapped.data_received(chunk)

    def finish(self) -> None:
        self._wrapped.finish()

    def on_connection_close(self) -> None:
        self._wrapped.on_connection_close()


class LoopbackHandler(web.RequestHandler):
    """Base of all handlers: refuses what does not address this machine by a loopback name."""

    def initialize(self, runtime: Runtime) -> None:
        """Called by tornado with the route's arguments."""
        self.runtime = runtime

    def prepare(self) -> None:
        """Refuse a foreign host before anything is read from the request."""
        if self.request.host_name.strip("[]") not in LOOPBACK_NAMES:
            self.set_status(403)
            self.finish({"Code": "Forbidden", "Message": "Only loopback addresses are served."})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What was not foreseen is answered in the service's form too."""
        message = "the local runtime failed; its standard error says how"
        self.finish({"Code": "InternalError", "Message": message, "Success": False})

    def compute_etag(self) -> None:
        """Answers are never the same twice."""
