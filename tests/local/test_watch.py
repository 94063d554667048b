"""What watches a session can't be stopped, read or dodged from inside; as root and as a user."""

from __future__ import annotations

import os
import platform
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from agentbay import CreateSessionParams

from agentbay_kernel.local.syscall_filter import verdicts
from tests.local.conftest import drop, official_client
from tests.runtime import LocalRuntimeProcess, running_local_runtime

pytestmark = pytest.mark.sandboxed

LIMITS = ("--memory", "200", "--disk", "125", "--processes", "90")
NOBODY = 65534
PIDS = Path("/sys/fs/cgroup/pids")
VERSION_2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def users() -> list[str]:
    """Who a runtime can be started as here."""
    return ["root", "user"] if os.geteuid() == 0 else ["user"]


# What shows the same whoever started the runtime: `make test` has it once.
first = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(who, marks=[pytest.mark.slow] * bool(place))
        for place, who in enumerate(users())
    ],
    indirect=True,
)


def ordinary_user() -> tuple[str, ...]:
    """A command of root's that runs another one as an ordinary user, who can read this Python."""
    command = ["bwrap", "--dev-bind", "/", "/", "--cap-add", "ALL", "--die-with-parent"]
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2]]
    closed = {
        folder
        for path in needed
        for folder in path.parents
        if folder.stat().st_mode & stat.S_IXOTH == 0
    }
    for folder in sorted(closed)[:1]:
        command += ["--perms", "0755", "--tmpfs", str(folder)]
        for path in needed:
            if path.is_relative_to(folder):
                for parent in reversed(path.parents):
                    if parent.is_relative_to(folder) and parent != folder:
                        command += ["--perms", "0755", "--dir", str(parent)]
                command += ["--ro-bind", str(path), str(path)]
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all")
    return (*command, "setpriv", *ids, "--inh-caps=-all", "--")


@pytest.fixture(scope="module", params=users())
def runtime(
    request: pytest.FixtureRequest,
) -> Iterator[LocalRuntimeProcess]:
    """A runtime with small limits, started by root and by an ordinary user."""
    prefix = ordinary_user() if request.param == "user" and os.geteuid() == 0 else ()
    env = {"HOME": "/tmp"} if prefix else {}
    flags = ("--isolation", "required", "--prewarm", "0", *LIMITS)
    with running_local_runtime(*flags, env=env, prefix=prefix) as process:
        yield process


