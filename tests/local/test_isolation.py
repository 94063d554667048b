"""What confines a session: one attempt to break out for each promise of the report."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from agentbay import CreateSessionParams

from agentbay_kernel.local import bubblewrap
from agentbay_kernel.local.confinement import inspect_interpreter
from agentbay_kernel.local.isolation import Choice
from agentbay_kernel.local.settings import Settings
from tests.local.conftest import drop, official_client
from tests.runtime import LocalRuntimeProcess, running_local_runtime

LIMITS = ("--memory", "500", "--processes", "80", "--disk", "30", "--file-size", "20")
SECRET = "AGENTBAY_TEST_SECRET"


@pytest.fixture(scope="module")
def works() -> None:
    """Skips where bubblewrap does not work."""
    settings = Settings()
    interpreter = inspect_interpreter(settings.python)
    reason = bubblewrap.Probe(settings, interpreter, own_uid=os.geteuid() == 0).reason()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def runtime(works: None) -> Iterator[LocalRuntimeProcess]:
    """A runtime with small limits, and a secret in its environment."""
    with running_local_runtime(
        "--isolation", "required", *LIMITS, env={SECRET: "do not tell"}
    ) as process:
        yield process


@pytest.fixture
def fresh(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """A session that a test may ruin."""
    session = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
    yield session
    drop(runtime, session)


def python(session: Any, code: str) -> str:
    """What a cell prints; it must not fail."""
    result = session.code.run_code(code, "python")
    assert result.success, result.error_message
    return "".join(result.logs.stdout)


def shell(session: Any, command: str) -> str:
    """What a command prints, whatever its exit code."""
    done = session.command.execute_command(command)
    assert done.trace_id or done.exit_code == 0, done.error_message
    return str(done.output)


pytestmark = pytest.mark.sandboxed


def test_the_report_says_what_is_confined(runtime: LocalRuntimeProcess) -> None:
    report = runtime.announcement["isolation"]
    assert report["level"] == "bubblewrap" and "without network" in report["summary"]
    promised = {line.partition(":")[0] for line in report["confined"]}
    assert {"network", "files", "processes", "environment", "memory", "disk"} <= promised
    assert report["not_confined"]


def test_no_network_but_its_own(runtime: LocalRuntimeProcess, session: Any) -> None:
    port = runtime.endpoint.rpartition(":")[2]
    code = f"""
import socket
for address in [("127.0.0.1", {port}), ("192.0.2.1", 80)]:
    try:
        socket.create_connection(address, timeout=5)
        print("CONNECTED", address)
    except OSError as failure:
        print(type(failure).__name__)
try:
    print("RESOLVED", socket.getaddrinfo("example.com", 80))
except OSError as failure:
    print(type(failure).__name__)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5)
    print("own loopback")
"""
    lines = python(session, code).split("\n")
    assert lines[0] == "ConnectionRefusedError"
    assert lines[1] == "OSError" and lines[2] == "gaierror"
    assert lines[3] == "own loopback"


def test_it_knows_its_own_names_and_not_the_machines(session: Any) -> None:
    code = """
import socket
for name in ["localhost", socket.gethostname()]:
    print(socket.gethostbyname(name))
"""
    assert python(session, code).split() == ["127.0.0.1", "127.0.0.1"]
    assert session.file_system.read_file("/etc/hosts").content == "127.0.0.1 localhost sandbox\n"


def test_no_home_no_secrets_and_a_read_only_system(
    session: Any, home: Path, tmp_path: Path
) -> None:
    (home / "secret.txt").write_text("x")
    (tmp_path / "secret.txt").write_text("x")
    for path in (home, tmp_path, Path.home(), Path(__file__).parent):
        assert "No such file" in shell(session, f"ls {path}/*")
    assert "No such file" in shell(session, "cat /etc/shadow")
    assert SECRET not in shell(session, "env; cat /proc/*/environ")
    code = """
import os, sys
for folder in ["/", "/usr", "/etc", "/dev", "/opt/agentbay/agentbay_kernel/sandbox", sys.prefix]:
    try:
        open(os.path.join(folder, "planted"), "w")
        print("WROTE", folder)
    except OSError:
        pass
