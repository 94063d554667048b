"""What a pool of sandboxes costs and gives: short items beside their own time, two sessions beside
one.

In: nothing. Out: two tables. Pools take turns, so that what else the machine does falls on each;
the ratios are of one round each, and medians of five.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator

from agentbay_kernel.executor import SandboxExecutor
from benchmarks.kernels import table
from tests.runtime import running_local_runtime

ROUNDS = 5
SHORT_S, SHORT_ITEMS = 0.001, 2000
LONG_S, LONG_ITEMS = 0.2, 24


@contextlib.contextmanager
def served() -> Iterator[None]:
    """A local runtime that pools find by the environment."""
    with running_local_runtime("--prewarm", "1") as runtime:
        variables = {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}
        os.environ |= variables
        try:
            yield
        finally:
            # What is measured next has a runtime of its own.
            for name in variables:
                del os.environ[name]


def quiet(line: str) -> None:
    """Say nothing."""


def busy(seconds: float) -> float:
    """Take the processor for so long; returns how long it was in fact."""
    began = time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        pass
    return taken


def spin(steps: int) -> int:
    """Take so many steps."""
    total = 0
    for step in range(steps):
        total += step & 3
    return total


def calibrated(seconds: float) -> int:
    """Steps of `spin` that take so long on a free processor."""
    began = time.process_time()
    spin(1_000_000)
    return int(seconds / (time.process_time() - began) * 1_000_000)


def wall(pool: SandboxExecutor, function: object, argument: object, items: int) -> float:
    """Seconds for so many items."""
    began = time.perf_counter()
    list(pool.map(function, [argument] * items))  # type: ignore[arg-type]
    return time.perf_counter() - began


def short_items(pool: SandboxExecutor) -> tuple[float, float]:
    """Seconds that an item costs, and that it took itself."""
    began = time.perf_counter()
    took = list(pool.map(busy, [SHORT_S] * SHORT_ITEMS))
    return (time.perf_counter() - began) / SHORT_ITEMS, statistics.mean(took)


def main() -> None:
    """Measure and print."""
    steps = calibrated(LONG_S)
    with (
        served(),
        SandboxExecutor(1, prewarm=True, notify=quiet) as one,
        SandboxExecutor(2, prewarm=True, notify=quiet) as two,
    ):
        for pool in (one, two):
            list(pool.map(busy, [0.0] * 50))
        short = [short_items(one) for _ in range(ROUNDS)]
        trips = sorted(wall(one, busy, 0.0, 1) for _ in range(20 * ROUNDS))
        long = [
            (wall(one, spin, steps, LONG_ITEMS), wall(two, spin, steps, LONG_ITEMS))
            for _ in range(ROUNDS)
        ]
    costs, own = (statistics.median(column) for column in zip(*short, strict=True))
    ratio = statistics.median(cost / took for cost, took in short)
    over = statistics.median(cost - took for cost, took in short)
    print(
        table(
            ("items of 1 ms", "ms"),
            [
                ("one item, amortised over 2000", f"{1000 * costs:.2f}"),
                ("its own time", f"{1000 * own:.2f}"),
                ("what the pool adds", f"{1000 * over:.2f}"),
                ("cost / own time", f"{ratio:.2f}"),
                ("a single item, there and back", f"{1000 * statistics.median(trips):.1f}"),
            ],
        )
    )
    print(
        table(
            (f"{LONG_ITEMS} items of {LONG_S:g} s", "s"),
            [
                ("one session", f"{statistics.median(single for single, _ in long):.2f}"),
                ("two sessions", f"{statistics.median(double for _, double in long):.2f}"),
                ("speed-up", f"{statistics.median(a / b for a, b in long):.2f}"),
            ],
        )
    )


if __name__ == "__main__":
    main()
