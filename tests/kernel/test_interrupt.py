"""Stop: the cell ends, what is queued is aborted, the kernel goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from agentbay_kernel.service import AgentBay
from tests.kernels import RunningKernel, running_kernel
from tests.runtime import LocalRuntimeProcess, running_local_runtime

STOPS: dict[str, Callable[[RunningKernel], None]] = {
    "message": lambda kernel: kernel.manager.interrupt_kernel(),
    "signal": lambda kernel: os.kill(kernel.pid, signal.SIGINT),
}


# Runs until a test lets it end: in direct execution, a Stop does not end it.
HELD = (
    "import os, time\nprint('go')\nwhile not os.path.exists('end'): time.sleep(.02)\n"
    "os.remove('end')"
)
# The same; its prints meet the Stop.
PRINTING = HELD.replace("time.sleep(.02)", "print('on', flush=True)")


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A service of this module's."""
    with running_local_runtime() as runtime:
        yield runtime


@pytest.fixture(scope="module")
def direct_kernel(runtime: LocalRuntimeProcess) -> Iterator[RunningKernel]:
    """One "AgentBay Python" in direct execution, with the one session of that service."""
    env = {
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
        "AGENTBAY_EXECUTION": "direct",
    }
    with running_kernel("agentbay-python", env) as kernel:
        kernel.run("1")
        yield kernel


@pytest.fixture
def let_end(runtime: LocalRuntimeProcess) -> Callable[[], None]:
    """Lets `HELD` end."""

    def let_end() -> None:
        with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
            (row,) = client.list_all()
            session = client.get(row["sessionId"]).session
            assert session is not None
            assert session.call_mcp_tool("shell", {"command": "touch end"}).success

    return let_end


@pytest.mark.parametrize("code", [HELD, PRINTING], ids=["waits", "prints"])
@pytest.mark.parametrize("stop", STOPS)
def test_stop_in_direct_execution_ends_the_wait_and_aborts_the_queue(
    direct_kernel: RunningKernel, let_end: Callable[[], None], stop: str, code: str
) -> None:
    running = direct_kernel.send(code)
    queued = direct_kernel.send("print('must not run')")
    direct_kernel.wait_for_output(running, "stream")
    STOPS[stop](direct_kernel)
    ran = direct_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "sandbox may run it to its end" in ran.text("stderr")
    assert direct_kernel.finish(queued).reply["status"] == "aborted"
    # The next cell waits until the sandbox is done with the stopped one, and runs once.
    following = direct_kernel.send("print('alive')")
    let_end()
    assert direct_kernel.finish(following).text() == "alive\n"


@pytest.mark.parametrize("stop", STOPS)
def test_stop_in_bridged_execution_stops_the_code_and_keeps_its_state(
    bridged_kernel: RunningKernel, stop: str
) -> None:
    running = bridged_kernel.send(
        "import time\nreached = 0\nprint('go')\nwhile True:\n    reached += 1\n    time.sleep(.01)"
    )
    queued = bridged_kernel.send("print('must not run')")
    bridged_kernel.wait_for_output(running, "stream")
    STOPS[stop](bridged_kernel)
    ran = bridged_kernel.finish(running)
    (error,) = ran.of_type("error")
    assert error["ename"] == ran.reply["ename"] == "KeyboardInterrupt"
    # The sandbox's own traceback, which shows where the code was.
    assert "reached" in "\n".join(error["traceback"])
    assert bridged_kernel.finish(queued).reply["status"] == "aborted"
    assert bridged_kernel.run("reached > 0").of_type("execute_result")[0]["data"] == {
        "text/plain": "True"
    }


def test_an_interrupt_right_after_execute_is_not_lost(bridged_kernel: RunningKernel) -> None:
    for _ in range(5):
        running = bridged_kernel.send("while True: pass")
        bridged_kernel.wait_for_output(running, "execute_input")
        bridged_kernel.manager.interrupt_kernel()
        assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


# The `re` module keeps the interpreter's lock, so the cell sends nothing before it ends.
C_CODE = "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"


