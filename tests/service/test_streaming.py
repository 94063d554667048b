"""Code that streams: over the local runtime, and over a WebSocket server that misbehaves."""

from __future__ import annotations

import contextlib
import logging
import socket as stdlib_socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from agentbay_kernel.errors import (
    AuthenticationError,
    CommandError,
    InvalidResponseError,
    InvalidTimeoutError,
    ResponseLostError,
    ServiceFaultError,
    ServiceUnreachableError,
    SessionNotFoundError,
    ToolNotFoundError,
)
from agentbay_kernel.service import (
    AgentBay,
    CodeChunk,
    CodeEvent,
    CodeExecutionResult,
    CodeOutput,
    Session,
)
from agentbay_kernel.service import session as sessions
from tests.runtime import LocalRuntimeProcess
from tests.service.malformed import MalformedServer
from tests.service.scripted_socket import Answer, ScriptedSocket
from tests.service.test_transport import Proxy

# What the code prints, runs for and ends with is told by the clock of this machine.
CLOCK = "import time\n"


@pytest.fixture(scope="module")
def real(local_runtime: LocalRuntimeProcess) -> Iterator[Session]:
    """A session of the local runtime."""
    with AgentBay(local_runtime.api_key, endpoint=local_runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        yield session
        session.delete(wait=False)


@pytest.fixture
def socket() -> Iterator[ScriptedSocket]:
    with ScriptedSocket() as socket:
        yield socket


@pytest.fixture
def service() -> Iterator[MalformedServer]:
    with MalformedServer() as service:
        yield service


@pytest.fixture
def scripted(service: MalformedServer, socket: ScriptedSocket) -> Iterator[Session]:
    """A session whose WebSocket is the scripted one."""
    with open_session(service, socket.url) as session:
        yield session


class open_session:
    """A session of the scripted service whose WebSocket is at that address."""

    def __init__(self, service: MalformedServer, url: str) -> None:
        service.ws_url = url
        self._client = AgentBay(service.api_key, endpoint=service.endpoint)

    def __enter__(self) -> Session:
        session = self._client.create().session
        assert session is not None
        return session

    def __exit__(self, *_: object) -> None:
        self._client.close()


def stream(session: Session, code: str = "1", timeout_s: float = 30) -> list[CodeEvent]:
    return list(session.code.stream_code(code, "python", timeout_s, silence_s=10))


def final(events: list[CodeEvent]) -> CodeExecutionResult:
    """The result, which is the last event and no other."""
    *others, result = events
    assert isinstance(result, CodeExecutionResult)
    assert not any(isinstance(event, CodeExecutionResult) for event in others)
    return result


# Over the local runtime


def test_events_come_in_order_and_while_the_code_runs(real: Session) -> None:
    code = CLOCK + (
        "from IPython.display import display\n"
        "print('a', flush=True)\n"
        # Goes on only when what it printed has arrived.
        "import os\n"
        "while not os.path.exists('arrived'): time.sleep(.02)\n"
        "time.sleep(.2)\n"
        "display({'text/plain': 'shown'}, raw=True)\n"
        "print('b')\n"
        "6 * 7"
    )
    events = []
    for event in real.code.stream_code(code, "python"):
        events.append(event)
        if len(events) == 1:
            assert real.call_mcp_tool("shell", {"command": "touch arrived"}).success
    a, shown, b, value, result = events
    assert isinstance(a, CodeChunk) and a.name == "stdout" and a.text == "a\n"
    assert isinstance(shown, CodeOutput) and shown.data == {"text/plain": "shown"}
    assert isinstance(b, CodeChunk) and b.text == "b\n"
    assert isinstance(value, CodeOutput) and value.is_main_result
    assert isinstance(result, CodeExecutionResult) and result.success
    assert result.result == "42" and result.execution_count and result.execution_time >= 0.2
    assert result.logs.stdout == [a.text, b.text] and result.results == [shown, value]


def test_a_streamed_failure_is_the_same_as_an_answered_one(real: Session) -> None:
    code = "print('before')\nnone_of_these"
    events = stream(real, code)
    streamed, answered = final(events), real.code.run_code(code, "python")
    assert events[:-1] == [CodeChunk("stdout", "before\n")]
    assert streamed.error is not None and answered.error is not None
    assert (streamed.error.name, streamed.error.value) == ("NameError", answered.error.value)
    assert "Traceback" in streamed.error.traceback and "none_of_these" in streamed.error.traceback
    assert streamed.logs.stdout == answered.logs.stdout
    assert streamed.error_message == answered.error_message


def test_a_traceback_that_is_no_failure_is_output(real: Session) -> None:
    code = "import traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\n'on'"
    printed, value, _ = events = stream(real, code)
    assert isinstance(printed, CodeChunk) and printed.name == "stderr"
    assert "ZeroDivisionError" in printed.text
    assert isinstance(value, CodeOutput) and final(events).success


def test_a_streamed_timeout_is_a_result(real: Session) -> None:
    events = stream(real, "print('began', flush=True)\nwhile True: pass", timeout_s=0.5)
    result = final(events)
    assert events[0] == CodeChunk("stdout", "began\n")
    assert result.error is not None and result.error.name == "TimeoutError"


def test_javascript_streams(real: Session) -> None:
    events = list(real.code.stream_code("console.log('a'); 1 + 1", "js"))
    assert events[0] == CodeChunk("stdout", "a\n") and final(events).result == "2"


def test_three_megabytes_stream_whole(real: Session) -> None:
    text = "".join(
        event.text
        for event in stream(real, "print('ü' * 3_000_000)")
        if isinstance(event, CodeChunk)
    )
    assert text == "ü" * 3_000_000 + "\n"


def test_a_stream_that_nobody_reads_on_holds_nothing_up(real: Session) -> None:
    with real.code.stream_code("for i in range(3): print(i, flush=True)", "python") as events:
        next(events)
    assert final(stream(real, "'next'")).result == "'next'"


def test_languages_stream_at_the_same_time_over_one_connection(real: Session) -> None:
    python = real.code.stream_code(CLOCK + "print('p'); time.sleep(0.5); 'python'", "python")
    javascript = real.code.stream_code("'javascript'", "javascript")
    assert final(list(javascript)).result == "'javascript'"
    assert final(list(python)).result == "'python'"


def test_a_session_that_is_gone_is_named(local_runtime: LocalRuntimeProcess) -> None:
    with AgentBay(local_runtime.api_key, endpoint=local_runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        other = client.get(session.session_id).session
        assert other is not None and other.delete().success
        with pytest.raises(SessionNotFoundError):
            session.code.stream_code("1", "python")


def test_a_session_deleted_while_code_runs_ends_the_stream(
    local_runtime: LocalRuntimeProcess,
) -> None:
    with AgentBay(local_runtime.api_key, endpoint=local_runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        events = session.code.stream_code("print('on', flush=True)\nwhile True: pass", "python")
        next(events)
        other = client.get(session.session_id).session
        assert other is not None and other.delete(wait=False).success
        with pytest.raises(ResponseLostError):
            list(events)


# Over a server that misbehaves

Script = Callable[[Answer], None]


def after(*steps: Script) -> Script:
    """A script of several steps."""

    def script(answer: Answer) -> None:
        for step in steps:
            step(answer)

    return script


def printed(answer: Answer) -> None:
    answer.event("stdout", chunk="a\n")


def end(answer: Answer) -> None:
    answer.end()


def drop(answer: Answer) -> None:
    answer.later(answer.drop)


def deep(answer: Answer) -> None:
    value = "[" * 5000 + "]" * 5000
    data = f'{{"phase":"event","eventType":"result","result":{{"mime":{{"a/b+json":{value}}}}}}}'
    answer.raw(f'{{"invocationId":"{answer.frame["invocationId"]}","target":"SDK","data":{data}}}')


HARMLESS: dict[str, Script] = {
    "bad JSON": lambda a: a.raw("{"),
    "no object": lambda a: a.raw("[1]"),
    "no text": lambda a: a.raw(b"\xff\xfe", binary=True),
    "no text in a text frame": lambda a: a.raw('"\\ud800'),
    "no id": lambda a: a.raw('{"data": {"phase": "end"}}'),
    "an id of a wrong type": lambda a: a.data({"phase": "end"}, invocationId=["x"]),
    "another's end": lambda a: a.data({"phase": "end"}, invocationId="unknown"),
    "a push": lambda a: a.data({"eventType": "pty.output"}, invocationId="push", target="x"),
    "a new kind of event": lambda a: a.event("progress", percent=3),
    "a failure of others": lambda a: a.data({"error": "no"}, invocationId="unknown"),
}


@pytest.mark.parametrize("noise", HARMLESS)
def test_what_is_not_understood_is_left_out(
    scripted: Session, socket: ScriptedSocket, noise: str
) -> None:
    socket.script = after(printed, HARMLESS[noise], end)
    events = stream(scripted)
    assert events[0] == CodeChunk("stdout", "a\n") and final(events).success


NONSENSE: dict[str, Script] = {
    "no phase": lambda a: a.data({"eventType": "stdout", "chunk": "x"}),
    "a phase of a wrong type": lambda a: a.data({"phase": 1}),
    "an unknown phase": lambda a: a.data({"phase": "middle"}),
    "data of a wrong type": lambda a: a.data(7),
    "no data": lambda a: a.data(None),
    "a chunk of a wrong type": lambda a: a.event("stdout", chunk=7),
    "no chunk": lambda a: a.event("stderr"),
    "a result of a wrong type": lambda a: a.event("result", result=7),
    "no result": lambda a: a.event("result"),
    "a value of a wrong type": lambda a: a.event("result", result={"mime": {"text/html": 1}}),
    "metadata of a wrong type": lambda a: a.event("result", result={"mime": {}, "metadata": 1}),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_a_named_error_and_the_next_call_works(
    scripted: Session, socket: ScriptedSocket, nonsense: str
) -> None:
    socket.script = after(printed, NONSENSE[nonsense])
    events = scripted.code.stream_code("1", "python", silence_s=10)
    assert next(events) == CodeChunk("stdout", "a\n")
    with pytest.raises(InvalidResponseError):
        next(events)
    assert len(socket.frames) == 1
    socket.script = end
    assert final(stream(scripted)).success
    assert len(socket.tokens) == 1


def test_what_is_too_deeply_nested_does_not_hang(scripted: Session, socket: ScriptedSocket) -> None:
    # Ignored or refused, as Python's parser has it.
    socket.script = after(deep, end)
    with contextlib.suppress(InvalidResponseError):
        assert final(stream(scripted)).success


FAULTS: dict[str, Script] = {
    "the tool's": lambda a: a.data({"phase": "error", "error": {"code": "X", "message": "boom"}}),
    "a text": lambda a: a.data({"phase": "error", "error": "boom"}),
    "without a phase": lambda a: a.data({"error": "boom"}),
    "the control plane's": lambda a: a.data({}, source="WEBSOCKET_SERVER", error="boom"),
    "the control plane's data": lambda a: a.data({"error": "boom"}, source="WEBSOCKET_SERVER"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_service_is_one(
    scripted: Session, socket: ScriptedSocket, fault: str
) -> None:
    socket.script = FAULTS[fault]
    with pytest.raises(ServiceFaultError, match="boom"):
        stream(scripted)
    assert len(socket.frames) == 1


def test_a_missing_tool_names_the_image(scripted: Session, socket: ScriptedSocket) -> None:
    message = "tool by name run_code not found"
    socket.script = lambda a: a.data({"phase": "error", "error": {"message": message}})
    with pytest.raises(ToolNotFoundError, match="code_latest"):
        stream(scripted)


def write(data: bytes) -> Script:
    """A script that writes bytes, be they frames or not."""

    def script(answer: Answer) -> None:
        connection: Any = answer.handler.ws_connection
        connection.stream.write(data)

    return script


BREAKING: dict[str, Script] = {
    "dropped": drop,
    "closed": lambda a: a.close(),
    "reserved bits": write(b"\xf1\x01x"),
    "a frame that goes on and on": write(b"\x81\x7f\x00\x00\x00\x10\x00\x00\x00\x00"),
}


@pytest.mark.parametrize("breaking", BREAKING)
def test_a_broken_connection_loses_the_answer_and_the_next_call_connects_anew(
    scripted: Session, socket: ScriptedSocket, breaking: str
) -> None:
    socket.script = after(printed, BREAKING[breaking])
    events = scripted.code.stream_code("1", "python", silence_s=1)
    assert next(events) == CodeChunk("stdout", "a\n")
    with pytest.raises(ResponseLostError, match="not sent again"):
        next(events)
    assert len(socket.frames) == 1
    socket.script = end
    assert final(stream(scripted, "2")).success
    assert [frame["data"]["params"]["code"] for frame in socket.frames] == ["1", "2"]
    assert len(socket.tokens) == 2


def test_a_connection_that_ended_unseen_is_replaced(
    scripted: Session, socket: ScriptedSocket
) -> None:
    socket.script = after(end, drop)
    for number in range(5):
        assert final(stream(scripted, str(number))).success
        time.sleep(0.05)
    codes = [frame["data"]["params"]["code"] for frame in socket.frames]
    assert codes == [str(number) for number in range(5)]


def test_silence_ends_the_wait(scripted: Session, socket: ScriptedSocket) -> None:
    socket.script = printed
    with pytest.raises(ResponseLostError):
        list(scripted.code.stream_code("1", "python", silence_s=0.3))
    # A connection that fell silent is not used again.
    socket.script = end
    assert final(stream(scripted)).success and len(socket.tokens) == 2


def test_events_without_end_end_at_the_deadline(
    scripted: Session, socket: ScriptedSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER_MARGIN_S", 1.0)

    def chatter(answer: Answer) -> None:
        printed(answer)
        answer.later(lambda: chatter(answer))

    socket.script = chatter
    with pytest.raises(ResponseLostError, match="did not end"):
        list(scripted.code.stream_code("1", "python", 0.1))


def test_an_end_that_comes_twice_ends_once(scripted: Session, socket: ScriptedSocket) -> None:
    socket.script = after(printed, end, end, printed)
    for _ in range(3):
        events = stream(scripted)
        assert len(events) == 2 and final(events).success
    assert len(socket.tokens) == 1


def test_names_may_be_in_either_case_and_data_may_be_text(
    scripted: Session, socket: ScriptedSocket
) -> None:
    def script(answer: Answer) -> None:
        answer.data('{"phase": "event", "event_type": "stdout", "chunk": "a"}')
        answer.data(
            {
                "phase": "event",
                "event_type": "result",
                "result": '{"is_main_result": true, "text/plain": "3"}',
            }
        )
        answer.data(
            {
                "phase": "end",
                "execution_error": "ValueError: no",
                "execution_count": 4,
                "execution_time": 0.5,
            }
        )

    socket.script = script
    result = final(stream(scripted))
    assert result.logs.stdout == ["a"] and result.result == "3"
    assert result.error is not None and (result.error.name, result.error.value) == (
        "ValueError",
        "no",
    )
    assert (result.execution_count, result.execution_time) == (4, 0.5)


@pytest.mark.parametrize(
    ("script", "name", "value"),
    [
        (
            after(lambda a: a.event("error", error={"code": "E", "message": "bad"}), end),
            "E",
            "bad",
        ),
        (
            after(lambda a: a.event("error", error={"code": "500", "message": "bad"}), end),
            "500",
            "bad",
        ),
        (after(lambda a: a.event("error", error={}), end), "ExecutionError", "the code failed"),
        (lambda a: a.end(status="failed"), "ExecutionError", "did not report"),
        (lambda a: a.end(executionError="ValueError: x"), "ValueError", "x"),
    ],
)
def test_each_way_to_fail_is_a_failure(
    scripted: Session, socket: ScriptedSocket, script: Script, name: str, value: str
) -> None:
    socket.script = script
    result = final(stream(scripted))
    assert not result.success and result.error is not None
    assert result.error.name == name and value in result.error.value
    assert result.error_message


def test_a_message_beyond_all_bounds_is_not_taken(
    scripted: Session, socket: ScriptedSocket
) -> None:
    socket.script = lambda a: a.event("stdout", chunk="x" * (65 * 2**20))
    with pytest.raises(ResponseLostError, match="64 MB"):
        stream(scripted)
    socket.script = end
    assert final(stream(scripted)).success


def test_large_frames_are_taken_and_wait_for_a_slow_reader(
    scripted: Session, socket: ScriptedSocket
) -> None:
    chunks = [str(number % 10) * (5 * 2**20) for number in range(8)]
    socket.script = after(*[lambda a, c=c: a.event("stdout", chunk=c) for c in chunks], end)
    events = []
    for event in scripted.code.stream_code("1", "python"):
        events.append(event)
        time.sleep(0.05)
    assert [event.text for event in events if isinstance(event, CodeChunk)] == chunks


def test_a_refused_token_is_fetched_anew_and_the_code_sent_once(
    scripted: Session, socket: ScriptedSocket, service: MalformedServer
) -> None:
    service.token = "another-secret-token"
    socket.refusals = [(401, {})]
    assert final(stream(scripted)).success
    assert socket.tokens[1] == service.token and len(socket.frames) == 1


def test_a_token_that_stays_refused_is_an_error(scripted: Session, socket: ScriptedSocket) -> None:
    socket.refusals = [(401, {})] * 2
    with pytest.raises(AuthenticationError):
        stream(scripted)
    assert socket.frames == []


@pytest.mark.parametrize("status", [404, 426, 500, 503])
def test_without_a_websocket_nothing_was_sent_and_other_routes_are_left(
    scripted: Session, socket: ScriptedSocket, status: int
) -> None:
    socket.refusals = [(status, {})]
    assert scripted.can_stream
    with pytest.raises(ServiceUnreachableError, match="Nothing was sent"):
        stream(scripted)
    # Not tried again at once.
    rests = not scripted.can_stream
    assert rests and socket.frames == []
    assert scripted.code.run_code("1", "python").result == "1"


def test_redirects_are_not_followed(scripted: Session, socket: ScriptedSocket) -> None:
    target = socket.url.replace("/ws/one", "/elsewhere")
    socket.refusals = [(302, {"Location": target})]
    with pytest.raises(ServiceUnreachableError):
        stream(scripted)
    assert socket.strayed == 0 and len(socket.tokens) == 1


def test_nobody_listens(service: MalformedServer) -> None:
    # Bound, so that nobody else gets the port, and not listening.
    with stdlib_socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}/ws/one?token=in-the-path"
        with open_session(service, url) as session, pytest.raises(ServiceUnreachableError):
            stream(session)


def test_a_session_without_a_websocket_says_so(service: MalformedServer) -> None:
    with AgentBay(service.api_key, endpoint=service.endpoint) as client:
        session = client.create().session
        assert session is not None and not session.can_stream
        with pytest.raises(ServiceUnreachableError, match="run_code"):
            stream(session)


def test_arguments_are_checked_before_anything_is_sent(
    scripted: Session, socket: ScriptedSocket
) -> None:
    with pytest.raises(InvalidTimeoutError):
        scripted.code.stream_code("1", "python", 61)
    assert socket.tokens == []


def test_no_error_log_or_repr_shows_a_secret(
    scripted: Session,
    socket: ScriptedSocket,
    service: MalformedServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    # The server repeats the token in what it says.
    scripts: list[Script] = [
        drop,
        lambda a: a.data({"error": f"bad token {service.token}"}),
        lambda a: a.data({"phase": "error", "error": {"message": service.token}}),
        lambda a: a.data({"phase": service.token}),
        lambda a: a.data([service.token]),
    ]
    shown = []
    for status, script in [*[(0, script) for script in scripts], (401, drop), (500, drop)]:
        socket.script = script
        socket.refusals = [(status, {"X-Said": service.token})] * 2 if status else []
        with pytest.raises(CommandError) as raised:
            stream(scripted)
        shown += ["".join(traceback.format_exception(raised.value)), repr(vars(scripted))]
    assert service.token not in "\n".join([*shown, caplog.text])


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    authority = trustme.CA()
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


def test_tls_is_verified(
    service: MalformedServer,
    authority: tuple[trustme.CA, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedSocket(context) as socket:
        text = "ü" * 500_000
        socket.script = after(lambda a: a.event("stdout", chunk=text), end)
        with (
            open_session(service, socket.url) as session,
            pytest.raises(ServiceUnreachableError, match="certificate"),
        ):
            stream(session)
        assert not socket.tokens
        monkeypatch.setenv("SSL_CERT_FILE", authority[1])
        with open_session(service, socket.url) as session:
            # Much in both directions.
            events = stream(session, f"'{text}'")
            assert events[0] == CodeChunk("stdout", text) and final(events).success


def test_proxies_are_honoured(service: MalformedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    monkeypatch.setenv("HTTPS_PROXY", proxy.address.replace("//", "//user:secretword@"))
    try:
        with open_session(service, "wss://service.invalid/ws") as session:
            with pytest.raises(ServiceUnreachableError, match="Nothing was sent") as raised:
                stream(session)
            assert "secretword" not in "".join(traceback.format_exception(raised.value))
        assert [line.rsplit(" ", 1)[0] for line in proxy.lines] == ["CONNECT service.invalid:443"]
        monkeypatch.setenv("NO_PROXY", "service.invalid")
        with (
            open_session(service, "wss://service.invalid/ws") as session,
            pytest.raises(ServiceUnreachableError),
        ):
            stream(session)
        assert len(proxy.lines) == 1
    finally:
        proxy.close()
