"""What the bridge costs: bridged and direct cells beside the stock kernel, on every route.

In: nothing. Out: tables. All kernels of a table take turns, so that what else the machine does
falls on each. Times of a cell are from execute_request to idle.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from benchmarks.kernels import AGENTBAY, STOCK, Spread, run, started, table
from benchmarks.relay import Relay, relaying
from tests.runtime import running_local_runtime

ROUNDS, WARM_UP, FEW = 100, 10, 15
CELLS = ("x = 1", "print('hello')")
ANSWER_S = 60
LATENCY_MS = 100
SETTLE_S = 0.5
ROUTES = {
    "WebSocket": {},
    "LinkUrl": {"ws_url": False},
    "action": {"ws_url": False, "link_url": False},
}


@dataclass(frozen=True)
class Service:
    """A local runtime that plays one variant of the service, behind a counting relay."""

    relay: Relay
    api_key: str
    log: Path

    def environment(self, execution: str) -> dict[str, str]:
        """What a kernel needs to use it."""
        return {
            "AGENTBAY_BACKEND": "cloud",
            "AGENTBAY_ENDPOINT": self.relay.endpoint,
            "AGENTBAY_API_KEY": self.api_key,
            "AGENTBAY_EXECUTION": execution,
        }

    def calls(self) -> int:
        """How many `run_code` there were."""
        # A streamed call ends, and is logged, a moment after the cell it carried.
        time.sleep(SETTLE_S)
        lines = self.log.read_text().splitlines()
        return sum(json.loads(line)["tool"] == "run_code" for line in lines)


@contextlib.contextmanager
def serving(profile: dict[str, object], delay_s: float = 0.0) -> Iterator[Service]:
    """A local runtime with that profile, so far away."""
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder, "profile.json"), Path(folder, "log")
        file.write_text(json.dumps(profile))
        log.touch()
        with (
            running_local_runtime(
                "--prewarm", "1", "--profile", str(file), "--log", str(log)
            ) as runtime,
            relaying(runtime.endpoint, delay_s) as relay,
        ):
            yield Service(relay, runtime.api_key, log)


@contextlib.contextmanager
def kernels(service: Service) -> Iterator[dict[str, BlockingKernelClient]]:
    """The stock kernel, and AgentBay's in both executions."""
    with (
        started(STOCK) as (stock, _),
        started(AGENTBAY, **service.environment("direct")) as (direct, _),
        started(AGENTBAY, **service.environment("bridged")) as (bridged, _),
    ):
        yield {"stock": stock, "direct": direct, "bridged": bridged}


def cells_and_traffic() -> None:
    """A short cell on each route: how long, how many calls, how many bytes."""
    times, traffic = [], []
    for route, profile in ROUTES.items():
        with serving(dict(profile)) as service, kernels(service) as clients:
            seconds: dict[tuple[str, str], list[float]] = {
                (code, name): [] for code in CELLS for name in clients
            }
            for turn in range(WARM_UP + ROUNDS):
                for (code, name), measured in seconds.items():
                    taken = run(clients[name], code)
                    if turn >= WARM_UP:
                        measured.append(taken)
            for (code, name), measured in seconds.items():
                spread = Spread.of(measured)
                direct = Spread.of(seconds[code, "direct"]).median
                stock = Spread.of(seconds[code, "stock"]).median
                times.append(
                    (
                        route,
                        f"`{code}`",
                        name,
                        f"{spread.median:.1f}",
                        f"{spread.p90:.1f}",
                        f"{spread.median / direct:.2f}",
                        f"{spread.median / stock:.2f}",
                    )
                )
            for name in ("direct", "bridged"):
                relay = service.relay
                before = (service.calls(), relay.sent, relay.received)
                for _ in range(FEW):
                    run(clients[name], CELLS[1])
                after = (service.calls(), relay.sent, relay.received)
                each = [(b - a) / FEW for a, b in zip(before, after, strict=True)]
                traffic.append((route, name, f"{each[0]:.2f}", f"{each[1]:.0f}", f"{each[2]:.0f}"))
    print(f"execute_request to idle, {ROUNDS} cells each, in turn:\n")
    head = ("route", "cell", "kernel", "median (ms)", "p90 (ms)", "/ direct", "/ stock")
    print(table(head, times), "\n")
    print(f"A cell `{CELLS[1]}` at the service:\n")
    print(table(("route", "execution", "run_code", "bytes sent", "bytes received"), traffic), "\n")


