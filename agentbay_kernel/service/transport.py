"""HTTP to the service: one POST, and one response or an exact error.

The error shows whether the request can have reached the server. The transport adapter of `requests`
is used without its `Session`, so that nothing follows redirects, reads .netrc, or keeps cookies.
Thread-safe.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import (
    DEFAULT_CA_BUNDLE_PATH,
    get_auth_from_url,
    get_environ_proxies,
    select_proxy,
)

from agentbay_kernel.errors import (
    CommandError,
    ConfigurationError,
    InvalidResponseError,
    ResponseLostError,
    ServiceUnreachableError,
)
from agentbay_kernel.service.deadline import Deadlines, Exchange
from agentbay_kernel.service.endpoint import is_loopback_host, place_of
from agentbay_kernel.service.log import hide_paths_of

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

# Bytes. Larger than any useful response in a notebook, small enough for a laptop's memory.
LARGEST_RESPONSE = 256 * 1024 * 1024
# A response that arrives more slowly than this (bytes per second) is stopped at its deadline.
SLOWEST_ANSWER = 32 * 1024
# Every response is stopped after this (seconds), even if it arrives steadily.
LONGEST_EXCHANGE_S = 900.0
# Servers close idle connections after about a minute. A connection that is idle for longer than
# this is not used again, so that a server can't close it while a tool call is being sent.
LONGEST_IDLE_S = 30.0
_CHUNK = 64 * 1024
_POOL_SIZE = 32
_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

_deadlines = Deadlines()
_thread = threading.local()


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers (names in any case), the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """A pool of connections to one or more hosts.

    Arguments:
        connect_timeout_s: seconds that connecting may take.
        largest_response: most bytes of a response, unpacked.
    """

    def __init__(self, connect_timeout_s: float, largest_response: int = LARGEST_RESPONSE) -> None:
        self.largest_response = largest_response
        self._connect_timeout_s = connect_timeout_s
        self._lock = threading.Lock()
        self._adapters: dict[str, BaseAdapter] = {}
        self._proxies: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        answer_within_s: float,
        total_s: float | None = None,
    ) -> Answer:
        """Send one request and read its response, of any status.

        Arguments:
            answer_within_s: seconds from the connection to the response; a body that arrives
                steadily may take longer.
            total_s: seconds for everything; no limit unless given.

        Raises:
            ServiceUnreachableError: no connection; nothing was sent.
            ResponseLostError: the request was sent, but no complete response came.
            InvalidResponseError: the response is not HTTP, or is too large.
        """
        connect_s = self._connect_timeout_s
        if total_s is not None:
            connect_s, answer_within_s = min(connect_s, total_s), min(answer_within_s, total_s)
        hide_paths_of(urlsplit(url).hostname or "")
        latest = time.monotonic() + (total_s or LONGEST_EXCHANGE_S)
        exchange = _thread.exchange = Exchange(_deadlines, answer_within_s, latest)
        try:
            request = requests.PreparedRequest()
            request.prepare(method="POST", url=url, headers=dict(headers), data=body)
            with exchange:
                response = self._adapter(urlsplit(url).scheme).send(
                    request,
                    stream=True,
                    timeout=(connect_s, answer_within_s),
                    proxies=self._proxies_for(url),
                )
                answer = self._read(response, exchange, place_of(url))
            if not exchange.expired:
                return answer
            # A response that was cut off in its headers looks like a complete one without a body.
            failure = _failure(TimeoutError(), exchange, url, connect_s, answer_within_s)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failure = _failure(error, exchange, url, connect_s, answer_within_s)
        # Raised here and not in the handler: the library's error contains the request and the key.
        raise failure

    def connect(self, url: str) -> socket.socket:
        """Connect to the host of a ws:// or wss:// URL, with TLS and through the proxy.

        Raises:
            ServiceUnreachableError: the connection failed.
        """
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        http_url = parts._replace(scheme="https" if secure else "http").geturl()
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        connect_s = self._connect_timeout_s
        try:
            proxy = select_proxy(http_url, self._proxies_for(http_url))
            connected = _dial(host, port, proxy, connect_s)
            try:
                return (
                    _tls_context().wrap_socket(connected, server_hostname=host)
                    if secure
                    else connected
                )
            except BaseException:
                connected.close()
                raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = _failure(error, Exchange(_deadlines, connect_s), url, connect_s, connect_s)
        # Raised here and not in the handler: the error may contain a proxy's password.
        raise failure

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            adapters, self._adapters = self._adapters, {}
        for adapter in adapters.values():
            adapter.close()

    def _read(self, response: requests.Response, exchange: Exchange, place: str) -> Answer:
        chunks: list[bytes] = []
        size = 0
        with contextlib.closing(response):
            for chunk in response.iter_content(_CHUNK):
                chunks.append(chunk)
                size += len(chunk)
                if size > self.largest_response:
                    raise InvalidResponseError(
                        f"{place} sent more than {self.largest_response // 2**20} MB, which is not "
                        "taken. The code may have run: print less, or write to a file. The "
                        "setting response_limit changes that."
                    )
                exchange.extend(len(chunk) / SLOWEST_ANSWER)
            return Answer(response.status_code, response.headers, b"".join(chunks))

    def _adapter(self, scheme: str) -> BaseAdapter:
        with self._lock:
            adapter = self._adapters.get(scheme)
            if adapter is None:
                adapter = _Adapter(_tls_context() if scheme == "https" else None)
                self._adapters[scheme] = adapter
            return adapter

    def _proxies_for(self, url: str) -> dict[str, str]:
        parts = urlsplit(url)
        if is_loopback_host(parts.hostname or ""):
            return {}
        origin = f"{parts.scheme}://{parts.netloc}"
        # Kept: reading the environment takes as long as a request.
        proxies = self._proxies.get(origin)
        if proxies is None:
            proxies = self._proxies[origin] = dict(get_environ_proxies(url))
        return proxies


def _dial(host: str, port: int, proxy: str | None, connect_s: float) -> socket.socket:
    if not proxy:
        return _connected(http.client.HTTPConnection(host, port, timeout=connect_s))
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http":
        raise OSError(f"WebSockets can't go by a proxy of the kind {parts.scheme}")
    by = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=connect_s)
    user, password = get_auth_from_url(proxy)
    by.set_tunnel(host, port, _proxy_authorization(user, password) if user else {})
    return _connected(by)


def _connected(connection: http.client.HTTPConnection) -> socket.socket:
    connection.connect()
    assert isinstance(connection.sock, socket.socket)
    return connection.sock


def _proxy_authorization(user: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {credentials}"}


def _failure(
    error: Exception, exchange: Exchange, url: str, connect_s: float, answer_s: float
) -> CommandError:
    place = place_of(url)
    causes = list(_causes(error))
    if not exchange.sent:
        certificate = next((c for c in causes if isinstance(c, ssl.SSLCertVerificationError)), None)
        if certificate is not None:
            return ServiceUnreachableError(
                f"The TLS certificate of {place} is not trusted ({certificate.verify_message}), so "
                "nothing was sent. Behind a company's proxy, or with a certificate of your own: "
                "set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a file with its authority."
            )
        return ServiceUnreachableError(
            f"No connection to {place}: {_reason(causes, connect_s)}. Nothing was sent. "
            + _advice(url)
        )
    if exchange.expired or any(isinstance(c, TimeoutError) for c in causes):
        return ResponseLostError(
            f"The request was sent to {place}, and no whole response came within {answer_s:g} s. "
            "Whether the code ran, or is still running, is unknown; it was not sent again."
        )
    if any(_is_not_http(cause) for cause in causes):
        return InvalidResponseError(
            f"{place} returned something that is not HTTP. Whether the code ran is unknown. "
            + _advice(url)
        )
    return ResponseLostError(
        f"The request was sent to {place}, and the connection broke before the whole response "
        "came: "
        f"{_reason(causes, connect_s)}. Whether the code ran is unknown; it was not sent again."
    )


def _is_not_http(cause: BaseException) -> bool:
    if isinstance(cause, http.client.RemoteDisconnected):
        return False
    if isinstance(cause, http.client.BadStatusLine | http.client.LineTooLong):
        return True
    if isinstance(cause, urllib3.exceptions.DecodeError):
        return True
    # http.client raises it for too many header lines, without a subclass.
    return type(cause) is http.client.HTTPException


def _advice(url: str) -> str:
    if is_loopback_host(urlsplit(url).hostname or ""):
        return "Is the local runtime still running? Restart the kernel, or check AGENTBAY_ENDPOINT."
    return "Check the network and the proxy settings, AGENTBAY_REGION_ID and AGENTBAY_ENDPOINT."


def _reason(causes: list[BaseException], connect_s: float) -> str:
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return "its name could not be resolved"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no reason given'})"
        if isinstance(cause, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
            return "the response was cut off"
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the other side closed it without a response"
        if isinstance(cause, TimeoutError | urllib3.exceptions.ConnectTimeoutError):
            return f"no response to the attempt within {connect_s:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        if isinstance(cause, OSError) and type(cause) is OSError and cause.args:
            return str(cause.args[0])
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors that it contains, the innermost first."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or any(item is known for known in found):
            continue
        found.append(item)
        waiting += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    yield from reversed(found)


def _tls_context() -> ssl.SSLContext:
    # The certificates of all variables are trusted: one may be for a company's proxy, another for a
    # local runtime. Without any, the list of `requests` is used.
    named = [value for name in _CERTIFICATE_VARIABLES if (value := os.environ.get(name))]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in dict.fromkeys(named or [DEFAULT_CA_BUNDLE_PATH]):
        try:
            if Path(path).is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:
            raise ConfigurationError(
                f"The certificates in {path!r} can't be read ({error}). Check the variables "
                f"{', '.join(_CERTIFICATE_VARIABLES)}."
            ) from error
    return context


class _Watched:
    """A connection that starts its exchange's time before a request is sent by its socket."""

    sock: socket.socket | None
    _idle_since = 0.0

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        # connect() opens the tunnel through a proxy: if it fails, nothing was sent.
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        exchange: Exchange | None = getattr(_thread, "exchange", None)
        if exchange is not None:
            assert self.sock is not None
            exchange.begin(self.sock)
        super().endheaders(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self._idle_since = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be used again: it is neither closed nor idle for too long."""
        idle_s = time.monotonic() - self._idle_since if self._idle_since else 0.0
        return idle_s < LONGEST_IDLE_S and super().is_connected  # type: ignore[misc]


class _Adapter(HTTPAdapter):
    """The adapter of `requests` with watched connections and this module's trusted certificates."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=_POOL_SIZE, pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        _watch_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy not in self.proxy_manager:
            manager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
            _watch_connections(manager)
        return self.proxy_manager[proxy]

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Require a certificate; the context has the trusted ones, and none are added here."""
        conn.cert_reqs = "CERT_REQUIRED"


def _watch_connections(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {
        scheme: _watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _watched(pool: Any) -> Any:
    connection = type("WatchedConnection", (_Watched, pool.ConnectionCls), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})
