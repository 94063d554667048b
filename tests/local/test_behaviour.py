"""Profiles, faults and the journal: the misbehaviour that other tests rely on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from agentbay_kernel.local.profile import Profile, read_profile
from tests.local.test_sessions import post
from tests.local.test_streaming import ask
from tests.runtime import LocalRuntimeProcess, running_local_runtime


def control(runtime: LocalRuntimeProcess, **profile: Any) -> dict[str, Any]:
    """Set the profile; returns what the runtime tells."""
    answer = post(runtime, "LocalControl", Profile=json.dumps(profile))
    assert answer.ok, answer.text
    told = answer.json()["Data"]
    assert isinstance(told, dict)
    return told


@pytest.fixture
def behave(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """Sets profiles; the usual one is back after the test."""
    yield lambda **profile: control(runtime, **profile)
    control(runtime)


def call(runtime: LocalRuntimeProcess, session: Any, code: str) -> requests.Response:
    """One run_code on the action route."""
    arguments = json.dumps({"code": code, "language": "python"})
    return post(
        runtime, "CallMcpTool", SessionId=session.session_id, Name="run_code", Args=arguments
    )


def test_control_tells_and_wants_the_key(runtime: LocalRuntimeProcess, behave: Any) -> None:
    told = post(runtime, "LocalControl").json()["Data"]
    assert told["profile"] == json.loads(json.dumps(Profile().as_data()))
    assert told["isolation"]["level"] in ("bubblewrap", "none")
    assert told["pid"] == runtime.process.pid
    assert behave(gateway_s=5)["profile"]["gateway_s"] == 5
    refused = requests.post(f"{runtime.endpoint}/?Action=LocalControl", timeout=30)
    assert refused.status_code == 400 and refused.json()["Code"] == "NOT_LOGIN"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"unknown": 1},
        {"error_shape": "D"},
        {"faults": {}},
        {"faults": [{"kind": "reset"}]},
        {"faults": [{"kind": "earthquake", "at": 1}]},
        {"faults": [{"kind": "reset", "at": 1, "colour": "red"}]},
    ],
)
def test_a_wrong_profile_is_refused(runtime: LocalRuntimeProcess, document: Any) -> None:
    with pytest.raises(ValueError):
        read_profile(document)
    answer = post(runtime, "LocalControl", Profile=json.dumps(document))
    assert answer.status_code == 400 and answer.json()["Code"] == "InvalidParameter"


def test_routes_can_be_withheld(client: Any, make_session: Any, behave: Any) -> None:
    behave(link_url=False, ws_url=False)
    session = make_session()
    assert not session.link_url and not session.ws_url
    assert session.code.run_code("6 * 7", "python").result == "42"
    streamed = session.code.run_code("1", "python", stream_beta=True)
    assert "ws_url is not available" in streamed.error_message


def test_error_shapes(session: Any, behave: Any) -> None:
    shapes = {}
    for shape in "ABC":
        behave(error_shape=shape)
        shapes[shape] = session.code.run_code("print('out')\n1 / 0", "python")
        assert not shapes[shape].success
    assert json.loads(shapes["A"].error_message)["stdout"] == ["out\n"]
    assert shapes["B"].error.value == "ZeroDivisionError: division by zero"
    assert shapes["B"].logs.stdout == ["out\n"] and shapes["B"].error_message == ""
    assert shapes["C"].error_message == "ZeroDivisionError: division by zero"


def test_result_shapes(session: Any, behave: Any) -> None:
    for shape in ("legacy", "plain", "current"):
        behave(result_shape=shape)
        assert "42" in session.code.run_code("6 * 7", "python").result


def test_javascript_can_forget(make_session: Any, behave: Any) -> None:
    session = make_session()
    behave(js_state="stateless")
    assert session.code.run_code("const a = 1; a", "js").result == "1"
    assert session.code.run_code("const a = 2; a", "js").result == "2"
    behave()
    session.code.run_code("const b = 3", "js")
    assert session.code.run_code("b", "js").result == "3"


def test_a_sandbox_without_jupyters_packages(make_session: Any, behave: Any) -> None:
    behave(bridgeable=False)
    session = make_session()
    for name in ("ipykernel", "jupyter_client", "zmq"):
        failed = session.code.run_code(f"import {name}", "python")
        assert "ModuleNotFoundError" in failed.error_message
    start = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'ipykernel']).returncode"
    assert session.code.run_code(start, "python").result == "1"
    plot = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()"
    assert session.code.run_code(plot, "python").results[0].png
    stopped = session.code.run_code("while True: pass", "python", timeout_s=1)
    assert "variables are kept" in stopped.error_message
    assert session.code.run_code("sorted(n for n in dir() if 'hid' in n)", "python").result == "[]"


def test_the_gateways_limit(session: Any, behave: Any) -> None:
    behave(gateway_s=1)
    # Without the gateway it would succeed.
    failed = session.code.run_code("import time; time.sleep(30)", "python", timeout_s=60)
    assert "TimeoutError" in failed.error_message


def test_large_messages_fail_on_the_action_route(
    runtime: LocalRuntimeProcess, session: Any, behave: Any
) -> None:
    behave(message_limit=64512)
    assert call(runtime, session, "'x' * 60_000").ok
    assert call(runtime, session, "'x' * 70_000").status_code == 500
    assert call(runtime, session, "#" * 70_000).status_code == 500
    assert session.code.run_code("'x' * 70_000", "python").success


def test_latency_and_bandwidth(runtime: LocalRuntimeProcess, session: Any, behave: Any) -> None:
    behave(latency_ms=300, bandwidth=50_000)
    begun = time.monotonic()
    assert call(runtime, session, "'x' * 20_000").ok
    assert time.monotonic() - begun >= 0.3 + 0.4


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        *((kind, False) for kind in ("reset", "http_500", "http_504", "http_429")),
        *((kind, True) for kind in ("reset", "half", "http_500", "http_504", "http_429")),
    ],
)
def test_a_fault_hits_the_call_it_is_meant_for(
    runtime: LocalRuntimeProcess, session: Any, behave: Any, kind: str, effect: bool
) -> None:
    session.code.run_code("runs = 0", "python")
    behave(faults=[{"kind": kind, "at": [2], "effect": effect}])
    assert call(runtime, session, "runs += 1").ok
    if kind.startswith("http_"):
        assert call(runtime, session, "runs += 1").status_code == int(kind[5:])
    else:
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            call(runtime, session, "runs += 1")
    behave()
    assert session.code.run_code("runs", "python").result == ("2" if effect else "1")


def test_a_fault_on_the_link_route(session: Any, behave: Any) -> None:
    behave(faults=[{"kind": "http_502", "at": 1}])
    assert "502" in session.code.run_code("1", "python").error_message
    assert session.code.run_code("1", "python").success


def test_a_hang_and_a_refused_key(runtime: LocalRuntimeProcess, session: Any, behave: Any) -> None:
    behave(faults=[{"kind": "hang", "at": 1}, {"kind": "key_refused", "at": 2}])
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{runtime.endpoint}/?Action=CallMcpTool",
            data={"Authorization": runtime.api_key, "SessionId": session.session_id},
            timeout=0.5,
        )
    assert call(runtime, session, "1").json()["Code"] == "NOT_LOGIN"


def test_a_session_that_expires_at_a_call(
    runtime: LocalRuntimeProcess, make_session: Any, behave: Any
) -> None:
    session = make_session()
    behave(faults=[{"kind": "expired", "at": 2}])
    assert call(runtime, session, "1").ok
    for _ in range(2):
        assert call(runtime, session, "1").json()["Code"] == "InvalidMcpSession.NotFound"


def test_a_create_whose_answer_is_lost_has_happened(
    runtime: LocalRuntimeProcess, client: Any, behave: Any
) -> None:
    fault = {"kind": "reset", "at": 1, "effect": True, "action": "CreateMcpSession"}
    behave(faults=[fault])
    with pytest.raises(requests.ConnectionError):
        post(runtime, "CreateMcpSession", Labels='{"lost": "yes"}')
    (found,) = client.list({"lost": "yes"}).session_ids
    assert post(runtime, "DeleteSessionAsync", SessionId=found["sessionId"]).ok


def test_chance_is_repeatable(runtime: LocalRuntimeProcess, session: Any, behave: Any) -> None:
    fault = {"kind": "http_500", "probability": 0.5, "seed": 7}
    runs = []
    for _ in range(2):
        behave(faults=[fault])
        runs.append([call(runtime, session, "1").status_code for _ in range(12)])
    assert runs[0] == runs[1] and set(runs[0]) == {200, 500}


def _streamed(session: Any) -> tuple[list[str], bool]:
    """Phases of a streamed run, and whether the connection broke."""
    socket = websocket.create_connection(
        session.ws_url, header={"X-Access-Token": session.token}, timeout=60
    )
    phases: dict[str, list[str]] = {"1": [], "2": []}
    try:
        for invocation in phases:
            # What the first call does not send has not come when the next one has ended.
            ask(
                socket,
                "run_code",
                "wuying_codespace",
                invocation,
                code="print('a')",
                language="python",
            )
        while "end" not in phases["2"]:
            text = socket.recv()
            if not text:
                return phases["1"], True
            told = json.loads(text)
            phases[told["invocationId"]].append(told["data"]["phase"])
        return phases["1"], False
    except (websocket.WebSocketException, OSError):
        return phases["1"], True
    finally:
        socket.close()


@pytest.mark.parametrize(
    ("kind", "phases", "broken"),
    [
        ("end_missing", ["event"], False),
        ("end_twice", ["event", "end", "end"], False),
        ("ws_drop", ["event"], True),
        ("hang", [], False),
    ],
)
def test_faults_of_a_stream(
    session: Any, behave: Any, kind: str, phases: list[str], broken: bool
) -> None:
    behave(faults=[{"kind": kind, "at": 1}])
    told, broke = _streamed(session)
    # What was under way when a connection is reset may be lost with it.
    assert broke == broken and told == phases[: len(told)] and (broken or told == phases)


def test_the_journal_and_a_profile_from_a_file(tmp_path: Path) -> None:
    profile, log = tmp_path / "profile.json", tmp_path / "calls.jsonl"
    profile.write_text('{"faults": [{"kind": "http_500", "at": 2, "effect": true}]}')
    with running_local_runtime("--profile", str(profile), "--log", str(log)) as runtime:
        session_id = post(runtime, "CreateMcpSession").json()["Data"]["SessionId"]
        arguments = json.dumps({"code": "1 + 1", "language": "python"})
        for status in (200, 500):
            answer = post(
                runtime, "CallMcpTool", SessionId=session_id, Name="run_code", Args=arguments
            )
            assert answer.status_code == status
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["fault"] for line in lines] == [None, "http_500"]
    for line in lines:
        assert set(line) == {
            *("time", "session", "call_id", "tool", "language", "sha256", "start", "end", "fault")
        }
        assert line["session"] == session_id and line["tool"] == "run_code"
        assert line["sha256"] == hashlib.sha256(b"1 + 1").hexdigest()
        assert line["start"] <= line["end"]


def test_a_wrong_profile_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"nope": 1}')
    with (
        pytest.raises(AssertionError, match="said nothing"),
        running_local_runtime("--profile", str(tmp_path / "p.json")),
    ):
        pass