def test_c_code_is_interrupted_from_its_first_statement(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run("import re")
    for _ in range(3):
        running = bridged_kernel.send(C_CODE)
        queued = bridged_kernel.send("print('must not run')")
        bridged_kernel.wait_for_output(running, "execute_input")
        bridged_kernel.manager.interrupt_kernel()
        assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
        assert bridged_kernel.finish(queued).reply["status"] == "aborted"


def test_c_code_is_stopped_at_its_timeout(bridged_kernel: RunningKernel) -> None:
    ran = bridged_kernel.run(f"%%agentbay python --timeout 1\n{C_CODE}")
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "longer than 1 s" in ran.text("stderr")


def next_cells_hit(
    kernel: RunningKernel, count: int, cell: str, after: str, replied: bool = True
) -> int:
    """Interrupt a cell about when it ends, so often; how many next cells do not succeed.

    Arguments:
        replied: wait for the interrupted cell's reply too, not only for its idle status.
    """
    hit = 0
    for number in range(count):
        running = kernel.send(cell)
        kernel.wait_for_output(running, "stream")
        # From its beginning to its end.
        time.sleep(0.25 * number / count)
        kernel.manager.interrupt_kernel()
        if replied:
            kernel.finish(running)
        else:
            while kernel.wait_for_output(running, "status")["execution_state"] != "idle":
                pass
        hit += kernel.run(after).reply["status"] != "ok"
    return hit


PYTHON_CELL = "import time\nprint('go')\ntime.sleep(0.2)"


def test_an_interrupt_at_a_cells_end_does_not_reach_the_next_cell(
    bridged_kernel: RunningKernel,
) -> None:
    assert next_cells_hit(bridged_kernel, 5, PYTHON_CELL, "print('n')\nprint('m')") == 0


# One half of each time the script runs, in the other it waits for a promise.
SCRIPT = "console.log('go'); for (const end = Date.now() + 100; Date.now() < end;);\n"
SCRIPT += "await new Promise(done => setTimeout(done, 100))"
# Long enough for an interrupt that is left over, which Node's own thread for them hands on late.
NEXT_SCRIPT = "for (const end = Date.now() + 40; Date.now() < end;);\n"
NEXT_SCRIPT += "await new Promise(done => setTimeout(done, 10))"


def test_an_interrupt_at_a_scripts_end_does_not_reach_the_next_one(
    javascript_kernel: RunningKernel,
) -> None:
    javascript_kernel.run("var kept = 7")
    assert next_cells_hit(javascript_kernel, 5, SCRIPT, NEXT_SCRIPT) == 0
    assert javascript_kernel.run("console.log(kept)").text() == "7\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_300_interrupts_at_a_cells_end_do_not_reach_the_next_cell(
    bridged_kernel: RunningKernel, javascript_kernel: RunningKernel
) -> None:
    assert next_cells_hit(bridged_kernel, 300, PYTHON_CELL, "print('n')\nprint('m')") == 0
    assert next_cells_hit(javascript_kernel, 300, SCRIPT, NEXT_SCRIPT) == 0


@pytest.mark.parametrize(
    ("code", "last"),
    [
        # A handler of the cell's own is called, as in any kernel, and only while the cell runs.
        (
            "import signal, time\ncalled = []\n"
            "_ = signal.signal(signal.SIGINT, lambda *_: called.append(1))\nprint('go')\n"
            "while not called: time.sleep(.01)\nprint('called')",
            "called",
        ),
        # Not dropped, though it comes while no code of the cell's is on the stack.
        (
            "import asyncio\nprint('go')\ntry:\n    await asyncio.sleep(60)\n"
            "except asyncio.CancelledError:\n    print('cancelled')",
            "cancelled",
        ),
        # What a cell has started is interrupted with it, though the interpreter waits in C.
        ("import os\n_ = os.system('echo go; sleep 60')\nprint('ended')", "ended"),
    ],
)
def test_what_an_interrupt_does_is_the_cells_own(
    bridged_kernel: RunningKernel, code: str, last: str
) -> None:
    running = bridged_kernel.send(code)
    bridged_kernel.wait_for_output(running, "stream")
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).text().endswith(f"{last}\n")
    running = bridged_kernel.send("print('go')\nwhile True: pass")
    bridged_kernel.wait_for_output(running, "stream")
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


# As trio does it: waits outside the cell's code, and handles the interrupt itself if nobody else
# has a handler of its own.
LOOP = """\
import signal, time
interrupted = []
def run(coroutine):
    python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python:
        signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
    try:
        wanted = coroutine.send(None)
        while not interrupted:
            time.sleep(.01)
        coroutine.throw(KeyboardInterrupt("by the loop"))
    except StopIteration as done:
        return done.value
    finally:
        if python:
            signal.signal(signal.SIGINT, signal.default_int_handler)
class Forever:
    def __await__(self):
        yield
"""


