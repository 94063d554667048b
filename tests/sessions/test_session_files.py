"""Data files that a new session gets: which of this machine, and what they are there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import ConfigurationError, RecipeError
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.sessions.files import MOST_BYTES, MOST_FILES, list_files
from tests.kernel.conftest import LOCAL
from tests.kernels import running_kernel
from tests.sessions.conftest import Service
from tests.sessions.test_manager import MakeManager, run, shown

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A notebook's directory with data, and with what must stay here."""
    folder = tmp_path / "notebook"
    (folder / "data" / "inner").mkdir(parents=True)
    (folder / "data" / "prices.csv").write_bytes(bytes(range(256)) * 1000)
    (folder / "data" / "inner" / "größe.txt").write_text("größe")
    (folder / "data" / "empty.csv").touch()
    (folder / "data" / ".env").write_text("AGENTBAY_API_KEY=x")
    (folder / "data" / "server.pem").write_text(KEY)
    (folder / "data" / "id_rsa").write_text(KEY)
    (tmp_path / "outside.csv").write_text("outside")
    (folder / "data" / "link.csv").symlink_to(tmp_path / "outside.csv")
    (folder / "data" / "up").symlink_to(tmp_path)
    (folder / "script.py").write_text("word = 'imported'\n")
    return folder


# Files come by the same calls whatever runs the cells.
@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_each_new_session_gets_read_only_copies(
    service: Service, manager: MakeManager, folder: Path, execution: str
) -> None:
    settings = manager(
        execution=execution, session_files=["data", "script.py", "none"], untrusted=True
    ).settings
    # A submission's own recipe brings nothing of this machine.
    (folder / "agentbay.toml").write_text('files = ["agentbay.toml"]\n')
    one = SessionManager(settings, "notebook.json", folder)
    for name in ("one", "two"):
        told = shown(run(one, "1", name))
        assert "copied 4 files, 256,025 bytes, into the session, read-only" in told
        assert "5 of other types left out" in told and "directory: none (session_files)" in told
        assert "copied" not in shown(run(one, "1", name))
    there = "import os; print(sorted(f'{at}/{f}' for at, _, fs in os.walk('.') for f in fs))"
    assert shown(run(one, there, "one")).strip() == str(
        ["./data/empty.csv", "./data/inner/größe.txt", "./data/prices.csv", "./script.py"]
    )
    same = "open('data/prices.csv', 'rb').read() == bytes(range(256)) * 1000"
    assert "True" in shown(run(one, same, "two"))
    assert "imported" in shown(run(one, "open('script.py').read()", "two"))
    assert "{'0o444'}" in shown(
        run(one, "{oct(os.stat('data/' + n).st_mode & 0o777) for n in ('empty.csv',)}", "one")
    )
    assert "Error" in str(run(one, "open('script.py', 'w')", "one"))
    assert "größe" in shown(
        run(
            one,
            "require('fs').readFileSync('data/inner/größe.txt', 'utf8')",
            "one",
            language="javascript",
        )
    )
    one.close()


def test_a_session_that_is_taken_over_gets_nothing_again(
    service: Service, manager: MakeManager, folder: Path
) -> None:
    settings = manager(session_files=["script.py"]).settings
    first = SessionManager(settings, "notebook.json", folder)
    assert "copied 1 file" in shown(run(first, "open('mine', 'w').close()"))
    ids = service.ids()
    first.store.hand_over()
    second = SessionManager(settings, "notebook.json", folder)
    told = shown(run(second, "import os; os.listdir()"))
    assert "'mine'" in told and "copied" not in told
    assert service.ids() == ids
    second.close()


