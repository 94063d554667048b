"""Answers as no honest service gives them: each is a result or a named error, and no secret shows.

Over real sockets: a server that answers anything to an action, to a call by LinkUrl, to a call by
WebSocket; and, much faster, the same answers given to the parsers alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from jupyter_client.session import json_packer

from agentbay_kernel.errors import CommandError, SessionError
from agentbay_kernel.execution.direct import messages_of
from agentbay_kernel.execution.output_limit import KeptHere, OutputLimit
from agentbay_kernel.service import AgentBay, CodeExecutionResult, Session
from agentbay_kernel.service.access import read_access
from agentbay_kernel.service.endpoint import parse_endpoint
from agentbay_kernel.service.envelope import (
    Quote,
    ToolResponse,
    decode_json,
    read_action_tool,
    read_envelope,
    read_link_tool,
)
from agentbay_kernel.service.responses import read_execution
from agentbay_kernel.service.transport import Answer
from tests.fuzzing import FEW, MANY, broken, encoded, fuzz, mutated, texts, values
from tests.service.malformed import API_KEY, AUTH_CODE, RESOURCE_URL, TOKEN, MalformedServer
from tests.service.scripted_socket import Answer as SocketAnswer
from tests.service.scripted_socket import ScriptedSocket

SECRETS = (API_KEY, TOKEN, AUTH_CODE)
ITEM = {"isMainResult": True, "text/plain": "3", "application/json": {"a": [1]}}
DOCUMENT = {
    "executionError": "",
    "result": [json.dumps(ITEM), ITEM],
    "stdout": ["a\n"],
    "stderr": ["Traceback (most recent call last):\nValueError: x\n"],
    "execution_count": 1,
    "execution_time": 0.01,
}
LEGACY = {
    "logs": {"stdout": ["a"], "stderr": []},
    "results": [{"text": "3", "is_main_result": True}],
    "error": {"name": "ValueError", "value": "x", "traceback": ["a"]},
    "isError": True,
}
RESULT = {"content": [{"type": "text", "text": json.dumps(DOCUMENT)}], "isError": False}
SESSION = {
    "SessionId": "session-1",
    "Success": True,
    "Token": TOKEN,
    "AuthCode": AUTH_CODE,
    "LinkUrl": "https://link.example.com/x",
    "WsUrl": "wss://link.example.com/x",
    "ResourceUrl": RESOURCE_URL,
    "ToolList": json.dumps([{"name": "run_code", "server": "wuying_codespace"}]),
}
ENVELOPE = {
    "RequestId": "R-1",
    "Success": True,
    "Code": "ok",
    "Message": f"for {API_KEY}",
    "Data": RESULT,
}
LINK = {"code": 0, "success": True, "requestId": "l-1", "data": json.dumps({"result": RESULT})}
LIST = {**ENVELOPE, "Data": [{"SessionId": "s", "SessionStatus": "RUNNING"}], "NextToken": ""}

results = st.sampled_from([DOCUMENT, LEGACY]).flatmap(mutated)
tool_texts = results.map(encoded) | st.sampled_from([encoded(DOCUMENT)]).flatmap(broken) | texts
bodies = (
    st.sampled_from([ENVELOPE, LINK, {**ENVELOPE, "Data": SESSION}, LIST])
    .flatmap(mutated)
    .map(encoded)
    | values().map(encoded)
    | st.sampled_from([encoded(ENVELOPE), encoded({**ENVELOPE, "Data": SESSION})]).flatmap(broken)
    | texts
).map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=100)
statuses = st.sampled_from([200, 200, 200, 200, 204, 301, 307, 400, 401, 403, 404])


def shows_nothing(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


def check_result(result: CodeExecutionResult) -> None:
    """What became of an answer can be published, as Jupyter's own encoder has it."""
    *_, reply = messages = list(messages_of(result, OutputLimit(1_000_000), KeptHere()))
    assert reply.type == "execute_reply"
    for message in messages:
        json_packer(message.content)


def check_text(text: str, is_error: bool) -> None:
    # As it comes out of its envelope.
    text = decode_json(json.dumps(text))
    try:
        result = read_execution(ToolResponse(text, is_error, "R-1"))
    except CommandError as error:
        assert type(error) is not CommandError
        return
    check_result(result)


def check_body(status: int, body: bytes) -> None:
    quote = Quote(API_KEY)
    quote.hide(TOKEN)
    answer = Answer(status, {}, body)
    readers: list[Callable[[], ToolResponse]] = [
        lambda: read_link_tool(answer, "l", place="p", quote=quote),
        lambda: read_action_tool(
            read_envelope(answer, place="p", quote=quote), place="p", quote=quote
        ),
    ]
    for reader in readers:
        try:
            check_text(reader().text, False)
        except CommandError as error:
            assert type(error) is not CommandError
            shows_nothing(str(error))


def check_access(data: Any) -> None:
    endpoint = parse_endpoint("agentbay.cn-hangzhou.aliyuncs.com")
    access = read_access(data if isinstance(data, dict) else {}, endpoint)
    assert access.link_url.startswith("https://") or not access.link_url
    assert access.ws_url.startswith("wss://") or not access.ws_url
    assert all(isinstance(it, str) for pair in access.tools.items() for it in pair)
    shows_nothing(repr(access))


@pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_answer_does_harm(examples: int) -> None:
    fuzz(check_text, examples, tool_texts, st.booleans())
    fuzz(check_body, examples, statuses, bodies)
    fuzz(check_access, examples, mutated(SESSION))


@contextmanager
def open_session(server: MalformedServer) -> Iterator[tuple[AgentBay, Session]]:
    with AgentBay(server.api_key, endpoint=server.endpoint) as client:
        session = client.create().session
        assert session is not None
        yield client, session


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "examples", [FEW, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_answer_on_the_wire_does_harm(link: bool, examples: int) -> None:
    with MalformedServer(link=link) as server, open_session(server) as (client, session):
        calls: list[Callable[[], object]] = [
            lambda: session.code.run_code("1", "python"),
            lambda: session.call_mcp_tool("shell", {}),
            lambda: client.get(session.session_id),
            client.list,
            session.get_labels,
            session.get_status,
            session.keep_alive,
        ]

        def check(status: int, body: bytes, number: int) -> None:
            server.say_always = (status, body)
            try:
                shows_nothing(repr(calls[number]()))
            except (CommandError, SessionError) as error:
                assert type(error) is not CommandError
                shows_nothing(str(error))

        fuzz(check, examples, statuses, bodies, st.integers(0, len(calls) - 1))
        server.say_always = None
        assert session.code.run_code("'well'", "python").result == "'well'"


FRAMES = [
    {"phase": "event", "eventType": "stdout", "chunk": "a"},
    {"phase": "event", "eventType": "result", "result": {"isMainResult": True, "mime": ITEM}},
    {"phase": "event", "eventType": "error", "error": {"code": "E", "message": "m"}},
    {"phase": "end", "status": "finished", "executionError": None, "executionCount": 1},
    {"phase": "error", "error": {"code": "X", "message": TOKEN}},
]
frames = st.lists(
    st.one_of([mutated(frame) for frame in FRAMES])
    | values()
    | st.sampled_from([encoded(frame) for frame in FRAMES]).flatmap(broken)
    | st.binary(max_size=30),
    max_size=5,
)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n ", "[", '"', "data: ", "\0", "x="])
def test_broken_json_is_not_repeated(status: int, start: str) -> None:
    """Its secrets have no key that tells them."""
    body = f'{start}{{"Aut\x1bhCode": "{AUTH_CODE}"'.encode()
    answer = Answer(status, {}, body)
    with pytest.raises(CommandError) as raised:
        read_envelope(answer, place="The service", quote=Quote())
    shows_nothing(str(raised.value))
    for page in (b"<h1 id='x'>Log in to the proxy</h1>", b"Log in to the proxy"):
        with pytest.raises(CommandError, match="Log in to the proxy"):
            read_envelope(Answer(status, {}, page), place="The service", quote=Quote())


@pytest.mark.parametrize(
    "examples", [FEW, pytest.param(1_500, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_frame_does_harm(examples: int, caplog: pytest.LogCaptureFixture) -> None:
    """Frames in any order and number, of this call and of none."""
    caplog.set_level(logging.CRITICAL)
    with ScriptedSocket() as socket, MalformedServer() as server:
        server.ws_url = socket.url
        with open_session(server) as (_, session):

            def check(sent: list[Any], strange: bool) -> None:
                def script(answer: SocketAnswer) -> None:
                    for part in sent:
                        if isinstance(part, bytes):
                            answer.raw(part, binary=True)
                        elif isinstance(part, str):
                            answer.raw(part.encode(errors="replace").decode())
                        elif strange:
                            answer.data(part, invocationId=part, source="WEBSOCKET_SERVER")
                        else:
                            answer.data(part)
                    answer.end()

                socket.script = script
                try:
                    *_, result = session.code.stream_code("1", "python", 30)
                    assert isinstance(result, CodeExecutionResult)
                    check_result(result)
                except CommandError as error:
                    assert type(error) is not CommandError
                    shows_nothing(str(error))

            fuzz(check, examples, frames, st.booleans())


def test_a_text_without_end_is_read_in_time() -> None:
    """Texts that make a careless reader go over them again and again."""
    for text in (
        "Traceback (most recent call last):\n" + "x\n" * 300_000,
        "Traceback (most recent call last):\n" + "A:\n" * 100 + "x\n" * 300_000,
        "a." * 300_000 + "!",
        "\x1b[" * 300_000,
        "\x1b[" + "0" * 300_000,
        " " * 300_000 + "x",
        "File " + "line 1 " * 100_000,
        "\n    at " * 100_000,
        "Traceback (most recent call last)\n" * 10_000,
        "w" + " " * 300_000 + "Trace",
        '{"' * 300_000,
        '"\\"' * 300_000,
    ):
        for is_error in (False, True):
            check_text(text, is_error)
            check_text(encoded({**DOCUMENT, "executionError": "", "stderr": [text]}), is_error)
