"""What the pages name - settings, verbs, commands - is there."""

from __future__ import annotations

import re

import pytest

from agentbay_kernel.cli.main import main
from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.verbs.table import VERBS
from tests.docs.pages import READ_THERE, ROOT

TEXT = {str(path.relative_to(ROOT)): path.read_text() for path in READ_THERE}
SETTINGS = set(AgentBaySettings.class_own_traits(config=True))
# The service's own, and those of the sandbox and of the official SDK.
OTHERS = {"API_KEY", "REGION_ID", "ENDPOINT", "TIMEOUT_MS", "LOCAL_SANDBOX", "NAME"}


def named(pattern: str) -> dict[str, set[str]]:
    """What the pages name so, and where."""
    found: dict[str, set[str]] = {}
    for page, text in TEXT.items():
        for name in re.findall(pattern, text):
            found.setdefault(name, set()).add(page)
    return found


def test_settings() -> None:
    files = named(r"c\.AgentBaySettings\.(\w+)")
    assert len(files) > 5
    assert {name: files[name] for name in files.keys() - SETTINGS} == {}
    variables = named(r"\bAGENTBAY_([A-Z][A-Z_]*[A-Z])\b")
    known = {name.upper() for name in SETTINGS} | OTHERS
    assert {name: variables[name] for name in variables.keys() - known} == {}


def test_verbs() -> None:
    verbs = named(r"(?<!%)%agentbay ([a-z]+)")
    assert len(verbs) > 10
    assert {name: verbs[name] for name in verbs.keys() - set(VERBS)} == {}


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    commands = set(re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().out, re.MULTILINE))
    mentioned = named(r"jupyter agentbay ([a-z]+)")
    assert len(mentioned) > 5
    assert {name: mentioned[name] for name in mentioned.keys() - commands} == {}