@pytest.fixture
def session(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """A session that a test may ruin."""
    made = official_client(runtime).create(CreateSessionParams(image_id="code_latest"))
    assert made.success, made.error_message
    yield made.session
    drop(runtime, made.session)


@pytest.fixture(scope="module")
def lasting(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """One session for the tests after which it goes on."""
    made = official_client(runtime).create(CreateSessionParams(image_id="code_latest"))
    assert made.success, made.error_message
    yield made.session
    drop(runtime, made.session)


@pytest.fixture
def emptied(lasting: Any) -> Any:
    """That session without a process and a file of the tests before."""
    lasting.command.execute_command("kill -9 -1; rm -rf /tmp/* /dev/shm/* /workspace/*")
    assert lasting.command.execute_command("ls /tmp /dev/shm").success
    return lasting


def python(session: Any, code: str, timeout_s: int = 60) -> str:
    """What a cell prints; it must not fail."""
    result = session.code.run_code(textwrap.dedent(code), "python", timeout_s=timeout_s)
    assert result.success, result.error_message
    return "".join(result.logs.stdout)


def agents_memory_is_watched(session: Any) -> None:
    """Using more memory than allowed ends the process that does, whatever came before."""
    session.code.run_code("1", "python")
    failed = session.code.run_code(EAT, "python", timeout_s=60)
    assert "more memory than it may" in failed.error_message


EAT = "kept = bytearray(350 << 20); import time; time.sleep(50)"


def test_signals_do_not_reach_the_agent(session: Any) -> None:
    code = """
        import os, signal, subprocess
        for number in sorted(signal.valid_signals()):
            try:
                os.kill(1, number)
            except OSError:
                pass
        os.pidfd_open(1)
        for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGINT):
            try:
                signal.pidfd_send_signal(os.pidfd_open(1), number)
            except OSError:
                pass
        state = open("/proc/1/stat").read().rpartition(")")[2].split()[0]
        assert state not in "TtZX", state
    """
    python(session, code)
    agents_memory_is_watched(session)


def test_a_signal_to_everything_ends_the_cells_only(session: Any) -> None:
    session.command.execute_command("kill -STOP -1")
    session.command.execute_command("kill -9 -1")
    assert session.command.execute_command("echo alive").stdout == "alive\n"
    assert session.code.run_code("1 + 1", "python").success


def test_the_agent_can_not_be_read(lasting: Any) -> None:
    code = """
        import os
        for entry in ("mem", "environ", "fd", "maps", "cwd", "root", "exe", "task/1/mem"):
            path = f"/proc/1/{entry}"
            for reach in (lambda: open(path, "rb").read(1), lambda: open(path, "wb"),
                          lambda: os.listdir(path), lambda: os.readlink(path)):
                try:
                    print("REACHED", entry, reach())
                except OSError:
                    pass
    """
    assert python(lasting, code) == ""


def test_a_link_leads_the_agent_nowhere_that_cells_can_not_go(lasting: Any) -> None:
    python(
        lasting,
        """
        import os
        for name in ("mem", "environ", "fd/0", "maps"):
            os.symlink(f"/proc/1/{name}", f"/workspace/one-{name.replace('/', '-')}")
        os.symlink("/proc/self/status", "/workspace/self")
        """,
    )
    for name in ("one-mem", "one-environ", "one-fd-0", "one-maps"):
        assert not lasting.file_system.read_file(f"/workspace/{name}").success
        assert not lasting.file_system.write_file(f"/workspace/{name}", "x").success
    told = lasting.file_system.read_file("/workspace/self").content
    fields = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    me = python(lasting, "import os; print(os.getuid())").strip()
    assert fields["Uid"].split() == [me] * 4
    assert fields["Pid"].strip() != "1" and fields["CapPrm"].strip() == "0" * 16


def test_no_process_has_the_agents_descriptors_or_rights(lasting: Any) -> None:
    code = """
        import os
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if pid == "1":
                continue
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")
                     if os.path.lexists(f"/proc/{pid}/fd/{fd}")]
            status = open(f"/proc/{pid}/status").read()
            assert "CapPrm:\\t0000000000000000" in status, status
            assert f"Uid:\\t{os.getuid()}\\t" in status, status
    """
    python(lasting, code)
    shell = "grep -h -E '^(Uid|CapPrm|CapBnd)' /proc/self/status"
    assert "0000000000000001" not in lasting.command.execute_command(shell).stdout
    uid = python(lasting, "import os; print(os.getuid())")
    assert lasting.command.execute_command("id -u").stdout == uid
    if os.geteuid() == 0 and int(uid) > NOBODY:
        agent = lasting.command.execute_command("stat -c %u /proc/1/stat; grep Uid /proc/1/status")
        assert uid.strip() not in agent.stdout


@first
def test_processes_that_ended_are_collected(lasting: Any) -> None:
    code = """
        import subprocess
        for _ in range(3):
            loop = "for i in $(seq 20); do (setsid true &) ; (true &) ; done"
            subprocess.run(["bash", "-c", loop])
        import os, time
        def status(pid):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    return file.read().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return ""  # It has ended since it was listed.
        for _ in range(200):
            zombies = [pid for pid in filter(str.isdigit, os.listdir("/proc"))
                       if status(pid) == "Z"]
            if not zombies:
                break
            time.sleep(0.05)
        print(len(zombies))
    """
    assert python(lasting, code) == "0\n"


# Each uses about 350 MB, of 200 that are allowed, in another way.
GROW = {
    "one process": "kept = bytearray(350 << 20)",
    "children": """
import os
for _ in range(5):
    if os.fork() == 0:
        kept = bytearray(70 << 20); time.sleep(100)
""",
    "written copies": """
import os
kept = bytearray(75 << 20)
for _ in range(5):
    if os.fork() == 0:
        kept[::4096] = bytes(len(kept) // 4096); time.sleep(100)
""",
    "shared anonymous memory": """
import mmap
kept = mmap.mmap(-1, 350 << 20)
for at in range(0, len(kept), 4096): kept[at] = 1
""",
    "shared with a child that keeps it": """
import mmap, os
kept = mmap.mmap(-1, 350 << 20)
if os.fork() == 0:
    for at in range(0, len(kept), 4096): kept[at] = 1
    time.sleep(100)
""",
    "files and memory": """
kept = bytearray(125 << 20)
with open("/dev/shm/f", "wb") as file: file.write(bytes(120 << 20))
""",
    "files in two folders, deleted": """
import os
files = [open(f"{folder}/f", "wb") for folder in ("/tmp", "/workspace", "/dev/shm")]
for file in files:
    file.write(bytes(80 << 20)); file.flush(); os.unlink(file.name)
kept = bytearray(50 << 20)
""",
    "not readable": """
import ctypes
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
kept = bytearray(350 << 20)
""",
    "a process without its first thread": """
import ctypes, os, threading
if os.fork() == 0:
    def eat():
        kept = bytearray(350 << 20); time.sleep(100)
    threading.Thread(target=eat).start()
    ctypes.CDLL(None).syscall({exit}, 0)
""",
    "a stopped child": """
import os, signal
child = os.fork()
if child == 0:
    kept = bytearray(350 << 20); os.kill(os.getpid(), signal.SIGSTOP)
""",
}
# Ends with 77 if a child was killed; was it this process, then the shell says 137.
REPORT_KILLED = """
import os, sys
try:
    while not os.WIFSIGNALED(os.wait()[1]):
        pass
    sys.exit(77)
except ChildProcessError:
    time.sleep(100)
"""


# What an ordinary user's runtime sees in another way than root's: files, processes that can't be
# read, and those that are no more what they were. `make test` has them as a user.
AS_USER = ("one process", "files and memory", "not readable", "a process without its first thread")
# The other ways it has as one of the two; these are counted as those that are left.
ALIKE = ("children", "shared anonymous memory", "a stopped child")
last = pytest.mark.parametrize(
    "runtime",
    [pytest.param(who, marks=[pytest.mark.slow] * (who != users()[-1])) for who in users()],
    indirect=True,
)


@last
@pytest.mark.parametrize("way", AS_USER)
def test_memory_is_counted(emptied: Any, way: str) -> None:
    session = emptied
    exit_number = str(verdicts(platform.machine())["exit"][0])
    code = "import time\n" + GROW[way].replace("{exit}", exit_number) + REPORT_KILLED
    session.file_system.write_file("/tmp/grow.py", code)
    done = session.command.execute_command("python /tmp/grow.py; echo $?", timeout_ms=45000)
    assert done.stdout in ("137\n", "77\n"), (done.stdout, done.stderr)
    assert session.command.execute_command("echo alive").stdout == "alive\n"


@first
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[pytest.mark.slow] * (way in ALIKE))
        for way in GROW
        if way not in AS_USER
    ],
)
def test_memory_is_counted_in_other_ways(emptied: Any, way: str) -> None:
    test_memory_is_counted(emptied, way)


