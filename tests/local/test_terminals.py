"""Pseudo-terminals through the official SDK."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from tests.local.test_bounded import check_memory
from tests.local.test_http import connected_socket
from tests.runtime import LocalRuntimeProcess, running_local_runtime

WAIT_S = 60
# The larger number, 15 MB, is more than the runtime leaves unread: it dropped such a reader. A
# terminal holds 4 kB, so each of them takes a turn of everyone involved.
LINES = (200_000, pytest.param(2_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)]))


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A runtime of this module's own: the peak of its memory is looked at."""
    with running_local_runtime("--no-kernels") as process:
        yield process


class Screen:
    """Collects what a terminal writes."""

    def __init__(self) -> None:
        self.text = ""
        self._changed = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self._changed:
            self.text += data.decode("utf-8", "replace")
            self._changed.notify_all()

    def wait_for(self, words: str) -> None:
        """Fail unless the words come."""
        with self._changed:
            assert self._changed.wait_for(lambda: words in self.text, WAIT_S), self.text[-2000:]


def test_a_shell_answers_and_exits(session: Any) -> None:
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    screen.wait_for("$ ")
    terminal.send_input(b"echo $((6 * 7)); tty\r")
    screen.wait_for("42\r\n/dev/pts/")
    terminal.send_input(b"exit 3\r")
    assert terminal.wait(timeout_s=WAIT_S) == 3


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
    assert again.wait(timeout_s=WAIT_S) == -9
    assert name not in [entry.pty_session_id for entry in session.pty.list()]


def test_a_terminal_shares_the_sessions_files_and_environment(session: Any) -> None:
    session.env.set({"SHARED": "with terminals"})
    session.command.execute_command("echo from shell > for_terminal")
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    terminal.send_input(b"cat for_terminal; echo $SHARED\r")
    screen.wait_for("from shell\r\nwith terminals")
    terminal.kill()


def is_quick(session: Any) -> None:
    """Other calls of the session are answered."""
    for _ in range(20):
        assert session.code.run_code("6 * 7", "python").result == "42"
    assert session.command.execute_command("echo alive").stdout == "alive\n"


def test_what_nobody_reads_is_let_go_slowly(runtime: LocalRuntimeProcess, session: Any) -> None:
    screen = Screen()
    terminal = session.pty.create(on_data=screen)
    terminal.send_input(b"yes\r")
    screen.wait_for("y\r\ny\r\n")
    name = terminal.pty_session_id
    terminal.disconnect()
    is_quick(session)
    check_memory(runtime)
    again = Screen()
    terminal = session.pty.connect(name, on_data=again)
    again.wait_for("y\r\ny\r\n")
    terminal.send_input(b"\x03")
    terminal.send_input(b"echo alive $((1 + 1))\r")
    again.wait_for("alive 2")
    terminal.kill()


class Raw:
    """A connection that reads only when a test says so."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection
        self.name = ""

    def send(self, method: str, **params: Any) -> None:
        """Send a call."""
        data = {"method": f"pty.{method}", "params": params}
        frame = {"invocationId": method, "source": "SDK", "target": "PTY_SERVER", "data": data}
        self._connection.send(json.dumps(frame))

    def create(self) -> None:
        """Make a terminal without a prompt."""
        self.send("create", envs={"PS1": ""})
        while (told := json.loads(self._connection.recv()))["invocationId"] != "create":
            pass
        self.name = told["data"]["result"]["ptySessionId"]

    def read_to_exit(self, name: str) -> tuple[bytes, int]:
        """What that terminal puts out, and its exit code."""
        output = bytearray()
        while True:
            told = json.loads(self._connection.recv())["data"]
            if told.get("ptySessionId") != name:
                continue
            if told["eventType"] == "pty.exit":
                return bytes(output), told["exitCode"]
            output += base64.b64decode(told["data"])


@pytest.mark.parametrize("count", LINES)
def test_a_slow_reader_gets_everything(
    runtime: LocalRuntimeProcess, session: Any, count: int
) -> None:
    with connected_socket(session) as connection:
        raw = Raw(connection)
        raw.create()
        raw.send("input", ptySessionId=raw.name, data=f"stty -echo; seq {count}; exit\r")
        is_quick(session)
        check_memory(runtime)
        output, code = raw.read_to_exit(raw.name)
    assert code == 0
    lines = output[output.index(b"1\r\n2\r\n3\r\n4\r\n") :].split(b"\r\n")
    assert lines[:count] == [b"%d" % number for number in range(1, count + 1)]
    check_memory(runtime)


def test_a_terminal_that_waits_for_its_reader_can_be_ended(session: Any) -> None:
    with connected_socket(session) as connection, connected_socket(session) as another:
        raw, other = Raw(connection), Raw(another)
        raw.create()
        raw.send("input", ptySessionId=raw.name, data="yes\r")
        # One reads nothing, the other what fits on its way to the first.
        is_quick(session)
        other.send("kill", ptySessionId=raw.name)
        assert other.read_to_exit(raw.name)[1] == -9
