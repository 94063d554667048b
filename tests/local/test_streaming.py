"""Streaming `run_code` over the WebSocket, through the official SDK and by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import websocket

from tests.local.conftest import drop
from tests.runtime import LocalRuntimeProcess


def connect(session: Any, token: str | None = None) -> websocket.WebSocket:
    """A connection to a session's WebSocket address."""
    return websocket.create_connection(
        session.ws_url, header={"X-Access-Token": token or session.token}, timeout=30
    )


def ask(
    socket: websocket.WebSocket, method: str, target: str, invocation: str = "1", **params: Any
) -> None:
    """Send one frame."""
    frame = {
        "invocationId": invocation,
        "source": "SDK",
        "target": target,
        "data": {"method": method, "mode": "stream", "params": params},
    }
    socket.send(json.dumps(frame))


def receive_until_end(socket: websocket.WebSocket) -> list[dict[str, Any]]:
    """The `data` of all frames up to the end."""
    frames = []
    while True:
        frame = json.loads(socket.recv())
        assert frame["invocationId"] == "1" and frame["target"] == "SDK"
        frames.append(frame["data"])
        if frame["data"]["phase"] in ("end", "error"):
            return frames


def test_chunks_arrive_while_the_code_runs(session: Any) -> None:
    arrived: list[str] = []

    def take(chunk: str) -> None:
        arrived.append(chunk)
        if chunk == "one\n":
            assert session.file_system.write_file("first_chunk_arrived", "").success

    # It ends only if its first chunk arrives before.
    result = session.code.run_code(
        "import os, time\nprint('one')\n"
        "while not os.path.exists('first_chunk_arrived'): time.sleep(.02)\n"
        "time.sleep(.2)\nprint('two')\n6 * 7",
        "python",
        stream_beta=True,
        on_stdout=take,
    )
    assert result.success and result.result == "42"
    assert arrived == ["one\n", "two\n"]
    assert result.execution_count >= 1 and result.execution_time >= 0.2


def test_failing_code_keeps_its_output(session: Any) -> None:
    errors: list[Any] = []
    result = session.code.run_code(
        "print('before')\n1 / 0", "python", stream_beta=True, on_error=errors.append
    )
    assert not result.success
    assert result.logs.stdout == ["before\n"]
    assert "Traceback" in "".join(result.logs.stderr)
    assert result.error.name == "ZeroDivisionError"
    assert errors[0]["message"] == "division by zero"


def test_javascript_streams(session: Any) -> None:
    result = session.code.run_code("console.log('a'); 1 + 1", "javascript", stream_beta=True)
    assert result.success and result.result == "2" and result.logs.stdout == ["a\n"]


def test_a_timeout_is_an_end(session: Any) -> None:
    result = session.code.run_code("while True: pass", "python", timeout_s=1, stream_beta=True)
    assert not result.success and "TimeoutError" in result.error_message


def test_large_output_comes_in_frames_that_the_client_accepts(session: Any) -> None:
    code = "print('ü' * 3_000_000)"
    result = session.code.run_code(code, "python", stream_beta=True)
    assert result.success, result.error_message
    assert "".join(result.logs.stdout) == "ü" * 3_000_000 + "\n"


@pytest.mark.parametrize(
    "data, metadata",
    [
        ("{'text/plain': 'x' * 3_000_000}", "{}"),
        ("{'text/plain': 'small', **{f'a/{n}': 'x' * 100_000 for n in range(20)}}", "{}"),
        ("{'text/plain': 'small', 'a/' + 'x' * 2_000_000: ''}", "{}"),
        ("{'text/plain': 'small'}", "{'text/plain': 'x' * 1_500_000}"),
    ],
    ids=["one part", "many parts", "a key", "metadata"],
)
def test_a_result_that_fits_no_frame_is_told(session: Any, data: str, metadata: str) -> None:
    code = f"from IPython.display import display\ndisplay({data}, metadata={metadata}, raw=True)"
    result = session.code.run_code(code, "python", stream_beta=True)
    assert result.success, result.error_message
    assert "larger than a streaming frame" in "".join(result.logs.stderr)
    if "small" in data:
        assert result.results[0].text == "small"


