"""System calls that a cell may make: refused ones by number, and libraries that need the others."""

from __future__ import annotations

import ctypes
import errno
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentbay import CreateSessionParams

from agentbay_kernel.local.syscall_filter import MACHINES, allow_list, verdicts
from tests.kernel.conftest import LOCAL
from tests.kernels import running_kernel
from tests.local.conftest import drop, official_client
from tests.runtime import LocalRuntimeProcess, running_local_runtime

pytestmark = pytest.mark.sandboxed

EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
EAFNOSUPPORT, EPROTONOSUPPORT = errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT
KEY = b"agentbay-test-key"
# Name, arguments, and the error that is promised. Arguments are such that without a filter the
# call succeeds or fails otherwise.
REFUSED: list[tuple[str, tuple[Any, ...], int]] = [
    # Keys.
    ("keyctl", (0, -3, 0), EPERM),
    ("keyctl", (1, 0), EPERM),
    ("add_key", (b"user", b"x", b"y", 1, -4), EPERM),
    ("request_key", (b"user", b"x", 0, -4), EPERM),
    # Interfaces of the kernel that cells have no need of.
    ("io_uring_setup", (8, 0), EPERM),
    ("io_uring_enter", (-1, 0, 0, 0, 0, 0), EPERM),
    ("io_uring_register", (-1, 0, 0, 0), EPERM),
    ("userfaultfd", (1,), EPERM),
    ("bpf", (0, 0, 0), EPERM),
    ("perf_event_open", (0, 0, -1, -1, 0), EPERM),
    ("fanotify_init", (0x200, 0), EPERM),
    ("modify_ldt", (0, 0, 0), EPERM),
    ("open_by_handle_at", (-1, 0, 0), EPERM),
    ("mbind", (0, 0, 0, 0, 0, 0), EPERM),
    ("quotactl", (0, 0, 0, 0), EPERM),
    ("syslog", (10, 0, 0), EPERM),
    ("vhangup", (), EPERM),
    ("acct", (0,), EPERM),
    ("swapon", (b"/tmp/x", 0), EPERM),
    ("reboot", (0, 0, 0, 0), EPERM),
    ("kexec_load", (0, 0, 0, 0), EPERM),
    ("init_module", (0, 0, b""), EPERM),
    ("finit_module", (-1, b"", 0), EPERM),
    # Memory that belongs to no process.
    ("memfd_create", (b"x", 0), EPERM),
    ("memfd_create", (b"huge", 4), EPERM),
    ("memfd_secret", (0,), EPERM),
    ("shmget", (0, 4096, 0o1600), EPERM),
    ("shmat", (0, 0, 0), EPERM),
    ("msgget", (0, 0o1600), EPERM),
    ("semget", (0, 1, 0o1600), EPERM),
    # Other processes.
    ("ptrace", (0, 0, 0, 0), EPERM),
    ("ptrace", (0x4206, 1, 0, 0), EPERM),
    ("process_vm_readv", (1, 0, 0, 0, 0, 0), EPERM),
    ("process_vm_writev", (1, 0, 0, 0, 0, 0), EPERM),
    ("process_madvise", (-1, 0, 0, 0, 0), EPERM),
    ("pidfd_getfd", (-1, 0, 0), EPERM),
    ("kcmp", (1, 1, 0, 0, 0), EPERM),
    ("prlimit64", (1, 7, 0, 0), EPERM),
    ("prlimit64", (2, 9, 0, 0), EPERM),
    ("setpriority", (0, 1, 19), EPERM),
    ("setpriority", (2, 0, 19), EPERM),
    ("ioprio_set", (1, 1, 0x6000), EPERM),
    ("sched_setaffinity", (1, 8, b"\x01" + bytes(7)), EPERM),
    ("sched_setscheduler", (1, 5, bytes(4)), EPERM),
    # Namespaces and mounts.
    ("unshare", (0x10000000,), EPERM),
    ("unshare", (0x40000000,), EPERM),
    ("unshare", (0x80,), EPERM),
    ("unshare", (0x10000400,), EPERM),
    ("clone", (0x10000011, 0, 0, 0, 0), EPERM),
    ("clone", (0x20000011, 0, 0, 0, 0), EPERM),
    ("clone", (0x02000011, 0, 0, 0, 0), EPERM),
    ("clone3", (0, 0), ENOSYS),
    ("setns", (-1, 0), EPERM),
    ("mount", (b"x", b"/tmp", b"tmpfs", 0, 0), EPERM),
    ("umount2", (b"/tmp", 0), EPERM),
    ("fsopen", (b"tmpfs", 0), EPERM),
    ("open_tree", (-100, b"/", 1), EPERM),
    ("move_mount", (-1, 0, -1, 0, 0), EPERM),
    ("mount_setattr", (-1, 0, 0, 0, 0), EPERM),
    ("pivot_root", (b"/tmp", b"/tmp"), EPERM),
    ("chroot", (b"/tmp",), EPERM),
    # No address randomisation, readable is executable, another system's calls.
    ("personality", (0x40000,), EPERM),
    ("personality", (0x400000,), EPERM),
    ("personality", (6,), EPERM),
    # vsock, the kernel's cryptography, packets, XDP, IPsec keys, TIPC, a family not yet known.
    *(("socket", (family, 1, 0), EAFNOSUPPORT) for family in (40, 38, 17, 44, 15, 30, 21, 46, 99)),
    *(("socketpair", (family, 1, 0, bytes(8)), EAFNOSUPPORT) for family in (40, 30, 16)),
    # Netfilter, audit, the kernel's events, generic netlink, crypto.
    *(("socket", (16, 3, protocol), EAFNOSUPPORT) for protocol in (12, 9, 15, 16, 21)),
    # SCTP, multipath TCP, UDP-Lite, DCCP.
    *(("socket", (2, 1, protocol), EPROTONOSUPPORT) for protocol in (132, 262, 136, 33)),
    ("socket", (10, 1, 132), EPROTONOSUPPORT),
]
PROBE = """
import ctypes, json
call = ctypes.CDLL(None, use_errno=True).syscall
found = []
for number, arguments in {calls}:
    ctypes.set_errno(0)
    given = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result = call(ctypes.c_long(number), *given)
    found.append(ctypes.get_errno() if result == -1 else f"returned {{result}}")
print(json.dumps(found))
"""
# Compiled by hand: getpid by the 32-bit entry. Ends by a signal where the kernel has none.
OTHER_ENTRY = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A runtime whose sessions are isolated, started by a user who has a key in a keyring."""
    numbers = verdicts(platform.machine())
    call = ctypes.CDLL(None).syscall
    join_new, session_keyring = 1, -3
    assert call(numbers["keyctl"][0], join_new, None) > 0
    assert call(numbers["add_key"][0], b"user", KEY, b"secret", 6, session_keyring) > 0
    assert KEY.decode() in Path("/proc/keys").read_text()
    with running_local_runtime("--isolation", "required", "--memory", "1500") as process:
        yield process


@pytest.fixture(scope="module")
def session(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """One session for all."""
    made = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
    yield made
    drop(runtime, made)


def python(session: Any, code: str) -> str:
    """What a cell prints; it must not fail."""
    result = session.code.run_code(code, "python")
    assert result.success, result.error_message
    return "".join(result.logs.stdout)


def errors(session: Any, calls: list[tuple[int, tuple[Any, ...]]]) -> list[Any]:
    """The error of each call by number, or what it returned."""
    found: list[Any] = json.loads(python(session, PROBE.format(calls=calls)))
    return found


def test_calls_are_refused_with_the_promised_error(session: Any) -> None:
    numbers = verdicts(platform.machine())
    cases = [case for case in REFUSED if case[0] in numbers]
    found = errors(session, [(numbers[name][0], arguments) for name, arguments, _ in cases])
    wrong = [
        (name, arguments[:3], errno.errorcode.get(error, error), errno.errorcode[promised])
        for (name, arguments, promised), error in zip(cases, found, strict=True)
        if error != promised
    ]
    assert wrong == []


def test_a_call_that_is_not_known_does_not_exist(session: Any) -> None:
    # One beyond the table, later ones, negative ones, and x86_64's second table: getpid, mount.
    numbers = (600, 1024, 100_000, -5, 0x40000000 + 39, 0x40000000 + 165, 0x40000000 + 512)
    assert errors(session, [(number, (0, 0, 0)) for number in numbers]) == [ENOSYS] * len(numbers)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is one entry only")
def test_the_other_entry_to_the_kernel_does_not_work(session: Any) -> None:
    session.file_system.write_file("/tmp/entry.py", OTHER_ENTRY)
    done = session.command.execute_command("python /tmp/entry.py")
    assert done.exit_code < 0 or done.stdout == f"{-ENOSYS}\n"


def test_every_call_of_the_table_has_a_verdict() -> None:
    for machine in MACHINES:
        table = verdicts(machine)
        assert {verdict for _, verdict in table.values()} == {
            "allow",
            "arguments",
            "refuse",
            "absent",
        }
        numbers = [number for number, _ in table.values()]
        assert len(set(numbers)) == len(numbers) > 300
        program = allow_list(machine)
        # The kernel takes 4096 instructions.
        assert program is not None and len(program) < 8 * 4096
    assert allow_list("pdp11") is None


def test_capabilities_are_empty(session: Any) -> None:
    code = "print(open('/proc/self/status').read())"
    for text in (
        python(session, code),
        session.command.execute_command("cat /proc/self/status").stdout,
    ):
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert fields[name].strip() == "0" * 16, name
        assert fields["NoNewPrivs"].strip() == "1" and fields["Seccomp"].strip() == "2"


def test_a_session_has_no_key_of_the_user(session: Any) -> None:
    # The keys that the reader may view are listed.
    assert KEY.decode() not in python(session, "print(open('/proc/keys').read())")


WORKING = {
    "numpy and pandas": """