SHARED = {
    "forked copies": """
import os
kept = bytearray(125 << 20)
children = [os.fork() for _ in range(1)]
children += [os.fork() for _ in range(2)]
time.sleep(1)
""",
    "multiprocessing's shared memory, mapped by four": """
import multiprocessing as mp
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=100 << 20)
touched = mp.get_context("fork").Barrier(4)
def touch(name):
    other = shared_memory.SharedMemory(name)
    other.buf[::4096] = bytes(len(other.buf) // 4096); touched.wait(); time.sleep(1)
children = [mp.get_context("fork").Process(target=touch, args=(block.name,)) for _ in range(4)]
[child.start() for child in children]; [child.join() for child in children]
assert all(child.exitcode == 0 for child in children)
block.close(); block.unlink()
""",
    "a mapped file": """
import mmap
file = open("/workspace/f", "w+b"); file.truncate(110 << 20)
maps = [mmap.mmap(file.fileno(), 0) for _ in range(3)]
for page in maps: page[::4096] = bytes(len(page) // 4096)
time.sleep(1)
""",
}


# As root, `make test` has what else is shared.
@last
@pytest.mark.parametrize("way", ["forked copies"])
def test_what_is_shared_counts_once(emptied: Any, way: str) -> None:
    session = emptied
    session.file_system.write_file("/tmp/share.py", "import time\n" + SHARED[way])
    done = session.command.execute_command("python /tmp/share.py; echo ended $?", timeout_ms=45000)
    assert done.stdout.endswith("ended 0\n"), (done.stdout, done.stderr)


