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
    "signal": lambda kernel: os.kill(kernel.manager.provisioner.process.pid, signal.SIGINT),
}


@pytest.mark.parametrize("stop", STOPS)
def test_stop_ends_the_cell_and_aborts_the_queue(python_kernel: RunningKernel, stop: str) -> None:
    running = python_kernel.send("import time\ntime.sleep(4)")
    queued = python_kernel.send("print('must not run')")
    python_kernel.wait_for_output(running, "execute_input")
    STOPS[stop](python_kernel)
    ran = python_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "sandbox may run it to its end" in ran.text("stderr")
    assert python_kernel.finish(queued).reply["status"] == "aborted"
    # The next cell waits until the sandbox is done with the stopped one, and runs once.
    assert python_kernel.run("print('alive')").text() == "alive\n"


def test_a_cell_that_waits_for_a_stopped_one_can_be_stopped_unsent(
    python_kernel: RunningKernel,
) -> None:
    python_kernel.run("ran = []")
    first = python_kernel.send("import time\ntime.sleep(3)")
    python_kernel.wait_for_output(first, "execute_input")
    python_kernel.manager.interrupt_kernel()
    python_kernel.finish(first)
    second = python_kernel.send("ran.append('second')")
    python_kernel.wait_for_output(second, "execute_input")
    python_kernel.manager.interrupt_kernel()
    assert python_kernel.finish(second).reply["ename"] == "KeyboardInterrupt"
    assert python_kernel.run("print(ran)").text() == "[]\n"


def test_a_stop_between_cells_does_nothing(python_kernel: RunningKernel) -> None:
    for stop in STOPS.values():
        stop(python_kernel)
    # Nothing tells when they have arrived.
    time.sleep(0.5)
    assert python_kernel.run("print('alive')").text() == "alive\n"
