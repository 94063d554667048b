"""A session on every route, with an exchange for every execution."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from agentbay_kernel.exchange import Exchange
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.service import AgentBay, Session
from tests.runtime import LocalRuntimeProcess, running_local_runtime

# What the service carries on the action route (AgentBay wire protocol).
ROUTES: dict[str, dict[str, Any]] = {
    "websocket": {},
    "link": {"ws_url": False},
    "action": {"ws_url": False, "link_url": False, "message_limit": 64512},
}


@dataclass
class Bench:
    """A session, how its cells run, and an exchange with them."""

    session: Session
    execution_of: Callable[[str], Any]
    exchange: Exchange
    set_profile: Callable[..., None]

    def run(self, code: str, language: str = "python") -> str:
        """Run a cell of the user's; returns what it printed."""
        printed = ""
        for message in self.execution_of(language).execute(Cell(code, language)):
            if message.type == "stream":
                printed += message.content["text"]
            assert message.type != "error", message.content
        return printed


def profile_setter(runtime: LocalRuntimeProcess) -> Callable[..., None]:
    """Sets how the runtime behaves from now on."""

    def set_profile(**values: Any) -> None:
        form = {"Authorization": f"Bearer {runtime.api_key}", "Profile": json.dumps(values)}
        answer = requests.post(f"{runtime.endpoint}/?Action=LocalControl", data=form, timeout=10)
        assert answer.ok, answer.text

    return set_profile


@pytest.fixture(scope="package")
def runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime() as runtime:
        yield runtime


@contextlib.contextmanager
def benches_of(runtime: LocalRuntimeProcess, route: str) -> Iterator[dict[str, Bench]]:
    """One session on a route; its Python direct, and bridged."""
    set_profile = profile_setter(runtime)
    set_profile(**ROUTES[route])
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        tunnel = BridgeClient(session)
        tunnel.install()
        direct, bridged = DirectExecution(session), BridgedPython(tunnel)

        def bench_with(python: Any) -> Bench:
            def execution_of(language: str) -> Any:
                return python if language == "python" else direct

            return Bench(
                session,
                execution_of,
                Exchange(session, execution_of),
                lambda **more: set_profile(**ROUTES[route], **more),
            )

        yield {"direct": bench_with(direct), "bridged": bench_with(bridged)}
        session.delete(wait=False)
    set_profile()


@pytest.fixture(scope="module")
def benches_by_route(runtime: LocalRuntimeProcess) -> Iterator[Callable[[str], dict[str, Bench]]]:
    """Gives the session on a route, which the tests of a module share."""
    made: dict[str, dict[str, Bench]] = {}
    with contextlib.ExitStack() as stack:

        def of(route: str) -> dict[str, Bench]:
            if route not in made:
                made[route] = stack.enter_context(benches_of(runtime, route))
            made[route]["direct"].set_profile()
            return made[route]

        yield of


@pytest.fixture(params=ROUTES)
def benches(
    benches_by_route: Callable[[str], dict[str, Bench]], request: pytest.FixtureRequest
) -> dict[str, Bench]:
    """Every route."""
    return benches_by_route(request.param)


@pytest.fixture(params=["direct", "bridged"])
def every_bench(benches: dict[str, Bench], request: pytest.FixtureRequest) -> Bench:
    """Every execution on every route."""
    return benches[request.param]


@pytest.fixture(scope="module")
def bench(runtime: LocalRuntimeProcess) -> Iterator[Bench]:
    """A session as most have it: bridged."""
    with benches_of(runtime, "websocket") as made:
        yield made["bridged"]
