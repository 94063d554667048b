"""Sessions through the official SDK: create, get, list, labels, statuses, delete."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.local.conftest import drop, official_client
from tests.runtime import LocalRuntimeProcess, running_local_runtime


def post(runtime: LocalRuntimeProcess, action: str, **fields: Any) -> requests.Response:
    """One request of the action route, by hand."""
    form = {"Authorization": f"Bearer {runtime.api_key}", **fields}
    return requests.post(f"{runtime.endpoint}/", params={"Action": action}, data=form, timeout=30)


def test_a_session_is_created_found_and_deleted(client: Any, make_session: Any) -> None:
    session = make_session(labels={"project": "ünïcode"})
    assert session.session_id.startswith("session-")
    assert session.get_status().status == "RUNNING"
    assert session.get_labels().data == {"project": "ünïcode"}
    again = client.get(session.session_id)
    assert again.success
    assert again.session.code.run_code("1 + 1", "python").result == "2"
    assert session.keep_alive().success
    assert session.delete().success
    assert not client.get(session.session_id).success


def test_statuses_of_a_deleted_session(
    client: Any, make_session: Any, runtime: LocalRuntimeProcess
) -> None:
    session = make_session()
    assert post(runtime, "DeleteSessionAsync", SessionId=session.session_id).ok
    refused = post(
        runtime, "CallMcpTool", SessionId=session.session_id, Name="shell", Args='{"command": "id"}'
    )
    assert refused.status_code == 400
    assert refused.json()["Code"] == "InvalidMcpSession.NotFound"
    detail = post(runtime, "GetSessionDetail", SessionId=session.session_id).json()["Data"]
    assert detail["Status"] in ("DELETING", "FINISH")
    listed = client.list(limit=50).session_ids
    assert session.session_id not in [entry["sessionId"] for entry in listed]
    assert not session.delete().success


def test_lists_are_filtered_by_all_labels_and_paged(client: Any, make_session: Any) -> None:
    made = [make_session(labels={"list": "paged", "n": str(n)}) for n in range(3)]
    assert client.list({"list": "paged", "n": "1"}).total_count == 1
    seen = []
    for page in (1, 2):
        result = client.list({"list": "paged"}, page=page, limit=2)
        assert result.total_count == 3
        seen += [entry["sessionId"] for entry in result.session_ids]
    assert seen == [session.session_id for session in made]
    assert not client.list({"list": "paged"}, page=3, limit=2).success


def test_labels_are_replaced(make_session: Any) -> None:
    session = make_session(labels={"a": "1"})
    session.set_labels({"b": "2"})
    assert session.get_labels().data == {"b": "2"}


def test_a_wrong_key_is_refused(runtime: LocalRuntimeProcess) -> None:
    wrong = LocalRuntimeProcess(runtime.endpoint, "akm-wrong", {}, runtime.process)
    result = official_client(wrong).list()
    assert not result.success and "NOT_LOGIN" in result.error_message


def test_an_unknown_action_is_refused(runtime: LocalRuntimeProcess) -> None:
    answer = post(runtime, "MakeCoffee")
    assert answer.status_code == 400 and answer.json()["Code"] == "InvalidAction.NotFound"


def test_a_foreign_host_is_refused(runtime: LocalRuntimeProcess) -> None:
    for host in ("evil.example", "http://evil.example:80", "127.0.0.1.evil.example"):
        answer = requests.post(
            f"{runtime.endpoint}/?Action=ListSession", headers={"Host": host}, timeout=30
        )
        assert answer.status_code == 403


def test_the_link_route_wants_the_sessions_own_token(
    make_session: Any, runtime: LocalRuntimeProcess
) -> None:
    first, second = make_session(), make_session()
    body = {"tool": "shell", "args": {"command": "echo hi"}, "requestId": "link-1"}
    for token, status in ((first.token, 200), (second.token, 401), ("", 401)):
        answer = requests.post(
            f"{first.link_url}/callTool",
            json=body,
            headers={"X-Access-Token": token},
            timeout=30,
        )
        assert answer.status_code == status


def test_two_clients_share_nothing_but_the_runtime(runtime: LocalRuntimeProcess) -> None:
    from agentbay import CreateSessionParams

    sessions = [
        official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        for _ in range(2)
    ]
    sessions[0].code.run_code("x = 1; open('mine', 'w')", "python")
    assert not sessions[1].code.run_code("x", "python").success
    assert sessions[1].command.execute_command("ls").stdout == ""
    for session in sessions:
        drop(runtime, session)


def test_a_paused_session_rests_until_it_is_resumed(client: Any, make_session: Any) -> None:
    session = make_session()
    session.code.run_code("kept = 1", "python")
    paused = session.beta_pause(timeout=30, poll_interval=0.1)
    assert paused.success and paused.status == "PAUSED"
    assert session.get_status().status == "PAUSED"
    listed = client.list(status="PAUSED", limit=50).session_ids
    assert session.session_id in [entry["sessionId"] for entry in listed]
    assert "PAUSED" in session.code.run_code("kept", "python").error_message
    assert not session.delete().success
    assert not session.beta_pause(timeout=30, poll_interval=0.1).success
    resumed = session.beta_resume(timeout=30, poll_interval=0.1)
    assert resumed.success and resumed.status == "RUNNING"
    assert session.code.run_code("kept", "python").result == "1"


@pytest.mark.slow
def test_twenty_sessions_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from agentbay import CreateSessionParams

    with running_local_runtime() as runtime:
        client = official_client(runtime)

        def work(number: int) -> bool:
            session = client.create(CreateSessionParams(image_id="code_latest")).session
            session.code.run_code(f"x = {number}", "python")
            session.code.run_code(f"const x = {number}", "javascript")
            found = [session.code.run_code("x", name).result for name in ("python", "javascript")]
            return bool(session.delete().success) and found == [str(number)] * 2

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(work, range(20)))
