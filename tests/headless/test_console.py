"""`jupyter console` in a terminal: cells, questions, Ctrl-C, the way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

PROMPT = r"In \[\d+\]: "


@pytest.fixture
def console(service: dict[str, str]) -> Iterator[Any]:
    """A console at its first prompt."""
    arguments = ["-m", "jupyter_console", "--simple-prompt", "--kernel", "agentbay-python"]
    environment = {**os.environ, **service, "TERM": "dumb", "NO_COLOR": "1"}
    terminal = pexpect.spawn(
        sys.executable, arguments, env=environment, encoding="utf-8", timeout=60
    )
    terminal.expect(PROMPT)
    yield terminal
    terminal.close(force=True)


def typed(console: Any, line: str) -> str:
    """What a line gives, up to the next prompt."""
    console.sendline(line)
    console.expect(PROMPT)
    return str(console.before)


def interrupt(console: Any) -> None:
    """Press Ctrl-C once."""
    console.sendintr()
    console.expect("KeyboardInterrupt")


def test_cells_run_in_the_sandbox_and_exit_leaves(console: Any) -> None:
    assert "cells run in a sandbox" in console.before
    assert "THIS machine" in console.before
    # But for the notice of a start that takes longer than a second.
    assert "AgentBay: " not in typed(console, "x = 6")
    assert "Out[2]: 42" in typed(console, "x * 7")
    assert "ZeroDivisionError" in typed(console, "1 / 0")
    console.sendline("name = input('who? ')")
    console.expect("who\\? $")
    assert "hello" not in typed(console, "Ada")
    assert "hello Ada" in typed(console, "print('hello', name)")
    console.sendline("print('be' + 'gun', flush=True); import time; time.sleep(600)")
    console.expect("begun")
    interrupt(console)
    console.expect(PROMPT)
    assert "42" in typed(console, "x * 7")
    console.sendline("exit")
    console.expect(pexpect.EOF)
