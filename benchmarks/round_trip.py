"""How long a short cell takes: execute_request to idle.

In: nothing. Out: a table of agentbay-python, on the local runtime, beside the stock Python
kernel. The two take turns, cell by cell.
"""

from __future__ import annotations

import time

from jupyter_client.blocking.client import BlockingKernelClient

from benchmarks.kernels import AGENTBAY, STOCK, Spread, started, table

ROUNDS = 200
WARM_UP = 20
CELLS = {"assign": "x = 1", "print": "print('hello')", "value": "[1, 2, 3]"}
ANSWER_S = 60


def run(client: BlockingKernelClient, code: str) -> float:
    """Run a cell; returns the seconds until its idle status."""
    began = time.perf_counter()
    request = client.execute(code)
    while True:
        message = client.get_iopub_msg(timeout=ANSWER_S)
        if (
            message["parent_header"].get("msg_id") == request
            and message["content"].get("execution_state") == "idle"
        ):
            break
    seconds = time.perf_counter() - began
    reply = client.get_shell_msg(timeout=ANSWER_S)
    while reply["parent_header"].get("msg_id") != request:
        reply = client.get_shell_msg(timeout=ANSWER_S)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"{code!r} failed: {reply['content']}")
    return seconds


def main() -> None:
    """Measure and print."""
    with started(STOCK) as (stock, _), started(AGENTBAY) as (agentbay, _):
        clients = {STOCK: stock, AGENTBAY: agentbay}
        seconds: dict[tuple[str, str], list[float]] = {
            (cell, name): [] for cell in CELLS for name in clients
        }
        for turn in range(WARM_UP + ROUNDS):
            for cell, code in CELLS.items():
                for name, client in clients.items():
                    taken = run(client, code)
                    if turn >= WARM_UP:
                        seconds[cell, name].append(taken)
    rows = []
    for (cell, name), measured in seconds.items():
        spread = Spread.of(measured)
        ratio = spread.median / Spread.of(seconds[cell, STOCK]).median
        rows.append(
            (
                f"`{CELLS[cell]}`",
                name,
                f"{spread.median:.1f}",
                f"{spread.p90:.1f}",
                f"{spread.least:.1f}",
                f"{ratio:.1f}",
            )
        )
    print(f"execute_request to idle, {ROUNDS} cells each, in turn:\n")
    head = ("cell", "kernel", "median (ms)", "p90 (ms)", "min (ms)", "median / stock")
    print(table(head, rows))


if __name__ == "__main__":
    main()
