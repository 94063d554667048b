"""Where a setting's value comes from, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from traitlets.config import Config

from agentbay_kernel.config import CONFIG_FILE, AgentBaySettings, load_settings
from agentbay_kernel.errors import ConfigurationError, NotAllowedError


@pytest.fixture
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's configuration folder."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_command_line_over_environment_over_file_over_default(
    config_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().idle_minutes == 15
    (config_folder / CONFIG_FILE).write_text("c.AgentBaySettings.idle_minutes = 20\n")
    assert load_settings().idle_minutes == 20
    monkeypatch.setenv("AGENTBAY_IDLE_MINUTES", "30")
    assert load_settings().idle_minutes == 30
    command_line = Config({"AgentBaySettings": {"idle_minutes": 40}})
    assert load_settings(command_line).idle_minutes == 40


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENTBAY_BACKEND", "moon"),
        ("AGENTBAY_TIMEOUT", "soon"),
        ("AGENTBAY_IDLE_MINUTES", "0"),
        ("AGENTBAY_UNTRUSTED", "perhaps"),
        ("AGENTBAY_SETUP_ENV", "A B"),
    ],
)
def test_a_wrong_variable_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        load_settings()


def test_a_broken_file_is_named(config_folder: Path) -> None:
    (config_folder / CONFIG_FILE).write_text("this is not Python\n")
    with pytest.raises(ConfigurationError, match=CONFIG_FILE):
        load_settings()


def test_when_a_session_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings().starts_on_open
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    assert load_settings().starts_on_open
    monkeypatch.setenv("AGENTBAY_START", "first-cell")
    assert not load_settings().starts_on_open


def test_hosts_and_packages_are_lists_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_HTML_HOSTS", "cdn.example.org, *.tiles.example.org")
    monkeypatch.setenv("AGENTBAY_WIDGET_PACKAGES", "@scope/package")
    settings = load_settings()
    assert settings.html_hosts == ["cdn.example.org", "*.tiles.example.org"]
    assert settings.widget_packages == ["@scope/package"]
    monkeypatch.setenv("AGENTBAY_HTML_HOSTS", "x.org; script-src *")
    with pytest.raises(ConfigurationError, match="is not a host"):
        load_settings()


def test_variables_of_a_recipe_are_a_list_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_SETUP_ENV", "HF_TOKEN, LANG")
    assert load_settings().setup_env == ["HF_TOKEN", "LANG"]


@pytest.mark.parametrize(
    ("word", "value"), [("1", True), ("Yes", True), ("on", True), ("0", False)]
)
def test_yes_and_no(word: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_UNTRUSTED", word)
    assert load_settings().untrusted is value


def test_what_is_neither_yes_nor_no_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_UNTRUSTED", "perhaps")
    with pytest.raises(ConfigurationError, match="'perhaps' is not one of 1, true, yes, on, 0"):
        load_settings()


def test_a_cell_only_makes_the_policy_for_html_stricter() -> None:
    settings = AgentBaySettings()
    settings.change_in_notebook([("html", "sanitize")])
    for looser in ("contain", "trust"):
        with pytest.raises(NotAllowedError):
            settings.change_in_notebook([("html", looser)])
    with pytest.raises(NotAllowedError):
        settings.change_in_notebook([("html_hosts", "example.org")])
