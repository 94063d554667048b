"""However a program with a pool ends, no session of it is left, and what was done is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel.service import AgentBay

# Says when three items are done and a fourth runs.
PROGRAM = """
import os, sys, time
from concurrent.futures import wait
from agentbay_kernel.executor import SandboxExecutor

def item(number):
    if number == 3:
        time.sleep(600)
    return number

def report(futures):
    for future in futures:
        if future.cancelled():
            print("cancelled")
        else:
            print(repr(future.exception() or future.result())[:60])
    sys.stdout.flush()

pool = SandboxExecutor(1)
futures = []
try:
    with pool if ENDING != "no end" else __import__("contextlib").nullcontext():
        futures = [pool.submit(item, number) for number in range(6)]
        for future in futures[:3]:
            future.result()
        while not futures[3].running():
            wait(futures[:4], timeout=0.05)
        print("running", flush=True)
        if ENDING == "exception":
            raise LookupError
        if ENDING == "Ctrl-C":
            futures[3].result()
        if ENDING == "exit":
            sys.exit(4)
except BaseException as error:
    report(futures)
    print(type(error).__name__, flush=True)
"""
STOPPED = "SessionError('item has no result: the pool was stopped while"


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("Ctrl-C", "KeyboardInterrupt"),
        # A Ctrl-C is an exception too.
        pytest.param("exception", "LookupError", marks=pytest.mark.slow),
        pytest.param("exit", "SystemExit", marks=pytest.mark.slow),
        ("no end", ""),
    ],
)
def test_a_pool_ends_with_its_program(
    service: AgentBay, tmp_path: Path, ending: str, error: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"ENDING = {ending!r}\n{PROGRAM}")
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "running\n"
        if ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        lines = process.stdout.read().splitlines()
        wrong = process.stderr.read()
        assert process.wait(60) == 0
    assert "Traceback" not in wrong
    if error:
        assert lines[:3] == ["0", "1", "2"] and lines[3].startswith(STOPPED)
        # They may have been sent with the one that ran.
        assert all(line == "cancelled" or line.startswith(STOPPED) for line in lines[4:6])
        assert lines[6:] == [error]
    assert not list(service.list_all())
