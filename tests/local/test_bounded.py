"""What files of any kind, and of any number, cost the runtime and a session's agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.local.conftest import drop, official_client
from tests.local.test_sessions import post
from tests.runtime import LocalRuntimeProcess, running_local_runtime

MEGABYTE = 1024 * 1024
MOST = 200 * MEGABYTE
FILES = 45_000


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A runtime of this module's own: the peak of its memory is looked at."""
    with running_local_runtime("--no-kernels") as process:
        yield process


@pytest.fixture(scope="module")
def session(runtime: LocalRuntimeProcess) -> Iterator[Any]:
    """A session with directories of many files."""
    from agentbay import CreateSessionParams

    made = official_client(runtime).create(CreateSessionParams(image_id="code_latest")).session
    prepare = f"""
import os, socket
os.makedirs("many"); os.makedirs("deep/er"); os.makedirs("odd")
for number in range({FILES}):
    os.close(os.open(f"many/{{number:06d}}-" + "x" * 60, os.O_CREAT))
for number in range(40_000):
    os.close(os.open(f"deep/er/{{number:06d}}", os.O_CREAT))
os.mkfifo("odd/fifo")
os.symlink("loop", "odd/loop"); os.symlink("..", "odd/up"); os.symlink("fifo", "odd/to-fifo")
os.symlink("/dev/zero", "odd/to-zero")
kept = socket.socket(socket.AF_UNIX); kept.bind("odd/socket")
with open("sparse", "wb") as file: file.truncate(1_900_000_000)
with open("escapes", "wb") as file: file.write(bytes(30_000_000))
with open("wide", "wb") as file: file.write("\U0001f600".encode() * 3_000_000)
with open("broken", "wb") as file: file.write(bytes([255]) * 12_000_000)
with open("small", "wb") as file: file.write(b"small")
os.makedirs("ten")
for number in range(1_000):
    with open(f"ten/{{number:04d}}", "wb") as file: file.truncate(10_000_000)
"""
    done = made.code.run_code(prepare, "python")
    assert done.success, done.error_message
    yield made
    drop(runtime, made)


def call(session: Any, tool: str, **arguments: Any) -> tuple[bool, str]:
    """Whether a tool succeeded, and its text."""
    done = requests.post(
        f"{session.link_url}/callTool",
        json={"tool": tool, "args": arguments, "requestId": "link-1"},
        headers={"X-Access-Token": session.token},
        timeout=100,
    )
    result = json.loads(done.json()["data"])["result"]
    return not result["isError"], result["content"][0]["text"]


def check_memory(runtime: LocalRuntimeProcess) -> None:
    """The peaks of the runtime and of its agents are small."""
    own = psutil.Process(runtime.process.pid)
    # Not what runs cells: their memory is the session's.
    below = [it for it in own.children(recursive=True) if "agent.main" in " ".join(it.cmdline())]
    peaks = {it.pid: _peak(it.pid) for it in (own, *below)}
    assert len(peaks) > 1 and max(peaks.values()) < MOST, peaks


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def test_a_long_listing_keeps_its_beginning(runtime: LocalRuntimeProcess, session: Any) -> None:
    done, text = call(session, "list_directory", path="many")
    lines = text.split("\n")
    assert done and lines[0].startswith("[FILE] 000000-") and lines[9_999].startswith("[FILE] 009")
    assert lines[10_000:] == ["[cut: 35,000 more entries]"]
    listed = session.file_system.list_directory("many")
    assert listed.success and len(listed.entries) == 10_000
    check_memory(runtime)


@pytest.mark.parametrize("pattern", ["*", "*-x*", "many/*"])
def test_a_long_search_keeps_some_and_says_so(
    runtime: LocalRuntimeProcess, session: Any, pattern: str
) -> None:
    done, text = call(session, "search_files", path=".", pattern=pattern)
    lines = text.split("\n")
    assert done and len(lines) == 10_001
    assert lines[-1].startswith("[cut: ") and "more matches" in lines[-1]
    check_memory(runtime)