"""
    assert python(session, code) == ""


def test_other_processes_are_neither_seen_nor_reached(
    runtime: LocalRuntimeProcess, session: Any, fresh: Any
) -> None:
    commands = shell(session, "cat /proc/*/cmdline | tr '\\0' ' '")
    assert "agentbay_kernel serve" not in commands and "pytest" not in commands
    inside = len(shell(session, "ls -d /proc/[0-9]*").split())
    assert inside < 20 < len(psutil.pids())
    # The session's own agent is all that this can kill, and the session with it.
    fresh.command.execute_command("kill -9 -1")
    assert runtime.process.poll() is None
    assert shell(session, "echo alive") == "alive\n"


def test_no_privileges(session: Any) -> None:
    status = shell(session, "grep -E 'CapEff|NoNewPrivs' /proc/self/status")
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert shell(session, "id -u").strip() != "0"
    assert "mounted" not in shell(session, "mount -t tmpfs none /mnt && echo mounted")


def test_a_new_user_namespace_gives_nothing(session: Any) -> None:
    attempt = "unshare -Urm sh -c 'mount -t tmpfs none /tmp && echo mounted'"
    told = shell(session, attempt)
    assert "Operation not permitted" in told and "mounted" not in told


def test_a_fork_bomb_stays_inside(runtime: LocalRuntimeProcess, fresh: Any, session: Any) -> None:
    bomb = "import os, time\nfor _ in range(9):\n    os.fork()\ntime.sleep(1000)"
    fresh.code.run_code("import subprocess, sys", "python")
    fresh.code.run_code(f"subprocess.Popen([sys.executable, '-c', {bomb!r}])", "python")
    most = 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        most = max(most, len(psutil.Process(runtime.process.pid).children(recursive=True)))
        time.sleep(0.05)
    assert most < 200
    assert python(session, "print('others go on')") == "others go on\n"


def test_memory_of_one_process(fresh: Any) -> None:
    document = json.loads(
        fresh.code.run_code(
            "kept = bytearray(900 << 20); import time; time.sleep(9)", "python"
        ).error_message
    )
    assert "more memory than it may" in document["executionError"]
    assert fresh.code.run_code("1 + 1", "python").result == "2"


def test_code_can_know_its_limits(session: Any) -> None:
    code = "from resource import *; print(*(getrlimit(it)[1] for it in (RLIMIT_RSS, RLIMIT_NPROC)))"
    assert python(session, code) == f"{500 << 20} 80\n"


def test_memory_of_all_processes_together(fresh: Any) -> None:
    eat = "python -c 'x = bytearray(200 << 20); import time; time.sleep(60)' & "
    done = fresh.command.execute_command(eat * 4 + "wait -n; echo one was killed", timeout_ms=30000)
    assert "one was killed" in done.stdout


def test_an_absurd_allocation_is_an_ordinary_error(session: Any) -> None:
    result = session.code.run_code("bytearray(1 << 40)", "python")
    assert "MemoryError" in result.error_message


def test_javascript_has_a_heap_limit(fresh: Any) -> None:
    code = "const kept = []; while (true) kept.push(new Array(1e6).fill(1.5))"
    result = fresh.code.run_code(code, "javascript", timeout_s=30)
    assert "WorkerDied" in result.error_message
    assert fresh.code.run_code("1 + 1", "javascript").result == "2"


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm", "/run/agentbay"])
def test_disk_is_limited(fresh: Any, folder: str) -> None:
    code = f"""
import os
written = 0
try:
    for number in range(10):
        with open(f"{folder}/fill{{number}}", "wb") as file:
            for _ in range(15):
                file.write(b"x" * (1 << 20)); written += 1
except OSError as failure:
    print(failure.strerror)
