"""What keeps a session alive, and the warnings that its cells get."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agentbay_kernel.errors import SilentSessionError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.sessions.lifetime import Lifetime, clock
from tests.sessions.conftest import Service, wait_until

HOUR = 3600.0


def _lifetime(service: Service, max_s: float = 8 * HOUR, keep_s: float = HOUR) -> Lifetime:
    session = service.client.get(service.create()).session
    assert session is not None
    return Lifetime(session, 900.0, max_s, keep_s, time.time())


def test_an_idle_notebook_does_not_keep_its_session_alive(service: Service) -> None:
    life = _lifetime(service)
    assert life.extended_until == 0.0
    assert abs(life.released_at - (time.time() + 900)) < 60
    with life.used_by("cell", None):
        assert abs(life.kept_until("cell") - (time.time() + HOUR)) < 60
    assert abs(life.released_at - (time.time() + 900)) < 60


def test_a_cells_own_timeout_keeps_it_alive_for_longer_and_extending_too(service: Service) -> None:
    life = _lifetime(service)
    with life.used_by("cell", 3 * HOUR):
        assert abs(life.kept_until("cell") - (time.time() + 3 * HOUR)) < 60
        life.extend(4 * HOUR)
        assert abs(life.kept_until("cell") - (time.time() + 4 * HOUR)) < 60
    assert life.extend(100 * HOUR) == life.ends_at


def test_a_running_cell_is_warned_ten_minutes_before_the_end_and_once(service: Service) -> None:
    life = _lifetime(service, max_s=8 * HOUR)
    with life.used_by("cell", 8 * HOUR) as warnings:
        assert list(warnings.due(life.ends_at - 601)) == []
        (note,) = warnings.due(life.ends_at - 599)
        assert clock(life.ends_at) in note.content["text"] and "10 min" in note.content["text"]
        assert list(warnings.due(life.ends_at - 300)) == []


def test_a_cell_is_warned_before_it_is_no_longer_followed(service: Service) -> None:
    life = _lifetime(service)
    with life.used_by("cell", None) as warnings:
        now = life.kept_until("cell")
        assert list(warnings.due(now - 700)) == []
        (note,) = warnings.due(now - 500)
        assert "%agentbay extend" in note.content["text"]
        life.extend(2 * HOUR)
        assert list(warnings.due(now)) == []


def test_the_warning_comes_in_the_running_cell(
    service: Service, manager: Callable[..., SessionManager]
) -> None:
    one = manager(max_minutes=5)
    messages = list(one.execute(Cell("print('ran')", "python")))
    said = "".join(str(it.content.get("text", "")) for it in messages)
    assert "ends this session" in said and "ran\n" in said


def test_a_cell_that_runs_for_too_long_is_followed_no_more_and_can_be_waited_for(
    service: Service, manager: Callable[..., SessionManager]
) -> None:
    one = manager(keep_alive_minutes=0.03)
    live = one.open(language="python")
    code = """
kept = 1
import os, time
print("begun", flush=True)
while not os.path.exists("/tmp/agentbay-go"): time.sleep(.02)
print("end of the long one")
"""
    with pytest.raises(SilentSessionError, match="keep_alive_minutes"):
        for _ in one.execute(Cell(code, "python")):
            pass
    said = ""
    for message in one.execute(Cell("print('now', kept)", "python", timeout=3600)):
        said += str(message.content.get("text", ""))
        if "still runs" in said:
            live.session.call_mcp_tool("shell", {"command": "touch /tmp/agentbay-go"})
    assert "still runs" in said and "end of the long one" in said
    assert said.rstrip().endswith("now 1")
    assert message.content["status"] == "ok"


def test_extending_says_so_to_the_service(
    service: Service, manager: Callable[..., SessionManager]
) -> None:
    one = manager(idle_minutes=1)
    session_id = one.open().session.session_id
    service.behave(faults=[{"kind": "expired", "at": [1], "action": "RefreshSessionIdleTime"}])
    # The fault shows that the request is sent: it ends the session.
    one.extend(HOUR)
    wait_until(lambda: session_id not in service.ids(), "RefreshSessionIdleTime is sent")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_extended_session_outlives_its_idle_time_and_another_does_not(
    service: Service, manager: Callable[..., SessionManager]
) -> None:
    one = manager(idle_minutes=1)
    kept, left = one.open("kept").session.session_id, one.open("left").session.session_id
    one.extend(300, "kept")
    wait_until(lambda: left not in service.ids(), "the idle session is released", within_s=150)
    # The kept one's idle time would be over, too.
    time.sleep(15)
    assert kept in service.ids()
