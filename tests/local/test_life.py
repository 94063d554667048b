"""What a runtime leaves behind: nothing, however it ends."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentbay_kernel import threads
from agentbay_kernel.local.agent.identity import Identity
from agentbay_kernel.local.agent.workers import NOT_STARTED, Worker
from agentbay_kernel.service import AgentBay
from tests.local.conftest import official_client
from tests.runtime import running_local_runtime

LEAVE_BEHIND = """
import subprocess
subprocess.Popen(["setsid", "sleep", "1000"])
subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; sleep 1000"])
open("file", "w").write("x")
"""


def descendants(pid: int) -> list[psutil.Process]:
    """The processes below one, as they are now."""
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A TMPDIR that no other runtime uses, with a short path."""
    with tempfile.TemporaryDirectory(prefix="t") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        yield Path(folder)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Fail unless all of them end."""
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive, alive


def busy_session(runtime: Any) -> Any:
    """A session with two daemons, a Node and a background command."""
    from agentbay import CreateSessionParams

    session = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
    assert session.code.run_code(LEAVE_BEHIND, "python").success
    assert session.code.run_code("1", "javascript").success
    assert session.command.execute_command("nohup sleep 1000 >/dev/null 2>&1 &").success
    return session


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_delete_leaves_no_process_and_no_file(isolation: str, place: Path) -> None:
    with running_local_runtime("--isolation", isolation, "--prewarm", "0") as runtime:
        session = busy_session(runtime)
        processes = descendants(runtime.process.pid)
        assert len(processes) >= 5
        own = AgentBay(runtime.api_key, endpoint=runtime.endpoint).get(session.session_id).session
        # Not by the SDK's function, which waits for a second before it looks.
        assert own is not None and own.delete().success
        wait_until_gone(processes)
        (folder,) = place.iterdir()
        assert [path.name for path in folder.iterdir()] == ["lock"]


# A signal that is handled is the same with and without isolation: `make test` has each end once,
# and the one that nobody handles twice.
@pytest.mark.parametrize(
    ("isolation", "end"),
    [
        ("auto", "stdin"),
        ("none", "SIGTERM"),
        ("auto", "SIGINT"),
        ("auto", "SIGKILL"),
        ("none", "SIGKILL"),
        pytest.param("none", "stdin", marks=pytest.mark.slow),
        pytest.param("auto", "SIGTERM", marks=pytest.mark.slow),
        pytest.param("none", "SIGINT", marks=pytest.mark.slow),
    ],
)
def test_the_end_of_the_runtime_is_the_end_of_everything(
    end: str, isolation: str, place: Path
) -> None:
    with running_local_runtime("--isolation", isolation) as runtime:
        busy_session(runtime)
        processes = descendants(runtime.process.pid)
        assert len(processes) >= 5
        if end == "stdin":
            assert runtime.process.stdin is not None
            runtime.process.stdin.close()
        else:
            runtime.process.send_signal(getattr(signal, end))
        runtime.process.wait(15)
        wait_until_gone(processes)
    if end == "SIGKILL":
        # Files can only be swept by the next runtime.
        with running_local_runtime("--prewarm", "0", "--isolation", isolation):
            assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []


def test_a_running_runtimes_files_are_not_swept(place: Path) -> None:
    with running_local_runtime("--prewarm", "0", "--isolation", "none") as first:
        session = busy_session(first)
        with running_local_runtime("--prewarm", "0"):
            assert session.command.execute_command("cat file").stdout == "x"
            assert len(list(place.iterdir())) == 2


def test_many_sessions_come_and_go_without_leaving_descriptors() -> None:
    with running_local_runtime("--prewarm", "0") as runtime:
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)

        def cycle() -> int:
            session = client.create().session
            assert session is not None and session.code.run_code("1", "python").success
            assert session.delete().success
            return len(list(Path(f"/proc/{runtime.process.pid}/fd").iterdir()))

        first = cycle()
        assert max(cycle() for _ in range(4)) <= first + 3


@pytest.mark.parametrize(
    ("language", "code", "name"),
    [
        ("python", "open('begun', 'w'); import time; time.sleep(600)", "KernelDied"),
        ("javascript", "require('fs').writeFileSync('begun', ''); while (true);", "WorkerDied"),
    ],
)
def test_code_of_a_sandbox_that_is_killed_is_answered_before_its_time_is_over(
    place: Path, language: str, code: str, name: str
) -> None:
    with running_local_runtime("--isolation", "none", "--prewarm", "0") as runtime:
        session = AgentBay(runtime.api_key, endpoint=runtime.endpoint).create().session
        assert session is not None
        running = threads.start(lambda: session.code.run_code(code, language))
        while not session.call_mcp_tool("shell", {"command": "test -e begun"}).success:
            time.sleep(0.1)
        for process in descendants(runtime.process.pid):
            if "agentbay_kernel.local.agent.main" in " ".join(process.cmdline()):
                process.kill()
        assert name in running.result().error_message


def is_below(process: psutil.Process, place: Path) -> bool:
    """Does the process belong to a runtime whose files are there?"""
    try:
        return any(str(place) in argument for argument in process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize(
    ("end", "pauses"),
    [
        # `make test` has each of the two once.
        ("SIGTERM", (0.1,)),
        ("SIGKILL", (0.3,)),
        pytest.param("SIGTERM", (0.02, 0.05, 0.2, 0.4), marks=pytest.mark.slow),
        pytest.param("SIGKILL", (0.02, 0.05, 0.1, 0.2, 0.4), marks=pytest.mark.slow),
    ],
)
def test_a_session_that_is_just_starting_ends_too(
    end: str, pauses: tuple[float, ...], place: Path
) -> None:
    from agentbay import CreateSessionParams

    for pause_s in pauses:
        with running_local_runtime("--prewarm", "1") as runtime:
            wanted = CreateSessionParams(image_id="code_latest")
            threads.start(partial(official_client(runtime).create, wanted))
            time.sleep(pause_s)
            processes = descendants(runtime.process.pid)
            runtime.process.send_signal(getattr(signal, end))
            runtime.process.wait(15)
        wait_until_gone(processes)
        wait_until_gone([it for it in psutil.process_iter() if is_below(it, place)])


def loaded(process: psutil.Process, name: str) -> bool:
    """Whether a process has loaded a library whose file has this word in its name."""
    return name in Path(f"/proc/{process.pid}/maps").read_text()


def test_the_agent_of_a_session_that_only_runs_cells_loads_little(place: Path) -> None:
    with running_local_runtime("--no-kernels") as runtime:
        session = AgentBay(runtime.api_key, endpoint=runtime.endpoint).create().session
        assert session is not None
        assert session.code.run_code("1 + 1", "python").success
        (agent,) = [
            process
            for process in descendants(runtime.process.pid)
            if process.name() != "bwrap" and "agent.main" in " ".join(process.cmdline())
        ]
        assert loaded(agent, "_ctypes") and not loaded(agent, "_asyncio")
        # An orphan that ends must be reaped, which is more to do.
        orphan = "import subprocess; subprocess.run(['sh', '-c', 'true &'])"
        assert session.code.run_code(orphan, "python").success
        while not loaded(agent, "_asyncio"):
            time.sleep(0.05)
        while any(child.status() == psutil.STATUS_ZOMBIE for child in agent.children()):
            time.sleep(0.05)
        assert session.call_mcp_tool("shell", {"command": "true"}).success


def test_a_worker_that_can_not_be_executed_says_why(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        folder = str(tmp_path)
        worker = Worker("x", ["/nowhere/python"], theirs.detach(), folder, folder, Identity())
        assert worker.wait() == worker.code == NOT_STARTED
        assert "/nowhere/python: [Errno 2]" in worker.log_tail()
