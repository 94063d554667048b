"""The session manager over a real service: named sessions, limits, attach, recipes, rerun."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from agentbay import AgentBay as OfficialAgentBay

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import (
    AttachedSessionError,
    BridgeError,
    QuotaError,
    RecipeError,
    SessionError,
    SessionLimitError,
    SessionNotFoundError,
    SetupError,
)
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import AgentBay
from agentbay_kernel.sessions import SessionManager, read_recipe, top
from tests.runtime import running_local_runtime
from tests.sessions.conftest import Service, wait_until

MakeManager = Callable[..., SessionManager]


def run(manager: SessionManager, code: str, name: str = "default", **options: str) -> list[Message]:
    return list(manager.execute(Cell(code, options.get("language", "python")), name))


def shown(messages: list[Message]) -> str:
    """Texts of streams and results."""
    return "".join(
        str(one.content.get("text") or one.content.get("data", {}).get("text/plain", ""))
        for one in messages
    )


def test_sessions_have_names_labels_and_a_life_and_nothing_of_the_user(
    service: Service, manager: MakeManager
) -> None:
    one = manager(notebook="/home/someone/kernel-1.json")
    run(one, "x = 1")
    run(one, "x = 2", "second")
    assert "1" in shown(run(one, "x")) and "2" in shown(run(one, "x", "second"))
    assert len(service.ids()) == 2
    live = {it.name: it for it in one.sessions()}["second"]
    labels = live.session.get_labels().labels
    assert set(labels) == {"tool", "version", "owner", "session", "agentbay_kernel_create"}
    assert labels["session"] == "second" and labels["owner"] == one.store.registry.owner.id
    assert live.lifetime is not None
    assert round(live.lifetime.ends_at - live.created_at) == 480 * 60
    one.close()
    assert service.ids() == set() and service.records() == []


def test_more_sessions_than_allowed_are_refused_with_a_list_of_ones_own(
    service: Service, manager: MakeManager
) -> None:
    first, second = manager(max_sessions=2), manager(max_sessions=2)
    first.open("one")
    first.open("two")
    with pytest.raises(SessionLimitError) as refused:
        second.open()
    said = str(refused.value)
    assert all(session_id in said for session_id in service.ids())
    assert "min old" in said and "%agentbay delete" in said and "sessions delete" in said
    # One that the service has released meanwhile does not count.
    service.client.delete_by_id(first.sessions()[0].session.session_id)
    assert second.open().session.session_id in service.ids()


def test_a_full_account_lists_ones_own_sessions_with_age_and_how_to_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_local_runtime("--idle-seconds", "0", "--max-sessions", "3") as runtime:
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        other = client.create().session
        assert other is not None
        monkeypatch.setenv("AGENTBAY_ENDPOINT", runtime.endpoint)
        monkeypatch.setenv("AGENTBAY_API_KEY", runtime.api_key)
        settings = AgentBaySettings(state_dir=str(tmp_path), max_sessions=1000)
        here, elsewhere = SessionManager(settings), SessionManager(settings)
        mine = {here.open("one").session.session_id, elsewhere.open("two").session.session_id}
        with pytest.raises(QuotaError) as refused:
            here.open("three")
        said = str(refused.value)
        assert all(session_id in said for session_id in mine)
        assert other.session_id not in said
        assert "0 min old" in said
        assert "%agentbay delete" in said and "sessions delete SESSION_ID" in said
        # Nothing stands in the state file that was not created.
        assert {record.session_id for record in here.store.own_records()} == mine
        here.delete("one")
        wait_until(lambda: len(list(client.list_all())) == 2, "it has ended")
        assert here.open("three").session.session_id not in mine
        here.close()
        elsewhere.close()


def test_a_create_that_failed_stands_as_one_that_is_to_end(
    service: Service, manager: MakeManager
) -> None:
    one = manager()
    mine = one.open("one").session.session_id
    service.behave(faults=[{"kind": "http_500", "probability": 1.0, "action": "CreateMcpSession"}])
    with pytest.raises(Exception, match="InternalError"):
        one.open("two")
    service.behave()
    assert [it.session_id for it in service.records() if it.stage != "ending"] == [mine]


def test_a_notebook_changes_the_execution_of_a_session_that_is_there(
    service: Service, manager: MakeManager
) -> None:
    one = manager()
    run(one, "x = 'of the bridge'")
    live = one.open()
    execution = live.execution_in_use("python")
    assert execution is not None and execution.kind == "bridged"
    assert live.why("python") == "the sandbox can run a bridge"
    one.settings.change_in_notebook([("execution", "direct")])
    assert live.why("python") == "the setting execution is direct"
    assert "of the session" in shown(run(one, "x = 'of the session'; x"))
    execution = live.execution_in_use("python")
    assert execution is not None and execution.kind == "direct"
    one.settings.change_in_notebook([("execution", "auto")])
    assert "of the bridge" in shown(run(one, "x"))
    service.behave(bridgeable=False)
    two = manager()
    run(two, "1")
    live = two.open()
    assert "can't run a bridge" in live.why("python")
    # A bridge that is insisted on is tried again, and is never replaced by less.
    two.settings.change_in_notebook([("execution", "bridged")])
    with pytest.raises(BridgeError):
        run(two, "1")


def test_an_attached_session_is_used_as_it_is_and_never_ended(
    service: Service, manager: MakeManager
) -> None:
    session_id = service.create(owner="an agent")
    owner = service.client.get(session_id).session
    assert owner is not None
    owner.code.run_code("theirs = 5", "python")
    one = manager()
    one.attach(session_id)
    assert "6" in shown(run(one, "theirs + 1"))
    look = "import sys; '_agentbay_bridge' in sys.modules"
    assert owner.code.run_code(look, "python").result == "False"
    assert owner.get_labels().labels["owner"] == "an agent"
    for refused in (one.delete, one.restart, one.stop_cells, lambda: one.extend(60)):
        with pytest.raises(AttachedSessionError):
            refused()
    with pytest.raises(SessionError, match="detach"):
        one.attach(session_id)
    one.close()
    assert service.ids() == {session_id}
    two = manager()
    # Its owner may have a bridge of its own in it.
    owners = manager()
    owners.attach(session_id, bridged=True)
    run(owners, "kept = 1")
    two.attach(session_id, bridged=True)
    assert "NameError" in str(run(two, "theirs"))
    assert "NameError" in str(run(two, "kept"))
    assert two.restart() is True
    run(two, "mine = 1")
    assert two.detach() == session_id
    assert "1" in shown(run(owners, "kept"))
    bridges = "import sys; sum(name.startswith('_agentbay_bridge') for name in sys.modules)"
    assert owner.code.run_code(bridges, "python").result == "1"
    owners.detach()
    assert owner.code.run_code(bridges, "python").result == "0"
    two.attach(session_id)
    assert two.delete(force=True) == session_id
    assert session_id not in service.ids()


def test_a_session_object_of_the_official_sdk_and_the_setting_attach_too(
    service: Service, manager: MakeManager
) -> None:
    session_id = service.create()
    official = OfficialAgentBay(service.runtime.api_key).get(session_id).session
    one = manager()
    assert one.attach(official).session.session_id == session_id
    two = manager(session_id=session_id)
    assert two.open().attached
    two.close()
    assert service.ids() == {session_id}
    with pytest.raises(SessionNotFoundError, match="Nothing was created"):
        manager(session_id="session-none").open()
    with pytest.raises(SessionError, match="names no session"):
        one.attach(5, "other")


def test_a_cell_that_waits_behind_its_owners_work_says_so_and_look_does_not_wait(
    service: Service, manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = service.create()
    owner = service.client.get(session_id).session
    assert owner is not None
    owner.code.run_code("import threading, time; free = 1", "python")
    one = manager()
    one.attach(session_id)
    release = "/tmp/agentbay-release"
    busy = (
        "import os, time\nopen('/tmp/agentbay-begun', 'w').close()\n"
        "while not os.path.exists('/tmp/agentbay-release'): time.sleep(.02)"
    )
    work = threading.Thread(target=owner.code.run_code, args=(busy, "python"))
    work.start()
    begun = {"command": "test -e /tmp/agentbay-begun"}
    wait_until(lambda: owner.call_mcp_tool("shell", begun).success, "the owner's code has begun")
    running = one.execute(Cell("free + 1", "python"))
    messages: list[Message] = []
    while "waits" not in shown(messages):
        messages.append(next(running))
    assert session_id in shown(messages)
    with monkeypatch.context() as patch:
        # Less than usual.
        patch.setattr(top, "_ANSWER_S", 0.5)
        seen = one.top()
    assert "busy" in seen.problems["variables"]
    assert "PID" in seen.processes and seen.files and seen.metrics
    assert owner.call_mcp_tool("shell", {"command": f"touch {release}"}).success
    messages += running
    work.join()
    assert messages[-1].content["status"] == "ok" and "2" in shown(messages)
    assert {it.name: it.type for it in one.top().variables}["free"] == "int"


def test_look_shows_a_bridged_sessions_variables_also_while_a_cell_runs(
    service: Service, manager: MakeManager
) -> None:
    one = manager()
    run(one, "words = ['a', 'b', 'c']; _hidden = 1")
    messages = one.execute(Cell("print('begun', flush=True)\nwhile True: pass", "python"))
    while "begun" not in shown([next(messages)]):
        pass
    seen = one.top()
    by_name = {it.name: it for it in seen.variables}
    assert by_name["words"].type == "list" and by_name["words"].shape == "3", seen.problems
    assert "_hidden" not in by_name
    one.stop_cells()
    assert "KeyboardInterrupt" in str(list(messages))


def test_the_cells_of_a_lost_session_run_again_only_when_asked(
    service: Service, manager: MakeManager
) -> None:
    one = manager()
    run(one, "numbers = [1]")
    run(one, "numbers.append(2); print('again', len(numbers))")
    session = one.sessions()[0].session
    service.clear()
    # What is sent to one that is just ending may have run.
    wait_until(lambda: session.get_status().status != "DELETING", "it has ended")
    with pytest.raises(SessionNotFoundError, match="rerun"):
        run(one, "numbers")
    assert "NameError" in str(run(one, "numbers"))
    lost = one.store.lost()
    assert lost is not None and len(lost.cells) == 2
    messages = list(one.rerun())
    assert "[1/2]" in shown(messages) and "again 2" in shown(messages)
    assert messages[-1].type == "execute_reply"
    assert "[1, 2]" in shown(run(one, "numbers"))
    assert one.store.lost() is None
    with pytest.raises(SessionError, match="nothing to rerun"):
        list(one.rerun())


def test_a_restart_begins_anew_in_the_same_session(service: Service, manager: MakeManager) -> None:
    one = manager()
    run(one, "x = 1; open('kept', 'w').write('yes')")
    run(one, "globalThis.y = 1", language="javascript")
    before = service.ids()
    assert one.restart() is True
    assert "NameError" in str(run(one, "x"))
    assert "undefined" in shown(run(one, "typeof y", language="javascript"))
    assert "yes" in shown(run(one, "open('kept').read()"))
    assert service.ids() == before
    two = manager(execution="direct")
    run(two, "x = 1", "direct")
    assert two.restart("direct") is False
    assert "NameError" in str(run(two, "x", "direct"))
    with pytest.raises(SessionError, match="In use: direct"):
        two.restart("other")


def test_a_recipe_is_given_to_each_new_session(
    service: Service, manager: MakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prices.csv").write_bytes(bytes(range(256)) * 500)
    (tmp_path / "agentbay.toml").write_text('files = ["data"]\nenv = ["TOKEN"]\n')
    monkeypatch.setenv("TOKEN", 'it\'s "secret"')
    one = manager(setup_env=["TOKEN"])
    code = "import os; open('data/prices.csv', 'rb').read() == bytes(range(256)) * 500"
    for name in ("one", "two"):
        assert "True" in shown(run(one, code, name))
        assert json.dumps('it\'s "secret"') in shown(
            run(one, "import json; print(json.dumps(os.environ['TOKEN']))", name)
        )
    # A recipe of a cell replaces the file's, also for the session that is there.
    (tmp_path / "more.txt").write_text("more")
    one.store.set_recipe(read_recipe('files = ["more.txt"]', tmp_path, "a cell", []))
    assert "more" in shown(run(one, "print(open('more.txt').read())", "one"))


def test_what_can_not_be_set_up_is_told_and_tried_again(
    service: Service, manager: MakeManager, tmp_path: Path
) -> None:
    one = manager()
    one.store.set_recipe(read_recipe('pip = ["./no-such-package.whl"]', tmp_path, "a cell", []))
    with pytest.raises(SetupError, match="pip"):
        run(one, "print('ran')")
    assert len(service.ids()) == 1
    one.store.set_recipe(None)
    assert "ran" in shown(run(one, "print('ran')"))
    assert len(service.ids()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('files = ["../outside"]', "in the notebook's directory"),
        ('files = ["/etc/passwd"]', "in the notebook's directory"),
        ('files = [".env"]', "dot"),
        ('files = ["link"]', "link"),
        ('files = ["none.csv"]', "none.csv"),
        ('env = ["TOKEN"]', "setup_env"),
        ('env = ["AGENTBAY_API_KEY"]', "enters no sandbox"),
        ('pip = ["--index-url=http://evil"]', "option"),
        ('pip = "rich"', "list of texts"),
        ('shell = ["rm"]', "has no shell"),
        ("pip = [", "not valid TOML"),
    ],
)
def test_a_recipe_reaches_only_what_it_may(
    service: Service, manager: MakeManager, tmp_path: Path, text: str, words: str
) -> None:
    folder = tmp_path / "notebook"
    folder.mkdir()
    (folder / ".env").write_text("AGENTBAY_API_KEY=no")
    (tmp_path / "outside").write_text("no")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "agentbay.toml").write_text(text)
    allowed = ["AGENTBAY_API_KEY"] if "AGENTBAY" in text else []
    with pytest.raises(RecipeError, match=words):
        read_recipe(text, folder, "agentbay.toml", allowed)
    with pytest.raises(RecipeError):
        SessionManager(manager(setup_env=allowed).settings, folder=folder).open()
    assert service.ids() == set()
