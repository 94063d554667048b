"""Sessions with a bridge, over a real local runtime: on every route, with faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from agentbay_kernel.execution.bridge import transport
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.service import AgentBay, Session
from tests.execution.bench import ROUTES, SOON_S, Bench
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="package")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "calls"
    path.touch()
    return path


@pytest.fixture(scope="package")
def runtime(journal: Path) -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime("--log", str(journal)) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def open_bench(runtime: LocalRuntimeProcess, journal: Path) -> Iterator[Callable[..., Bench]]:
    """Opens a bench, under a profile."""
    made: list[Session] = []

    def profile(**keys: Any) -> None:
        form = {"Authorization": f"Bearer {runtime.api_key}", "Profile": json.dumps(keys)}
        answer = requests.post(f"{runtime.endpoint}/?Action=LocalControl", data=form, timeout=10)
        assert answer.ok, answer.text

    def make(**keys: Any) -> Bench:
        profile(**keys)
        session = client.create().session
        assert session is not None
        made.append(session)
        tunnel = BridgeClient(session)
        tunnel.install()
        return Bench(session, tunnel, lambda **more: profile(**{**keys, **more}), journal)

    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        yield make
        profile()
        for session in made:
            session.delete(wait=False)


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that answer once wait for a cell's end as long as a busy machine takes for it."""
    monkeypatch.setattr(transport, "WAIT_S", SOON_S)
    monkeypatch.setattr(transport, "LINGER_S", SOON_S)


@pytest.fixture(scope="module")
def benches() -> dict[str, Bench]:
    """The benches that tests share, by route."""
    return {}


@pytest.fixture
def bench(open_bench: Callable[..., Bench], benches: dict[str, Bench], route: str) -> Bench:
    """A bench for each route."""
    if route not in benches:
        benches[route] = open_bench(**ROUTES[route])
    bench = benches[route]
    bench.profile()
    bench.warm_up()
    return bench
