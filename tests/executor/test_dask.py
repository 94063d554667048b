"""A scheduler of others: Dask's tasks call a pool that their worker has."""

from __future__ import annotations

import os
from typing import Any

from distributed import Client, LocalCluster, WorkerPlugin, get_worker

from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.service import AgentBay


class Sandboxes(WorkerPlugin):
    """Gives each Dask worker a pool."""

    def setup(self, worker: Any) -> None:
        worker.sandboxes = SandboxExecutor(1)

    def teardown(self, worker: Any) -> None:
        worker.sandboxes.shutdown()


def score(row: int) -> tuple[int, int]:
    return row * row, os.getpid()


def task(row: int) -> Any:
    worker: Any = get_worker()
    return worker.sandboxes.submit(score, row).result()


def test_dask_tasks_run_functions_in_sandboxes(service: AgentBay) -> None:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=4, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Sandboxes())
        rows = client.gather(client.map(task, range(60)))
        assert [square for square, _ in rows] == [n * n for n in range(60)]
        pids = {pid for _, pid in rows}
        assert os.getpid() not in pids and len(pids) == 2
    assert not list(service.list_all())
