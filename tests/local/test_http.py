"""The listener against requests that no honest client sends: who is refused, and before what."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import requests
import websocket
from hypothesis import strategies as st
from tornado import web

from agentbay_kernel.local.listener import BodyBudget, serve_application
from tests.fuzzing import FEW, broken, encoded, fuzz, mutated, texts
from tests.local.test_sessions import post
from tests.runtime import LocalRuntimeProcess, running_local_runtime

MEGABYTE = 1024 * 1024
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"


class Connection:
    """One connection to a runtime, for requests that are written by hand."""

    def __init__(self, runtime: LocalRuntimeProcess) -> None:
        host, _, port = runtime.endpoint.rpartition("//")[2].partition(":")
        self.authority = f"{host}:{port}"
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes; a connection that the other side has closed takes none."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> None:
        """No more bytes follow; a connection that the other side has reset has no end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def status(self) -> int:
        """The status of the next response; 0 where the connection ended without one."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return 0
        return int(line.split()[1]) if line else 0

    def rest(self) -> bytes:
        """All that follows, until the other side closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()


@contextmanager
def connected(runtime: LocalRuntimeProcess) -> Iterator[Connection]:
    """A connection that is closed afterwards."""
    connection = Connection(runtime)
    try:
        yield connection
    finally:
        connection.close()


def answer_to(
    runtime: LocalRuntimeProcess, start: str, *headers: str, host: str = "", body: bytes = b""
) -> tuple[int, bytes]:
    """Status and rest of the response to the head of a request, and to so much of its body."""
    with connected(runtime) as connection:
        head = [f"{start} HTTP/1.1", f"Host: {host or connection.authority}", *headers, "", ""]
        connection.send("\r\n".join(head).encode() + body)
        return connection.status(), connection.rest()


@pytest.fixture(scope="module")
def link(session: Any) -> str:
    """The path of a session's LinkUrl route."""
    return f"/link/{session.session_id}/callTool"


@pytest.fixture(scope="module")
def ticket(client: Any) -> str:
    """The path of a presigned address for an upload."""
    context = client.context.get("http", create=True).context
    url = client.context.get_file_upload_url(context.id, "/tmp/f").url
    return "/" + str(url).split("/", 3)[3]


def is_usable(runtime: LocalRuntimeProcess, session: Any) -> bool:
    """Whether the runtime still runs a cell, and is the process that it was."""
    assert runtime.process.poll() is None
    return bool(session.code.run_code("6 * 7", "python").result == "42")


LENGTH = "Content-Length: 1000"


@pytest.mark.parametrize(
    ("start", "headers", "host", "status"),
    [
        ("POST /?Action=ListSession", [FORM], "evil.example", 403),
        ("POST /link/x/callTool", [JSON], "evil.example", 403),
        ("PUT /oss/x", [], "evil.example", 403),
        ("GET /ws/x", [], "evil.example", 403),
        ("POST /nothing", [FORM], "evil.example", 403),
        ("POST /nothing", [FORM], "", 404),
        ("POST /link/x/callTool", [JSON], "", 401),
        ("POST /link/x/callTool", [JSON, "X-Access-Token: x"], "", 401),
        ("PUT /oss/x", [], "", 403),
        ("GET /ws/x", ["X-Access-Token: x", "Upgrade: websocket"], "", 401),
        ("POST /?Action=MakeCoffee", [FORM], "", 400),
        ("POST /", [FORM], "", 400),
        ("POST /?Action=SyncContext&Authorization=Bearer+akm-wrong", [FORM], "", 400),
        ("POST /?Action=ListSession", ["Content-Type: text/plain"], "", 415),
        ("POST /?Action=ListSession", ["Content-Type: multipart/form-data; boundary=x"], "", 415),
        ("POST /?Action=ListSession", [FORM, "Content-Encoding: gzip"], "", 415),
        ("POST /?Action=ListSession", [FORM, "Origin: https://evil.example"], "", 403),
        ("POST /?Action=ListSession", [FORM, "Origin: null"], "", 403),
        ("POST /?Action=ListSession", [FORM, "Origin: http://127.0.0.1:8888"], "", 403),
        ("POST /?Action=ListSession", [FORM, "Sec-Fetch-Site: cross-site"], "", 403),
        ("POST /?Action=ListSession", [FORM, "Sec-Fetch-Site: same-site"], "", 403),
        ("GET /?Action=ListSession", [], "", 405),
        ("OPTIONS /?Action=ListSession", ["Access-Control-Request-Method: POST"], "", 405),
        ("DELETE /link/x/callTool", [], "", 405),
    ],
)
def test_nothing_of_a_body_is_awaited_from_who_is_refused(
    runtime: LocalRuntimeProcess, start: str, headers: list[str], host: str, status: int
) -> None:
    # The body never comes: what waits for it does not answer.
    found, rest = answer_to(runtime, start, LENGTH, *headers, host=host)
    assert found == status
    assert b"Traceback" not in rest and rest.partition(b"\r\n\r\n")[2].count(b"\n") <= 1


