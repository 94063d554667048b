"""A sandbox in hostile hands: the process of the bridge itself says whatever it likes.

Code that is run by `run_code` shares the process with the bridge, and can put anything into its
answers. Whatever that is, each cell ends, by its own reply or by a named error.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentbay_kernel.errors import BridgeError, CommandError, InvalidResponseError, KernelEndedError
from tests.execution.bench import ROUTES, Bench, text_of, value_of
from tests.execution.test_decoder import CONTENTS, carried

BRIDGE = "import sys; module = sys.modules['_agentbay_bridge']; box = module.bridge.outbox\n"
# As soon as a cell runs, add these lines to what the kernel said. IDENTITY stands for its id.
ADD = """
import threading, time
def add():
    while not box.open:
        time.sleep(.01)
    identity = list(box.open)[-1]
    for line in {lines!r}:
        box.add(line.replace('IDENTITY', identity).encode('latin-1'))
threading.Thread(target=add).start()
"""
# The next answers are these texts instead.
REPLACE = """
texts, right = {texts!r}, module.Bridge.answer
def answer(self, after, room):
    if texts:
        print(texts.pop(0), flush=True)
        return 0
    return right(self, after, room)
module.Bridge.answer = answer
"""
SLOW_CELL = "import time; time.sleep(1); print('done')"


def attack(bench: Bench, code: str) -> None:
    done = bench.session.code.run_code(BRIDGE + code, "python", 30)
    assert done.success, done


def as_line(channel: str, kind: str, content: Any, **parts: Any) -> str:
    return json.dumps(carried(channel, kind, content, p={"msg_id": "IDENTITY"}, **parts))


@pytest.fixture(scope="module")
def victim(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench(**ROUTES["action"])


def test_lines_that_are_no_messages_are_left_out(victim: Bench) -> None:
    lines = [
        "no JSON",
        "[" * 5_000,
        '{"c":"iopub"}',
        "5",
        "null",
        '{"c": ["iopub"], "h": {"msg_type": "stream"}, "p": {}}',
        '{"c":"bridge","died":"yes"}',
        '{"c":"bridge","dropped":[1]}',
        '{"c":"bridge","quiet":{}}',
        "\xff\xfe",
        as_line("iopub", "stream", {"name": "stdout", "text": 5}),
        as_line("iopub", "display_data", {"data": [], "metadata": {}}),
        as_line("iopub", "comm_msg", CONTENTS["iopub", "comm_msg"], x=["no base64"]),
        as_line("control", "execute_reply", {"status": "ok"}),
        as_line("shell", "complete_reply", CONTENTS["shell", "complete_reply"]),
    ]
    attack(victim, ADD.format(lines=lines))
    assert text_of(victim.run(SLOW_CELL)) == "done\n"
    assert value_of(victim.run("6 * 7")) == "42"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (as_line("shell", "execute_reply", {"status": "perhaps"}), InvalidResponseError),
        # `make test` has one that is no reply above.
        pytest.param(
            as_line("shell", "execute_reply", [1]), InvalidResponseError, marks=pytest.mark.slow
        ),
        ('{"c":"bridge","died":9}', KernelEndedError),
    ],
)
def test_a_forged_end_ends_the_cell_with_a_named_error(
    victim: Bench, line: str, error: type[CommandError]
) -> None:
    attack(victim, ADD.format(lines=[line]))
    with pytest.raises(error):
        victim.run(SLOW_CELL)
    # What was forged is over: the sandbox is used on.
    assert value_of(victim.run("6 * 7")) == "42"


# The action route, which the tests above use, is slow to find out.
@pytest.mark.parametrize("route", ["websocket", pytest.param("action", marks=pytest.mark.slow)])
def test_answers_that_are_none_are_asked_for_again(
    open_bench: Callable[..., Bench], route: str
) -> None:
    bomb = "__import__('base64').b64encode(__import__('zlib').compress(bytes(10**8))).decode()"
    texts = [
        "[" * 5_000,
        '{"known": 999999999, "from": 0, "out": "eJwDAAAAAAE=", "heard": true}',
        '{"known": 0, "from": 99999999, "out": "eJwDAAAAAAE=", "heard": true}',
        "BOMB",
    ]
    victim = open_bench(**ROUTES[route])
    code = REPLACE.format(texts=texts)
    code += f"facts = dict(known=0, heard=True, out={bomb}, **{{'from': 0}})\n"
    code += "texts[-1] = module.json.dumps(facts)"
    attack(victim, code)
    assert text_of(victim.run(SLOW_CELL)) == "done\n"
    assert value_of(victim.run("6 * 7")) == "42"


@pytest.mark.slow
def test_a_bridge_that_never_answers_right_is_given_up(open_bench: Callable[..., Bench]) -> None:
    victim = open_bench(**ROUTES["action"])
    attack(victim, REPLACE.format(texts=["{}"]) + "texts *= 100_000")
    outcomes: list[BaseException] = []

    def run() -> None:
        try:
            victim.run(SLOW_CELL)
        except CommandError as error:
            outcomes.append(error)

    cells = [threading.Thread(target=run) for _ in range(3)]
    for cell in cells:
        cell.start()
    for cell in cells:
        cell.join(100)
    assert len(outcomes) == 3 and all(isinstance(error, BridgeError) for error in outcomes)
