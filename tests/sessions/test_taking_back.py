"""A notebook takes its session back after a crash, and begins anew in it after a restart."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kernels import RunningKernel, running_kernel, wait_until_ready
from tests.sessions.conftest import Service, wait_until

# Cells that stop half-way until there is a file `go`.
LONG_CELL = """
import os, time
kept = 41
for number in range(12):
    while number == 6 and not os.path.exists("go"): time.sleep(.02)
    print("line", number, flush=True)
    open("numbers", "a").write(f"{number}\\n")
kept + 1
"""
LONG_JAVASCRIPT_CELL = r"""
const fs = require('fs');
globalThis.kept = 41;
for (let number = 0; number < 12; number++) {
  while (number === 6 && !fs.existsSync('go')) await new Promise((go) => setTimeout(go, 20));
  console.log('line ' + number);
  fs.appendFileSync('numbers', number + '\n');
}
kept + 1
"""


def _kill(kernel: RunningKernel) -> None:
    process = kernel.manager.provisioner.process  # type: ignore[union-attr]
    process.kill()
    process.wait()


def _start_again(kernel: RunningKernel) -> None:
    """As a Jupyter server does with a kernel that was killed: again, by the same file."""
    kernel.manager.restart_kernel(now=True)
    wait_until_ready(kernel.manager, kernel.client)


def _killed_and_restarted(kernel: RunningKernel) -> None:
    _kill(kernel)
    _start_again(kernel)


def _shell(service: Service, command: str) -> bool:
    """Run a command in the one session; was its exit code 0?"""
    (session_id,) = service.ids()
    session = service.client.get(session_id).session
    assert session is not None
    return session.call_mcp_tool("shell", {"command": command}).success


# The bridge takes up either language in the same way; `make test` has Python.
@pytest.mark.parametrize(
    ("name", "code", "read"),
    [
        ("agentbay-python", LONG_CELL, "print('now', kept, open('numbers').read())"),
        pytest.param(
            "agentbay-javascript",
            LONG_JAVASCRIPT_CELL,
            "console.log('now', kept, fs.readFileSync('numbers', 'utf8'))",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["python", "javascript"],
)
# `make test` has the kernel that has noted what it has shown.
@pytest.mark.parametrize(
    "noted", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["noted", "at once"]
)
def test_after_a_kill_during_a_long_cell_variables_and_the_rest_of_the_output_are_back(
    service: Service, name: str, code: str, read: str, noted: bool
) -> None:
    with running_kernel(name, service.env()) as kernel:
        kernel.run("1")  # the first cell also says where it runs
        sent = kernel.send(code)
        shown = kernel.wait_for_output(sent, "stream")["text"]
        if noted:
            while "line 5\n" not in shown:
                shown += kernel.wait_for_output(sent, "stream")["text"]
            # With an answer to what was asked later the kernel has noted what it has shown.
            kernel.client.kernel_info(reply=True, timeout=60)
        (session_id,) = service.ids()
        _kill(kernel)
        assert _shell(service, "touch go")
        _start_again(kernel)
        ran = kernel.run(read)
        assert ran.reply["status"] == "ok", ran
        said = ran.notices()
        assert "taken back" in said and session_id in said
        # What the dead kernel had not got yet, up to the cell's end and its value; then our own.
        before, _, now = ran.text().partition("now 41")
        lines = [line for line in before.splitlines() if line.startswith("line")]
        assert lines[-6:] == [f"line {number}" for number in range(6, 12)], ran
        # Nothing is shown twice.
        assert len(lines) == 6 or not noted, ran
        assert "42" in str(ran.of_type("display_data")), ran
        assert service.ids() == {session_id}
        # It ran once.
        assert now.split() == [str(number) for number in range(12)]
    assert service.ids() == set()


def test_a_cell_that_ended_meanwhile_shows_what_it_printed_and_its_error_is_not_the_next_ones(
    service: Service,
) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        # Says, after the error was shown, that the cell is over.
        kernel.run(
            "import os, time\nget_ipython().events.register('post_run_cell',"
            " lambda result: os.path.exists('go') and open('over', 'w').close())"
        )
        sent = kernel.send(
            "print('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(.02)\n"
            "print('end'); 1/0"
        )
        kernel.wait_for_output(sent, "stream")
        _kill(kernel)
        assert _shell(service, "touch go")
        wait_until(lambda: _shell(service, "test -e over"), "the cell is over")
        _start_again(kernel)
        ran = kernel.run("'alive'")
        assert ran.reply["status"] == "ok", ran
        assert ran.of_type("error") == []
        assert "end\n" in ran.text()
        assert "ZeroDivisionError" in ran.text("stderr")
        assert "'alive'" in str(ran.of_type("execute_result"))


def test_a_restarted_kernel_is_attached_again_and_says_so(service: Service) -> None:
    session_id, gone = service.create(), service.create()
    with running_kernel("agentbay-python", service.env()) as kernel:
        kernel.run(f"%agentbay attach {session_id}")
        kernel.run(f"%agentbay attach {gone} -s second")
        kernel.run("kept = 6")
        kernel.manager.restart_kernel()
        wait_until_ready(kernel.manager, kernel.client)
        ran = kernel.run("kept")
        assert "6" in str(ran.of_type("execute_result"))
        assert session_id in ran.notices() and "detach" in ran.notices()
        service.client.delete_by_id(gone)
        second = "%%agentbay python -s second\n1"
        ran = kernel.run(second)
        assert ran.reply["ename"] == "SessionNotFoundError" and gone in ran.reply["evalue"]
        assert kernel.run(second).reply["status"] == "ok"
        _killed_and_restarted(kernel)
        # What is left before its first cell is left for good.
        assert kernel.run("%agentbay detach").reply["status"] == "ok"
        assert kernel.run("kept").reply["ename"] == "NameError"
    assert service.ids() == {session_id}


def test_variables_are_back_in_direct_execution_too(service: Service) -> None:
    with running_kernel("agentbay-python", service.env(execution="direct")) as kernel:
        kernel.run("kept = 6")
        _killed_and_restarted(kernel)
        assert "6" in str(kernel.run("kept").of_type("execute_result"))
        assert len(service.ids()) == 1


def test_a_session_that_was_being_created_when_the_kernel_died_is_used(service: Service) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        fault = {"kind": "hang", "at": [1], "effect": True, "action": "CreateMcpSession"}
        service.behave(faults=[fault])
        kernel.send("1")
        wait_until(lambda: service.ids() != set(), "the session is created")
        (session_id,) = service.ids()
        _killed_and_restarted(kernel)
        service.behave()
        assert kernel.run("1").reply["status"] == "ok"
        assert service.ids() == {session_id}


def test_a_session_that_ended_meanwhile_is_told(service: Service) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        kernel.run("kept = 6")
        (session_id,) = service.ids()
        os.kill(kernel.pid, signal.SIGKILL)
        service.client.delete_by_id(session_id)
        _killed_and_restarted(kernel)
        ran = kernel.run("kept")
        assert "is gone" in ran.text("stderr")
        assert ran.reply["ename"] == "NameError"
        assert session_id not in service.ids()


# A new session in the place of one that is gone is above.
@pytest.mark.parametrize("what", ["interpreter", pytest.param("session", marks=pytest.mark.slow)])
def test_a_restart_begins_anew_as_the_setting_says(service: Service, what: str) -> None:
    with running_kernel("agentbay-python", service.env(on_restart=what)) as kernel:
        kernel.run("kept = 6; open('kept', 'w').write('six')")
        # A running cell does not hold it up.
        sent = kernel.send("print(1, flush=True); import time; time.sleep(60)")
        kernel.wait_for_output(sent, "stream")
        (before,) = service.ids()
        kernel.manager.restart_kernel()
        wait_until_ready(kernel.manager, kernel.client)
        ran = kernel.run("import os; print(os.path.exists('kept')); kept")
        assert ran.reply["ename"] == "NameError", ran
        assert ran.text() == f"{what == 'interpreter'}\n"
        assert "taken back" not in ran.notices()
        assert (service.ids() == {before}) is (what == "interpreter")
        assert len(service.ids()) == 1
    assert service.ids() == set()


def test_a_session_that_waited_for_a_restarted_kernel_ends_with_that_also_without_a_cell(
    service: Service,
) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        kernel.run("1")
        kernel.manager.restart_kernel()
        wait_until_ready(kernel.manager, kernel.client)
        assert len(service.ids()) == 1
        wait_until(lambda: _is_ours(service, kernel.pid), "the new kernel has taken it")
    wait_until(lambda: service.ids() == set(), "it is deleted")


def _is_ours(service: Service, pid: int) -> bool:
    return [record.owner.pid for record in service.records()] == [pid]
