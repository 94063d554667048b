"""Many cells over a service that fails in every way: each ends with the truth, none runs twice.

Each cell adds its number to a file, so what ran is known whatever its reply was. All is drawn from
a fixed seed: kinds of cells, faults, and the calls that they hit.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from agentbay_kernel import errors
from tests.execution.bench import ROUTES
from tests.kernels import Ran, running_kernel
from tests.runtime import LocalRuntimeProcess, running_local_runtime

SEED = 20_261_124
# 3 routes, 2 executions: 48 cells in `make test`, 1020 in `make test-all`.
FEW, MANY = 8, 170
# Longer than any fault is waited out.
CELL_S = 150
MOST_GROWTH = 64 * 2**20
# Words that promise that a cell did not run.
UNRUN = (
    "did not run",
    "othing was sent",
    "othing was done",
    "othing ran",
    "Check AGENTBAY_API_KEY",
)
# Words that leave open whether it did.
OPEN = ("unknown", "not known", "may have", "may be", "outcome was lost")
CELLS = {
    "print": "print({number})",
    "error": "raise ValueError({number})",
    "lines": "for i in range(500): print('line', i)\nprint({number})",
    "live": "import time\nfor i in range(3): print(i, flush=True); time.sleep(.05)\n"
    "print({number})",
    "picture": "from IPython.display import Image, display\n"
    "display(Image(data=b'\\x89PNG' + bytes(100_000), format='png'))\nprint({number})",
}
# What goes wrong, and how often among the faults.
FAULTS: list[tuple[int, dict[str, Any]]] = [
    (6, {"kind": "reset", "effect": True}),
    (6, {"kind": "reset", "effect": False}),
    (4, {"kind": "half"}),
    (3, {"kind": "http_429"}),
    (3, {"kind": "http_500", "effect": True}),
    (3, {"kind": "http_500", "effect": False}),
    (3, {"kind": "http_502", "effect": True}),
    (3, {"kind": "http_504", "effect": False}),
    (8, {"kind": "ws_drop", "effect": True}),
    (4, {"kind": "end_twice", "effect": True}),
    (2, {"kind": "key_refused"}),
    (1, {"kind": "expired"}),
]


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    # Not isolated, so that what cells write outlives a session that ends.
    with running_local_runtime("--isolation", "none") as runtime:
        yield runtime


def use(runtime: LocalRuntimeProcess, profile: dict[str, Any]) -> None:
    form = {"Authorization": f"Bearer {runtime.api_key}", "Profile": json.dumps(profile)}
    answer = requests.post(f"{runtime.endpoint}/?Action=LocalControl", data=form, timeout=30)
    assert answer.ok, answer.text


def drawn_faults(chance: random.Random) -> list[dict[str, Any]]:
    """Faults for the calls of one cell, mostly none."""
    if chance.random() < 0.5:
        return []
    weights = [weight for weight, _ in FAULTS]
    ((_, fault),) = chance.choices(FAULTS, weights)
    return [{**fault, "at": sorted(chance.sample(range(1, 4), chance.choice((1, 1, 2))))}]


def judge(number: int, kind: str, ran: Ran, count: int) -> str:
    """How a cell ended; checks that what it said is true."""
    assert count <= 1, f"cell {number} ran {count} times: {ran}"
    ename = ran.reply.get("ename", "")
    if ran.reply["status"] == "ok" or ename == "ValueError":
        assert count == 1, ran
        assert ran.reply["status"] == ("error" if kind == "error" else "ok"), ran
        if kind == "error":
            assert ran.reply["evalue"] == str(number)
        else:
            assert ran.text().endswith(f"{number}\n"), ran
        return "ran"
    # Every other end has a name of ours and says what is known.
    assert issubclass(getattr(errors, ename), errors.AgentBayError), ran
    assert [error["ename"] for error in ran.of_type("error")] == [ename]
    if any(words in ran.reply["evalue"] for words in UNRUN):
        assert count == 0, ran
        return "did not run"
    assert any(words in ran.reply["evalue"] for words in OPEN), ran
    return "unknown"


@pytest.mark.parametrize("execution", ["direct", "bridged"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "cells", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_every_cell_ends_with_the_truth(
    runtime: LocalRuntimeProcess, tmp_path: Path, route: str, execution: str, cells: int
) -> None:
    chance = random.Random(f"{SEED} {route} {execution}")
    ledger = tmp_path / "ledger"
    ledger.touch()
    use(runtime, ROUTES[route])
    env = {
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
        "AGENTBAY_EXECUTION": "direct" if execution == "direct" else "auto",
    }
    ends: Counter[str] = Counter()
    with running_kernel("agentbay-python", env) as kernel:
        kernel.run("1")
        process = psutil.Process(kernel.pid)
        early = 0
        for number in range(cells):
            kind = chance.choice(list(CELLS))
            use(runtime, {**ROUTES[route], "faults": drawn_faults(chance)})
            note = f"open({str(ledger)!r}, 'a').write('{number}\\n')\n"
            ran = kernel.run(note + CELLS[kind].format(number=number), timeout=CELL_S)
            # What goes on after an answer that was lost is over before it is counted.
            use(runtime, ROUTES[route])
            if ran.reply["status"] != "ok":
                kernel.run("0", timeout=CELL_S)
            count = ledger.read_text().split().count(str(number))
            ends[judge(number, kind, ran, count)] += 1
            if number == cells // 4:
                early = process.memory_info().rss
        assert kernel.run("6 * 7").of_type("execute_result")[0]["data"]["text/plain"] == "42"
        assert process.memory_info().rss - early < MOST_GROWTH
    # At the end too: nothing ran later than its cell was told to be over.
    assert max(Counter(ledger.read_text().split()).values()) == 1
    assert ends["ran"] > cells // 3
    print(f"{route}, {execution}: {dict(ends)}")