@pytest.mark.parametrize(
    ("route", "size"),
    [
        ("control", 257 * 1024),
        ("control", 10**12),
        ("tool", 17 * MEGABYTE),
        ("tool", 2**63),
        ("link", 17 * MEGABYTE),
        ("link", 10**30),
        ("upload", 2 * 1024 * MEGABYTE),
        ("upload", 10**18),
    ],
)
def test_a_body_too_large_for_its_route_is_refused_unread(
    runtime: LocalRuntimeProcess, session: Any, link: str, ticket: str, route: str, size: int
) -> None:
    start, headers = {
        "control": ("POST /?Action=ListSession", [FORM]),
        "tool": ("POST /?Action=CallMcpTool", [FORM]),
        "link": (f"POST {link}", [JSON, f"X-Access-Token: {session.token}"]),
        "upload": (f"PUT {ticket}", []),
    }[route]
    status, rest = answer_to(runtime, start, *headers, f"Content-Length: {size}")
    assert status == 413 and b"bytes" in rest
    assert is_usable(runtime, session)


TOOL = "POST /?Action=CallMcpTool"
SIZE = f"Content-Length: {10 * MEGABYTE}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"Authorization=Bearer+akm-wrong&", 400),
        (b"Authorization=&", 400),
        (b"Args=" + b"x" * 500_000 + b"&Authorization=Bearer+akm-wrong&", 400),
        ((b"Args=" + b"x" * MEGABYTE)[: MEGABYTE + 1], 413),
        (b"x" * (MEGABYTE + 1), 413),
        (b"&" * (MEGABYTE + 1), 413),
        ((b"Args=%26Authorization%3Dx%26" + b"x" * MEGABYTE)[: MEGABYTE + 1], 413),
    ],
)
def test_the_rest_of_a_body_is_not_awaited_from_who_has_not_the_key(
    runtime: LocalRuntimeProcess, body: bytes, status: int
) -> None:
    found, rest = answer_to(runtime, TOOL, FORM, SIZE, body=body)
    assert found == status and (b"not logged in" in rest or b"first 1,048,576 bytes" in rest), rest


@pytest.mark.parametrize("before", [0, 60_000, 100_000, 900_000])
def test_a_key_may_stand_behind_other_fields(
    runtime: LocalRuntimeProcess, session: Any, before: int
) -> None:
    arguments = json.dumps({"code": f"len('{'x' * before}')", "language": "python"})
    fields = {"Args": arguments, "Authorization": f"Bearer {runtime.api_key}"}
    fields |= {"Name": "run_code", "SessionId": session.session_id}
    url = f"{runtime.endpoint}/?Action=CallMcpTool"
    done = requests.post(url, data=fields, timeout=60).json()["Data"]
    assert not done["isError"] and str(before) in done["content"][0]["text"]


