"""The Code API's reference, against a running service that really executes: the local runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentbay_kernel.errors import SessionNotFoundError, ToolNotFoundError
from agentbay_kernel.service import AgentBay, CreateSessionParams, Session
from agentbay_kernel.service.access import Access
from tests.runtime import LocalRuntimeProcess


@pytest.fixture(scope="module")
def live_client(local_runtime: LocalRuntimeProcess) -> Iterator[AgentBay]:
    with AgentBay(local_runtime.api_key, endpoint=local_runtime.endpoint) as client:
        yield client


@pytest.fixture(scope="module", params=["link", "action"])
def live_session(live_client: AgentBay, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session, used by one route and then by the other."""
    session = live_client.create().session
    assert session is not None
    if request.param == "action":
        session = Session(session._actions, session.session_id, Access())
    assert bool(session.link_url) is (request.param == "link")
    yield session
    session.delete(wait=False)


def test_the_example_of_the_reference(
    local_runtime: LocalRuntimeProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where the service is; the example itself only names the key.
    monkeypatch.setenv("AGENTBAY_ENDPOINT", local_runtime.endpoint)
    agent_bay = AgentBay(api_key=local_runtime.api_key)

    def execute_python_code() -> None:
        try:
            # Create a session with code_latest image
            params = CreateSessionParams(image_id="code_latest")
            result = agent_bay.create(params)
            if result.success:
                session = result.session
                assert session is not None

                # Execute Python code
                python_code = """print('Hello from Python!')
result = 2 + 3
print(f'Result: {result}')"""

                code_result = session.code.run_code(python_code, "python")
                if code_result.success:
                    print(f"Python code output: {code_result.result}")

                session.delete()
        except Exception as e:
            print(f"Error: {e}")

    execute_python_code()

    assert capsys.readouterr().out == "Python code output: Hello from Python!\nResult: 5\n\n"


def test_state_persists_and_rich_results_arrive(live_session: Session) -> None:
    run = live_session.code.run_code
    assert run("x = 20", "python").success
    result = run(
        "from IPython.display import HTML, display\ndisplay(HTML('<b>h</b>'))\nx + 1", "py"
    )
    assert result.result == "21"
    displayed, main = result.results
    assert displayed.data["text/html"] == "<b>h</b>" and not displayed.is_main_result
    assert main.is_main_result and main.data["text/plain"] == "21"
    assert result.execution_count is not None and result.execution_time > 0


def test_an_error_of_the_code_is_a_result(live_session: Session) -> None:
    result = live_session.code.run_code(
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\n{}['key']", "python"
    )
    assert not result.success
    assert "".join(result.logs.stdout) == "out\n"
    assert "".join(result.logs.stderr).startswith("err\n")
    assert result.error is not None
    assert (result.error.name, result.error.value) == ("KeyError", "'key'")
    assert "Traceback (most recent call last)" in result.error.traceback
    assert "err" not in result.error.traceback.splitlines()[0]
    assert result.error_message == "KeyError: 'key'"


def test_a_syntax_error_is_a_result(live_session: Session) -> None:
    for code, language in (("x = (", "python"), ("f(", "javascript")):
        error = live_session.code.run_code(code, language).error
        assert error is not None and error.name == "SyntaxError" and error.value


# On the link route; on the action route, `make test` has a timeout in `test_malformed.py`.
@pytest.mark.parametrize(
    "live_session", ["link", pytest.param("action", marks=pytest.mark.slow)], indirect=True
)
def test_the_timeout_is_a_result_with_the_output_so_far(live_session: Session) -> None:
    result = live_session.code.run_code(
        "import time\nprint('before', flush=True)\ntime.sleep(30)", "python", timeout_s=1
    )
    assert not result.success
    assert result.error is not None and result.error.name == "TimeoutError"
    assert "".join(result.logs.stdout) == "before\n"
    assert live_session.code.run_code("1 + 1", "python").result == "2"


def test_javascript(live_session: Session) -> None:
    result = live_session.code.run_code("console.log('a'); [1, 2].length", "javascript")
    assert result.success and result.result == "2"
    assert "".join(result.logs.stdout) == "a\n"
    error = live_session.code.run_code("null.x", "javascript").error
    assert error is not None and error.name == "TypeError"
    assert "    at " in error.traceback


def test_a_large_output_arrives_whole(live_session: Session) -> None:
    result = live_session.code.run_code("print('x' * 5_000_000)", "python")
    assert len("".join(result.logs.stdout)) == 5_000_001


def test_any_tool_can_be_called(live_session: Session) -> None:
    good = live_session.call_mcp_tool("shell", {"command": "echo hi"})
    assert good.success and '"stdout"' in good.data and "hi" in good.text
    bad = live_session.call_mcp_tool("shell", {"command": "exit 3"})
    assert not bad.success and "3" in bad.error_message and bad.request_id
    with pytest.raises(ToolNotFoundError):
        live_session.call_mcp_tool("no_such_tool", {})


def test_the_life_of_a_session(live_client: AgentBay) -> None:
    session = live_client.create(CreateSessionParams(labels={"life": "one"})).session
    assert session is not None
    assert session.get_status().status == "RUNNING"
    assert session.keep_alive().success
    assert session.get_labels().labels["life"] == "one"
    assert session.set_labels({"life": "two"}).success
    assert [e["sessionId"] for e in live_client.list({"life": "two"}).session_ids] == [
        session.session_id
    ]
    found = live_client.get(session.session_id).session
    assert found is not None and found.code.run_code("1", "python").success
    assert live_client.delete(session).success
    with pytest.raises(SessionNotFoundError):
        session.code.run_code("1", "python")
    assert not live_client.get(session.session_id).success
