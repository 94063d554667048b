"""What takes long stands behind cells that begin in other sessions; as root and as a user."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agentbay import CreateSessionParams

from tests.local.conftest import drop, official_client
from tests.local.test_watch import first, last, ordinary_user, users
from tests.runtime import LocalRuntimeProcess, running_local_runtime

pytestmark = pytest.mark.sandboxed

ENABLED = Path("/proc/sys/kernel/sched_autogroup_enabled")
# Where Linux does not share the processor among groups, nothing changes.
BEHIND = 10 if ENABLED.exists() and ENABLED.read_text().strip() == "1" else 0
# Reads the weight of a process's group until it is the one that is waited for.
WAIT = """
import time
def wait(process, nice):
    while True:
        told = open(f"/proc/{process}/autogroup").read()
        if not told or told.rpartition(" nice ")[2].strip() == str(nice):
            return
        time.sleep(0.02)
"""
AGENT = 1


@pytest.fixture(scope="module", params=users())
def runtime(request: pytest.FixtureRequest) -> Iterator[LocalRuntimeProcess]:
    """A runtime, started by root and by an ordinary user."""
    prefix = ordinary_user() if request.param == "user" and os.geteuid() == 0 else ()
    env = {"HOME": "/tmp"} if prefix else {}
    with running_local_runtime(
        "--isolation", "required", "--prewarm", "0", env=env, prefix=prefix
    ) as process:
        yield process


@pytest.fixture(scope="module")
def sessions(runtime: LocalRuntimeProcess) -> Iterator[list[Any]]:
    """Two sessions: one that is busy, and one that runs short cells."""
    client = official_client(runtime)
    made = [client.create(CreateSessionParams(image_id="code_latest")).session for _ in range(2)]
    for session in made:
        python(session, WAIT)
    yield made
    for session in made:
        drop(runtime, session)


def python(session: Any, code: str) -> None:
    """Run a cell, which must not fail."""
    result = session.code.run_code(textwrap.dedent(code), "python", timeout_s=60)
    assert result.success, result.error_message


@contextmanager
def repeated(*calls: Callable[[], object]) -> Iterator[None]:
    """While each of these is called again and again."""
    stop = threading.Event()

    def one(call: Callable[[], object]) -> None:
        while not stop.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(one, call) for call in calls]
        try:
            yield
        finally:
            stop.set()
        for it in running:
            it.result()


# As an ordinary user, `make test` has this one; as root, the others.
@last
def test_a_long_cell_is_put_behind_short_ones(sessions: list[Any]) -> None:
    long, short = sessions
    with repeated(lambda: python(short, "1 + 1")):
        python(long, f"wait('self', {BEHIND})")
    # The next one starts as any other.
    python(long, "wait('self', 0)")


@first
def test_a_long_command_is_put_behind_short_cells(sessions: list[Any]) -> None:
    long, short = sessions
    # So is the agent, which reads what the command prints.
    groups = ("self", AGENT)
    command = "".join(
        f"until grep -q 'nice {BEHIND}$' /proc/{group}/autogroup; do :; done; " for group in groups
    )
    command += "echo seen"
    with repeated(lambda: python(short, "1 + 1")):
        done = long.command.execute_command(command, timeout_ms=50_000)
    assert done.stdout == "seen\n", done.error_message


@first
def test_work_with_files_is_put_behind_cells(sessions: list[Any]) -> None:
    busy, short = sessions
    prepare = """
        import os
        os.makedirs("many", exist_ok=True)
        for number in range(40_000):
            os.close(os.open(f"many/{number}", os.O_CREAT))
    """
    python(busy, prepare)
    with repeated(
        lambda: python(short, "1 + 1"),
        lambda: busy.file_system.search_files("many", "*1*"),
        lambda: busy.file_system.list_directory("many"),
    ):
        python(busy, f"wait({AGENT}, {BEHIND})")
    python(busy, f"wait({AGENT}, 0)")