def test_bodies_without_a_key_hold_up_no_others(runtime: LocalRuntimeProcess, session: Any) -> None:
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(connected(runtime))
            head = f"{TOOL} HTTP/1.1\r\nHost: {connection.authority}\r\n{FORM}\r\n{SIZE}\r\n\r\n"
            connection.send(head.encode() + b"Args=" + b"x" * 70_000)
        arguments = json.dumps({"code": f"len('{'x' * 5 * MEGABYTE}')", "language": "python"})
        fields = {"Authorization": runtime.api_key, "Args": arguments, "Name": "run_code"}
        fields["SessionId"] = session.session_id
        url = f"{runtime.endpoint}/?Action=CallMcpTool"
        # Those would be served first, a minute later.
        done = requests.post(url, data=fields, timeout=50).json()["Data"]
        assert not done["isError"] and str(5 * MEGABYTE) in done["content"][0]["text"]


@pytest.mark.parametrize("route", ["control", "link", "upload"])
def test_a_body_without_a_length_is_counted_as_it_comes(
    runtime: LocalRuntimeProcess, session: Any, link: str, route: str, ticket: str
) -> None:
    start, headers = {
        "control": ("POST /?Action=ListSession", [FORM]),
        "link": (f"POST {link}", [JSON, f"X-Access-Token: {session.token}"]),
        "upload": (f"PUT {ticket}", []),
    }[route]
    with connected(runtime) as connection:
        head = [f"{start} HTTP/1.1", f"Host: {connection.authority}", *headers]
        head += ["Transfer-Encoding: chunked", "", ""]
        connection.send("\r\n".join(head).encode())
        piece = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
        if route == "upload":  # as much as any, which is less than its limit
            connection.send(piece * 20 + b"0\r\n\r\n")
            assert connection.status() == 200
        else:
            connection.send(piece * 17)
            assert connection.status() == 413
    assert is_usable(runtime, session)


def test_a_chunked_request_is_carried_out(
    runtime: LocalRuntimeProcess, session: Any, link: str
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"tool": "shell", "requestId": "1", '
        yield b'"args": {"command": "echo hi"}}'

    headers = {"X-Access-Token": session.token, "Content-Type": "application/json"}
    done = requests.post(runtime.endpoint + link, data=pieces(), headers=headers, timeout=30)
    assert done.status_code == 200 and "hi" in done.json()["data"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 400),
        ("127.0.0.1:1", 400),
        ("localhost:8888", 400),
        ("LOCALHOST", 400),
        ("[::1]:80", 400),
        ("http://127.0.0.1:18080", 400),
        ("http://127.0.0.1:18080/prefix", 400),
        ("https://localhost", 400),
        ("localhost.", 403),
        ("127.0.0.1.", 403),
        ("user@localhost", 403),
        ("localhost@evil.example", 403),
        ("http://localhost@evil.example", 403),
        ("localhost:80@evil.example", 403),
        ("127.1", 403),
        ("0.0.0.0", 403),
        ("2130706433", 403),
        ("[::ffff:127.0.0.1]", 403),
        ("localhost.evil.example", 403),
        ("localhost:", 403),
        ("localhost:123456", 403),
        ("localhost:80:80", 403),
        ("localhost, evil.example", 403),
        ("http://http://localhost", 403),
        ("localhost\tx", 403),
        ("ftp://localhost", 403),
        ("::1", 403),
        (" ", 403),
    ],
)
def test_only_loopback_hosts_are_served(
    runtime: LocalRuntimeProcess, host: str, status: int
) -> None:
    # An allowed host gets as far as the key, which is missing.
    found, rest = answer_to(
        runtime,
        "POST /?Action=ListSession",
        "Content-Length: 0",
        FORM,
        "Connection: close",
        host=host,
    )
    assert (found, b"NOT_LOGIN" in rest) == (status, status == 400)


