"""The `shell` tool through the official SDK."""

from __future__ import annotations

from typing import Any


def test_output_and_exit_code(session: Any) -> None:
    done = session.command.execute_command("printf out; printf err >&2")
    assert done.success and (done.stdout, done.stderr, done.exit_code) == ("out", "err", 0)
    failed = session.command.execute_command("cat missing; exit 3")
    assert not failed.success and failed.exit_code == 3
    assert "missing" in failed.stderr and failed.trace_id


def test_working_folder_and_environment(session: Any) -> None:
    value = 'it\'s; "quoted" $HOME\nand `more`'
    session.command.execute_command("mkdir -p 'with space'")
    cwd = session.command.execute_command("pwd").stdout.strip() + "/with space"
    done = session.command.execute_command(
        'pwd; printf %s "$VALUE"', cwd=cwd, envs={"VALUE": value}
    )
    assert done.stdout == f"{cwd}\n{value}"


def test_a_command_that_overruns_is_killed(session: Any) -> None:
    done = session.command.execute_command("echo early; sleep 1000", timeout_ms=300)
    assert not done.success and done.exit_code != 0 and done.error_message and done.output == ""


def test_a_background_process_does_not_hold_the_answer(session: Any) -> None:
    # Far longer than this test may take.
    done = session.command.execute_command("sleep 1000 & echo $!")
    assert done.success
    pid = done.stdout.strip()
    killed = session.command.execute_command(f"kill {pid}")
    assert killed.success, killed.stderr


def test_nothing_of_the_runtimes_environment_is_seen(session: Any) -> None:
    assert "AGENTBAY_API_KEY" not in session.command.execute_command("env").stdout
