"""Whose session is it, is that process dead, and what becomes of a damaged state file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentbay_kernel.errors import StateFileError
from agentbay_kernel.sessions.ending import prune
from agentbay_kernel.sessions.ownership import (
    OUTERMOST_SPACE,
    Fate,
    Owner,
    Place,
    owner_status,
    process_start,
    this_process,
)
from agentbay_kernel.sessions.registry import Registry
from agentbay_kernel.sessions.statefile import StateFile
from tests.sessions.conftest import Service

PLACE = "https://agentbay.example"


def _ended() -> Owner:
    """A process that certainly has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(this_process(), pid=process.pid, started=process_start(process.pid) or "")
    assert owner_status(owner) is Fate.ALIVE
    process.communicate(b"\n")
    return owner


def test_a_process_is_dead_only_when_that_is_certain() -> None:
    here, ended = this_process(), _ended()
    assert owner_status(here) is Fate.ALIVE
    assert owner_status(ended) is Fate.DEAD
    # Its number was given to another process.
    assert owner_status(replace(here, started="1")) is Fate.DEAD
    for unknown in (
        replace(ended, host="another/host"),
        replace(ended, space="pid:[4026532999]"),
        replace(ended, started=""),
        replace(ended, pid=0),
        # Alike in user, host name and pid, in a container on another machine.
        replace(ended, boot="another", space="pid:[4026532999]"),
    ):
        assert owner_status(unknown) is Fate.UNKNOWN


def test_a_machine_that_was_started_anew_has_none_of_its_processes_left() -> None:
    here = Place("id/host", "boot-2", OUTERMOST_SPACE)
    before = Owner("0", "id/host", "boot-1", OUTERMOST_SPACE, os.getpid(), "1")
    assert owner_status(before, here) is Fate.DEAD
    for owner, place in (
        # In containers the same id, name and number stand for another machine's process.
        (replace(before, space="pid:[4026532999]"), here),
        (before, replace(here, space="pid:[4026532999]")),
        (replace(before, space="pid:[4026532999]"), replace(here, space="pid:[4026532999]")),
        # Machines without an id may have the same name.
        (replace(before, host="/host"), replace(here, host="/host")),
        (replace(before, boot=""), here),
        (before, replace(here, boot="")),
    ):
        assert owner_status(owner, place) is Fate.UNKNOWN


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(this_process(), pid=process.pid, started=process_start(process.pid) or "")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner_status(owner) is Fate.DEAD
    process.wait()


def _registry(folder: Path, owner: Owner, notebook: str = "") -> Registry:
    registry = Registry(StateFile(folder), notebook, 1000)
    registry.owner = owner
    return registry


def test_owners_alike_in_user_host_and_pid_are_told_apart_by_prune(service: Service) -> None:
    place = service.runtime.endpoint
    dead = _ended()
    owners = {
        "dead": dead,
        "later": replace(dead, started=this_process().started, pid=os.getpid()),
        "container": replace(dead, space="pid:[4026532999]"),
        "machine": replace(dead, host="another/host"),
    }
    ids = {}
    for name, owner in owners.items():
        registry = _registry(service.state_dir, owner)
        record = registry.reserve(name, place, 3600)
        ids[name] = service.create()
        registry.confirm(record.create_label, ids[name])
    others = service.create(tool="agentbay-kernel")
    me = _registry(service.state_dir, this_process())
    assert prune(service.client, me, 3600).deleted == ()
    pruned = prune(service.client, me, 0.0)
    assert [record.session_id for record in pruned.deleted] == [ids["dead"]]
    assert service.ids() == {others, *ids.values()} - {ids["dead"]}
    assert {record.name for record in service.records()} == {"later", "container", "machine"}


# A process that has a session of its own until it is told to end.
OWNER = """
import os, sys
from pathlib import Path
from agentbay_kernel.sessions.registry import Registry
from agentbay_kernel.sessions.statefile import StateFile

folder, name, place, session_id = sys.argv[1:]
registry = Registry(StateFile(Path(folder)), "", 1000)
registry.confirm(registry.reserve(name, place, 3600).create_label, session_id)
print(os.getpid(), flush=True)
input()
"""
# The first process of a container that is called `alike`: owners of the same number follow each
# other in it. The first ends, the second stays until all is over.
CONTAINER = """
import os, subprocess, sys
from pathlib import Path

code, folder, place, *sessions = sys.argv[1:]
numbers = []
for name, session_id in zip(("first", "second"), sessions):
    if numbers:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(numbers[0] - 1))
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder, name, place, session_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    numbers.append(int(process.stdout.readline()))
    if name == "first":
        process.communicate("")
assert numbers[0] == numbers[1], numbers
pruned = subprocess.run([sys.executable, "-m", "agentbay_kernel", "sessions", "prune"], text=True,
                       capture_output=True)
print(numbers[0], pruned.stdout.strip().replace(chr(10), " "), pruned.stderr.strip(), flush=True)
input()
process.communicate("")
"""


