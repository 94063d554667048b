"""The names of before: each answers with its new one and does nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets.config import Config

from agentbay_kernel.config import CONFIG_FILE, AgentBaySettings, load_settings
from agentbay_kernel.errors import ConfigurationError, VerbError
from agentbay_kernel.renamed import RENAMED
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VERBS
from agentbay_kernel.verbs.cell_options import cell_parser, read_cell_line
from agentbay_kernel.verbs.completion import Surroundings, complete_line
from tests.cli.test_main import run
from tests.kernels import RunningKernel, running_kernel
from tests.verbs.conftest import RunVerb

COMMANDS = {"start": "create", "stop": "delete", "look": "top", "replay": "rerun"}
SETTINGS = {
    "idle_listen": "late_output_seconds",
    "local_spares": "local_prewarm",
    "answer_limit": "response_limit",
}
CELL_FLAGS = {"--to kept": "--capture", "--no-state": "--ephemeral"}


@pytest.fixture(scope="module")
def kernel() -> Iterator[RunningKernel]:
    with running_kernel("agentbay-python", {"AGENTBAY_BACKEND": "local"}) as kernel:
        yield kernel


@pytest.mark.parametrize(("old", "new"), COMMANDS.items())
def test_an_old_command(verb: RunVerb, manager: SessionManager, old: str, new: str) -> None:
    assert new in VERBS and old not in VERBS
    for line in (old, f"{old} default", f"{old} --force", f"{old}?", f"help {old}"):
        with pytest.raises(VerbError, match=f"^Use `%agentbay {new}`: `%agentbay {old}` was"):
            verb(line)
    with pytest.raises(VerbError, match=f"^Use `%agentbay {new}`"):
        verb(old, "a body")
    assert manager.sessions() == []


def test_an_old_command_in_a_kernel_leaves_the_session_as_it_is(kernel: RunningKernel) -> None:
    kernel.run("kept = 1")
    before = kernel.run("%agentbay sessions --json").of_type("display_data")
    session_id = json.loads(before[0]["data"]["text/plain"])["sessions"][0]["id"]
    for old, new in COMMANDS.items():
        for line in (f"%agentbay {old}", f"%%agentbay {old}"):
            ran = kernel.run(f"{line}\nkept = 2")
            assert ran.reply["ename"] == "VerbError"
            assert f"Use `%agentbay {new}`" in ran.reply["evalue"]
            assert ran.of_type("display_data") == []
    ran = kernel.run("%agentbay restart --kill")
    assert "Use `%agentbay restart --force`" in ran.reply["evalue"]
    for flags, new in CELL_FLAGS.items():
        ran = kernel.run(f"%%agentbay python {flags}\nkept = 2")
        assert ran.reply["ename"] == "VerbError"
        assert f" {new}" in ran.reply["evalue"].partition(":")[0]
    assert kernel.run("print(kept)").text() == "1\n"
    assert session_id in str(kernel.run("%agentbay sessions").of_type("display_data"))


@pytest.mark.parametrize("line", ["restart --kill", "restart default --kill", "restart --kill=1"])
def test_an_old_flag_of_restart(verb: RunVerb, line: str) -> None:
    with pytest.raises(VerbError, match=r"^Use `%agentbay restart --force`"):
        verb(line)


@pytest.mark.parametrize(
    ("flags", "new"),
    [*CELL_FLAGS.items(), ("--to=kept", "--capture"), ("-t 3 --to x", "--capture")],
)
def test_an_old_flag_of_a_cell(flags: str, new: str) -> None:
    with pytest.raises(VerbError, match=f"^Use `%%agentbay LANGUAGE {new}"):
        read_cell_line(f"python {flags}", untrusted=False)


def test_background_has_a_short_name() -> None:
    for flag in ("--background", "--bg"):
        options = read_cell_line(f"python {flag}", untrusted=False)
        assert not isinstance(options, str) and options.background


def test_old_names_are_in_no_help_and_no_completion(verb: RunVerb) -> None:
    shown = "\n".join(
        [verb("help")["text/plain"], cell_parser().help_text()]
        + [it.parser.help_text() for it in VERBS.values()]
    )
    for old in RENAMED:
        assert f"{old} " not in shown
    assert not {"--to", "--no-state", "--kill"} & set(shown.replace("[", " ").split())
    around = Surroundings(Path())
    for line in ("%agentbay ", "%agentbay restart --", "%%agentbay python --", "%agentbay config "):
        offered = complete_line(line, len(line), around)
        assert offered is not None and offered.matches
        words = {line.rpartition(" ")[0] + " " + it for it in offered.matches}
        assert not words & set(RENAMED)
        assert not {"--to", "--no-state", "--kill", *SETTINGS} & set(offered.matches)
    for old in COMMANDS:
        line = f"%agentbay {old} "
        offered = complete_line(line, len(line), around)
        assert offered is not None and offered.matches == ()


def test_the_old_command_of_the_command_line(tmp_path: Path) -> None:
    for arguments in (["sweep"], ["sweep", "--help"]):
        done = run("sessions", *arguments, AGENTBAY_STATE_DIR=str(tmp_path / "state"))
        assert done.returncode == 2 and done.stdout == ""
        assert "Use `jupyter agentbay sessions prune`" in done.stderr
    assert not (tmp_path / "state").exists()
    for arguments in (["--help"], ["frobnicate"]):
        done = run("sessions", *arguments)
        assert "prune" in done.stdout + done.stderr and "sweep" not in done.stdout + done.stderr


@pytest.mark.parametrize(("old", "new"), SETTINGS.items())
def test_an_old_setting(
    verb: RunVerb, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = AgentBaySettings.class_own_traits(config=True)
    assert new in traits and old not in traits and not hasattr(AgentBaySettings(), old)
    for line in (f"config {old}", f"config {old}=1", f"config timeout=5 {old}=1"):
        with pytest.raises(VerbError, match=f"^Use `{new}`"):
            verb(line)
    assert "none" in verb("config timeout")["text/plain"]
    with pytest.raises(ConfigurationError, match=f"^Use `{new}`"):
        AgentBaySettings().change_in_notebook([(old, "1")])
    with pytest.raises(ConfigurationError, match=f"^Use `{new}`: `{old}`.*the command line"):
        load_settings(Config({"AgentBaySettings": {old: 1}}))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    (tmp_path / CONFIG_FILE).write_text(f"c.AgentBaySettings.{old} = 1\n")
    with pytest.raises(ConfigurationError, match=f"^Use `{new}`: `{old}`.*{CONFIG_FILE}"):
        load_settings()
    (tmp_path / CONFIG_FILE).unlink()
    monkeypatch.setenv(f"AGENTBAY_{old.upper()}", "1")
    with pytest.raises(ConfigurationError, match=f"^Use `AGENTBAY_{new.upper()}`"):
        load_settings()