SMUGGLED = b"0\r\n\r\nPOST /?Action=LocalControl HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
        + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length : 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST http://evil.example/?Action=ListSession HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST //evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(
            b"X%d: a\r\n" % number for number in range(300)) + b"\r\n",
        b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /?Action=ListSession&Labels=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /?Action=ListSession&Action=LocalControl HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /link/%ff/callTool HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PUT /oss/%c3%28 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)  # fmt: skip
def test_malformed_heads_end_their_connection_only(
    runtime: LocalRuntimeProcess, session: Any, request_head: bytes
) -> None:
    with connected(runtime) as connection:
        connection.send(request_head)
        connection.end()
        status, rest = connection.status(), connection.rest()
    # No response at all (0), or a refusal; never a second response, which a smuggled request gets.
    assert status == 0 or 400 <= status < 500, status
    assert b"HTTP/1.1" not in rest and b"Traceback" not in rest
    assert is_usable(runtime, session)


DEEP = "[" * 20_000 + "]" * 20_000
NOT_READ = {
    "deep lists": '{"a": ' + DEEP + "}",
    "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "a depth that json reads": '{"a": ' + "[" * 500 + "]" * 500 + "}",
    "cut off": '{"a": [1, 2',
    "not a number": '{"a": NaN}',
    "infinite": '{"a": -Infinity}',
    "overflowing": '{"a": 1e999}',
    "a long integer": '{"a": ' + "9" * 5_000 + "}",
    "a longer one than a float": '{"a": ' + "9" * 400 + "}",
    "twice the same key": '{"a": 1, "a": 2}',
    "twice, escaped": '{"a": 1, "\\u0061": 2}',
    "an array": "[1]",
    "a string": '"x"',
    "null": "null",
    "nothing": "",
    "two documents": "{} {}",
    "a byte order mark": "\ufeff{}",
    "many small parts": '{"a": [' + "[]," * 500_000 + "1]}",
}