import numpy, pandas
a = numpy.random.default_rng(0).random((400, 400))
assert (a @ a).shape == (400, 400)
frame = pandas.DataFrame({"a": range(100), "b": list("xy") * 50})
frame.to_csv("t.csv"); assert len(pandas.read_csv("t.csv")) == 100
numpy.save("a.npy", a); assert numpy.load("a.npy", mmap_mode="r")[0, 0] == a[0, 0]
""",
    "matplotlib": """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3]); plt.savefig("p.png"); plt.savefig("p.pdf"); plt.close("all")
""",
    "multiprocessing": """
import multiprocessing as mp
from multiprocessing import shared_memory
for method in ("fork", "spawn", "forkserver"):
    with mp.get_context(method).Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2], method
block = shared_memory.SharedMemory(create=True, size=1 << 20)
block.buf[:3] = b"abc"
other = shared_memory.SharedMemory(block.name)
assert bytes(other.buf[:3]) == b"abc"
other.close(); block.close(); block.unlink()
queue = mp.get_context("fork").Queue(); queue.put(1); assert queue.get() == 1
""",
    "subprocess and threads": """
import asyncio, concurrent.futures, os, signal, subprocess, sys, threading
assert subprocess.run(["bash", "-c", "echo hi | cat"], capture_output=True).stdout == b"hi\\n"
with concurrent.futures.ThreadPoolExecutor(8) as threads:
    assert sum(threads.map(lambda n: n, range(100))) == 4950
