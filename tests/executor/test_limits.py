"""What a pool may use: time of an item, minutes, sessions; and that nothing of it is left."""

from __future__ import annotations

import os
import re
import sys
import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentbay_kernel.errors import (
    ConfigurationError,
    NoBackendError,
    QuotaError,
    RecipeError,
    SessionError,
)
from agentbay_kernel.executor import Plan, SandboxExecutor
from agentbay_kernel.executor.channel import Channel
from agentbay_kernel.service import AgentBay
from tests.runtime import running_local_runtime
from tests.sessions.conftest import wait_until


def double(number: int) -> int:
    return 2 * number


def until(path: str) -> str:
    """Run until a file is there."""
    while not os.path.exists(path):  # noqa: PTH110 (runs in the sandbox)
        time.sleep(0.01)
    return path


def test_what_was_not_sent_can_be_cancelled(service: AgentBay, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with SandboxExecutor(1) as pool:
        pool.submit(double, 1).result()
        running: Future[Any] = pool.submit(until, str(gate))
        while not running.running():
            wait([running], timeout=0.01)
        waiting: list[Future[Any]] = [pool.submit(double, n) for n in range(3)]
        assert waiting[1].cancel() and not running.cancel()
        gate.touch()
        done = wait([running, *waiting]).done
        assert len(done) == 4
        assert running.result() == str(gate)
        assert [each.result() for each in waiting[::2]] == [0, 4]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(double, 1)
    assert not list(service.list_all())


def test_an_item_that_takes_too_long_is_stopped(service: AgentBay) -> None:
    with SandboxExecutor(1, timeout=0.3) as pool:
        futures = [pool.submit(time.sleep, seconds) for seconds in (0, 600, 0)]
        assert futures[0].result() is None
        with pytest.raises(TimeoutError, match=r"longer than 0.3 s and was stopped"):
            futures[1].result()
        assert futures[2].result() is None


def test_minutes_have_a_ceiling(service: AgentBay, tmp_path: Path) -> None:
    pool = SandboxExecutor(1, max_minutes=0.03)
    assert pool.plan(100, 6) == Plan(service.endpoint.url, 1, 0.03, 10.0)
    running, waiting = pool.submit(until, str(tmp_path / "never")), pool.submit(double, 1)
    assert isinstance(running.exception(), SessionError)
    assert "0.03 minutes" in str(running.exception())
    assert "was not sent" in str(waiting.exception())
    pool.shutdown()
    assert not list(service.list_all())


def test_a_plan_creates_nothing(service: AgentBay) -> None:
    before = len(list(service.list_all()))
    plan = SandboxExecutor(8).plan(4)
    assert (plan.sessions, plan.minutes) == (4, 4 * 480)
    assert str(plan).splitlines()[0] == f"At most 4 sessions at {service.endpoint.url}."
    assert len(list(service.list_all())) == before


def test_a_recipe_brings_modules(service: AgentBay, tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('files = ["helpers_of_item.py"]')
    (tmp_path / "helpers_of_item.py").write_text("def triple(n): return 3 * n\n")

    def tripled(number: int) -> Any:
        import importlib

        return importlib.import_module("helpers_of_item").triple(number)

    with SandboxExecutor(1, setup=tmp_path / "pool.toml") as pool:
        assert "pool.toml" in str(pool.plan())
        assert pool.submit(tripled, 2).result() == 6


def test_sessions_are_created_ahead_if_asked(service: AgentBay) -> None:
    before = len(list(service.list_all()))
    with SandboxExecutor(1, prewarm=True):
        while len(list(service.list_all())) == before:
            time.sleep(0.05)
    assert len(list(service.list_all())) == before


def test_an_invalid_limit_or_recipe_is_refused_before_anything_is_created(
    service: AgentBay, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        SandboxExecutor(0)
    none: Any
    for none in (1.5, "2", True):
        with pytest.raises(TypeError, match="max_workers must be a whole number"):
            SandboxExecutor(none)
    for none in ("1", [1], True):
        with pytest.raises(TypeError, match="timeout must be a number"):
            SandboxExecutor(1, timeout=none)
    for number in (float("inf"), float("nan"), -1):
        with pytest.raises(ValueError, match="max_minutes must be"):
            SandboxExecutor(1, max_minutes=number)
    with pytest.raises(RecipeError, match=r"none.toml can't be read"):
        SandboxExecutor(setup=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text('pips = ["x"]')
    with pytest.raises(RecipeError, match="pips"):
        SandboxExecutor(setup=str(tmp_path / "bad.toml"))
    assert not list(service.list_all())


def test_without_sessions_every_item_says_why(
    service: AgentBay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTBAY_API_KEY", "akm-wrong-key-0000")
    with SandboxExecutor(3) as pool:
        errors = [future.exception() for future in [pool.submit(double, n) for n in range(5)]]
        # Asked again, it is tried again.
        errors.append(pool.submit(double, 1).exception())
    assert {type(error).__name__ for error in errors} == {"AuthenticationError"}


def test_an_account_that_allows_two_of_eight_gives_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    with running_local_runtime("--isolation", "none", "--max-sessions", "2") as few:
        monkeypatch.setenv("AGENTBAY_ENDPOINT", few.endpoint)
        monkeypatch.setenv("AGENTBAY_API_KEY", few.api_key)
        with SandboxExecutor(8, notify=told.append) as pool, AgentBay() as client:
            assert list(pool.map(double, range(200))) == [2 * n for n in range(200)]
            assert list(pool.map(double, range(200))) == [2 * n for n in range(200)]
            assert len(list(client.list_all())) <= 2
            # Few items may be done before the last create has failed.
            wait_until(lambda: any("could not be created" in line for line in told), "it is told")
            lines = [line for line in told if "could not be created" in line]
            assert len(lines) == 1
            assert "6 of 8 sessions could not be created. The pool continues with 2." in lines[0]
            # A second pool gets none while the first has them.
            with SandboxExecutor(1) as other:
                assert isinstance(other.submit(double, 1).exception(), QuotaError)
        with SandboxExecutor(1) as other:
            assert other.submit(double, 1).result() == 2


def test_the_users_own_ceiling_holds(service: AgentBay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_MAX_SESSIONS", "1")
    told: list[str] = []
    with SandboxExecutor(3, notify=told.append) as pool:
        assert list(pool.map(double, range(50))) == [2 * n for n in range(50)]
        assert len(list(service.list_all())) == 1
    assert any("The pool continues with 1." in line for line in told)


def test_another_python_gets_no_functions(service: AgentBay) -> None:
    session = service.create().session
    assert session is not None
    try:
        # It takes itself for a later one.
        later = "import sys; sys.version_info = (3, 99, 0, 'final', 0)"
        assert session.code.run_code(later, "python").success
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        words = f"The sandbox has Python 3.99, and this is Python {here}: functions can't be sent."
        with pytest.raises(ConfigurationError, match=re.escape(words)):
            Channel(session, 10**6, None, None)
    finally:
        session.delete()


def test_minutes_that_are_used_up_are_the_last(service: AgentBay) -> None:
    pool = SandboxExecutor(1, max_minutes=0.02)
    pool.submit(double, 1).exception()
    while not pool._stopped:
        time.sleep(0.01)
    with pytest.raises(RuntimeError):
        pool.submit(double, 1)


# `make test` has what is told when the minutes are used up above, and items that are cancelled.
@pytest.mark.slow
def test_who_waits_for_a_cancelled_item_is_told_when_the_minutes_are_used_up(
    service: AgentBay,
) -> None:
    pool = SandboxExecutor(1, max_minutes=0.05)
    queued: list[Future[Any]] = [pool.submit(time.sleep, 100)]
    queued += [pool.submit(double, number) for number in range(3)]
    assert queued[2].cancel()
    assert not wait(queued, timeout=60).not_done and queued[2].cancelled()


def test_one_pools_end_leaves_the_other_pool_alone(service: AgentBay) -> None:
    with SandboxExecutor(1) as first:
        pid = first.submit(os.getpid).result()
        with SandboxExecutor(1) as second:
            assert second.submit(os.getpid).result() != pid
            second.stop()
        assert first.submit(os.getpid).result() == pid
    assert not list(service.list_all())


def test_a_pool_has_a_local_runtime_of_its_own(
    service: AgentBay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTBAY_ENDPOINT")
    monkeypatch.delenv("AGENTBAY_API_KEY")
    with SandboxExecutor(2) as pool:
        assert isinstance(pool.submit(double, 1).exception(), NoBackendError)
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv("AGENTBAY_LOCAL_ISOLATION", "none")
    told: list[str] = []
    with SandboxExecutor(2, notify=told.append) as pool:
        assert pool.plan().place == "a local runtime on this machine"
        pid = pool.submit(os.getpid).result()
        assert list(pool.map(double, range(40))) == [2 * n for n in range(40)]
    # Nothing isolates it, which is said once; and it is gone.
    assert len([line for line in told if "runs on THIS machine" in line]) == 1
    assert not psutil.pid_exists(pid)


def test_items_of_a_pool_that_is_shut_down_in_the_background_end(service: AgentBay) -> None:
    pool = SandboxExecutor(1)
    futures = [pool.submit(double, n) for n in range(30)]
    pool.shutdown(wait=False)
    assert [future.result() for future in futures] == [2 * n for n in range(30)]
    pool.shutdown()
    assert not list(service.list_all())
    assert pool.plan(1).sessions == 1


def test_what_was_not_sent_is_cancelled_at_shutdown(service: AgentBay, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    pool = SandboxExecutor(1)
    running: Future[Any] = pool.submit(until, str(gate))
    while not running.running():
        wait([running], timeout=0.01)
    waiting: list[Future[Any]] = [pool.submit(double, n) for n in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in wait(waiting).done)
    gate.touch()
    assert running.result() == str(gate)
    pool.shutdown()