print(written <= 70)
"""
    assert python(fresh, code) == "No space left on device\nTrue\n"


def test_a_file_is_limited(fresh: Any) -> None:
    code = "open('/tmp/f', 'wb').write(b'x' * (25 << 20))"
    assert "File too large" in fresh.code.run_code(code, "python").error_message


def test_tools_of_a_session_share_processes_and_files(session: Any) -> None:
    pid = python(
        session, "import subprocess\nprint(subprocess.Popen(['sleep', '1000']).pid, end='')"
    )
    assert "sleep" in shell(session, f"cat /proc/{pid}/cmdline")
    assert shell(session, f"kill {pid} && echo killed") == "killed\n"
    session.file_system.write_file("/tmp/shared", "one /tmp")
    assert shell(session, "cat /tmp/shared") == "one /tmp"
    assert session.code.run_code("process.cwd()", "javascript").result == "'/workspace'"


def test_processor_time(works: None) -> None:
    flags = ("--isolation", "required", "--prewarm", "0", "--cpu-seconds", "2")
    with running_local_runtime(*flags) as runtime:
        session = (
            official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        )
        failed = session.code.run_code("while True: pass", "python", timeout_s=60)
        assert "more processor time" in failed.error_message
        assert session.code.run_code("1 + 1", "python").result == "2"


def test_sessions_do_not_see_each_other(session: Any, fresh: Any) -> None:
    session.file_system.write_file("/workspace/mine", "x")
    session.file_system.write_file("/tmp/mine", "x")
    # Folders may stand there, on the way to this checkout's own environment.
    assert shell(fresh, "find /workspace /tmp /dev/shm -xdev -type f") == ""


def test_the_network_is_given_on_request(works: None) -> None:
    with running_local_runtime("--isolation", "required", "--network", "--prewarm", "0") as runtime:
        report = runtime.announcement["isolation"]
        assert "WITH" in report["summary"]
        session = (
            official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        )
        port = runtime.endpoint.rpartition(":")[2]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port})); print('reached')"
        assert python(session, code) == "reached\n"


def _failing_bwrap(folder: Path) -> dict[str, str]:
    fake = folder / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_where_bubblewrap_fails_it_is_said(tmp_path: Path) -> None:
    env = _failing_bwrap(tmp_path)
    with running_local_runtime("--prewarm", "0", env=env) as runtime:
        report = runtime.announcement["isolation"]
        assert report["level"] == "none" and "NOT isolated" in report["summary"]
        assert "No permissions" in report["reason"]
        assert any(line.startswith("your files") for line in report["not_confined"])


@pytest.mark.parametrize("installed", [True, False])
def test_where_bubblewrap_fails_required_does_not_start(tmp_path: Path, installed: bool) -> None:
    # Nothing else is on this path.
    env = _failing_bwrap(tmp_path) if installed else {"PATH": str(tmp_path)}
    serve = [sys.executable, "-m", "agentbay_kernel", "serve", "--isolation", "required"]
    done = subprocess.run(serve, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    allow = bubblewrap.ALLOW_HERE if bubblewrap.is_restricted() else bubblewrap.ALLOW
    cure = allow if installed else "apt install bubblewrap"
    for told in ("Isolation is required but not available", cure, "AGENTBAY_LOCAL_ISOLATION=none"):
        assert told in done.stderr


def test_what_ubuntu_restricts_is_named_with_the_command_that_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "apparmor_restrict_unprivileged_userns"
    monkeypatch.setattr(bubblewrap, "RESTRICTED", file)
    monkeypatch.setenv("PATH", _failing_bwrap(tmp_path)["PATH"])
    for content, cure in (
        (None, "a container must be started so"),
        ("0", "a container must be started so"),
        ("1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ):
        if content is not None:
            file.write_text(f"{content}\n")
        report = Choice(Settings()).result().report
        assert report.level == "none" and cure in report.cure, report


def test_without_isolation_something_is_confined_still(tmp_path: Path) -> None:
    flags = ("--isolation", "none", "--memory", "500", "--prewarm", "0")
    with running_local_runtime(*flags, env={SECRET: "do not tell"}) as runtime:
        session = (
            official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        )
        assert SECRET not in shell(session, "env")
        code = "kept = bytearray(900 << 20); import time; time.sleep(9)"
        assert "more memory than it may" in session.code.run_code(code, "python").error_message
        write = "require('fs').writeFileSync"
        assert session.code.run_code(f"{write}('inside', 'x')", "javascript").success
        for escape in (
            f"{write}({str(tmp_path / 'outside')!r}, 'x')",
            "require('child_process').execSync('true')",
        ):
            refused = session.code.run_code(escape, "javascript")
            assert "Access to this API has been restricted" in refused.error_message