with concurrent.futures.ProcessPoolExecutor(2) as processes:
    assert list(processes.map(abs, [-1])) == [1]
async def ask():
    child = await asyncio.create_subprocess_exec("true")
    return await child.wait()
with concurrent.futures.ThreadPoolExecutor(1) as thread:
    assert thread.submit(asyncio.run, ask()).result() == 0
os.sched_setaffinity(0, os.sched_getaffinity(0)); os.nice(1)
""",
    "psutil": """
import os, psutil
me = psutil.Process()
assert me.pid == os.getpid() and me.memory_info().rss and me.num_threads()
me.open_files(); me.memory_full_info(); me.cpu_affinity()
psutil.cpu_percent(); psutil.virtual_memory(); psutil.disk_usage("/"); psutil.net_if_addrs()
psutil.net_connections(); psutil.cpu_count(); list(psutil.process_iter(["name", "cmdline"]))
""",
    "sqlite, ssl, sockets": """
import socket, sqlite3, ssl, threading
with sqlite3.connect("d.sqlite") as base:
    base.execute("pragma journal_mode=wal"); base.execute("create table t (a)")
ssl.create_default_context()
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    server = socket.create_server((address, 0), family=family)
    client = socket.create_connection(server.getsockname()[:2]); client.close(); server.close()
left, right = socket.socketpair(); left.send(b"x"); assert right.recv(1) == b"x"
assert [name for _, name in socket.if_nameindex()] == ["lo"]
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
""",
    "files": """
import fcntl, mmap, os, pty, shutil, tempfile, time
with tempfile.TemporaryFile() as file:
    file.truncate(8192); page = mmap.mmap(file.fileno(), 8192); page[:2] = b"xy"; page.flush()
    fcntl.flock(file, fcntl.LOCK_EX); os.posix_fallocate(file.fileno(), 0, 4096)
