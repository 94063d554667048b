"""A cell that prints every second for three minutes: how late each line is, and how soon it stops.

In: nothing. Out: a table, a row a route. The kernels of all routes run side by side; the machine's
clock is the sandbox's, so a line that tells when it was printed tells how old it is on arrival.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from benchmarks.bridge import ROUTES, managed, serving
from benchmarks.kernels import AGENTBAY, Spread, run, table

SECONDS, STOPS, ANSWER_S = 180, 20, 60
PRINTS = (
    "import time\nfor _ in range({seconds}):\n    print(time.time(), flush=True)\n    time.sleep(1)"
)


def lateness(client: BlockingKernelClient, seconds: int) -> list[float]:
    """How old each line was when it arrived, in seconds."""
    request = client.execute(PRINTS.format(seconds=seconds))
    ages: list[float] = []
    while True:
        message = client.get_iopub_msg(timeout=ANSWER_S)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream":
            now = time.time()
            ages += [now - float(line) for line in message["content"]["text"].split()]
        elif message["content"].get("execution_state") == "idle":
            return ages


def stopping(manager: KernelManager, client: BlockingKernelClient) -> list[float]:
    """From an interrupt, at different moments of such a cell, to its idle status, in seconds."""
    taken = []
    for number in range(STOPS):
        request = client.execute(PRINTS.format(seconds=60))
        time.sleep(0.5 + number * 0.13)
        began = time.time()
        manager.interrupt_kernel()
        while True:
            message = client.get_iopub_msg(timeout=ANSWER_S)
            idle = message["content"].get("execution_state") == "idle"
            if idle and message["parent_header"].get("msg_id") == request:
                break
        taken.append(time.time() - began)
    return taken


def measure(route: str) -> tuple[str, ...]:
    """The row of one route."""
    with (
        serving(dict(ROUTES[route])) as service,
        managed(AGENTBAY, **service.environment("bridged")) as (manager, client),
    ):
        run(client, "1")
        ages = lateness(client, SECONDS)
        stops = stopping(manager, client)
    late, stop = Spread.of(ages), Spread.of(stops)
    return (
        route,
        f"{len(ages)}",
        *(f"{value:.0f}" for value in (late.median, late.p90, 1000 * max(ages))),
        *(f"{value:.0f}" for value in (stop.median, 1000 * max(stops))),
    )


def main() -> None:
    """Measure and print."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(ROUTES)))
        rows = list(pool.map(measure, ROUTES))
    head = ("route", "lines", "age: median (ms)", "p90 (ms)", "max (ms)")
    print(f"A bridged cell that prints every second for {SECONDS} s, and {STOPS} interrupts:\n")
    print(table((*head, "interrupt to idle: median (ms)", "max (ms)"), rows))


if __name__ == "__main__":
    main()