@pytest.mark.parametrize("name", NOT_READ)
def test_json_that_no_client_sends_is_refused(
    runtime: LocalRuntimeProcess, session: Any, link: str, name: str
) -> None:
    text = NOT_READ[name]
    body = text.replace('"a"', '"args"') if '"args"' not in text else text
    for sent in (body, f'{{"tool": "shell", "requestId": "1", "args": {text or "1"}}}'):
        headers = {"X-Access-Token": session.token, "Content-Type": "application/json"}
        done = requests.post(
            runtime.endpoint + link, data=sent.encode(), headers=headers, timeout=30
        )
        if done.status_code == 200:
            # Well-formed, but the arguments are not the tool's.
            assert name == "null" and "Invalid arguments" in done.text
        else:
            assert done.status_code == 400 and done.text.count("\n") <= 1, done.text
    if text:
        fields = {"SessionId": session.session_id, "Name": "shell", "Args": text}
        refused = post(runtime, "CallMcpTool", **fields)
        assert refused.status_code == 400 and "InvalidParameter" in refused.text
    assert is_usable(runtime, session)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe{}",
        b'{"tool": "\xc3\x28"}',
        '{"tool": "a"}'.encode("utf-16"),
        b"\x00",
        b"\xed\xa0\x80",
    ],
)
def test_json_in_another_encoding_is_refused(
    runtime: LocalRuntimeProcess, session: Any, link: str, data: bytes
) -> None:
    headers = {"X-Access-Token": session.token, "Content-Type": "application/json"}
    done = requests.post(runtime.endpoint + link, data=data, headers=headers, timeout=30)
    assert done.status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"Authorization=Bearer+{runtime.api_key}&Labels=".encode() + b"%ff%fe"
    done = requests.post(
        f"{runtime.endpoint}/?Action=ListSession", data=body, headers=form, timeout=30
    )
    assert done.status_code == 400 and done.json()["Code"] == "InvalidParameter"


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("ListSession", {"MaxResults": "x"}),
        ("ListSession", {"MaxResults": "9" * 5_000}),
        ("ListSession", {"NextToken": "-1"}),
        ("ListSession", {"Labels": DEEP}),
        ("ListSession", {"Labels": "[]"}),
        ("ListContexts", {"MaxResults": "x"}),
        ("ListContexts", {"MaxResults": "0"}),
        ("ListContexts", {"NextToken": "1e3"}),
        ("CreateMcpSession", {"Timeout": "nan"}),
        ("CreateMcpSession", {"Timeout": "-1"}),
        ("CreateMcpSession", {"MaxRuntime": "inf"}),
        ("CreateMcpSession", {"PersistenceDataList": "{}"}),
        ("CreateMcpSession", {"PersistenceDataList": "[1]"}),
        ("CreateMcpSession", {"PersistenceDataList": DEEP}),
        ("GetAndLoadInternalContext", {"ContextTypes": "1"}),
        ("GetAndLoadInternalContext", {"ContextTypes": "[[]]"}),
        ("GetAndLoadInternalContext", {"ContextTypes": DEEP}),
        ("LocalControl", {"Profile": DEEP}),
        ("LocalControl", {"Profile": '{"latency_ms": "x"}'}),
        ("LocalControl", {"Profile": '{"faults": [{"kind": "reset", "at": ["x"]}]}'}),
        ("LocalControl", {"Profile": '{"gateway_s": NaN}'}),
        ("SetLabel", {"Labels": "{"}),
        ("DescribeContextFiles", {"MaxResults": "-1"}),
    ],
)
def test_fields_that_can_t_be_read_are_named(
    runtime: LocalRuntimeProcess, session: Any, action: str, fields: dict[str, str]
) -> None:
    own = {} if action == "CreateMcpSession" else {"SessionId": session.session_id}
    refused = post(runtime, action, **own, **fields)
    assert refused.status_code == 400, refused.text
    assert refused.json()["Code"] == "InvalidParameter"
    assert next(iter(fields)) in refused.json()["Message"]
    assert is_usable(runtime, session)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("run_code", {"code": "1", "timeout_s": "nan"}),
        ("run_code", {"code": "1", "timeout_s": []}),
        ("run_code", {"code": "1", "language": {}}),
        ("shell", {"command": "echo", "timeout_ms": "x"}),
        ("shell", {"command": 1}),
        ("shell", {"command": "echo", "envs": [1]}),
        ("shell", {"command": "echo \x00"}),
        ("set_env", {"envs": 1}),
        ("set_env", {"envs": [1]}),
        ("get_env", {"keys": [[]]}),
        ("read_file", {"path": 1}),
        ("read_file", {"path": "x", "offset": -1}),
        ("read_file", {"path": "x", "offset": 10**14}),
        ("read_file", {"path": "x", "id": 1}),
        ("read_file", {"path": "x", "op": "shell"}),
        ("read_file", {"path": "x", "do": "delete_file"}),
        ("read_multiple_files", {"paths": "x"}),
        ("list_directory", {"path": "a\x00b"}),
        ("get_file_change", {}),
        ("get_file_change", {"path": ["x"]}),
        ("edit_file", {"path": "/etc/hostname", "edits": [1]}),
        ("write_file", {"path": "x", "content": "!", "encoding": "base64"}),
        ("write_file", {"path": "x", "content": "\ud800"}),
        ("\ud800", {}),
    ],
)
def test_arguments_of_another_type_are_a_tools_error(
    runtime: LocalRuntimeProcess, session: Any, link: str, tool: str, arguments: dict[str, Any]
) -> None:
    headers = {"X-Access-Token": session.token}
    body = {"tool": tool, "args": arguments, "requestId": "link-1"}
    done = requests.post(runtime.endpoint + link, json=body, headers=headers, timeout=30)
    assert done.status_code == 200, done.text
    result = json.loads(done.json()["data"])["result"]
    assert result["isError"] and "Traceback" not in result["content"][0]["text"]
    assert is_usable(runtime, session)


