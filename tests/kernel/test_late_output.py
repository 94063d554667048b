"""Output of threads, tasks and timers after their cell has ended: shown under that cell."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest

from tests.kernels import ANSWER_S, RunningKernel

THREAD = """\
import threading, time
def work():
    for number in range(3):
        time.sleep(.1 if number else .3)
        print("late", number)
threading.Thread(target=work).start()"""
TASK = """\
import asyncio
async def work():
    for number in range(3):
        await asyncio.sleep(.1 if number else .3)
        print("late", number)
task = asyncio.create_task(work())"""
TIMER = """\
%%agentbay javascript
let number = 0;
const timer = setInterval(() => {
  console.log('late ' + number++);
  if (number === 3) clearInterval(timer);
}, 300);"""


def text_until(kernel: RunningKernel, message_id: str, wanted: str) -> str:
    """What arrives on stdout for a cell that has ended, until it is what is wanted."""
    text, deadline = "", time.monotonic() + ANSWER_S
    while text != wanted:
        assert time.monotonic() < deadline, text
        try:
            message: dict[str, Any] = kernel.client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["msg_type"] == "stream":
            assert message["parent_header"]["msg_id"] == message_id
            text += message["content"]["text"]
    return text


OTHER = f"%%agentbay python -s other\n{THREAD}"


@pytest.mark.parametrize(
    "code", [THREAD, TASK, TIMER, OTHER], ids=["thread", "task", "timer", "other session"]
)
def test_it_arrives_under_its_cell_without_another_cell(
    bridged_kernel: RunningKernel, code: str
) -> None:
    running = bridged_kernel.send(code)
    ran = bridged_kernel.finish(running)
    assert ran.reply["status"] == "ok"
    assert "late" not in ran.text()
    text_until(bridged_kernel, running, "late 0\nlate 1\nlate 2\n")


def test_it_arrives_from_a_session_in_the_place_of_another_too(
    bridged_kernel: RunningKernel,
) -> None:
    bridged_kernel.run("%agentbay delete")
    running = bridged_kernel.send(THREAD)
    bridged_kernel.finish(running)
    text_until(bridged_kernel, running, "late 0\nlate 1\nlate 2\n")


def test_a_timer_stays_its_cells_while_another_one_runs(
    javascript_kernel: RunningKernel,
) -> None:
    running = javascript_kernel.send(TIMER)
    javascript_kernel.finish(running)
    other = javascript_kernel.send(
        "while (number < 3) await new Promise((go) => setTimeout(go, 20)); console.log('mine')"
    )
    texts: dict[str, str] = {running: "", other: ""}
    deadline = time.monotonic() + ANSWER_S
    while texts != {running: "late 0\nlate 1\nlate 2\n", other: "mine\n"}:
        assert time.monotonic() < deadline, texts
        message = javascript_kernel.client.get_iopub_msg(timeout=ANSWER_S)
        if message["msg_type"] == "stream":
            texts[message["parent_header"]["msg_id"]] += message["content"]["text"]
