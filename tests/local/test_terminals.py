"""Pseudo-terminals through the official SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Screen:
    """Collects what a terminal writes."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, data: bytes) -> None:
        self.text += data.decode("utf-8", "replace")

    def wait_for(self, words: str, timeout_s: float = 15) -> None:
        """Fail unless the words come."""
        wait_until(lambda: words in self.text, timeout_s, lambda: self.text)


def wait_until(
    happened: Callable[[], bool], timeout_s: float, told: Callable[[], Any] = lambda: None
) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


def test_a_shell_answers_and_exits(session: Any) -> None:
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    screen.wait_for("$ ")
    terminal.send_input(b"echo $((6 * 7)); tty\r")
    screen.wait_for("42\r\n/dev/pts/")
    terminal.send_input(b"exit 3\r")
    assert terminal.wait(timeout_s=15) == 3


def test_size_and_resize(session: Any) -> None:
    screen = Screen()
    terminal = session.pty.create(cols=100, rows=31, on_data=screen)
    terminal.send_input(b"stty size\r")
    screen.wait_for("31 100")
    terminal.resize(cols=120, rows=40)
    terminal.send_input(b"stty size\r")
    screen.wait_for("40 120")
    terminal.kill()


def test_ctrl_c_interrupts_the_foreground(session: Any) -> None:
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    terminal.send_input(b"echo begun $((6 * 7)); sleep 1000; echo status $?\r")
    screen.wait_for("begun 42")
    terminal.send_input(b"\x03")
    terminal.send_input(b"echo alive $((1 + 1))\r")
    screen.wait_for("alive 2")
    terminal.kill()


def test_kill_list_and_reconnect(session: Any) -> None:
    first = Screen()
    terminal = session.pty.create(on_data=first)
    first.wait_for("$ ")
    name = terminal.pty_session_id
    assert name in [entry.pty_session_id for entry in session.pty.list()]
    terminal.disconnect()
    second = Screen()
    again = session.pty.connect(name, on_data=second)
    again.send_input(b"echo back again\r")
    second.wait_for("back again")
    again.kill()
    assert again.wait(timeout_s=15) == -9
    wait_until(lambda: name not in [e.pty_session_id for e in session.pty.list()], 15)


def test_a_terminal_shares_the_sessions_files_and_environment(session: Any) -> None:
    session.env.set({"SHARED": "with terminals"})
    session.command.execute_command("echo from shell > for_terminal")
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    terminal.send_input(b"cat for_terminal; echo $SHARED\r")
    screen.wait_for("from shell\r\nwith terminals")
    terminal.kill()
