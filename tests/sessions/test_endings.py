"""However a kernel ends, no session of it is left, and none of others is touched."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from jupyter_client.manager import KernelManager

from tests.kernels import RunningKernel, running_kernel, wait_until_ready
from tests.sessions.conftest import Service, wait_until

GRACE_MIN = "0.02"
# Of these a kernel learns in time; its session is deleted at once.
TOLD = ("shutdown", "SIGTERM", "parent")
WAYS = (*TOLD, "restart", "SIGHUP", "SIGKILL", "create")
# A shutdown is in other tests below, a restart in `test_taking_back.py`; of a SIGHUP a kernel
# learns as little as of a SIGKILL.
QUICK_WAYS = ("SIGTERM", "parent", "SIGKILL", "create")
# Starts a kernel, lets it have a session, says so, and is killed.
PARENT = """
    import os, sys, time
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="agentbay-python")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    # Without its outputs: a session that starts slowly says so in one.
    client.execute_interactive("1", timeout=60, output_hook=lambda message: None)
    print(manager.provisioner.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def hang_up_ends_processes() -> Iterator[None]:
    """Also where the tests were started by nohup, whose children ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def _started(env: dict[str, str]) -> Iterator[RunningKernel]:
    """A kernel that nobody shuts down."""
    manager = KernelManager(kernel_name="agentbay-python")
    manager.start_kernel(env={**os.environ, **env})
    client = manager.blocking_client()
    client.start_channels()
    try:
        wait_until_ready(manager, client)
        yield RunningKernel(manager, client)
    finally:
        client.stop_channels()
        with contextlib.suppress(ProcessLookupError):
            os.kill(manager.provisioner.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        manager.provisioner.process.wait()  # type: ignore[union-attr]
        manager.cleanup_resources()


def _end_a_kernel(service: Service, way: str, execution: str = "auto") -> None:
    """Let a kernel have a session and end in that way."""
    env = service.env(grace_minutes=GRACE_MIN, execution=execution)
    if way == "parent":
        parent = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PARENT)],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        wait_until(lambda: not _alive(pid), "the kernel of a dead parent ends")
        return
    with _started(env) as kernel:
        if way == "create":
            before = service.ids()
            fault = {"kind": "hang", "at": [1], "effect": True, "action": "CreateMcpSession"}
            service.behave(faults=[fault])
            kernel.send("1")
            wait_until(lambda: service.ids() > before, "the session is created")
            os.kill(kernel.pid, signal.SIGKILL)
            service.behave()
            return
        ran = kernel.run("1")
        assert ran.reply["status"] == "ok", ran
        if way == "shutdown":
            kernel.client.shutdown()
        elif way == "restart":
            kernel.client.shutdown(restart=True)
        else:
            os.kill(kernel.pid, getattr(signal, way))
        kernel.manager.provisioner.process.wait(30)  # type: ignore[union-attr]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _others(service: Service) -> set[str]:
    """Sessions that prune may not touch, though they look like ours."""
    return {
        service.create(),
        service.create(tool="agentbay-kernel", version="0.1.0", session="default", owner="0" * 32),
    }


def _nothing_is_left_after_the_next_start(service: Service, others: set[str]) -> None:
    time.sleep(float(GRACE_MIN) * 60)
    with running_kernel("agentbay-python", service.env(grace_minutes=GRACE_MIN)) as kernel:
        kernel.run("1")
        wait_until(lambda: len(service.ids()) == len(others) + 1, "what is left is deleted")
        assert others < service.ids()
    wait_until(lambda: service.ids() == others, "the last kernel's session is deleted")
    wait_until(lambda: service.records() == [], "nothing stands in the state file")


@pytest.mark.timeout(300)
def test_however_a_kernel_ends_no_session_is_left_and_none_of_others_touched(
    service: Service,
) -> None:
    others = _others(service)
    for number, way in enumerate(QUICK_WAYS):
        # Without a bridge they start sooner.
        _end_a_kernel(service, way, "bridged" if number % 2 else "direct")
        if way in TOLD:
            wait_until(lambda: service.ids() == others, f"its session is deleted after {way}")
            wait_until(lambda: service.records() == [], "and struck from the state file")
    _nothing_is_left_after_the_next_start(service, others)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_a_hundred_kernels_no_session_is_left_and_none_of_others_touched(
    service: Service,
) -> None:
    others = _others(service)
    ways = [WAYS[number % len(WAYS)] for number in range(100)]
    random.Random(7).shuffle(ways)
    for number, way in enumerate(ways):
        # Without a bridge they start sooner; each way comes with and without.
        _end_a_kernel(service, way, "direct" if number % 3 else "bridged")
    _nothing_is_left_after_the_next_start(service, others)


def test_a_delete_that_takes_too_long_is_finished_by_a_process_of_its_own(service: Service) -> None:
    with _started(service.env()) as kernel:
        kernel.run("1")
        (session_id,) = service.ids()
        # Not carried out, and not answered either.
        fault = {"kind": "hang", "at": [1], "action": "DeleteSessionAsync"}
        service.behave(faults=[fault])
        kernel.client.shutdown()
        kernel.manager.provisioner.process.wait(30)  # type: ignore[union-attr]
    wait_until(lambda: session_id not in service.ids(), "the session is deleted all the same")
    wait_until(lambda: service.records() == [], "and struck from the state file")


def test_a_create_that_is_on_its_way_when_the_kernel_shuts_down_leaves_nothing(
    service: Service,
) -> None:
    with _started(service.env()) as kernel:
        fault = {"kind": "hang", "at": [1], "effect": True, "action": "CreateMcpSession"}
        service.behave(faults=[fault])
        kernel.send("1")
        wait_until(lambda: service.ids() != set(), "the session is created")
        kernel.client.shutdown()
        kernel.manager.provisioner.process.wait(30)  # type: ignore[union-attr]
    wait_until(lambda: service.ids() == set(), "it is found by its mark and deleted")
    wait_until(lambda: service.records() == [], "and struck from the state file")