def test_each_file_stands_in_the_audit_log(
    service: Service, manager: MakeManager, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "audit"
    settings = manager(session_files=["script.py"], audit_log=str(log)).settings
    one = SessionManager(settings, folder=folder)
    one.open()
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert line["name"] == str(folder / "script.py") and line["bytes"] == 18
    one.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside.csv", "not a path in the notebook's directory"),
        ("data/../../outside.csv", "not a path in the notebook's directory"),
        ("/etc/passwd", "not a path in the notebook's directory"),
        ("C:/x", "not a path in the notebook's directory"),
        ("data\\prices.csv", "not a path in the notebook's directory"),
        ("data/link.csv", "a link"),
        ("data/up/outside.csv", "a link"),
        ("data/.env", "start with a dot"),
        (".ssh", "start with a dot"),
        ("data/pipe", "not a file or a directory"),
        ("data/nothing.csv", "which is not in"),
    ],
)
def test_what_is_out_of_reach(folder: Path, name: str, words: str) -> None:
    os.mkfifo(folder / "data" / "pipe")
    with pytest.raises(RecipeError, match=words):
        list_files(folder, (name,), "it")


def test_a_directory_behind_a_link_is_judged_by_where_it_is(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "by-link").symlink_to(folder)
    (file,) = list_files(tmp_path / "by-link", ("script.py",), "it").files
    assert file.name == "script.py" and file.read(()) == b"word = 'imported'\n"


@pytest.mark.parametrize("name", ["data/server.pem", "data/id_rsa", "key.csv"])
def test_a_key_enters_no_session(
    service: Service, manager: MakeManager, folder: Path, name: str
) -> None:
    (folder / "key.csv").write_text(f"1,2,{service.runtime.api_key}\n")
    settings = manager(session_files=[name]).settings
    with pytest.raises(RecipeError, match="holds a key, which enters no sandbox"):
        SessionManager(settings, folder=folder).open()


def test_too_much_is_refused_before_a_session_is_created(
    service: Service, manager: MakeManager, folder: Path
) -> None:
    with (folder / "large.csv").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    settings = manager(session_files=["large.csv"]).settings
    with pytest.raises(RecipeError, match=r"1 files with 100,000,001 bytes, more than 100,000,000"):
        SessionManager(settings, folder=folder).open()
    (folder / "many").mkdir()
    for number in range(MOST_FILES + 1):
        (folder / "many" / f"{number}.txt").touch()
    settings = manager(session_files=["many"]).settings
    with pytest.raises(RecipeError, match="more than 2,000 files"):
        SessionManager(settings, folder=folder).open()
    assert service.ids() == set()


@pytest.mark.parametrize("value", ["../x", "/x", ".env", "data/.env", "a\\b", "~/../x/..", "./x"])
def test_the_setting_names_only_what_is_below(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_SESSION_FILES", f"data/, {value}")
    with pytest.raises(ConfigurationError, match="is not a relative path"):
        load_settings()


NOTEBOOKS = {**LOCAL, "AGENTBAY_SESSION_FILES": "data, ., script.py", "AGENTBAY_UNTRUSTED": "1"}


def test_a_notebook_shows_them_and_can_not_configure_them(folder: Path) -> None:
    with running_kernel("agentbay-python", NOTEBOOKS, folder) as kernel:
        first = kernel.run("print(sum(len(open('data/' + n).name) for n in ['prices.csv']))")
        assert "AgentBay: copied 4 files, 256,025 bytes" in first.notices()
        refused = kernel.run("%agentbay config session_files=.")
        assert refused.of_type("error")[0]["ename"] == "NotAllowedError"
        shown = kernel.run("%agentbay setup").of_type("display_data")[0]["data"]["text/plain"]
        assert "data, ., script.py" in shown


# `make test` has the kernel's; the magics use the same manager of sessions.
@pytest.mark.slow
def test_a_notebook_of_another_kernel_shows_them_too(folder: Path) -> None:
    with running_kernel("python3", NOTEBOOKS, folder) as kernel:
        kernel.run("%load_ext agentbay_kernel")
        told = kernel.run("%%agentbay python\nprint(open('script.py').read())")
        assert "copied 4 files" in told.notices() and "imported" in told.text()
