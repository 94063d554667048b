"""Kernels to be measured side by side: the AgentBay kernels on the local runtime, and stock.

In: the name of a kernelspec. Out: a started kernel and its client.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

STOCK = "python3"
AGENTBAY = "agentbay-python"
READY_S = ANSWER_S = 60


@dataclass(frozen=True)
class Spread:
    """What became of repeated measurements, in milliseconds."""

    median: float
    least: float
    p90: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Summarise measurements in seconds."""
        ordered = sorted(seconds)
        return cls(
            median=statistics.median(ordered) * 1000,
            least=ordered[0] * 1000,
            p90=ordered[int(len(ordered) * 0.9)] * 1000,
        )


@contextlib.contextmanager
def started(name: str, **environment: str) -> Iterator[tuple[BlockingKernelClient, float]]:
    """A kernel, and the seconds from its start to its first kernel_info reply."""
    manager = KernelManager(kernel_name=name)
    began = time.perf_counter()
    manager.start_kernel(
        env={**os.environ, "AGENTBAY_BACKEND": "local", **environment},
        # Kernels log their start there.
        stderr=subprocess.DEVNULL,
    )
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.kernel_info(reply=True, timeout=READY_S)
        yield client, time.perf_counter() - began
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