def test_the_async_client_streams(runtime: LocalRuntimeProcess) -> None:
    import asyncio

    from agentbay import AsyncAgentBay, Config, CreateSessionParams

    async def stream() -> tuple[Any, list[str]]:
        config = Config(endpoint=runtime.endpoint, timeout_ms=60000)
        client = AsyncAgentBay(api_key=runtime.api_key, cfg=config)
        session = (await client.create(CreateSessionParams(image_id="code_latest"))).session
        chunks: list[str] = []
        result = await session.code.run_code(
            "print('a')\n1", "python", stream_beta=True, on_stdout=chunks.append
        )
        assert (await session.command.execute_command("echo hi")).stdout == "hi\n"
        assert (await session.delete()).success
        return result, chunks

    with pytest.warns(DeprecationWarning):
        result, chunks = asyncio.run(stream())
    assert result.success and result.result == "1" and chunks == ["a\n"]


def test_metadata_of_a_display_is_kept(session: Any) -> None:
    code = (
        "from IPython.display import display\n"
        "display({'text/plain': 'x'}, raw=True, metadata={'text/plain': {'k': 1}})"
    )
    socket = connect(session)
    ask(socket, "run_code", "wuying_codespace", code=code, language="python", timeoutS=30)
    results = [d["result"] for d in receive_until_end(socket) if d.get("eventType") == "result"]
    assert results == [
        {
            "isMainResult": False,
            "mime": {"text/plain": "x"},
            "metadata": {"text/plain": {"k": 1}},
        }
    ]
    socket.close()


def test_code_runs_on_when_the_connection_drops(session: Any) -> None:
    socket = connect(session)
    code = "import time\nprint('began')\ntime.sleep(1)\nopen('survived', 'w').write('yes')"
    ask(socket, "run_code", "wuying_codespace", code=code, language="python")
    assert json.loads(socket.recv())["data"]["chunk"] == "began\n"
    assert socket.sock is not None
    socket.sock.close()
    assert session.code.run_code("open('survived').read()", "python").result == "'yes'"


def test_a_language_that_is_not_there_is_an_error_frame(session: Any) -> None:
    socket = connect(session)
    ask(socket, "run_code", "wuying_codespace", code="1", language="cobol")
    (frame,) = receive_until_end(socket)
    assert frame["phase"] == "error" and "cobol" in frame["error"]["message"]
    socket.close()


def test_unknown_methods_are_refused(session: Any) -> None:
    socket = connect(session)
    ask(socket, "make_coffee", "wuying_codespace")
    assert "make_coffee" in json.loads(socket.recv())["data"]["error"]
    socket.close()


def test_the_handshake_wants_the_sessions_token(make_session: Any) -> None:
    session = make_session()
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(session, token="wrong")
    assert refused.value.status_code == 401


def test_the_connection_ends_with_the_session(
    runtime: LocalRuntimeProcess, make_session: Any
) -> None:
    session = make_session()
    socket = connect(session)
    drop(runtime, session)
    assert socket.recv() in ("", b"")


def test_file_changes_are_pushed(make_session: Any) -> None:
    session = make_session()
    session.command.execute_command("mkdir watched")
    folder = session.command.execute_command("pwd").stdout.strip() + "/watched"
    socket = connect(session)
    ask(socket, "subscribe_file_change", "wuying_filesystem", path=folder)
    assert receive_until_end(socket)[-1]["phase"] == "end"
    session.file_system.write_file(f"{folder}/new.txt", "x")
    push = json.loads(socket.recv())
    assert push["invocationId"] != "1"
    assert push["data"]["eventType"] == "file_change"
    kinds = [event["eventType"] for event in push["data"]["events"]]
    assert kinds == ["create", "modify"]
    assert push["data"]["events"][0]["path"] == f"{folder}/new.txt"
    socket.close()