def test_many_files_are_watched_or_refused(runtime: LocalRuntimeProcess, session: Any) -> None:
    assert call(session, "get_file_change", path="many") == (True, "[]")
    session.code.run_code("for n in range(3_000): open(f'many/new-{n}', 'w')", "python")
    seen: list[str] = []
    while changes := json.loads(call(session, "get_file_change", path="many")[1]):
        # A new file is created and modified.
        assert len(changes) <= 2_001
        seen += [change["path"] for change in changes if change["eventType"] == "create"]
    assert len(seen) == len(set(seen)) == 3_000
    done, text = call(session, "get_file_change", path="deep")
    assert not done and "can't be watched" in text
    check_memory(runtime)


def test_links_in_a_circle_end_nothing(session: Any) -> None:
    done, text = call(session, "list_directory", path="odd")
    assert done and {"[FILE] loop", "[DIR] up", "[FILE] fifo"} <= set(text.split("\n"))
    done, text = call(session, "search_files", path="odd", pattern="fifo")
    assert done and text.endswith("/odd/fifo") and "\n" not in text
    assert not call(session, "read_file", path="odd/loop")[0]


NO_FILES = (
    *("/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/stdin", "odd/fifo", "odd/socket"),
    *("odd/to-fifo", "odd/to-zero", "odd", "/proc/kmsg", "/proc/self/fd", "/proc/self/mem"),
)


@pytest.mark.parametrize("tool", ["read_file", "write_file", "edit_file", "read_multiple_files"])
def test_only_regular_files_are_opened(
    runtime: LocalRuntimeProcess, session: Any, tool: str
) -> None:
    for path in NO_FILES:
        if tool == "write_file" and path == "/proc/self/mem":
            continue
        arguments: dict[str, dict[str, Any]] = {
            "read_file": {"path": path},
            "write_file": {"path": path, "content": ""},
            "edit_file": {"path": path, "edits": []},
            "read_multiple_files": {"paths": [path, "odd/../small"]},
        }
        done, text = call(session, tool, **arguments[tool])
        if tool == "read_multiple_files":
            assert done, path
            refused, _, read = text.partition("\n---\n")
            assert "Error - " in refused and "small" in read, path
        else:
            assert not done and "Execution failed" in text, path
    check_memory(runtime)


# Zeros that are stored are read as those that are not.
@pytest.mark.parametrize(
    "name", ["sparse", pytest.param("escapes", marks=pytest.mark.slow), "wide", "broken"]
)
def test_a_long_file_keeps_its_beginning(
    runtime: LocalRuntimeProcess, session: Any, name: str
) -> None:
    done, text = call(session, "read_file", path=name)
    beginning, _, last = text.rpartition("\n")
    assert done and last.startswith("[cut: 4,194,304 bytes from 0 of ")
    assert set(beginning) <= {"\x00", "\U0001f600", "\ufffd"}
    # As base64 there is no place to say so.
    done, text = call(session, "read_file", path=name, format="binary")
    assert not done and "offset and length" in text
    done, text = call(session, "read_file", path=name, format="binary", offset=5, length=3_000_000)
    assert done and len(text) == 4_000_000
    done, text = call(session, "read_file", path=name, offset=1_000, length=40_000_000)
    assert done and "[cut: 4,194,304 bytes from 1,000 of " in text
    check_memory(runtime)


# `make test` has a file of zeros as the others are, and one that is not.
@pytest.mark.parametrize(
    "first", ["ten/0000", "wide", pytest.param("sparse", marks=pytest.mark.slow)]
)
def test_many_files_share_one_answer(
    runtime: LocalRuntimeProcess, session: Any, first: str
) -> None:
    paths = [first, *(f"ten/{number:04d}" for number in range(1, 1_000))]
    done, text = call(session, "read_multiple_files", paths=paths)
    assert done and text.count("[cut: the answer is full") == 1_000
    assert len(text) < 5 * MEGABYTE
    check_memory(runtime)


def test_a_response_that_is_too_large_is_an_error_and_ends_no_session(session: Any) -> None:
    for number in range(5):
        envs = [{"key": f"LARGE{number}", "value": "x" * 7 * MEGABYTE}]
        assert call(session, "set_env", envs=envs) == (True, '{"success": true}')
    keys = [f"LARGE{number}" for number in range(5)]
    succeeded, text = call(session, "get_env", keys=keys)
    assert not succeeded and "larger than 32 MB" in text
    assert call(session, "get_env", keys=keys[:1])[0]
    # Later commands would be started with these.
    call(session, "set_env", envs=[{"key": key, "value": ""} for key in keys])
    assert session.code.run_code("1", "python").success


