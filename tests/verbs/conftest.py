"""A session manager that has no session, for verbs that need none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VerbContext, run_verb

RunVerb = Callable[..., dict[str, Any]]


@pytest.fixture
def manager() -> Iterator[SessionManager]:
    """With the settings of the environment."""
    manager = SessionManager(load_settings())
    yield manager
    manager.close()


@pytest.fixture
def verb(manager: SessionManager, tmp_path: Path) -> RunVerb:
    """Runs a line, with `tmp_path` as the notebook's folder; gives the last bundle shown."""

    def run(line: str, body: str | None = None) -> dict[str, Any]:
        context = VerbContext(tmp_path, manager.settings, "kernel")
        bundle: dict[str, Any] = {}
        for message in run_verb(line, manager, context, body):
            if message.type.endswith("display_data"):
                bundle = message.content["data"]
        return bundle

    return run