@first
@pytest.mark.parametrize(
    "way",
    [
        "multiprocessing's shared memory, mapped by four",
        pytest.param("a mapped file", marks=pytest.mark.slow),
    ],
)
def test_what_else_is_shared_counts_once(emptied: Any, way: str) -> None:
    test_what_is_shared_counts_once(emptied, way)


def test_the_report_says_which_limits_are_in_force(runtime: LocalRuntimeProcess) -> None:
    report = runtime.announcement["isolation"]
    confined = dict(line.split(": ", 1) for line in report["confined"])
    assert "from outside" in confined["memory"]
    assert "an allow list" in confined["system calls"]
    root = psutil.Process(runtime.announcement["pid"]).uids().real == 0
    assert ("user id of its own" in confined["agent"]) == root
    assert "90 of a session" in confined["processes and threads"]
    (uncounted,) = [line for line in report["not_confined"] if line.startswith("memory")]
    assert "none was delegated" in uncounted


def test_a_cgroup_can_be_switched_off() -> None:
    with running_local_runtime("--prewarm", "0", "--cgroup", "none") as runtime:
        lines = runtime.announcement["isolation"]["not_confined"]
        assert any("switched off" in line for line in lines)


@pytest.fixture
def delegated() -> Iterator[Path]:
    """A cgroup that a runtime may use, with a limit on processes: of version 2 if that has one."""
    parent = PIDS
    for mount in VERSION_2:
        controllers = mount / "cgroup.controllers"
        if controllers.exists() and "pids" in controllers.read_text().split():
            parent = mount
    path = parent / f"agentbay-test-{os.getpid()}"
    try:
        if parent in VERSION_2:
            (parent / "cgroup.subtree_control").write_text("+pids")
        path.mkdir()
    except OSError as failure:
        pytest.skip(f"a cgroup can't be made here: {failure}")
    yield path
    path.rmdir()


def test_a_session_is_in_a_cgroup_where_one_is_given(delegated: Path) -> None:
    flags = ("--isolation", "required", "--prewarm", "0", "--processes", "40")
    with running_local_runtime(*flags, "--cgroup", str(delegated)) as runtime:
        report = runtime.announcement["isolation"]
        assert any("40 of a session (cgroup)" in line for line in report["confined"])
        assert any("has no memory limit" in line for line in report["not_confined"])
        made = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        python(made, "1")
        (own,) = delegated.glob("agentbay-*")
        assert (own / "pids.max").read_text() == "64\n"
        members = {int(line) for line in (own / "cgroup.procs").read_text().split()}
        names = {psutil.Process(pid).name() for pid in members}
        assert "bwrap" in names and len(members) >= 3
        assert runtime.process.pid not in members
        # No other session is bounded by what this one does.
        other = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
        assert len(list(delegated.glob("agentbay-*"))) == 2
        drop(runtime, other)
        drop(runtime, made)
    assert list(delegated.glob("agentbay-*")) == []
