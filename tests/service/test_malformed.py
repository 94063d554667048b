"""A broken service: each fault is a named error in time, and nothing runs twice."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentbay_kernel.errors import (
    CommandError,
    InvalidResponseError,
    ResponseLostError,
    ServiceFaultError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.service import AgentBay, Session, transport
from agentbay_kernel.service import session as sessions
from tests.service.malformed import MalformedServer

QUICK_FAULTS = {
    "before_closed": ResponseLostError,
    "before_500": ServiceFaultError,
    "before_429": ThrottledError,
    "before_redirect": InvalidResponseError,
    "closed": ResponseLostError,
    "truncated_json": InvalidResponseError,
    "truncated_body": ResponseLostError,
    "truncated_text": InvalidResponseError,
    "wrong_types": InvalidResponseError,
    "wrong_text": InvalidResponseError,
    "array": InvalidResponseError,
    "empty": InvalidResponseError,
    "deep": InvalidResponseError,
    "deep_text": InvalidResponseError,
    "not_utf8": InvalidResponseError,
    "html": InvalidResponseError,
    "html_error": ServiceFaultError,
    "500": ServiceFaultError,
    "502": ResponseLostError,
    "504": ResponseLostError,
    "not_http": InvalidResponseError,
    "long_header": InvalidResponseError,
    "bad_gzip": InvalidResponseError,
}
SLOW_FAULTS = ("before_slow", "slow", "drip_head", "drip_body")


def expect(session: Session, error: type[CommandError], timeout_s: float = 60) -> CommandError:
    with pytest.raises(error) as raised:
        session.code.run_code("'broken'", "python", timeout_s)
    assert type(raised.value) is error
    return raised.value


@pytest.mark.parametrize("fault", QUICK_FAULTS)
def test_a_fault_is_a_named_error_and_nothing_is_sent_twice(
    server: MalformedServer, session: Session, fault: str
) -> None:
    server.break_next("run_code", fault)

    error = expect(session, QUICK_FAULTS[fault])

    assert server.counts["run_code"] == 1
    assert str(error).endswith((".", "!"))
    assert server.api_key not in str(error) and server.token not in str(error)
    # A refusal is sure not to have run; of all else nobody knows.
    refused = fault in ("before_429", "before_redirect")
    assert ("unknown" in str(error) or "may have run" in str(error)) is not refused
    assert session.code.run_code("'next'", "python").result == "'next'"
    assert server.counts["run_code"] == 2
    assert server.codes.count("'broken'") == (0 if fault.startswith("before_") else 1)
    assert server.counts["Redirected"] == 0


def lose_slowly(fault: str, link: bool) -> str:
    """Meets one slow fault on one route; says what went otherwise than it should."""
    with (
        MalformedServer(link=link) as server,
        AgentBay(server.api_key, endpoint=server.endpoint) as client,
    ):
        session = client.create().session
        assert session is not None
        server.break_next("run_code", fault)
        started = time.monotonic()
        try:
            answer = session.code.run_code("'broken'", "python", 0.2)
        except ResponseLostError as error:
            # The bytes of a drip would last for minutes, a held connection for half a minute.
            if time.monotonic() - started > 20 or "not sent again" not in str(error):
                return f"{fault}: {error} after {time.monotonic() - started} s"
        else:
            return f"{fault}: {answer}"
        next_answer = session.code.run_code("'next'", "python").result
        ends_well = next_answer == "'next'" and server.counts["run_code"] == 2
        return "" if ends_well else f"{fault}: {next_answer}, {server.counts}"


def test_an_answer_too_slow_is_lost_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ANSWER_MARGIN_S", 2.0)
    # Together, as each takes the whole margin that an answer has.
    with ThreadPoolExecutor(8) as pool:
        outcomes = pool.map(lose_slowly, SLOW_FAULTS * 2, [True] * 4 + [False] * 4)
        assert [outcome for outcome in outcomes if outcome] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["flood", "gzip_bomb"])
def test_an_answer_too_large_is_refused(
    server: MalformedServer, session: Session, fault: str
) -> None:
    server.break_next("run_code", fault)

    assert "256 MB" in str(expect(session, InvalidResponseError))

    assert server.counts["run_code"] == 1
    assert session.code.run_code("'next'", "python").result == "'next'"


def test_half_a_surrogate_pair_is_replaced() -> None:
    with MalformedServer() as server, AgentBay(server.api_key, endpoint=server.endpoint) as client:
        session = client.create().session
        assert session is not None
        server.break_next("run_code", "half_surrogate")
        assert session.code.run_code("1", "python").result == "\N{REPLACEMENT CHARACTER}"


def test_a_session_that_is_gone_is_named(server: MalformedServer, session: Session) -> None:
    server.sessions.clear()
    error = expect(session, SessionNotFoundError)
    assert "create a new session" in str(error)
    assert server.counts["run_code"] == 1


def test_a_504_at_the_timeout_is_the_codes_timeout(
    server: MalformedServer, session: Session
) -> None:
    def answer_late(code: str) -> str:
        time.sleep(0.3)
        return ""

    server.answer = answer_late
    server.break_next("run_code", "504")

    result = session.code.run_code("while True: pass", "python", 0.2)

    assert not result.success
    assert result.error is not None and result.error.name == "TimeoutError"
    assert "may still be running" in result.error_message
    assert server.counts["run_code"] == 1


def test_a_connection_closed_while_idle_loses_no_call(
    server: MalformedServer, session: Session
) -> None:
    # The server closes after an answer that did not say so.
    server.close_after_answers = True
    for code in ("1", "2", "3"):
        assert session.code.run_code(code, "python").result == code
        deadline = time.monotonic() + 10
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.connections == 0
    assert server.codes == ["1", "2", "3"]


def test_a_connection_is_used_again_but_not_after_long(
    server: MalformedServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        session.code.run_code("1", "python")
    assert server.connections_made == 1
    monkeypatch.setattr(transport, "LONGEST_IDLE_S", 0.0)
    session.code.run_code("1", "python")
    assert server.connections_made == 2


@pytest.mark.parametrize("gone", [True, False])
def test_a_link_that_leads_nowhere_is_looked_into(gone: bool) -> None:
    with (
        MalformedServer(link=True) as server,
        AgentBay(server.api_key, endpoint=server.endpoint) as client,
    ):
        session = client.create().session
        assert session is not None
        server.break_next("run_code", "before_404")
        if gone:
            server.sessions.clear()
        with pytest.raises(SessionNotFoundError if gone else ServiceFaultError):
            session.code.run_code("1", "python")
        assert server.counts["run_code"] == 1 and server.counts["GetSession"] == 1


def test_a_refused_token_is_renewed_and_the_call_not_repeated() -> None:
    with (
        MalformedServer(link=True) as server,
        AgentBay(server.api_key, endpoint=server.endpoint) as client,
    ):
        session = client.create().session
        assert session is not None
        server.token = "another-token"

        with pytest.raises(ServiceFaultError, match="run it again"):
            session.code.run_code("1", "python")

        assert server.codes == []
        assert session.code.run_code("1", "python").result == "1"
        assert server.counts["run_code"] == 2


def test_a_link_out_of_reach_is_not_needed(caplog: pytest.LogCaptureFixture) -> None:
    with (
        MalformedServer(link=True) as server,
        MalformedServer() as elsewhere,
        AgentBay(server.api_key, endpoint=server.endpoint) as client,
    ):
        server.link_url = elsewhere.endpoint + "/link/x"
        elsewhere.close()
        session = client.create().session
        assert session is not None

        assert session.code.run_code("1", "python").result == "1"

        assert server.counts["CallMcpTool"] == 1
        assert server.codes == ["1"]
    # Where no handler is installed, a warning would stand in the cell that runs just then.
    assert not caplog.records
