"""Creating, finding, labelling and ending sessions, over a network that loses answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    AuthenticationError,
    CommandError,
    ConfigurationError,
    InvalidResponseError,
    QuotaError,
    ResponseLostError,
    ServiceUnreachableError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.service import AgentBay, CreateSessionParams, Session, actions
from tests.service.malformed import MalformedServer


@pytest.fixture(autouse=True)
def short_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_TIMEOUT_MS", "1000")
    monkeypatch.setattr(actions, "_FIRST_WAIT_S", 0.02)


def test_a_session_is_created_with_its_fields(client: AgentBay, server: MalformedServer) -> None:
    params = CreateSessionParams(
        labels={"course": "\N{SNOWMAN} 1"}, idle_release_timeout_min=5, max_runtime_min=60
    )
    result = client.create(params)
    assert result.success and result.session is not None and result.request_id
    form = server.forms[0]
    assert form["ImageId"] == "code_latest"
    assert form["LoginRegionId"] == "cn-hangzhou"
    # Minutes, which the service takes them for only together.
    assert (form["Timeout"], form["MaxRuntime"]) == ("5", "60")
    assert form["Labels"].isascii()
    assert client.list({"course": "\N{SNOWMAN} 1"}).session_ids[0]["sessionId"] in server.sessions


def test_a_life_cycle_is_sent_whole_or_not_at_all() -> None:
    assert "Timeout" not in CreateSessionParams().fields()
    assert CreateSessionParams(max_runtime_min=30).fields()["Timeout"]
    assert CreateSessionParams(idle_release_timeout_min=5).fields()["MaxRuntime"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: CreateSessionParams(labels={"a": ""}),
        lambda: CreateSessionParams(labels={" ": "a"}),
        lambda: CreateSessionParams(max_runtime_min=0),
        lambda: CreateSessionParams(idle_release_timeout_min=1.5),  # type: ignore[arg-type]
    ],
)
def test_parameters_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


# Sessions are created and deleted by the actions alone: `make test` waits on the action route only
# for what is slow.
FAULTS = ("closed", "truncated_json", "truncated_body", "wrong_types", "500", "html", "slow")
LOST = [
    pytest.param(route, fault, marks=[pytest.mark.slow] * ((route, fault) == ("link", "slow")))
    for route in ("action", "link")
    for fault in FAULTS
]


@pytest.mark.parametrize(("server", "fault"), LOST, indirect=["server"])
def test_a_create_whose_answer_is_lost_is_adopted(
    client: AgentBay, server: MalformedServer, fault: str
) -> None:
    server.break_next("CreateMcpSession", fault)
    result = client.create()
    assert result.success and result.session is not None
    assert list(server.sessions) == [result.session.session_id]
    assert server.counts["CreateMcpSession"] == 1
    assert result.session.code.run_code("1", "python").result == "1"


@pytest.mark.parametrize("fault", ["before_closed", "before_500", "before_429"])
def test_a_create_that_did_nothing_is_repeated(
    client: AgentBay, server: MalformedServer, fault: str
) -> None:
    server.break_next("CreateMcpSession", fault)
    result = client.create()
    assert result.success and len(server.sessions) == 1
    assert server.counts["CreateMcpSession"] == 2
    assert len({form["Labels"] for form in server.forms if "ImageId" in form}) == 1


def test_a_second_session_of_one_create_is_deleted(
    client: AgentBay, server: MalformedServer
) -> None:
    # The session of the first create is not listed yet when it is looked for.
    server.break_next("CreateMcpSession", "closed")
    server.hide_next_list = True
    result = client.create()
    assert result.session is not None
    assert server.counts["CreateMcpSession"] == 2
    assert list(server.sessions) == [result.session.session_id]


def test_while_the_fate_is_unknown_there_is_no_second_create(
    client: AgentBay, server: MalformedServer
) -> None:
    server.break_next("CreateMcpSession", "closed")
    server.break_next("ListSession", *["before_closed"] * 4)
    with pytest.raises(ResponseLostError):
        client.create()
    assert server.counts["CreateMcpSession"] == 1


def test_a_create_that_fails_on_and_on_is_a_result(
    client: AgentBay, server: MalformedServer
) -> None:
    server.break_next("CreateMcpSession", *["before_500"] * 3)
    result = client.create()
    assert not result.success and result.session is None
    assert "AiEngine" in result.error_message and result.request_id == "R-1"
    assert server.counts["CreateMcpSession"] == 3 and server.sessions == {}


def test_no_free_slot_is_a_result_with_a_name(client: AgentBay, server: MalformedServer) -> None:
    server.break_next("CreateMcpSession", "before_quota")
    result = client.create()
    assert not result.success and isinstance(result.failure, QuotaError)
    assert "no free session slot" in result.error_message
    assert server.counts["CreateMcpSession"] == 1


def test_a_refused_key_is_a_result(server: MalformedServer) -> None:
    with AgentBay("akm-wrong", endpoint=server.endpoint) as client:
        for result in (client.create(), client.get("x"), client.list()):
            assert not result.success
            assert isinstance(result.failure, AuthenticationError)
            assert "AGENTBAY_API_KEY" in result.error_message
            assert "akm-wrong" not in result.error_message


def test_a_service_that_is_not_there_is_raised() -> None:
    with MalformedServer() as server:
        server.close()
        with AgentBay(server.api_key, endpoint=server.endpoint) as client:
            for call in (client.create, client.list, lambda: client.get("x")):
                with pytest.raises(ServiceUnreachableError, match="Nothing was sent"):
                    call()


def test_a_session_is_found_by_its_id(client: AgentBay, session: Session) -> None:
    found = client.get(session.session_id).session
    assert found is not None
    assert found.session_id == session.session_id and found.link_url == session.link_url
    missing = client.get("session-none")
    assert not missing.success and isinstance(missing.failure, SessionNotFoundError)


def test_sessions_are_listed_in_pages(client: AgentBay) -> None:
    made = [client.create(CreateSessionParams(labels={"n": str(n % 2)})) for n in range(5)]
    ids = {result.session.session_id for result in made if result.session}
    first = client.list(limit=2)
    assert (first.total_count, first.max_results, bool(first.next_token)) == (5, 2, True)
    pages = [client.list(limit=2, page=page).session_ids for page in (1, 2, 3)]
    assert {entry["sessionId"] for page in pages for entry in page} == ids
    beyond = client.list(limit=2, page=4)
    assert not beyond.success and "no page 4" in beyond.error_message
    assert {entry["sessionId"] for entry in client.list_all()} == ids
    assert client.list({"n": "1"}).total_count == 2


@pytest.mark.parametrize(
    "fault", ["before_closed", "closed", "before_500", "before_429", "502", "html_error"]
)
def test_what_may_be_repeated_is(
    client: AgentBay, server: MalformedServer, session: Session, fault: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "GetSession": lambda: client.get(session.session_id).success,
        "GetSessionDetail": lambda: session.get_status().status,
        "ListSession": lambda: client.list().session_ids,
        "RefreshSessionIdleTime": lambda: session.keep_alive().success,
        "SetLabel": lambda: session.set_labels({"a": "b"}).success,
        "GetLabel": lambda: session.get_labels().labels,
        "DeleteSessionAsync": lambda: session.delete(wait=False).success,
    }
    for action, call in calls.items():
        server.break_next(action, fault)
        assert call(), action
        assert server.counts[action] == 2


def test_repeating_ends(client: AgentBay, server: MalformedServer, session: Session) -> None:
    server.break_next("GetSessionDetail", *["before_429"] * 9)
    status = session.get_status()
    assert not status.success and isinstance(status.failure, ThrottledError)
    assert server.counts["GetSessionDetail"] == 4


@pytest.mark.parametrize("fault", ["truncated_json", "wrong_types", "array", "html", "not_utf8"])
def test_nonsense_is_raised(
    client: AgentBay, server: MalformedServer, session: Session, fault: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "ListSession": client.list,
        "GetLabel": session.get_labels,
        "GetSession": lambda: client.get(session.session_id),
    }
    for action, call in calls.items():
        server.break_next(action, fault)
        with pytest.raises(InvalidResponseError):
            call()


def test_labels_are_checked_before_they_are_sent(session: Session, server: MalformedServer) -> None:
    for labels in ({}, {"a": " "}, {"": "a"}):
        result = session.set_labels(labels)
        assert not result.success and "empty" in result.error_message
    assert server.counts["SetLabel"] == 0


def test_deleting_waits_for_the_end(session: Session, server: MalformedServer) -> None:
    assert session.delete().success
    assert server.counts["GetSessionDetail"] == 1
    again = session.delete()
    assert not again.success and isinstance(again.failure, SessionNotFoundError)


def test_deleting_without_waiting_sends_one_request(
    session: Session, server: MalformedServer
) -> None:
    assert session.delete(wait=False).success
    assert server.counts["DeleteSessionAsync"] == 1 and server.counts["GetSessionDetail"] == 0


@pytest.mark.parametrize(
    ("server", "fault"),
    [
        pytest.param(
            route,
            fault,
            marks=[pytest.mark.slow] * (route == "link" and fault in ("slow", "drip_head")),
        )
        for route in ("action", "link")
        for fault in ("slow", "drip_head", "before_500", "before_429")
    ],
    indirect=["server"],
)
def test_deleting_can_be_bounded(session: Session, server: MalformedServer, fault: str) -> None:
    server.break_next("DeleteSessionAsync", *[fault] * 9)
    try:
        # The server holds a connection for half a minute.
        deleting = threads.start(lambda: session.delete(wait=False, timeout_s=0.5))
        assert not deleting.result(20).success
    except CommandError as error:
        assert isinstance(error, ResponseLostError)
    assert server.counts["DeleteSessionAsync"] == 1


def test_an_address_of_a_session_must_be_safe(client: AgentBay, server: MalformedServer) -> None:
    for unsafe in (
        "http://service.example/link",
        "ftp://127.0.0.1/link",
        "https://user:pass@service.example/link",
        "https://[broken/link",
        "//service.example",
    ):
        server.link_url = unsafe
        session = client.create().session
        assert session is not None and session.link_url == ""
        assert session.code.run_code("1", "python").result == "1"
    server.link_url = "https://service.example/link/"
    session = client.create().session
    assert session is not None and session.link_url == "https://service.example/link"


def test_many_threads_share_a_client(
    server: MalformedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTBAY_TIMEOUT_MS")
    client = AgentBay(server.api_key, endpoint=server.endpoint)

    def work(number: int) -> list[str]:
        session = client.create().session
        assert session is not None
        texts = [session.code.run_code(f"{number}.{n}", "python").result for n in range(10)]
        assert session.delete().success
        return texts

    with client, ThreadPoolExecutor(12) as pool:
        for number, texts in enumerate(pool.map(work, range(24))):
            assert texts == [f"{number}.{n}" for n in range(10)]
    assert len(server.codes) == len(set(server.codes)) == 240
    assert server.sessions == {}