def first_text(client: BlockingKernelClient, request: str) -> tuple[float, str]:
    """When the first text of a cell arrived, and the text."""
    while True:
        message = client.get_iopub_msg(timeout=ANSWER_S)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            return time.time(), message["content"]["text"]


def idle(client: BlockingKernelClient, request: str) -> None:
    """Read up to a cell's idle status."""
    while True:
        message = client.get_iopub_msg(timeout=ANSWER_S)
        ended = message["content"].get("execution_state") == "idle"
        if ended and message["parent_header"].get("msg_id") == request:
            return


def first_chunk() -> None:
    """From a print in a long cell to its arrival in the front end."""
    rows = []
    # The print comes when the cell runs already.
    code = "import time; time.sleep(.3); print(time.time(), flush=True); time.sleep(.3)"
    for route, profile in ROUTES.items():
        with serving(dict(profile)) as service, kernels(service) as clients:
            seconds: dict[str, list[float]] = {name: [] for name in clients}
            for client in clients.values():
                run(client, "1")
            for _ in range(FEW):
                for name, client in clients.items():
                    request = client.execute(code)
                    at, text = first_text(client, request)
                    seconds[name].append(at - float(text))
                    idle(client, request)
            for name, measured in seconds.items():
                spread = Spread.of(measured)
                rows.append((route, name, f"{spread.median:.1f}", f"{spread.p90:.1f}"))
    print(f"First text of a cell that runs on, from its print, {FEW} cells each:\n")
    print(table(("route", "kernel", "median (ms)", "p90 (ms)"), rows), "\n")


@contextlib.contextmanager
def managed(name: str, **environment: str) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel that can be interrupted."""
    with started(name, **environment) as (client, _):
        manager = client.parent
        assert isinstance(manager, KernelManager)
        run(client, "import time")
        yield manager, client


def interrupt() -> None:
    """From an interrupt to the end of the code, and to the reply."""
    # In one write: a kernel may send a line and its end apart.
    code = (
        "try:\n    print('on', end='', flush=True)\n    time.sleep(60)\n"
        "finally:\n    print(time.time(), flush=True)"
    )
    rows = []
    with (
        serving({}) as service,
        managed(STOCK) as stock,
        managed(AGENTBAY, **service.environment("bridged")) as bridged,
    ):
        for name, (manager, client) in {"stock": stock, "bridged": bridged}.items():
            stopped, replied = [], []
            for _ in range(FEW):
                request = client.execute(code)
                first_text(client, request)
                began = time.time()
                manager.interrupt_kernel()
                text = first_text(client, request)[1]
                idle(client, request)
                stopped.append(float(text) - began)
                replied.append(time.time() - began)
            rows.append(
                (
                    name,
                    f"{Spread.of(stopped).median:.1f}",
                    f"{Spread.of(stopped).p90:.1f}",
                    f"{Spread.of(replied).median:.1f}",
                )
            )
    print(f"Interrupt of a cell that sleeps, {FEW} times each:\n")
    print(table(("kernel", "code stopped (ms)", "p90 (ms)", "idle (ms)"), rows), "\n")


def distance() -> None:
    """A service that is far away: how many round trips a cell and a completion take."""
    rows = []
    for route, profile in ROUTES.items():
        cell, completion = [], []
        with (
            serving(dict(profile), LATENCY_MS / 2000) as service,
            started(AGENTBAY, **service.environment("bridged")) as (client, _),
        ):
            for _ in range(3):
                run(client, "1")
            before = service.calls()
            for _ in range(FEW):
                cell.append(run(client, CELLS[1]))
            calls = (service.calls() - before) / FEW
            for _ in range(FEW):
                began = time.perf_counter()
                client.complete("prin", reply=True, timeout=ANSWER_S)
                completion.append(time.perf_counter() - began)
        rows.append(
            (
                route,
                f"{Spread.of(cell).median:.0f}",
                f"{calls:.2f}",
                f"{Spread.of(completion).median:.0f}",
            )
        )
    print(f"Bridged, a round trip of {LATENCY_MS} ms to the service:\n")
    print(table(("route", "short cell (ms)", "run_code", "completion (ms)"), rows))


def main() -> None:
    """Measure and print."""
    cells_and_traffic()
    first_chunk()
    interrupt()
    distance()


if __name__ == "__main__":
    main()
