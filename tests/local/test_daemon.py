"""One process with the local runtimes of all programs of a user, and each program's own runtime."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local import own_runtime
from agentbay_kernel.local.own_runtime import OwnRuntime
from agentbay_kernel.service import AgentBay

# Opens a runtime and a session, tells about them, and runs a line of code for each line it reads.
PROGRAM = """
import json, sys
from agentbay_kernel.sessions.backend import open_backend

def tell(what):
    print(json.dumps(what), flush=True)

with open_backend() as place:
    session = place.client.create().session
    tell({**place.runtime.announcement, "session": session.session_id})
    for line in sys.stdin:
        if line == "alive\\n":
            tell(place.alive)
        else:
            tell("".join(session.code.run_code(line, "python").logs.stdout))
"""
WAIT_S = 20


class Program:
    """A program with a runtime of its own."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AGENTBAY_BACKEND": "local", **environment},
        )

    def read(self) -> Any:
        """What it tells next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def told(self) -> dict[str, Any]:
        """About its runtime."""
        found: dict[str, Any] = self.read()
        return found

    def run(self, line: str) -> Any:
        """Have it run a line in its session; return what that prints."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Let it end."""
        if self.process.poll() is None:
            self.process.communicate(timeout=WAIT_S)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of daemons' sockets, for this test alone."""
    made = tempfile.mkdtemp(prefix="ab-")
    monkeypatch.setenv("TMPDIR", made)
    monkeypatch.setattr(tempfile, "tempdir", made)
    yield Path(made) / f"agentbay-{os.getuid()}"
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def program(folder: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs, which end with the test."""
    with contextlib.ExitStack() as started:

        def start(**environment: str) -> Program:
            made = Program(**environment)
            started.callback(made.end)
            return made

        yield start


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., OwnRuntime]:
    """Opens runtimes of this process."""
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv("AGENTBAY_START", "first-cell")

    def opened(**settings: Any) -> OwnRuntime:
        return own_runtime.OwnRuntime({**own_runtime._fields(load_settings()), **settings})

    return opened


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that takes a moment."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


def test_programs_share_a_process_and_nothing_else(program: Callable[..., Program]) -> None:
    first, second = program(), program()
    mine, other = first.told(), second.told()
    assert mine["pid"] == other["pid"]
    assert mine["endpoint"] != other["endpoint"] and mine["api_key"] != other["api_key"]
    with AgentBay(mine["api_key"], endpoint=mine["endpoint"]) as client:
        assert [it["sessionId"] for it in client.list_all()] == [mine["session"]]
        assert not client.get(other["session"]).success
    with AgentBay(mine["api_key"], endpoint=other["endpoint"]) as client:
        assert not client.get(other["session"]).success
    assert first.run("x = 1; print(x)") == "1\n"
    assert second.run("print('x' in globals())") == "False\n"


@pytest.mark.parametrize("killed", [False, True])
def test_it_lasts_until_its_last_program_has_gone(
    killed: bool, program: Callable[..., Program], folder: Path
) -> None:
    starter = program()
    daemon = starter.told()["pid"]
    other = program()
    assert other.told()["pid"] == daemon
    # What a session runs ends with its program.
    starter.run("import os, subprocess; child = subprocess.Popen(['sleep', '612.5'])")

    def sleeps() -> bool:
        below = psutil.Process(daemon).children(recursive=True)
        return any("612.5" in " ".join(_words(it)) for it in below)

    wait_until(sleeps, "it has begun")
    assert other.run("kept = 7; print(kept)") == "7\n"
    starter.process.kill() if killed else starter.end()
    wait_until(lambda: not sleeps(), "it has ended")
    assert other.run("print(kept)") == "7\n"
    other.process.kill() if killed else other.end()
    wait_until(lambda: gone(daemon), "the daemon has ended")
    assert list(folder.parent.iterdir()) == []


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_programs_notice_its_end_and_the_next_ones_share_another(
    number: signal.Signals, program: Callable[..., Program], folder: Path
) -> None:
    first, second = program(), program()
    daemon = first.told()["pid"]
    assert second.told()["pid"] == daemon and second.run("alive") is True
    sandboxes = psutil.Process(daemon).children(recursive=True)
    os.kill(daemon, number)
    wait_until(lambda: not first.run("alive") and not second.run("alive"), "both notice it")
    _, left = psutil.wait_procs(sandboxes, timeout=WAIT_S)
    assert not left
    if number == signal.SIGTERM:
        assert not folder.exists()
    third, fourth = program(), program()
    assert third.told()["pid"] == fourth.told()["pid"] != daemon


def test_a_program_that_sends_nothing_does_not_keep_it(
    own: Callable[..., OwnRuntime], folder: Path
) -> None:
    runtime = own()
    daemon = runtime.announcement["pid"]
    with socket.socket(socket.AF_UNIX) as silent:
        (address,) = folder.glob("*.sock")
        silent.connect(str(address))
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: gone(daemon), "the daemon has ended")
    runtime.close()


def test_many_programs_at_once_start_one(own: Callable[..., OwnRuntime]) -> None:
    with ThreadPoolExecutor(12) as pool:
        runtimes = list(pool.map(lambda _: own(), range(12)))
        pids = set(pool.map(lambda it: it.announcement["pid"], runtimes))
        endpoints = {it.announcement["endpoint"] for it in runtimes}
        list(pool.map(OwnRuntime.close, runtimes))
    assert len(pids) == 1 and len(endpoints) == 12
    wait_until(lambda: gone(*pids), "the daemon has ended")


def test_programs_come_while_it_ends(own: Callable[..., OwnRuntime], folder: Path) -> None:
    pids = set()

    def come_and_go(number: int) -> None:
        for round_ in range(6):
            runtime = own()
            pids.add(runtime.announcement["pid"])
            alive = [runtime.alive]
            runtime.close()
            assert [*alive, runtime.alive] == [True, False]
            # Sometimes right behind another one's end, sometimes not.
            time.sleep(0.013 * number * (round_ % 3))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come_and_go, range(3)))
    wait_until(lambda: all(map(gone, pids)), "all daemons have ended")
    assert not folder.exists()


def test_the_socket_of_a_killed_one_is_replaced(
    own: Callable[..., OwnRuntime], folder: Path
) -> None:
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / f"{own_runtime._identity()}.sock"))
    runtime = own()
    assert runtime.announcement["pid"]
    runtime.close()


def test_one_that_ends_leaves_the_socket_of_another(
    own: Callable[..., OwnRuntime], folder: Path
) -> None:
    first = own()
    pid = first.announcement["pid"]
    # As a program that tidies /tmp would.
    shutil.rmtree(folder)
    second = own()
    assert second.announcement["pid"] != pid
    first.close()
    wait_until(lambda: gone(pid), "the first has ended")
    third = own()
    assert third.announcement["pid"] == second.announcement["pid"]
    second.close()
    third.close()


@pytest.mark.parametrize("how", ["gone", "open to others"])
def test_it_ends_if_its_directory_is_no_longer_its_own(
    how: str, own: Callable[..., OwnRuntime], folder: Path
) -> None:
    runtime = own()
    daemon = runtime.announcement["pid"]
    if how == "gone":
        shutil.rmtree(folder.parent)
    else:
        folder.chmod(0o755)
    runtime.close()
    wait_until(lambda: gone(daemon), "the daemon has ended")


def test_a_directory_that_others_can_open_is_not_used(
    own: Callable[..., OwnRuntime], folder: Path
) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    first, second = own(), own()
    assert first.announcement["pid"] != second.announcement["pid"]
    for runtime in (first, second):
        runtime.close()
    wait_until(lambda: list(folder.parent.iterdir()) == [folder], "both have ended")
    assert list(folder.iterdir()) == []


def test_other_variables_need_another_daemon(program: Callable[..., Program]) -> None:
    # A Jupyter server sets these to another value for each kernel.
    first, same = program(JPY_SESSION_NAME="one.ipynb"), program(JPY_SESSION_NAME="two.ipynb")
    other = program(LANG="tlh")
    assert first.told()["pid"] == same.told()["pid"] != other.told()["pid"]


def test_each_runtime_has_its_own_settings(own: Callable[..., OwnRuntime]) -> None:
    isolated, plain = own(isolation="required"), own(isolation="none")
    assert isolated.announcement["pid"] == plain.announcement["pid"]
    assert isolated.announcement["isolation"]["level"] == "bubblewrap"
    assert plain.announcement["isolation"]["level"] == "none"
    isolated.close()
    plain.close()


def test_settings_that_do_not_work_are_told_and_disturb_no_other(
    own: Callable[..., OwnRuntime], tmp_path: Path
) -> None:
    good, bad = own(), own(python=str(tmp_path / "python"))
    with pytest.raises(LocalRuntimeError, match=r"did not start\. .*python does not run"):
        _ = bad.announcement
    assert not bad.alive and good.announcement["pid"] and good.alive
    good.close()


def test_a_session_does_not_see_it(program: Callable[..., Program], folder: Path) -> None:
    running = program()
    running.told()
    assert folder.exists()
    assert running.run(f"import os; print(os.path.exists({str(folder)!r}))") == "False\n"


def test_what_a_daemon_says_that_can_not_start_is_told(
    own: Callable[..., OwnRuntime], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('broken here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for _ in range(2):
        with pytest.raises(LocalRuntimeError, match=r"(?s)did not start\. .*broken here"):
            _ = own().announcement


def test_one_that_does_not_respond_is_told(
    own: Callable[..., OwnRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own()
    daemon = first.announcement["pid"]
    os.kill(daemon, signal.SIGSTOP)
    try:
        monkeypatch.setattr(own_runtime, "_START_S", 0.5)
        monkeypatch.setattr(own_runtime, "_END_S", 0.1)
        with pytest.raises(LocalRuntimeError, match="no response within"):
            _ = own().announcement
    finally:
        os.kill(daemon, signal.SIGCONT)
    first.close()
    wait_until(lambda: gone(daemon), "it has ended")


def test_a_lock_that_another_process_keeps_is_told(
    own: Callable[..., OwnRuntime], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_runtime, "LOCK_WITHIN_S", 0.2)
    with own_runtime.locked(folder, 1), pytest.raises(LocalRuntimeError, match="keeps the lock"):
        own()


def test_the_first_session_alone_is_made_ahead(own: Callable[..., OwnRuntime]) -> None:
    runtime = own(first_ahead=True, prewarm=0)
    told = runtime.announcement
    daemon = psutil.Process(told["pid"])

    def interpreters() -> set[int]:
        below = daemon.children(recursive=True)
        return {it.pid for it in below if "python_engine.py" in " ".join(_words(it)[:2])}

    wait_until(lambda: bool(interpreters()), "one is made ahead")
    ahead = interpreters()
    with AgentBay(told["api_key"], endpoint=told["endpoint"]) as client:
        with client.session():
            time.sleep(1)
            below = {it.pid for pid in ahead for it in psutil.Process(pid).children()}
            # It is the first one's, and there is no other.
            assert ahead <= interpreters() <= ahead | below
        wait_until(lambda: not interpreters(), "it has ended")
        with client.session():
            wait_until(lambda: bool(interpreters()), "the second is made when it is needed")
    runtime.close()
