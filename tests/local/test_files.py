"""Files through the official SDK: the filesystem tools and file transfer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests


@pytest.fixture
def folder(session: Any, request: pytest.FixtureRequest) -> str:
    """A folder of the test's own in the session, as an absolute path."""
    name = request.node.name.replace("[", "-").replace("]", "")
    path = f"{session.command.execute_command('pwd').stdout.strip()}/{name}"
    assert session.file_system.create_directory(path).success
    return path


def test_text_is_written_appended_and_read(session: Any, folder: str) -> None:
    files = session.file_system
    assert files.write_file(f"{folder}/sub/a.txt", "häl\n").success
    assert files.write_file(f"{folder}/sub/a.txt", "lo\n", mode="append").success
    assert files.read_file(f"{folder}/sub/a.txt").content == "häl\nlo\n"
    assert session.code.run_code(f"open('{folder}/sub/a.txt').read()", "python").result == (
        "'häl\\nlo\\n'"
    )


@pytest.mark.parametrize("size", [0, 51 * 1024, 3_000_001])
def test_files_of_any_size(session: Any, folder: str, size: int) -> None:
    text = ("0123456789" * (size // 10 + 1))[:size]
    assert session.file_system.write_file(f"{folder}/large", text).success
    assert session.file_system.read_file(f"{folder}/large").content == text


def test_binary_is_read(session: Any, folder: str) -> None:
    session.code.run_code(f"open('{folder}/b', 'wb').write(bytes(range(256)))", "python")
    assert session.file_system.read_file(f"{folder}/b", format="bytes").content == bytes(range(256))


def test_what_a_file_is(session: Any, folder: str) -> None:
    session.file_system.write_file(f"{folder}/a.txt", "12345")
    info = session.file_system.get_file_info(f"{folder}/a.txt").file_info
    assert info["name"] == "a.txt" and info["size"] == 5
    assert info["isFile"] is True and info["isDirectory"] is False


def test_listing_moving_deleting_searching(session: Any, folder: str) -> None:
    files = session.file_system
    for name in ("one.txt", "two.py", "deep/three.txt"):
        files.write_file(f"{folder}/{name}", name)
    entries = {entry.name: entry.is_directory for entry in files.list_directory(folder).entries}
    assert entries == {"deep": True, "one.txt": False, "two.py": False}
    found = files.search_files(folder, "*.txt").matches
    assert sorted(found) == [f"{folder}/deep/three.txt", f"{folder}/one.txt"]
    assert files.search_files(folder, "*.txt", ["deep"]).matches == [f"{folder}/one.txt"]
    assert not files.move_file(f"{folder}/one.txt", f"{folder}/two.py").success
    assert files.move_file(f"{folder}/one.txt", f"{folder}/moved.txt").success
    assert files.delete_file(f"{folder}/two.py").success
    names = [entry.name for entry in files.list_directory(folder).entries]
    assert sorted(names) == ["deep", "moved.txt"]


def test_editing(session: Any, folder: str) -> None:
    files = session.file_system
    files.write_file(f"{folder}/e", "a b a")
    edit = [{"oldText": "a", "newText": "c"}]
    assert files.edit_file(f"{folder}/e", edit, True).success
    assert files.read_file(f"{folder}/e").content == "a b a"
    assert files.edit_file(f"{folder}/e", edit).success
    assert files.read_file(f"{folder}/e").content == "c b a"
    assert not files.edit_file(f"{folder}/e", [{"oldText": "zzz", "newText": ""}]).success


def test_several_files_at_once(session: Any, folder: str) -> None:
    for name in ("a", "b"):
        session.file_system.write_file(f"{folder}/{name}", f"{name}\nend")
    read = session.file_system.read_multiple_files([f"{folder}/a", f"{folder}/b"])
    assert read.contents == {f"{folder}/a": "a\nend", f"{folder}/b": "b\nend"}


def test_changes_since_the_last_question(session: Any, folder: str) -> None:
    files = session.file_system
    files.write_file(f"{folder}/old", "x")
    # The first question only establishes what there is.
    assert files._get_file_change(folder).events == []
    files.write_file(f"{folder}/new", "x")
    files.delete_file(f"{folder}/old")
    events = [(e.event_type, Path(e.path).name) for e in files._get_file_change(folder).events]
    assert events == [("create", "new"), ("modify", "new"), ("delete", "old")]


def test_errors_are_the_operating_systems(session: Any, folder: str) -> None:
    failed = session.file_system.read_file(f"{folder}/missing")
    assert not failed.success
    assert "Execution failed. Error code:2" in failed.error_message


@pytest.mark.parametrize("size", [0, 100, 9_000_000])
def test_files_are_transferred_by_presigned_addresses(
    session: Any, tmp_path: Path, size: int
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(size))
    remote = f"{session.file_system.get_file_transfer_context_path()}/sent-{size}.bin"
    sent = session.file_system.upload_file(str(there), remote, wait_timeout=30)
    assert sent.success, sent.error_message
    assert session.command.execute_command(f"stat -c %s {remote}").stdout.strip() == str(size)
    got = session.file_system.download_file(remote, str(back), wait_timeout=30)
    assert got.success, got.error_message
    assert back.read_bytes() == there.read_bytes()


@pytest.mark.sandboxed
def test_a_new_session_has_its_transfer_folder(make_session: Any) -> None:
    session = make_session()
    there = session.file_system.get_file_transfer_context_path()
    assert there == "/tmp/file-transfer"
    listed = session.file_system.list_directory("/tmp").entries
    # Others may stand there, on the way to this checkout's own environment.
    assert ("file-transfer", True) in [(entry.name, entry.is_directory) for entry in listed]
    made = session.command.execute_command(f"cd {there} && touch mine && rm mine && ls -A")
    assert made.success and made.stdout == ""


def test_a_missing_file_is_not_downloaded(session: Any, tmp_path: Path) -> None:
    got = session.file_system.download_file("/tmp/nope", str(tmp_path / "x"), wait_timeout=5)
    assert not got.success


def test_a_presigned_address_is_for_one_way_only(client: Any, session: Any) -> None:
    context = client.context.get("presigned", create=True).context
    url = client.context.get_file_upload_url(context.id, "/tmp/f").url
    assert requests.get(url, timeout=30).status_code == 403
    assert requests.put(url, data=b"x", timeout=30).status_code == 200
    assert requests.put(url[:-3] + "abc", data=b"x", timeout=30).status_code == 403


def test_contexts_are_made_listed_renamed_and_deleted(client: Any) -> None:
    made = client.context.get("a context", create=True)
    assert made.success
    listed = [context.name for context in client.context.list().contexts]
    assert "a context" in listed
    made.context.name = "renamed"
    assert client.context.update(made.context).success
    assert client.context.get("renamed").context.id == made.context.id
    assert client.context.delete(made.context).success
    assert not client.context.get("renamed").success


def test_metrics_and_environment(session: Any) -> None:
    metrics = session.get_metrics().metrics
    assert metrics.cpu_count >= 1 and metrics.mem_total > metrics.mem_used > 0
    assert session.env.set({"SET": "a b\n'c'"}).success
    assert session.env.get(["SET"]).envs == {"SET": "a b\n'c'"}
    assert session.command.execute_command('printf %s "$SET"').stdout == "a b\n'c'"


def test_the_tools_are_listed(client: Any, session: Any) -> None:
    tools = {tool.name: tool.server for tool in session.list_mcp_tools().tools}
    assert tools["run_code"] == "wuying_codespace" and tools["read_file"] == "wuying_filesystem"


# Parameters of the functions that a call passes on its way: in the runtime, the agent, the tool.
OURS = ("frame", "pass_fd", "take", "fd", "op", "id", "do", "self", "session", "name", "arguments",
        "watcher", "limit", "operation", "loop", "event")  # fmt: skip


@pytest.mark.parametrize("ours", OURS)
def test_an_argument_of_a_client_is_never_one_of_ours(session: Any, folder: str, ours: str) -> None:
    files = {"path": f"{folder}/kept"}
    tools: dict[str, dict[str, Any]] = {
        "write_file": {"path": f"{folder}/kept", "content": "x"},
        "read_file": files,
        "get_file_info": files,
        "list_directory": {"path": folder},
        "get_file_change": {"path": folder},
        "delete_file": files,
        "run_code": {"code": f"open('{folder}/run', 'w')", "language": "python"},
        "shell": {"command": f"touch {folder}/run"},
        "get_env": {},
    }
    assert session.file_system.write_file(f"{folder}/kept", "as it was").success
    for tool, arguments in tools.items():
        for value in ("read_file", 0):
            done = session.call_mcp_tool(tool, {**arguments, ours: value})
            assert not done.success and f"'{ours}'" in done.error_message, (tool, done)
    assert [entry.name for entry in session.file_system.list_directory(folder).entries] == ["kept"]
    assert session.file_system.read_file(f"{folder}/kept").content == "as it was"
