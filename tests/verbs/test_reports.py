"""`status` and `config`."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel import __version__
from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.errors import ConfigurationError, NotAllowedError, VerbError
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VerbContext, run_verb
from tests.verbs.conftest import RunVerb


def test_status_without_a_session(verb: RunVerb) -> None:
    shown = verb("status")
    assert "none: the next cell creates one" in shown["text/plain"]
    assert shown["text/html"].startswith("<table>")
    document = verb("status --json")["application/json"]
    assert document["sessions"] == []
    assert document["versions"]["agentbay-kernel"] == __version__
    assert document == json.loads(verb("status --json")["text/plain"])


def test_status_before_a_session_shows_what_the_local_runtime_will_isolate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AGENTBAY_API_KEY", "AGENTBAY_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv("AGENTBAY_LOCAL_MEMORY", "512")
    with contextlib.closing(SessionManager(load_settings())) as manager:
        context = VerbContext(tmp_path, manager.settings, "kernel")

        def status() -> dict[str, Any]:
            (message,) = run_verb("status --json", manager, context)
            return dict(message.content["data"]["application/json"])

        before = status()
        (shown,) = run_verb("status", manager, context)
        assert "Isolation" in shown.content["data"]["text/plain"]
        assert manager.store.backend is None and before["sessions"] == []
        manager.open(language="python")
        after = status()
        for name in ("confinement", "released"):
            assert before[name] == after[name]
    monkeypatch.setenv("AGENTBAY_LOCAL_ISOLATION", "none")
    with contextlib.closing(SessionManager(load_settings())) as manager:
        assert "NOT isolated" in status()["confinement"]["summary"]


def test_status_of_a_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    with contextlib.closing(SessionManager(load_settings())) as manager:
        live = manager.open(language="python")
        context = VerbContext(tmp_path, manager.settings, "kernel")
        (message,) = run_verb("status --json", manager, context)
        document = message.content["data"]["application/json"]
        (session,) = document["sessions"]
        assert session["name"] == "default"
        assert session["id"] == live.session.session_id
        assert session["execution"]["python"]["kind"] == "bridged"
        assert session["execution"]["javascript"]["kind"] is None
        assert document["confinement"]["summary"]
        assert document["policy"]["untrusted"] is False
        (message,) = run_verb("status", manager, context)
        assert live.session.session_id in message.content["data"]["text/plain"]
        assert "confined" in message.content["data"]["text/plain"]
        # Sessions that have ended were paid for, too.
        live.created_at -= 600
        list(run_verb("delete", manager, context))
        (message,) = run_verb("status --json", manager, context)
        document = message.content["data"]["application/json"]
        assert document["sessions"] == [] and 10 <= document["minutes_used"] < 20


def test_config_shows_values_and_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, verb: RunVerb
) -> None:
    shown = verb("config")["text/plain"]
    for name in AgentBaySettings.class_own_traits(config=True):
        assert name in shown
    assert "AGENTBAY_API_KEY" in shown
    verb("config timeout=30")
    document = verb("config --json")["application/json"]
    assert document["timeout"]["value"] == 30
    assert document["timeout"]["from"] == "this notebook"
    assert document["image"]["from"] == "default"
    assert "AGENTBAY_TIMEOUT" in verb("config timeout")["text/plain"]


def test_config_never_shows_the_key(monkeypatch: pytest.MonkeyPatch, verb: RunVerb) -> None:
    monkeypatch.setenv("AGENTBAY_API_KEY", "akm-0123-secret")
    for line in ("config", "config --json", "status", "status --json", "help"):
        assert "secret" not in json.dumps(verb(line))
    assert re.search(r"AGENTBAY_API_KEY +set\b", verb("config")["text/plain"])


@pytest.mark.parametrize(
    "change",
    [
        "backend=local",
        "start=open",
        "image=linux_latest",
        "output_limit=20000001",
        "idle_minutes=16",
        "max_minutes=481",
        "local_isolation=none",
        "local_network=True",
        "local_python=/bin/sh",
    ],
)
def test_a_cell_cannot_loosen_anything(verb: RunVerb, manager: SessionManager, change: str) -> None:
    name = change.partition("=")[0]
    before = getattr(manager.settings, name)
    with pytest.raises(NotAllowedError, match=f"AGENTBAY_{name.upper()}"):
        verb(f"config {change}")
    assert getattr(manager.settings, name) == before


_UNCHANGEABLE = [
    name
    for name, trait in AgentBaySettings.class_own_traits(config=True).items()
    if trait.metadata.get("in_notebook") is None
]


@pytest.mark.parametrize("name", _UNCHANGEABLE)
def test_what_has_no_rule_cannot_be_changed_by_a_cell(
    verb: RunVerb, manager: SessionManager, name: str
) -> None:
    before = getattr(manager.settings, name)
    for value in (before, "1", "other"):
        with pytest.raises(NotAllowedError, match=f"AGENTBAY_{name.upper()}"):
            verb(f"config {name}='{value}'")
    assert getattr(manager.settings, name) == before


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("timeout=30", 30.0),
        ("timeout=none", None),
        ("execution=direct", "direct"),
        ("output_limit=1000", 1000),
        ("idle_minutes=5", 5),
        ("local_isolation=required", "required"),
        ("untrusted=True", True),
    ],
)
def test_a_cell_can_tighten_and_change_the_harmless(
    verb: RunVerb, manager: SessionManager, change: str, value: object
) -> None:
    name = change.partition("=")[0]
    assert name in verb(f"config {change}")["text/plain"]
    assert getattr(manager.settings, name) == value


def test_what_was_tightened_stays_so(verb: RunVerb, manager: SessionManager) -> None:
    verb("config untrusted=True idle_minutes=5")
    for change in ("untrusted=False", "idle_minutes=6"):
        with pytest.raises(NotAllowedError):
            verb(f"config {change}")
    assert manager.settings.untrusted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("timeout=soon", "timeout=soon is not valid"),
        ("idle_minutes=0", "idle_minutes=0 is not valid"),
        ("execution=magic", "execution=magic is not valid"),
    ],
)
def test_a_wrong_value_is_told(verb: RunVerb, change: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        verb(f"config {change}")


def test_an_unknown_setting_is_told_and_nothing_is_changed(
    verb: RunVerb, manager: SessionManager
) -> None:
    with pytest.raises(VerbError, match="There is no setting 'colour'"):
        verb("config timeout=5 colour=red")
    assert manager.settings.timeout is None


@pytest.mark.parametrize(
    "changes",
    ["timeout=5 html=trust", "timeout=5 idle_minutes=soon", "idle_minutes=5 idle_minutes=6"],
)
def test_several_changes_are_made_all_or_not_at_all(
    verb: RunVerb, manager: SessionManager, changes: str
) -> None:
    with pytest.raises((NotAllowedError, ConfigurationError)):
        verb(f"config {changes}")
    assert manager.settings.timeout is None and manager.settings.idle_minutes == 15
    assert not manager.settings.sources
