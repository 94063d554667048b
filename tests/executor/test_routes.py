"""On the slowest route a message has 63 KB: large and many items go all the same."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import requests

from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.service import AgentBay
from tests.exchange.conftest import ROUTES
from tests.runtime import LocalRuntimeProcess

DATA = {"noise": os.urandom(60_000)}


def test_the_action_route_carries_all(runtime: LocalRuntimeProcess, service: AgentBay) -> None:
    form = {
        "Authorization": f"Bearer {runtime.api_key}",
        "Profile": json.dumps(ROUTES["action"]),
    }
    answer = requests.post(f"{runtime.endpoint}/?Action=LocalControl", data=form, timeout=30)
    assert answer.ok, answer.text
    with SandboxExecutor(1) as pool:
        noise = [os.urandom(size) for size in (0, 100, 15_000, 17_000, 100_000)]
        assert list(pool.map(lambda data: data[::-1], noise)) == [each[::-1] for each in noise]
        assert list(pool.map(len, noise * 3)) == [len(each) for each in noise] * 3
        assert list(pool.map(os.urandom, [1000] * 100)) != []
        assert [len(each) for each in pool.map(os.urandom, [17_000] * 3)] == [17_000] * 3
        # The function is large itself.
        assert pool.submit(lambda: len(DATA["noise"])).result() == 60_000


def test_functions_that_nobody_needs_are_not_kept(service: AgentBay) -> None:
    def count() -> int:
        return len(list(Path(sys.argv[2]).iterdir()))

    with SandboxExecutor(1, notify=lambda line: None) as pool:
        before = pool.submit(count).result()
        for number in range(60):
            assert pool.submit(lambda number=number: number).result() == number
        assert pool.submit(count).result() < before + 20
