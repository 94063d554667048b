"""A server that answers as the service does, until it is told to answer otherwise.

    with MalformedServer() as server:
        server.break_next("run_code", "truncated_json")

In: requests of both routes, and faults by action or tool. Out: answers, and what arrived:
`counts` (by action and by tool), `codes` (each code that a run_code brought), `forms` (of the
action route), `header_names`. It runs nothing:
a run_code is answered with its own code as the result.
"""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
import threading
import time
import uuid
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API_KEY = "akm-11111111-2222-3333-4444-555555555555"
TOKEN = "token-that-is-secret-0123456789"
# An address that shows the session's screen to whoever has it.
AUTH_CODE = "auth-code-9876543210"
RESOURCE_URL = f"https://stream.example.com/ui-{AUTH_CODE}?authCode={AUTH_CODE}&resourceId=r-1"

# The longest that a "slow" answer holds its connection (seconds).
_SLOW_S = 30.0


class MalformedServer:
    """The server, as a context manager. Thread-safe.

    Arguments:
        link: offer the LinkUrl route.
        tls: serve https by this context.
    """

    def __init__(self, *, link: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.codes: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.header_names: list[set[str]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.link = link
        self.link_url: str | None = None
        # Offer this WebSocket address.
        self.ws_url: str | None = None
        self.answer: Callable[[str], str] = _echo
        self.lock = threading.Lock()
        self._faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self._ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        scheme = "http"
        if tls is not None:
            scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.api_key = API_KEY
        # The token that opens LinkUrl, and that sessions are told.
        self.token = TOKEN
        # Refuse everything, repeating the key and the token.
        self.say_secrets = False
        # Answer everything with this status and body.
        self.say_always: tuple[int, bytes] | None = None
        # Answer one list as if nothing were there.
        self.hide_next_list = False
        # Close each connection after an answer that did not announce it.
        self.close_after_answers = False

    def __enter__(self) -> MalformedServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; nothing listens any more."""
        if self.ended:
            return
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def break_next(self, name: str, *faults: str) -> None:
        """Let the next calls of an action or tool fail, each by one of these faults.

        "ok" is an answer as usual. See `FAULTS`.
        """
        unknown = set(faults) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such faults: {unknown}")
        self._faults[name].extend(faults)

    def heal(self) -> None:
        """Forget the faults that have not come yet."""
        with self.lock:
            self._faults.clear()

    def take_fault(self, *names: str) -> str:
        """The fault that is due for a call, "ok" if none is."""
        with self.lock:
            for name in names:
                if self._faults[name]:
                    return self._faults[name].popleft()
        return "ok"

    @property
    def connections_made(self) -> int:
        """How many connections there have been."""
        with self.lock:
            return self._server.connections_made

    def hold(self) -> None:
        """Wait until the server ends, or for long."""
        self._ended.wait(_SLOW_S)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        with self.lock:
            return self._server.connections

    @property
    def ended(self) -> bool:
        """Has the server ended?"""
        return self._ended.is_set()

    def act(self, action: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Do an action: HTTP status and answer."""
        envelope: dict[str, Any] = {
            "RequestId": str(uuid.uuid4()).upper(),
            "HttpStatusCode": 200,
            "Code": "ok",
            "Success": True,
            "Message": "",
        }
        if form.get("Authorization") != f"Bearer {API_KEY}":
            return 400, _refusal("NOT_LOGIN", "You are not logged in")
        with self.lock:
            if action == "CreateMcpSession":
                session_id = f"session-{uuid.uuid4().hex}"
                self.sessions[session_id] = json.loads(form.get("Labels", "{}"))
                return 200, {**envelope, "Data": self._session(session_id)}
            if action == "ListSession":
                wanted = json.loads(form.get("Labels", "{}")).items()
                start, size = int(form.get("NextToken", 0)), int(form.get("MaxResults", 10))
                found = [s for s, labels in self.sessions.items() if wanted <= labels.items()]
                if self.hide_next_list:
                    self.hide_next_list, found = False, []
                more = str(start + size) if start + size < len(found) else ""
                data = [
                    {"SessionId": session_id, "SessionStatus": "RUNNING"}
                    for session_id in found[start : start + size]
                ]
                page = {"Data": data, "NextToken": more, "TotalCount": len(found)}
                return 200, {**envelope, **page, "MaxResults": size}
            session_id = form.get("SessionId", "")
            if session_id not in self.sessions:
                return 400, _refusal(
                    "InvalidMcpSession.NotFound", "Resource [McpSession] is not found."
                )
            if action == "GetSession":
                return 200, {**envelope, "Data": self._session(session_id)}
            if action == "GetSessionDetail":
                return 200, {**envelope, "Data": {"Status": "RUNNING"}}
            if action == "DeleteSessionAsync":
                del self.sessions[session_id]
            if action == "SetLabel":
                self.sessions[session_id] = json.loads(form["Labels"])
            if action == "GetLabel":
                labels = json.dumps(self.sessions[session_id])
                return 200, {**envelope, "Data": {"Labels": labels}}
        if action == "CallMcpTool":
            return 200, {**envelope, "Data": self.call_tool(form["Name"], json.loads(form["Args"]))}
        return 200, envelope

    def call_tool(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a tool: its MCP result."""
        if name != "run_code":
            text = f"tool by name {name} not found"
            return {"content": [{"type": "text", "text": text}], "isError": True}
        with self.lock:
            self.codes.append(args["code"])
        return {"content": [{"type": "text", "text": self.answer(args["code"])}], "isError": False}

    def _session(self, session_id: str) -> dict[str, Any]:
        data: dict[str, Any] = {
            "SessionId": session_id,
            "Success": True,
            "ResourceUrl": RESOURCE_URL,
            "AuthCode": AUTH_CODE,
        }
        if self.link or self.link_url is not None:
            data |= {
                "Token": self.token,
                "LinkUrl": self.link_url or f"{self.endpoint}/link/{session_id}",
                "ToolList": json.dumps([{"name": "run_code", "server": "wuying_codespace"}]),
            }
        if self.ws_url is not None:
            data |= {"Token": self.token, "WsUrl": self.ws_url}
        return data


def _echo(code: str) -> str:
    item = {"isMainResult": True, "text/plain": code}
    return json.dumps(
        {
            "executionError": "",
            "result": [json.dumps(item)],
            "stdout": [],
            "stderr": [],
            "execution_count": 1,
            "execution_time": 0.01,
        }
    )


def _refusal(code: str, message: str) -> dict[str, Any]:
    return {
        "RequestId": str(uuid.uuid4()).upper(),
        "HostId": "127.0.0.1",
        "Code": code,
        "Message": f"code: 400, {message} request id: 1",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: MalformedServer
    connections = 0
    connections_made = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.owner.lock:
            self.connections += 1
            self.connections_made += 1
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        super().close_request(request)
        with self.owner.lock:
            self.connections -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are the purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Headers and body of a small answer would wait for each other otherwise.
    wbufsize = -1

    def do_POST(self) -> None:
        """One request of either route."""
        owner = self.server.owner
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        if url.path.endswith("/callTool"):
            call = json.loads(body)
            names = ["callTool", call["tool"]]
            effect = functools.partial(self._link, url.path, call)
        else:
            form = {k: v[0] for k, v in parse_qs(f"{url.query}&{body.decode()}").items()}
            action = form["Action"]
            names = [action] + ([form["Name"]] if action == "CallMcpTool" else [])
            with owner.lock:
                owner.forms.append(form)
            effect = functools.partial(owner.act, action, form)
        with owner.lock:
            owner.counts.update(names)
            owner.header_names.append({name.lower() for name in self.headers})
        if owner.say_secrets:
            said = f"no access for Bearer {API_KEY} with {owner.token}"
            self.send(400, json.dumps(_refusal("Refused", said)).encode())
            return
        if owner.say_always is not None:
            self.send(*owner.say_always)
            return
        fault = owner.take_fault(*names)
        if fault.startswith("before_"):
            FAULTS[fault](self, b"")
            return
        status, answer = effect()
        encoded = json.dumps(answer).encode()
        if fault == "ok":
            self.send(status, encoded)
        else:
            FAULTS[fault](self, encoded)

    def _link(self, path: str, call: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        owner = self.server.owner
        session_id = path.split("/")[2]
        if self.headers["X-Access-Token"] != owner.token or session_id not in owner.sessions:
            return 401, {"message": "Jwt is missing"}
        result = owner.call_tool(call["tool"], call["args"])
        document = {"jsonrpc": "2.0", "id": call["requestId"], "result": result}
        return 200, {
            "code": 0,
            "success": True,
            "requestId": call["requestId"],
            "data": json.dumps(document),
        }

    def send(
        self, status: int, body: bytes, kind: str = "application/json", **headers: str
    ) -> None:
        """A whole answer."""
        # Asked before: by the time that the answer has left, a test may have changed it.
        last = self.server.owner.close_after_answers
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if last:
            self.drop()

    def drop(self) -> None:
        """Close the connection."""
        self.close_connection = True

    def raw(self, data: bytes) -> None:
        """Bytes instead of an answer, then the end."""
        with contextlib.suppress(OSError):
            self.wfile.write(data)
            self.wfile.flush()
        self.drop()

    def drip(self, head: bytes) -> None:
        """One byte at a time, faster than any timeout of a single read."""
        with contextlib.suppress(OSError):
            for byte in head + b"x" * 1000:
                if self.server.owner.ended:
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.1)
        self.drop()

    def hold(self) -> None:
        """No answer."""
        self.server.owner.hold()
        self.drop()

    def flood(self, gzip: bool) -> None:
        """More than any answer may have."""
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        head += "Content-Encoding: gzip\r\n\r\n" if gzip else "\r\n"
        block = b" " * 2**20
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode())
            for _ in range(400):
                data = packer.compress(block) if gzip else block
                if data:
                    self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
            self.wfile.flush()
        self.drop()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


_HTML = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"
_FAULT = json.dumps(
    {"RequestId": "R-1", "Code": "InternalError", "Message": "AiEngine response timeout"}
).encode()
_WRONG_TYPES = json.dumps(
    {
        # Wrong on both routes.
        "RequestId": [1],
        "Success": "yes",
        "Data": {"content": {"text": 5}, "SessionId": 7, "Labels": 3},
        "data": {"result": {"content": "text"}},
    }
).encode()
_HALF_SURROGATE = b'{"RequestId": "R-1", "Data": {"content": [{"text": "\\ud800"}]}}'


def _gone(handler: _Handler, _answer: bytes) -> None:
    body = _refusal("InvalidMcpSession.NotFound", "Resource [McpSession] is not found.")
    handler.send(400, json.dumps(body).encode())


def _tool_text(text: Any, is_error: bool = False) -> bytes:
    result = {"content": [{"type": "text", "text": text}], "isError": is_error}
    return json.dumps({"RequestId": "R-1", "Data": result, "data": {"result": result}}).encode()


# What may be wrong with an answer. Those named before_ come before the action is done, the
# others after it: the action has had its effect, and only the answer is bad.
FAULTS: dict[str, Callable[[_Handler, bytes], None]] = {
    "ok": lambda handler, answer: handler.send(200, answer),
    "before_closed": lambda handler, _: handler.drop(),
    "before_500": lambda handler, _: handler.send(500, _FAULT),
    "before_429": lambda handler, _: handler.send(429, b"slow down", "text/plain"),
    "before_slow": lambda handler, _: handler.hold(),
    "before_redirect": lambda handler, _: handler.send(
        307, b"", Location=f"{handler.server.owner.endpoint}/?Action=Redirected"
    ),
    "before_gone": _gone,
    "before_quota": lambda handler, _: handler.send(
        400, json.dumps(_refusal("Session.Limit", "The request exceed limit: 10")).encode()
    ),
    "closed": lambda handler, _: handler.drop(),
    "truncated_json": lambda handler, answer: handler.send(200, answer[: len(answer) // 2]),
    "truncated_body": lambda handler, answer: handler.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer[: len(answer) // 2]
    ),
    "truncated_text": lambda handler, _: handler.send(200, _tool_text(_echo("x")[:40])),
    "wrong_types": lambda handler, _: handler.send(200, _WRONG_TYPES),
    "wrong_text": lambda handler, _: handler.send(
        200, _tool_text(json.dumps({"result": [5], "stdout": 7}))
    ),
    "array": lambda handler, _: handler.send(200, b"[1, 2]"),
    "empty": lambda handler, _: handler.send(200, b""),
    "deep": lambda handler, _: handler.send(200, b'{"Data":' * 100_000),
    "deep_text": lambda handler, _: handler.send(200, _tool_text('{"result":[' * 100_000)),
    "not_utf8": lambda handler, _: handler.send(200, b'{"Data": "\xff\xfe"}'),
    "html": lambda handler, _: handler.send(200, _HTML, "text/html"),
    "html_error": lambda handler, _: handler.send(503, _HTML, "text/html"),
    "500": lambda handler, _: handler.send(500, _FAULT),
    "before_404": lambda handler, _: handler.send(404, b"no such route", "text/plain"),
    "502": lambda handler, _: handler.send(502, _HTML, "text/html"),
    "504": lambda handler, _: handler.send(504, b"", "text/plain"),
    "slow": lambda handler, _: handler.hold(),
    "drip_head": lambda handler, _: handler.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "drip_body": lambda handler, _: handler.drip(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    ),
    "not_http": lambda handler, _: handler.raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "long_header": lambda handler, _: handler.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000),
    "bad_gzip": lambda handler, answer: handler.send(200, answer, Content_Encoding="gzip"),
    "flood": lambda handler, _: handler.flood(gzip=False),
    "gzip_bomb": lambda handler, _: handler.flood(gzip=True),
    "half_surrogate": lambda handler, _: handler.send(200, _HALF_SURROGATE),
}
