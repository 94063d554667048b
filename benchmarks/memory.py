"""What a class on one machine needs: the memory of notebooks on the local runtime.

In: nothing. Out: a table, beside the stock kernel. Memory is the proportional set size: what
processes share is divided among them, so that the figures of many notebooks can be added.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from benchmarks.kernels import table
from tests.kernels import RunningKernel, running_kernel

NOTEBOOKS = 4
# A kernel's threads have said what they had to say.
SETTLED_S = 2.0
SERVER_UP_S = 20.0
STEPS = (
    ("first cell", "x = 1"),
    ("after `import pandas`", "import pandas"),
    ("after a JavaScript cell", "%%agentbay javascript\n1"),
)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def megabytes(processes: list[psutil.Process]) -> float:
    """What they have together."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def _run(kernel: RunningKernel, code: str) -> None:
    reply = kernel.run(code).reply
    assert reply["status"] == "ok", reply


@contextmanager
def notebooks(
    kernel: str, environment: dict[str, str], count: int
) -> Iterator[list[RunningKernel]]:
    """Some notebooks' kernels."""
    with ExitStack() as running:
        yield [running.enter_context(running_kernel(kernel, environment)) for _ in range(count)]


def row(what: str, step: str, groups: list[list[psutil.Process]]) -> tuple[str, ...]:
    """A row: for one of the notebooks, each with a group of processes."""
    time.sleep(SETTLED_S)
    counted = sum(map(len, groups)) / len(groups)
    what = f"{what}, {len(groups)} open"
    return (what, step, f"{counted:.1f}", f"{sum(map(megabytes, groups)) / len(groups):.0f}")


def stock(count: int = NOTEBOOKS) -> Iterator[tuple[str, ...]]:
    """The kernel that one has anyway."""
    with notebooks("python3", {}, count) as kernels:
        for step, code in STEPS[:2]:
            for kernel in kernels:
                _run(kernel, code)
            yield row("python3 (ipykernel)", step, [family(kernel.pid) for kernel in kernels])


def local_runtime(count: int = NOTEBOOKS) -> Iterator[tuple[str, ...]]:
    """Notebooks with `AGENTBAY_BACKEND=local`.

    The process of their runtimes is a child of the first one's kernel.
    """
    environment = {"AGENTBAY_BACKEND": "local", "OF_ONE_TEST": "benchmarks.memory"}
    with notebooks("agentbay-python", environment, count) as kernels:
        for step, code in STEPS:
            for kernel in kernels:
                _run(kernel, code)
            yield row("local runtime", step, [family(kernel.pid) for kernel in kernels])
        own = [[psutil.Process(kernel.pid)] for kernel in kernels]
        yield row("local runtime", "of that, the kernel", own)


def server() -> tuple[str, ...]:
    """The Jupyter server of one user, before it has a notebook."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SERVER_UP_S)
        return ("JupyterLab server", "started", "1", f"{megabytes(family(process.pid)):.0f}")
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Measure and print."""
    rows = [server(), *stock(1), *stock(), *local_runtime(1), *local_runtime()]
    print("For one notebook\n")
    print(table(("notebook", "when", "processes", "memory (MB)"), rows))


if __name__ == "__main__":
    main()