def _container(*arguments: str) -> subprocess.Popen[str]:
    """A process that is number 1 in a container with a fixed host name."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["unshare", *rights, "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c"]
    command = 'hostname alike && exec "$@"'
    return subprocess.Popen(
        [*namespaces, command, "sh", sys.executable, "-c", CONTAINER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_real_owners_alike_in_user_host_name_and_pid_are_told_apart(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTBAY_GRACE_MINUTES", "0")
    ids = [service.create() for _ in range(4)]
    common = (OWNER, str(service.state_dir), service.runtime.endpoint)
    told = []
    containers = [_container(*common, *ids[:2]), _container(*common, *ids[2:])]
    try:
        for container in containers:
            assert container.stdout is not None and container.stderr is not None
            line = container.stdout.readline()
            if not line and (why := container.stderr.read()).startswith("unshare"):
                pytest.skip(f"no namespaces here: {why}")
            told.append(line)
        numbers = [line.split()[0] for line in told]
        assert numbers[0] == numbers[1], told
        # In each container, only what the owner left that ended there is deleted: not what the
        # owner has that got its number, and nothing of the other container.
        assert service.ids() == {ids[1], ids[3]}, told
        for number, line in enumerate(told):
            assert f"Deleted {ids[2 * number]}" in line, told
    finally:
        for container in containers:
            with contextlib.suppress(BrokenPipeError, ValueError):
                container.communicate("\n", 60)
    # Out here nobody knows whether they have ended: they are left alone.
    prune(service.client, _registry(service.state_dir, this_process()), 0.0)
    assert service.ids() == {ids[1], ids[3]}


def test_only_one_process_takes_a_session_back(tmp_path: Path) -> None:
    old = _registry(tmp_path, _ended(), "/run/kernel-1.json")
    old.confirm(old.reserve("default", PLACE, 3600).create_label, "session-1")
    assert _registry(tmp_path, this_process(), "/run/kernel-2.json").claim() == []
    takers = [_registry(tmp_path, this_process(), "/run/kernel-1.json") for _ in range(8)]
    claimed: list[str] = []
    threads = [
        threading.Thread(target=lambda t=t: claimed.extend(r.session_id for r in t.claim()))
        for t in takers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert claimed == ["session-1"]


def test_what_was_taken_back_is_not_deleted(tmp_path: Path) -> None:
    old = _registry(tmp_path, _ended(), "/run/kernel-1.json")
    old.reserve("default", PLACE, 3600)
    pruner = _registry(tmp_path, this_process())
    found = pruner.abandoned(PLACE, 0.0)
    assert len(found) == 1
    assert len(_registry(tmp_path, this_process(), "/run/kernel-1.json").claim()) == 1
    assert pruner.claim_abandoned(found) == []


def test_the_state_file_is_its_users_alone_and_holds_no_key(service: Service) -> None:
    _registry(service.state_dir, this_process()).reserve("default", PLACE, 3600)
    path = service.state_dir / "sessions.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.state_dir.stat().st_mode) == 0o700
    assert service.runtime.api_key not in path.read_text()


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from agentbay_kernel.sessions.registry import Registry\n"
        "from agentbay_kernel.sessions.statefile import StateFile\n"
        "registry = Registry(StateFile(Path(sys.argv[1])), '', 1000)\n"
        f"for _ in range(10): registry.reserve('default', {PLACE!r}, 3600)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(StateFile(tmp_path).read()) == 40


@pytest.mark.parametrize(
    "content",
    ["", "no json", "[]", '{"format": 1}', '{"format": 1, "sessions": 5}', "\x00\xff", "[" * 5000],
)
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sessions.json"
    path.write_text(content)
    registry = _registry(tmp_path, this_process())
    registry.reserve("default", PLACE, 3600)
    assert len(registry.records()) == 1
    (aside,) = tmp_path.glob("sessions.json.unreadable-*")
    assert aside.read_text() == content


def test_entries_that_are_no_records_are_never_acted_upon(tmp_path: Path) -> None:
    good = _registry(tmp_path, this_process())
    good.reserve("default", PLACE, 3600)
    path = tmp_path / "sessions.json"
    document = json.loads(path.read_text())
    entry = document["sessions"][0]
    document["sessions"] += [
        5,
        {},
        {**entry, "create_label": ""},
        {**entry, "create_label": "a", "stage": "delete all"},
        {**entry, "create_label": "b", "owner": {**entry["owner"], "pid": "1"}},
        {**entry, "create_label": "c", "more": 1},
        {**entry, "create_label": "d", "session_id": None},
    ]
    path.write_text(json.dumps(document))
    assert [record.create_label for record in good.records()] == [entry["create_label"]]
    assert list(tmp_path.glob("sessions.json.unreadable-*"))


def test_a_file_of_a_newer_version_or_that_is_none_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_text('{"format": 2, "sessions": []}')
    with pytest.raises(StateFileError, match="another version"):
        _registry(tmp_path, this_process()).reserve("default", PLACE, 3600)
    assert path.read_text() == '{"format": 2, "sessions": []}'
    path.unlink()
    (tmp_path / "target").write_text("kept")
    path.symlink_to(tmp_path / "target")
    with pytest.raises(StateFileError, match="not a file"):
        _registry(tmp_path, this_process()).reserve("default", PLACE, 3600)
    assert (tmp_path / "target").read_text() == "kept"


def test_records_of_sessions_that_have_ended_by_their_age_go(tmp_path: Path) -> None:
    registry = _registry(tmp_path, replace(this_process(), host="another/host"))
    registry.reserve("old", PLACE, -700)
    assert [record.name for record in registry.records()] == ["old"]
    registry.reserve("new", PLACE, 3600)
    assert [record.name for record in registry.records()] == ["new"]
    assert time.time() < registry.records()[0].expires_at
