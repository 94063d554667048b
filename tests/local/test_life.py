"""What a runtime leaves behind: nothing, however it ends."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

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
    with running_local_runtime("--isolation", isolation, "--spares", "0") as runtime:
        session = busy_session(runtime)
        processes = descendants(runtime.process.pid)
        assert len(processes) >= 5
        assert session.delete().success
        wait_until_gone(processes)
        (folder,) = place.iterdir()
        assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("isolation", ["auto", "none"])
@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT", "SIGKILL"])
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
        with running_local_runtime("--spares", "0", "--isolation", isolation):
            assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []


def test_a_running_runtimes_files_are_not_swept(place: Path) -> None:
    with running_local_runtime("--spares", "0", "--isolation", "none") as first:
        session = busy_session(first)
        with running_local_runtime("--spares", "0"):
            assert session.command.execute_command("cat file").stdout == "x"
            assert len(list(place.iterdir())) == 2


def test_many_sessions_come_and_go_without_leaving_descriptors() -> None:
    from agentbay import CreateSessionParams

    with running_local_runtime("--spares", "0") as runtime:
        client = official_client(runtime)

        def cycle() -> int:
            session = client.create(CreateSessionParams(image_id="code_latest")).session
            assert session.code.run_code("1", "python").success
            assert session.delete().success
            return len(list(Path(f"/proc/{runtime.process.pid}/fd").iterdir()))

        first = cycle()
        assert max(cycle() for _ in range(4)) <= first + 3
