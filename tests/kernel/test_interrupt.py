"""Stop: the cell ends, what is queued is aborted, the kernel goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.kernels import RunningKernel

STOPS: dict[str, Callable[[RunningKernel], None]] = {
    "message": lambda kernel: kernel.manager.interrupt_kernel(),
    "signal": lambda kernel: os.kill(kernel.pid, signal.SIGINT),
}


@pytest.mark.parametrize("stop", STOPS)
def test_stop_in_direct_execution_ends_the_wait_and_aborts_the_queue(
    direct_kernel: RunningKernel, stop: str
) -> None:
    running = direct_kernel.send("import time\ntime.sleep(4)")
    queued = direct_kernel.send("print('must not run')")
    direct_kernel.wait_for_output(running, "execute_input")
    time.sleep(1)
    STOPS[stop](direct_kernel)
    ran = direct_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "sandbox may run it to its end" in ran.text("stderr")
    assert direct_kernel.finish(queued).reply["status"] == "aborted"
    # The next cell waits until the sandbox is done with the stopped one, and runs once.
    assert direct_kernel.run("print('alive')").text() == "alive\n"


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
    direct_kernel: RunningKernel,
) -> None:
    direct_kernel.run("ran = []")
    first = direct_kernel.send("import time\ntime.sleep(4)")
    direct_kernel.wait_for_output(first, "execute_input")
    time.sleep(0.5)
    direct_kernel.manager.interrupt_kernel()
    direct_kernel.finish(first)
    second = direct_kernel.send("ran.append('second')")
    direct_kernel.wait_for_output(second, "execute_input")
    direct_kernel.manager.interrupt_kernel()
    ran = direct_kernel.finish(second)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "sandbox may run it" not in ran.text("stderr")
    assert direct_kernel.run("print(ran)").text() == "[]\n"


def test_a_stop_between_cells_does_nothing(python_kernel: RunningKernel) -> None:
    for stop in STOPS.values():
        stop(python_kernel)
    # Nothing tells when they have arrived.
    time.sleep(0.5)
    assert python_kernel.run("print('alive')").text() == "alive\n"