def test_only_small_files_are_edited(runtime: LocalRuntimeProcess, session: Any) -> None:
    for name in ("sparse", "escapes", "ten/0000"):
        done, text = call(session, "edit_file", path=name, edits=[{"oldText": "a", "newText": "b"}])
        assert not done and "are edited" in text
    session.code.run_code("open('lines', 'w').write('a\\nb\\n' * 100_000)", "python")
    edits = [{"oldText": "a", "newText": "c"}]
    done, text = call(session, "edit_file", path="lines", edits=edits)
    assert done and text.startswith("[cut: 1 edits")
    assert session.code.run_code("open('lines').read()[:4]", "python").result == "'c\\nb\\n'"
    check_memory(runtime)


def test_calls_at_the_same_time_share_the_memory(
    runtime: LocalRuntimeProcess, session: Any
) -> None:
    with ThreadPoolExecutor(8) as threads:
        reads = [threads.submit(call, session, "read_file", path="escapes") for _ in range(6)]
        listings = [threads.submit(call, session, "list_directory", path="many") for _ in range(2)]
        assert all(it.result()[0] for it in (*reads, *listings))
    check_memory(runtime)


def transferred(runtime: LocalRuntimeProcess, session: Any, size: int) -> None:
    """Bring so many bytes into a session and out again, by presigned addresses."""
    client = official_client(runtime)
    context = client.context.get("large", create=True).context

    def pieces() -> Iterator[bytes]:
        for _ in range(size // MEGABYTE):
            yield b"x" * MEGABYTE

    url = client.context.get_file_upload_url(context.id, "/workspace/large").url
    assert requests.put(url, data=pieces(), timeout=300).status_code == 200
    check_memory(runtime)
    fields = {"SessionId": session.session_id, "ContextId": context.id, "Path": "/workspace/large"}
    done = requests.post(
        f"{runtime.endpoint}/?Action=SyncContext",
        data={"Authorization": runtime.api_key, "Mode": "download", **fields},
        timeout=300,
    )
    assert done.json()["Success"]
    told = json.loads(call(session, "shell", command="stat -c %s /workspace/large")[1])
    assert told["stdout"].strip() == str(size)
    check_memory(runtime)
    url = client.context.get_file_download_url(context.id, "/workspace/large").url
    with requests.get(url, stream=True, timeout=300) as got:
        assert sum(map(len, got.iter_content(MEGABYTE))) == size
    check_memory(runtime)
    assert client.context.delete(context).success
    call(session, "delete_file", path="/workspace/large")


@pytest.mark.sandboxed
def test_a_large_file_goes_through_in_pieces(runtime: LocalRuntimeProcess, session: Any) -> None:
    transferred(runtime, session, 250 * MEGABYTE)


@pytest.mark.slow
@pytest.mark.sandboxed
@pytest.mark.timeout(600)
def test_a_gigabyte_goes_through_in_pieces(runtime: LocalRuntimeProcess, session: Any) -> None:
    transferred(runtime, session, 1024 * MEGABYTE)


def test_what_is_no_file_is_not_copied(runtime: LocalRuntimeProcess, session: Any) -> None:
    contexts = official_client(runtime).context
    context = contexts.get("copied", create=True).context
    both = (
        "odd",
        "odd/fifo",
        "odd/socket",
        "odd/loop",
        "/dev/full",
        "/proc/self/mem",
        "/proc/none",
    )
    cases = [(mode, path) for mode in ("download", "upload") for path in both]
    cases += [("upload", "odd/to-zero"), ("upload", "odd/none"), ("download", "ten/0000/below")]
    before = psutil.Process(runtime.process.pid).num_fds()
    for mode, path in cases:
        at = {"SessionId": session.session_id, "ContextId": context.id, "Path": path}
        # More than a socket holds: whoever sends it must see that nobody takes it.
        url = contexts.get_file_upload_url(context.id, path).url
        assert requests.put(url, data=b"x" * 5 * MEGABYTE, timeout=60).ok
        assert post(runtime, "SyncContext", Mode=mode, **at).ok
        told = post(runtime, "GetContextInfo", TaskType=mode, **at).json()["Data"]["ContextStatus"]
        task = json.loads(json.loads(told)[0]["data"])[-1]
        assert task["status"] == "Failed" and task["errorMessage"], (mode, path)
    # Connections of clients come and go; both ends of each copy would be more.
    assert psutil.Process(runtime.process.pid).num_fds() < before + len(cases)
    assert contexts.delete(context).success


# Node looks at each body for two seconds.
@pytest.mark.parametrize("tool", ["write_file", pytest.param("run_code", marks=pytest.mark.slow)])
def test_large_bodies_with_a_wide_character_share_the_memory(
    runtime: LocalRuntimeProcess, session: Any, tool: str
) -> None:
    # One such character makes four bytes of each in Python's memory. To Node it is a comment only;
    # IPython would look at it for seconds.
    text = "//" + "x" * 15_900_000 + "\U0001f600"
    arguments = {
        "write_file": {"path": "wide-body", "content": text},
        "run_code": {"language": "javascript", "code": text},
    }[tool]
    body = json.dumps({"tool": tool, "args": arguments, "requestId": "1"}, ensure_ascii=False)
    data = body.encode()

    form = {"SessionId": session.session_id, "Name": tool, "Args": json.dumps(arguments)}

    def send(_: int) -> bool:
        headers = {"X-Access-Token": session.token, "Content-Type": "application/json"}
        url = f"{session.link_url}/callTool"
        done = requests.post(url, data=data, headers=headers, timeout=100)
        return not json.loads(done.json()["data"])["result"]["isError"]

    def act(_: int) -> bool:
        fields = {"Authorization": runtime.api_key, **form}
        url = f"{runtime.endpoint}/?Action=CallMcpTool"
        return not requests.post(url, data=fields, timeout=100).json()["Data"]["isError"]

    with ThreadPoolExecutor(3) as threads:
        # What runs code has it a third time; Node looks at it for two seconds of each call.
        ways = (send, send, act) if tool == "write_file" else (send, act)
        calls = [threads.submit(it, 0) for it in ways]
        assert all(it.result() for it in calls)
    check_memory(runtime)


def test_an_upload_that_is_cut_off_leaves_the_file_as_it_was(runtime: LocalRuntimeProcess) -> None:
    client = official_client(runtime)
    context = client.context.get("cut", create=True).context
    url = client.context.get_file_upload_url(context.id, "/tmp/f").url
    assert requests.put(url, data=b"whole", timeout=30).status_code == 200

    def cut_off() -> Iterator[bytes]:
        yield b"half"
        raise InterruptedError

    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=cut_off(), timeout=30)
    got = client.context.get_file_download_url(context.id, "/tmp/f").url
    assert requests.get(got, timeout=30).content == b"whole"