@pytest.mark.parametrize(
    "cell",
    [
        "print('go')\nawait Forever()",
        "async def main():\n    await Forever()\nprint('go')\nrun(main())",
    ],
)
def test_a_loop_of_the_cells_own_handles_the_interrupt(
    bridged_kernel: RunningKernel, cell: str
) -> None:
    bridged_kernel.run(LOOP)
    bridged_kernel.run("before = get_ipython().loop_runner\nget_ipython().loop_runner = run")
    try:
        for _ in range(2):
            bridged_kernel.run("interrupted.clear()")
            running = bridged_kernel.send(cell)
            bridged_kernel.wait_for_output(running, "stream")
            bridged_kernel.manager.interrupt_kernel()
            reply = bridged_kernel.finish(running).reply
            assert (reply["ename"], reply["evalue"]) == ("KeyboardInterrupt", "by the loop")
        # The loop has put Python's handler back: the next interrupt is the cell's again.
        running = bridged_kernel.send("print('go')\nwhile True: pass")
        bridged_kernel.wait_for_output(running, "stream")
        bridged_kernel.manager.interrupt_kernel()
        assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    finally:
        bridged_kernel.run("get_ipython().loop_runner = before")


def test_a_traceback_ends_in_the_cells_own_code(bridged_kernel: RunningKernel) -> None:
    running = bridged_kernel.send("print('go')\nimport time\ntime.sleep(60)")
    bridged_kernel.wait_for_output(running, "stream")
    bridged_kernel.manager.interrupt_kernel()
    lines = "\n".join(bridged_kernel.finish(running).reply["traceback"])
    assert "sleep" in lines and "handle" not in lines


def test_a_cell_that_is_interrupted_before_its_code_shows_its_first_statement(
    bridged_kernel: RunningKernel,
) -> None:
    # The signal comes where IPython prepares the next cell.
    bridged_kernel.run(
        "import os, signal\ntransformers = get_ipython().input_transformers_cleanup\n"
        "def stop(lines):\n    transformers.remove(stop)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return lines\ntransformers.append(stop)"
    )
    ran = bridged_kernel.run("# a comment\n\nreached_by_nobody = 1\nprint(2)")
    assert ran.reply["ename"] == "KeyboardInterrupt" and ran.text() == ""
    lines = "\n".join(ran.reply["traceback"])
    assert "reached_by_nobody" in lines and "line 3" in lines
    assert "Could not get source" not in lines


def test_stubborn_code_is_told_and_stopped_by_a_second_interrupt(
    bridged_kernel: RunningKernel,
) -> None:
    running = bridged_kernel.send(
        "import time\nprint('go')\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
        "    time.sleep(60)"
    )
    bridged_kernel.wait_for_output(running, "stream")
    bridged_kernel.manager.interrupt_kernel()
    assert "still runs" in bridged_kernel.wait_for_output(running, "stream")["text"]
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


def test_stubborn_code_is_killed_by_a_verb_and_the_next_cell_is_well(
    bridged_kernel: RunningKernel,
) -> None:
    bridged_kernel.run("open('kept', 'w').write('kept')")
    running = bridged_kernel.send(
        "import time\ngone = 1\nprint('go')\nwhile True:\n    try:\n        time.sleep(60)\n"
        "    except KeyboardInterrupt: pass"
    )
    bridged_kernel.wait_for_output(running, "stream")
    refused = bridged_kernel.send("%agentbay restart")
    words = bridged_kernel.wait_for_output(refused, "error")["evalue"]
    assert "restart --force" in words
    bridged_kernel.send("%agentbay restart --force")
    ran = bridged_kernel.finish(running)
    assert ran.reply["status"] == "error"
    assert "restarted" in ran.reply["evalue"]
    ran = bridged_kernel.run("print(open('kept').read(), 'gone' in globals())")
    assert ran.text() == "kept False\n"
    (shown,) = bridged_kernel.run("%agentbay status").of_type("display_data")
    assert "bridged" in shown["data"]["text/plain"]


def test_a_cell_that_waits_for_a_stopped_one_can_be_stopped_unsent(
    direct_kernel: RunningKernel, let_end: Callable[[], None]
) -> None:
    direct_kernel.run("ran = []")
    first = direct_kernel.send(HELD)
    direct_kernel.wait_for_output(first, "stream")
    direct_kernel.manager.interrupt_kernel()
    direct_kernel.finish(first)
    second = direct_kernel.send("ran.append('second')")
    direct_kernel.wait_for_output(second, "execute_input")
    direct_kernel.manager.interrupt_kernel()
    ran = direct_kernel.finish(second)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "sandbox may run it" not in ran.text("stderr")
    let_end()
    assert direct_kernel.run("print(ran)").text() == "[]\n"


def test_a_stop_between_cells_does_nothing(python_kernel: RunningKernel) -> None:
    client = python_kernel.client
    client.control_channel.send(client.session.msg("interrupt_request", {}))
    # It was handled when it is answered.
    assert client.get_control_msg(timeout=60)["msg_type"] == "interrupt_reply"
    # A signal is handled before the request behind it.
    os.kill(python_kernel.pid, signal.SIGINT)
    assert python_kernel.run("print('alive')").text() == "alive\n"
