"""A service that takes the request for a session and says nothing more."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agentbay_kernel import threads
from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import ResponseLostError, ServiceUnreachableError
from agentbay_kernel.service import AgentBay
from agentbay_kernel.sessions import SessionManager
from tests.kernels import running_kernel
from tests.runtime import running_local_runtime
from tests.sessions.conftest import WAIT_S, Service, wait_until

SILENT = [
    {"kind": "hang", "probability": 1.0, "effect": True, "action": "CreateMcpSession"},
    {"kind": "hang", "probability": 1.0, "action": "ListSession"},
]
DID_NOT_RUN = "[Nn]o session was created; this cell did not run"


def test_a_create_without_any_answer_ends_and_leaves_nothing(
    service: Service,
    manager: Callable[..., SessionManager],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTBAY_TIMEOUT_MS", "500")
    service.behave(faults=SILENT)
    one = manager()
    with pytest.raises(ResponseLostError, match=DID_NOT_RUN):
        one.open()
    service.behave()
    # It was created all the same, and stands in the state file: it is looked for and deleted.
    assert len(service.ids()) == 1
    assert [one.session_id for one in service.records()] == [""]


def test_a_create_whose_service_goes_away_is_not_taken_for_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_local_runtime() as runtime:
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        service = Service(runtime, client, tmp_path / "state")
        for name, value in service.env().items():
            monkeypatch.setenv(name, value)
        service.behave(faults=SILENT[:1])
        one = SessionManager(AgentBaySettings(state_dir=str(service.state_dir)))
        opening = threads.start(one.open)
        wait_until(lambda: len(service.ids()) == 1, "it is created")
        runtime.process.kill()
        # The search for it is what was not sent.
        with pytest.raises(ResponseLostError, match=DID_NOT_RUN):
            opening.result(WAIT_S)
        assert [one.session_id for one in service.records()] == [""]
        one.close()


def test_a_service_that_is_not_there_has_no_session(
    manager: Callable[..., SessionManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AGENTBAY_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(ServiceUnreachableError, match=DID_NOT_RUN):
        manager().open()


@pytest.mark.slow
def test_a_black_hole_ends_a_cell_within_90_seconds(service: Service) -> None:
    service.behave(faults=SILENT)
    with running_kernel("agentbay-python", service.env()) as kernel:
        ran = kernel.run("print('must not run')", timeout=90)
        assert ran.reply["ename"] == "ResponseLostError"
        assert "no session was created; this cell did not run" in ran.reply["evalue"]
        service.behave()