def open_socket(session: Any) -> websocket.WebSocket:
    """A connection to a session's WebSocket address."""
    return websocket.create_connection(
        session.ws_url, header={"X-Access-Token": session.token}, timeout=30
    )


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"X-Access-Token": ""},
        {"X-Access-Token": "x"},
        {"X-Access-Token": "ä"},
        {"X-Access-Token": "TOKEN", "Origin": "https://evil.example"},
        {"X-Access-Token": "TOKEN", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_socket_is_refused_before_the_upgrade(session: Any, header: dict[str, str]) -> None:
    lines = [f"{k}: {v.replace('TOKEN', session.token)}" for k, v in header.items()]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(
            session.ws_url, header=lines, suppress_origin="Origin" in header, timeout=30
        )
    assert refused.value.status_code in (401, 403)


FRAME: dict[str, Any] = {
    "invocationId": "1",
    "source": "SDK",
    "target": "wuying_codespace",
    "data": {"method": "run_code", "mode": "stream", "params": {"code": "1", "language": "python"}},
}


@pytest.mark.parametrize(
    "sent",
    [
        "x",
        "",
        "[]",
        "1",
        DEEP,
        '{"data": ' + "[" * 500 + "]" * 500 + "}",
        json.dumps({**FRAME, "invocationId": 1}),
        json.dumps({**FRAME, "invocationId": ["1"]}),
        json.dumps({**FRAME, "invocationId": "x" * 100_000}),
        json.dumps({**FRAME, "target": {}}),
        json.dumps({**FRAME, "data": None}),
        json.dumps({**FRAME, "data": "x"}),
        json.dumps({**FRAME, "data": json.dumps(json.dumps(FRAME["data"]))}),
        json.dumps({**FRAME, "data": {"method": 1}}),
        json.dumps({**FRAME, "data": {"method": "run_code", "params": [1]}}),
        json.dumps(FRAME).replace('"1"', "NaN", 1),
        json.dumps(FRAME)[:-1],
        b"\x00\x01",
        json.dumps(FRAME).encode(),
    ],
)
def test_a_malformed_frame_is_answered_and_ends_its_connection(
    runtime: LocalRuntimeProcess, session: Any, sent: str | bytes
) -> None:
    with connected_socket(session) as connection:
        connection.send(sent, 2 if isinstance(sent, bytes) else 1)
        told = json.loads(connection.recv())
        assert "\n" not in told["data"]["error"] and told["target"] == "SDK"
        assert connection.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE
    assert is_usable(runtime, session)


@contextmanager
def connected_socket(session: Any) -> Iterator[websocket.WebSocket]:
    """A WebSocket connection that is closed afterwards."""
    connection = open_socket(session)
    try:
        yield connection
    finally:
        with suppress(OSError, websocket.WebSocketException):
            connection.close(timeout=1)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("nothing", {}),
        ("pty.nothing", {}),
        ("pty.input", {}),
        ("pty.create", {"cols": "x"}),
        ("pty.create", {"cols": 0}),
        ("pty.create", {"rows": 10**12}),
        ("pty.create", {"cwd": 1}),
        ("pty.create", {"envs": {"A": 1}}),
        ("subscribe_file_change", {}),
        ("subscribe_file_change", {"path": 1}),
        ("subscribe_file_change", {"path": "/nothing"}),
        ("run_code", {"code": 1}),
        ("run_code", {"code": "1", "timeoutS": "nan"}),
        ("run_code", {"code": "1", "language": []}),
    ],
)
def test_a_frame_with_the_wrong_parameters_gets_an_error(
    session: Any, method: str, params: dict[str, Any]
) -> None:
    with connected_socket(session) as connection:
        frame = {**FRAME, "data": {"method": method, "params": params}}
        connection.send(json.dumps(frame))
        told = json.loads(connection.recv())
        assert told["invocationId"] == "1" and told["data"]["error"]
        # The connection is still good.
        connection.send(json.dumps({**FRAME, "invocationId": "2"}))
        frames = iter(lambda: json.loads(connection.recv())["data"].get("phase"), "end")
        assert all(phase == "event" for phase in frames)


