"""A service that outlives kernels, and what is known of its sessions from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.service import AgentBay, CreateSessionParams
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.sessions.statefile import Record, StateFile
from tests.runtime import LocalRuntimeProcess, running_local_runtime

WAIT_S = 60.0


@dataclass(frozen=True)
class Service:
    """A local runtime that plays the service, and one user's state folder."""

    runtime: LocalRuntimeProcess
    client: AgentBay
    state_dir: Path

    def env(self, **settings: str) -> dict[str, str]:
        """The environment of a kernel whose sessions are to live here."""
        return {
            "AGENTBAY_ENDPOINT": self.runtime.endpoint,
            "AGENTBAY_API_KEY": self.runtime.api_key,
            "AGENTBAY_STATE_DIR": str(self.state_dir),
            "AGENTBAY_MAX_SESSIONS": "1000",
            **{f"AGENTBAY_{name.upper()}": value for name, value in settings.items()},
        }

    def ids(self) -> set[str]:
        """The sessions that run."""
        return {row["sessionId"] for row in self.client.list_all()}

    def records(self) -> list[Record]:
        """What stands in the state file."""
        return list(StateFile(self.state_dir).read().values())

    def behave(self, **profile: Any) -> None:
        """Let the service behave so from now on; without arguments, well."""
        form = {
            "Authorization": f"Bearer {self.runtime.api_key}",
            "Profile": json.dumps(profile),
        }
        url = f"{self.runtime.endpoint}/?Action=LocalControl"
        assert requests.post(url, data=form, timeout=30).ok

    def create(self, **labels: str) -> str:
        """A session that is none of ours."""
        made = self.client.create(CreateSessionParams(labels=labels or None))
        assert made.session is not None, made.error_message
        return made.session.session_id

    def clear(self) -> None:
        """Delete every session."""
        for session_id in self.ids():
            self.client.delete_by_id(session_id)


def wait_until(true: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
    """Wait for something that must come about."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="package")
def runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime("--idle-seconds", "0") as runtime:
        yield runtime


@pytest.fixture
def service(
    runtime: LocalRuntimeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The service, empty, with a state folder of its own, named by this process's environment."""
    client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
    service = Service(runtime, client, tmp_path / "state")
    for name, value in service.env().items():
        monkeypatch.setenv(name, value)
    # A recipe in the working directory is a notebook's.
    monkeypatch.chdir(tmp_path)
    yield service
    service.behave()
    service.clear()


@pytest.fixture
def manager(service: Service) -> Iterator[Callable[..., SessionManager]]:
    """Makes session managers with settings; all are closed."""
    made: list[SessionManager] = []

    def make(notebook: str = "", **settings: Any) -> SessionManager:
        chosen = AgentBaySettings(
            state_dir=str(service.state_dir), **{"max_sessions": 1000, **settings}
        )
        made.append(SessionManager(chosen, notebook))
        return made[-1]

    yield make
    service.behave()
    for one in made:
        one.close()
