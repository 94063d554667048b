"""How long until a kernel answers: start_kernel to the first kernel_info reply.

In: nothing. Out: a table of agentbay-python beside the stock Python kernel. The two take turns,
so that what else the machine does falls on both.
"""

from __future__ import annotations

from benchmarks.kernels import AGENTBAY, STOCK, Spread, started, table

STARTS = 20


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {STOCK: [], AGENTBAY: []}
    for turn in range(STARTS + 1):
        for name, measured in seconds.items():
            # No session: its start, after the reply, would fall on the next kernel's time.
            with started(name, AGENTBAY_START="first-cell") as (_, start_s):
                # The first start reads from a cold disk.
                if turn:
                    measured.append(start_s)
    spreads = {name: Spread.of(measured) for name, measured in seconds.items()}
    stock = spreads[STOCK]
    rows = [
        (
            name,
            f"{spread.median:.0f}",
            f"{spread.least:.0f}",
            f"{spread.median / stock.median:.2f}",
        )
        for name, spread in spreads.items()
    ]
    print(f"Start to first kernel_info reply, {STARTS} starts each, in turn:\n")
    print(table(("kernel", "median (ms)", "min (ms)", "median / stock"), rows))


if __name__ == "__main__":
    main()
