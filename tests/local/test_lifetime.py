"""When sessions end by themselves, with times short enough to wait for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentbay_kernel.local.sessions import Lifetime
from tests.local.test_sessions import post
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.mark.parametrize(
    ("fields", "lifetime"),
    [
        (("", "", False), Lifetime(300, None)),
        (("30", "", False), Lifetime(30, None)),
        (("5", "30", False), Lifetime(300, 1800)),
        (("", "30", False), Lifetime(300, 1800)),
        (("", "", True), Lifetime(None, None)),
    ],
)
def test_a_timeout_is_seconds_alone_and_minutes_beside_a_runtime(
    fields: tuple[str, str, bool], lifetime: Lifetime
) -> None:
    assert Lifetime.of(*fields) == lifetime


def released_after(runtime: LocalRuntimeProcess, session_id: str) -> float:
    """Seconds until the session is gone; asking for its status does not keep it."""
    begun = time.monotonic()
    while True:
        detail = post(runtime, "GetSessionDetail", SessionId=session_id)
        if not detail.ok or detail.json()["Data"]["Status"] != "RUNNING":
            return time.monotonic() - begun
        assert time.monotonic() - begun < 20, "it was never released"
        time.sleep(0.05)


def test_an_idle_or_overdue_session_is_released(runtime: LocalRuntimeProcess) -> None:
    def use(fields: dict[str, str]) -> tuple[float, bool]:
        created = post(runtime, "CreateMcpSession", ImageId="code_latest", **fields).json()["Data"]
        lasted_s = released_after(runtime, created["SessionId"])
        return lasted_s, post(runtime, "GetSession", SessionId=created["SessionId"]).ok

    kinds: list[dict[str, str]] = [
        {"Timeout": "1"},
        {"Timeout": "0.02", "MaxRuntime": "5"},
        {"Timeout": "5", "MaxRuntime": "0.02"},
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        for fields, (lasted_s, found) in zip(kinds, pool.map(use, kinds), strict=True):
            assert lasted_s >= 0.9 and not found, fields


def test_use_and_keep_alive_postpone_the_release(
    runtime: LocalRuntimeProcess, make_session: Any
) -> None:
    session, working = (make_session(idle_release_timeout=2) for _ in range(2))
    # Longer than the idle time: a session that works is not idle.
    work = "import time; time.sleep(3); 1"
    with ThreadPoolExecutor(1) as pool:
        worked = pool.submit(working.code.run_code, work, "python")
        while not worked.done():
            assert session.keep_alive().success
            time.sleep(0.2)
    assert worked.result().result == "1"
    assert session.get_status().status == "RUNNING"
    assert released_after(runtime, session.session_id) >= 1


def test_the_usual_idle_time_is_a_flag() -> None:
    with running_local_runtime("--idle-seconds", "1", "--prewarm", "0") as runtime:
        created = post(runtime, "CreateMcpSession").json()["Data"]
        assert released_after(runtime, created["SessionId"]) >= 0.9