def test_files_of_a_context_are_listed_in_pages_and_deleted(runtime: LocalRuntimeProcess) -> None:
    contexts = official_client(runtime).context
    context = contexts.get("listed", create=True).context
    for path in ("/d/a.txt", "/d/b.bin", "/d/sub/c.txt", "/other/d.txt"):
        url = contexts.get_file_upload_url(context.id, path).url
        assert requests.put(url, data=path.encode(), timeout=30).ok
    listed = contexts.list_files(context.id, "/d")
    assert listed.success and listed.count == 2
    entries = [(it.file_name, it.file_path, it.file_type, it.size) for it in listed.entries]
    assert entries == [("a.txt", "/d/a.txt", "txt", 8), ("b.bin", "/d/b.bin", "bin", 8)]
    assert all(it.file_id and it.gmt_modified and it.status for it in listed.entries)
    for parent in ("/d/", "d", "/d/sub/.."):
        assert contexts.list_files(context.id, parent).count == 2
    first = contexts.list_files(context.id, "/d", max_results=1)
    assert [it.file_name for it in first.entries] == ["a.txt"] and first.next_token
    second = contexts.list_files(context.id, "/d", max_results=1, next_token=first.next_token)
    assert [it.file_name for it in second.entries] == ["b.bin"] and not second.next_token
    paged = contexts.list_files(context.id, "/d", page_number=2, page_size=1)
    assert [it.file_name for it in paged.entries] == ["b.bin"]
    assert contexts.delete_file(context.id, "/d/a.txt").success
    assert contexts.list_files(context.id, "/d").count == 1
    assert contexts.list_files(context.id, "/nothing").entries == []
    refused = post(runtime, "DescribeContextFiles", ContextId="none", ParentFolderPath="/")
    assert refused.status_code == 400 and "InvalidContext.NotFound" in refused.text
