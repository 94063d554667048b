"""Sessions that are lost and a network that fails: one outcome for each item, none runs twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import requests

from agentbay_kernel.errors import SessionLostError
from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.service import AgentBay
from tests.runtime import LocalRuntimeProcess

SEED = 20_261_127
# Whatever can go wrong with a call that is sent; a session that ends is another test's.
FAULTS: list[dict[str, Any]] = [
    *({"kind": "reset", "effect": effect} for effect in (True, False)),
    *({"kind": "http_500", "effect": effect} for effect in (True, False)),
    {"kind": "http_502", "effect": True},
    {"kind": "http_504", "effect": False},
    {"kind": "http_429"},
    {"kind": "half"},
]


def noted(number: int, ledger: str) -> int:
    """Add a line to a file, so that what ran is known whatever its outcome was."""
    import os

    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d\n" % number)
    os.close(file)
    return number


def holding(number: int, ledger: str, middle: int) -> int:
    """The same; the one in the middle says that it runs, and lasts until it may end."""
    import os
    import time

    noted(number, ledger)
    if number == middle:
        noted(number, ledger + ".here")
        while not os.path.exists(ledger + ".gate"):  # noqa: PTH110 (runs in the sandbox)
            time.sleep(0.01)
    return number


def use(runtime: LocalRuntimeProcess, faults: list[dict[str, Any]]) -> None:
    form = {
        "Authorization": f"Bearer {runtime.api_key}",
        "Profile": json.dumps({"faults": faults}),
    }
    answer = requests.post(f"{runtime.endpoint}/?Action=LocalControl", data=form, timeout=30)
    assert answer.ok, answer.text


def counted(ledger: Path) -> Counter[int]:
    return Counter(int(line) for line in ledger.read_text().split())


@pytest.mark.parametrize(
    ("sessions", "items", "chunksize"),
    [(2, 150, 4), pytest.param(8, 1000, 5, marks=pytest.mark.slow)],
)
def test_over_a_failing_network_every_item_runs_once(
    runtime: LocalRuntimeProcess,
    service: AgentBay,
    tmp_path: Path,
    sessions: int,
    items: int,
    chunksize: int,
) -> None:
    ledger = tmp_path / "ledger"
    faults = [
        {**fault, "probability": 0.02, "seed": SEED + number} for number, fault in enumerate(FAULTS)
    ]
    faults += [
        {**fault, "probability": 0.05, "seed": SEED, "action": "CreateSession"}
        for fault in FAULTS[:2]
    ]
    use(runtime, faults)
    try:
        with SandboxExecutor(sessions) as pool:
            numbers = range(items)
            rows = pool.map(
                noted, numbers, [str(ledger)] * items, chunksize=chunksize, return_exceptions=True
            )
            assert list(rows) == list(numbers)
            assert counted(ledger) == Counter(numbers)
    finally:
        use(runtime, [])
    assert not list(service.list_all())


@pytest.mark.parametrize("items", [200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("retry", [False, True])
def test_a_session_that_is_killed_in_the_middle_loses_what_was_in_it(
    service: AgentBay, tmp_path: Path, retry: bool, items: int
) -> None:
    middle = items // 2
    ledger = tmp_path / "ledger"
    here = Path(f"{ledger}.here")
    with SandboxExecutor(2, retry=retry) as pool:
        futures = [pool.submit(holding, number, str(ledger), middle) for number in range(items)]
        while not here.exists():
            wait([futures[middle]], timeout=0.02)
        killed = [row["sessionId"] for row in service.list_all()]
        assert all(service.delete_by_id(session_id).success for session_id in killed)
        # The service accepts a delete before the processes end: until they did, the item waits.
        while not (counted(here)[middle] == 2 if retry else futures[middle].done()):
            wait([futures[middle]], timeout=0.02)
        Path(f"{ledger}.gate").touch()
        outcomes = [future.exception() or future.result() for future in futures]
        ran = counted(ledger)
        lost = {n: each for n, each in enumerate(outcomes) if isinstance(each, Exception)}
        right = [n for n, each in enumerate(outcomes) if each == n]
        assert len(right) + len(lost) == items
        assert all(ran[number] >= 1 for number in right)
        if retry:
            assert not lost and ran[middle] == 2
        else:
            assert max(ran.values()) == 1
            assert all(isinstance(each, SessionLostError) for each in lost.values())
            assert middle in lost and "retry=True" in str(lost[middle])
            assert any(session_id in str(lost[middle]) for session_id in killed)
        # The lost sessions are replaced.
        assert pool.submit(noted, items, str(ledger)).result() == items
    assert not list(service.list_all())


# `make test` has the harder one.
@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(lambda: os.kill(os.getppid(), 9), id="front", marks=pytest.mark.slow),
        pytest.param(
            lambda: os.system("kill -9 $(pgrep -g 0) 2>/dev/null; kill -9 $PPID"), id="group"
        ),
    ],
)
def test_an_item_that_kills_its_session_is_lost_alone(
    service: AgentBay, tmp_path: Path, kill: Callable[[], None]
) -> None:
    ledger = tmp_path / "ledger"
    with SandboxExecutor(1) as pool:
        first = [pool.submit(noted, number, str(ledger)) for number in range(20)]
        assert [future.result() for future in first] == list(range(20))
        killing = pool.submit(kill)
        later = [pool.submit(noted, number, str(ledger)) for number in range(20, 40)]
        assert isinstance(killing.exception(), SessionLostError)
        assert [future.result() for future in later] == list(range(20, 40))
    assert counted(ledger) == Counter(range(40))


def test_an_idle_session_that_was_released_loses_nothing(service: AgentBay, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with SandboxExecutor(1) as pool:
        assert pool.submit(noted, 0, str(ledger)).result() == 0
        (row,) = service.list_all()
        assert service.delete_by_id(row["sessionId"]).success
        assert list(pool.map(noted, range(1, 9), [str(ledger)] * 8)) == list(range(1, 9))
    assert counted(ledger) == Counter(range(9))