@pytest.mark.parametrize(
    "params",
    [{"do": "create"}, {"op": "shell", "command": "true"}, {"id": 1}, {"name": "x", "fd": 0}],
)
def test_a_parameter_named_like_ours_changes_nothing(session: Any, params: dict[str, Any]) -> None:
    with connected_socket(session) as connection:
        told = []
        for given in ({}, params):
            frame = {**FRAME, "data": {"method": "pty.list", "params": given}}
            connection.send(json.dumps(frame))
            told.append(json.loads(connection.recv())["data"])
        assert told[0] == told[1] and told[0]["method"] == "pty.list", told


@pytest.mark.parametrize(
    "raw",
    [
        # Not masked. Slow: what it would be masked with is waited for.
        pytest.param(b"\x81\x05hello", marks=pytest.mark.slow),
        b"\x83\x80\x00\x00\x00\x00",  # an opcode that there is not
        b"\xf1\x80\x00\x00\x00\x00",  # reserved bits
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # 2**64 bytes
        b"\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00",  # 2 GB
        b"\x80\x81\x00\x00\x00\x00x",  # a continuation of nothing
        b"\x81\x82\x00\x00\x00\x00\xff\xfe",  # not UTF-8
        b"\x09\x80\x00\x00\x00\x00",  # a ping in pieces
    ],
)
def test_frames_that_are_none_end_their_connection_only(
    runtime: LocalRuntimeProcess, session: Any, raw: bytes
) -> None:
    with connected_socket(session) as connection:
        assert connection.sock is not None
        connection.sock.sendall(raw)
        # It ends: with a close frame, an orderly end, or a reset.
        with suppress(ConnectionResetError):
            while connection.sock.recv(65536):
                pass
    assert is_usable(runtime, session)


def test_a_connection_has_a_bounded_number_of_calls(session: Any) -> None:
    with connected_socket(session) as connection:
        for number in range(200):
            params = {"code": "import time; time.sleep(0.01)", "language": "python"}
            data = {"method": "run_code", "params": params}
            connection.send(json.dumps({**FRAME, "invocationId": str(number), "data": data}))
        ended: set[str] = set()
        refused = 0
        while len(ended) < 200:
            told = json.loads(connection.recv())
            if told["data"].get("phase") in ("end", "error") or "error" in told["data"]:
                ended.add(told["invocationId"])
                refused += "at once" in str(told["data"].get("error"))
        assert 0 < refused < 200