os.mkfifo("f"); os.symlink("f", "l"); os.link("f", "g"); os.utime("g"); os.chmod("g", 0o600)
os.mkdir("d"); shutil.copytree("d", "e"); os.statvfs("."); os.sync()
a, b = pty.openpty(); os.close(a); os.close(b)
os.close(os.eventfd(0)); os.close(os.pidfd_open(os.getpid()))
""",
}


@pytest.mark.parametrize("name", WORKING)
def test_what_cells_need_works(session: Any, name: str) -> None:
    session.command.execute_command("rm -rf /workspace/*")
    python(session, WORKING[name])


def test_a_package_can_be_installed(session: Any) -> None:
    code = """
import zipfile
with zipfile.ZipFile("/tmp/tiny-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "value = 7\\n")
    about = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"
    wheel.writestr("tiny-1.dist-info/METADATA", about)
    wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    wheel.writestr("tiny-1.dist-info/RECORD", "")
"""
    python(session, code)
    done = session.command.execute_command(
        # Its own pip would be unpacked for seconds.
        "python -m venv --without-pip /tmp/venv && "
        "python -m pip --python /tmp/venv/bin/python install --no-index "
        "/tmp/tiny-1-py3-none-any.whl && /tmp/venv/bin/python -c 'import tiny; print(tiny.value)'",
        timeout_ms=50000,
    )
    assert done.stdout.endswith("7\n"), done.stderr


JAVASCRIPT = {
    "interfaces": "JSON.stringify(Object.keys(require('os').networkInterfaces()))",
    "processes": "require('child_process').execSync('echo hi').toString()",
    "files": "require('fs').writeFileSync('j', 'x'); require('fs').readFileSync('j', 'utf8')",
    "cryptography": "require('crypto').createHash('sha256').update('x').digest('hex').length",
}


@pytest.mark.parametrize("name", JAVASCRIPT)
def test_what_javascript_needs_works(session: Any, name: str) -> None:
    result = session.code.run_code(JAVASCRIPT[name], "javascript")
    assert result.success, result.error_message


# Reserves 4 GB of addresses and uses 64 kB.
RESERVE = "new WebAssembly.Memory({ initial: 1, maximum: 65536 }).buffer.byteLength"
# What parses HTTP in Node's `fetch` is WebAssembly.
FETCH = """
const server = require('http').createServer((request, response) => response.end('hello'));
server.listen(0, '127.0.0.1', async () => {
  const response = await fetch(`http://127.0.0.1:${server.address().port}/`);
  process.stdout.write(await response.text() + '\\n');
  server.close();
});
"""
WORKER = """
const { Worker } = require('worker_threads');
new Worker("require('worker_threads').parentPort.postMessage(7)", { eval: true })
  .on('message', (value) => process.stdout.write(value + '\\n'));
"""


def test_node_may_reserve_addresses(session: Any) -> None:
    assert session.code.run_code(RESERVE, "javascript").result == "65536"
    for name, script, printed in (("f", FETCH, "hello\n"), ("w", WORKER, "7\n")):
        session.file_system.write_file(f"/tmp/{name}.js", script)
        done = session.command.execute_command(f"node /tmp/{name}.js")
        assert done.stdout == printed, done.stderr
        # Also where Python starts it.
        code = f"import subprocess; print(subprocess.getoutput('node /tmp/{name}.js'))"
        assert python(session, code) == printed
    code = "require('child_process').execSync(process.execPath + ' /tmp/f.js').toString()"
    assert session.code.run_code(code, "javascript").result == "'hello\\n'"


def test_a_notebooks_javascript_can_fetch() -> None:
    with running_kernel("agentbay-javascript", LOCAL) as kernel:
        assert kernel.run(RESERVE).of_type("execute_result")[0]["data"]["text/plain"] == "65536"
        kernel.run(
            "const server = require('http').createServer((_, response) => response.end('hello'));\n"
            "await new Promise((done) => server.listen(0, '127.0.0.1', done));"
        )
        ran = kernel.run(
            "const got = await fetch(`http://127.0.0.1:${server.address().port}/`);\n"
            "await got.text()"
        )
        assert ran.reply["status"] == "ok", ran
        assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "'hello'"


@pytest.mark.parametrize("size", ["1 << 40", "12 << 30", "6 << 30"])
def test_what_is_far_too_large_is_an_ordinary_error(session: Any, size: str) -> None:
    python(session, "kept = 7")
    for code in (f"bytearray({size})", f"import numpy; numpy.zeros({size}, 'u1')"):
        assert "MemoryError" in session.code.run_code(code, "python").error_message
    assert python(session, "print(kept)") == "7\n"
