"""`joblib.parallel_config(backend="agentbay")`: joblib's tasks in a pool of sandboxes.

A batch of tasks goes out by cloudpickle, data included; results come home as data. What is no
data, a fitted model for example, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from agentbay_kernel.executor.pool import SandboxExecutor

Batch = list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]
NAME = "agentbay"


class AgentBayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's way to a `SandboxExecutor`.

    Arguments:
        executor: a pool that lives on after the call; else each call has one of its own.
        options: of `SandboxExecutor`, for a pool of its own.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        executor: SandboxExecutor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given, self._options = executor, options
        self._pool = executor
        self._futures: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many tasks joblib may think of as running at a time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning")
        if n_jobs is None or n_jobs < 0:
            pool = self._given or self._pool
            n_jobs = pool.max_workers if pool is not None else SandboxExecutor().max_workers
        # With one, joblib would run the tasks in this process.
        return max(2, n_jobs)

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **more: Any,
    ) -> int:
        """Have a pool for a call of joblib."""
        self.parallel = parallel
        if self._given is None and self._pool is None:
            most = n_jobs if n_jobs is not None and n_jobs > 0 else None
            # `more` is about memory that processes of one machine share.
            self._pool = SandboxExecutor(most, **self._options)
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Run a batch of joblib's."""
        assert self._pool is not None
        future = self._pool.submit(_batch(func.items))
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise its error."""
        return out.result()

    def terminate(self) -> None:
        """End the pool, if it is the call's own."""
        if self._given is None and self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Want no more results."""
        for future in list(self._futures):
            future.cancel()
        if self._given is None and self._pool is not None:
            self._pool.stop()
            self._pool = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def _batch(items: Batch) -> Callable[[], list[Any]]:
    # A function of a function goes by value: the sandbox need not have this package, or joblib.
    def run_batch() -> list[Any]:
        return [function(*args, **kwargs) for function, args, kwargs in items]

    run_batch.__qualname__ = "joblib's batch"
    return run_batch


register_parallel_backend(NAME, AgentBayBackend)