def test_a_half_request_does_not_keep_its_connection() -> None:
    async def half_then_wait(head: bytes) -> bytes:
        server = serve_application(web.Application([]), header_s=0.2, body_s=0.2)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        server.add_socket(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(head)
        # The other side ends it; nothing here does.
        got = await reader.read()
        writer.close()
        server.stop()
        return got

    assert asyncio.run(half_then_wait(b"POST / HTTP/1.1\r\nHost: loc")) == b""
    assert asyncio.run(half_then_wait(b"")) == b""
    unfinished = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
    assert b"200" not in asyncio.run(half_then_wait(unfinished))


@pytest.mark.parametrize(
    ("action", "closes"), [("NoSuchAction", True), ("GetSession", False), ("ListSession", False)]
)
def test_a_connection_that_is_closed_says_so(
    runtime: LocalRuntimeProcess, action: str, closes: bool
) -> None:
    # Otherwise a client sends its next request by it, and that is lost.
    form = {"Authorization": runtime.api_key, "SessionId": "session-unknown", "Labels": "{}"}
    with requests.Session() as http:
        http.trust_env = False
        done = http.post(f"{runtime.endpoint}/", params={"Action": action}, data=form, timeout=30)
        assert (done.headers.get("Connection") == "close") == closes


def test_bodies_share_a_bounded_memory() -> None:
    async def use() -> None:
        budget = BodyBudget(10)
        await budget.take(6)
        waiting = [asyncio.ensure_future(budget.take(size)) for size in (6, 3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        budget.release(6)
        await asyncio.gather(*waiting)
        # One that gives up leaves no trace.
        gives_up = asyncio.ensure_future(budget.take(5))
        await asyncio.sleep(0)
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        budget.release(6)
        budget.release(3)
        await budget.take(10)

    asyncio.run(use())


def test_anything_thrown_at_the_runtime_leaves_it_running(
    runtime: LocalRuntimeProcess, session: Any, link: str
) -> None:
    call = {"tool": "read_file", "args": {"path": "/etc/hostname"}, "requestId": "link-1"}
    http = requests.Session()
    http.trust_env = False

    def by_link(document: Any, damaged: str) -> None:
        headers = {"X-Access-Token": session.token, "Content-Type": "application/json"}
        for body in (encoded(document), damaged):
            data = body.encode("utf-8", "surrogatepass")
            done = http.post(runtime.endpoint + link, data=data, headers=headers, timeout=30)
            assert done.status_code in (200, 400), done.text
            assert "Traceback" not in done.text

    actions = st.sampled_from(
        ["ListSession", "GetSession", "SetLabel", "CallMcpTool", "ListContexts", "GetContextInfo",
         "DescribeContextFiles", "GetContextFileUploadUrl", "SyncContext", "GetLink", "\u0000", ""]
    )  # fmt: skip
    names = st.sampled_from(
        ["SessionId", "Labels", "Args", "Name", "MaxResults", "NextToken", "Status", "ContextId",
         "Path", "Mode", "FilePath", "ContextTypes", "PageNumber", "ParentFolderPath"]
    )  # fmt: skip

    def by_action(action: str, fields: dict[str, str]) -> None:
        form = {
            "Authorization": runtime.api_key,
            "SessionId": session.session_id,
            **{key: value.encode("utf-8", "surrogatepass") for key, value in fields.items()},
        }
        url = f"{runtime.endpoint}/"
        done = http.post(url, params={"Action": action}, data=form, timeout=30)
        assert done.status_code in (200, 400, 413), done.text
        assert "Traceback" not in done.text

    def by_socket(document: Any, damaged: str) -> None:
        with connected_socket(session) as connection:
            for text in (encoded(document), damaged):
                with suppress(OSError, websocket.WebSocketException):
                    connection.send(text.encode("utf-8", "surrogatepass"), 1)

    def by_bytes(data: bytes) -> None:
        with connected(runtime) as connection:
            connection.send(data)
            connection.end()
            assert b"Traceback" not in connection.rest()

    head = b"POST /?Action=ListSession HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na=b"
    fuzz(by_link, FEW, mutated(call), broken(encoded(call)))
    fuzz(by_action, FEW, actions, st.dictionaries(names, texts | broken('{"a": [1]}'), max_size=4))
    fuzz(by_socket, FEW, mutated(FRAME), broken(encoded(FRAME)))
    fuzz(by_bytes, FEW, st.binary(max_size=200) | broken(head.decode()).map(
        lambda text: text.encode("utf-8", "surrogatepass")))  # fmt: skip
    assert is_usable(runtime, session)


def test_a_tls_listener_outlives_those_who_speak_no_tls() -> None:
    with running_local_runtime("--tls", "--prewarm", "0") as runtime:
        with connected(runtime) as connection:
            connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.end()
            assert b"Traceback" not in connection.rest()
        context = ssl.create_default_context(cafile=runtime.announcement["ca_file"])
        host, port = runtime.endpoint.rpartition("//")[2].split(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(b"POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert b"403" in secure.recv(100)
