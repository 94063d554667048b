"""The Python engine of one session: IPython's shell in a worker (`sandbox/python_engine.py`)."""

from __future__ import annotations

from agentbay_kernel.local.confinement import Confinement, Launch
from agentbay_kernel.local.engine import Engine
from agentbay_kernel.local.hiding import hiding
from agentbay_kernel.local.worker import Worker
from agentbay_kernel.sandbox.prepared_kernel import NO_KERNEL, VARIABLE

HIDING_S = 10.0


class PythonEngine(Engine):
    """One persistent Python.

    Arguments:
        prepares_kernel: whether it forks the process that becomes a bridge's kernel.

    If `bridgeable` is False, it can't import what a bridge needs. If `prepared_kernel` is False, it
    does not use the forked process (`sandbox/prepared_kernel.py`).
    """

    language = "Python"
    death = "KernelDied"

    def __init__(self, confinement: Confinement, *, prepares_kernel: bool) -> None:
        super().__init__(confinement)
        self._prepares_kernel = prepares_kernel
        self.bridgeable = self.prepared_kernel = True
        self._hidden_from: Worker | None = None

    def first_worker(self) -> Launch:
        """Return a new session's worker, which starts with the sandbox's agent."""
        worker = self._new_worker()
        first = Launch(worker.name, self._argv(), worker.open())
        self._begin(self._started(worker, None))
        return first

    async def argv(self) -> list[str]:
        """Return the command of the interpreter and its script."""
        return self._argv()

    def _argv(self) -> list[str]:
        library = self._confinement.folders.library
        return [
            *self._confinement.python_argv(),
            f"{library}/agentbay_kernel/sandbox/python_engine.py",
            *(() if self._prepares_kernel else (NO_KERNEL,)),
        ]

    async def prepare(self) -> None:
        """Hide what the profile hides, once for each worker."""
        if self._hidden_from is self._worker:
            return
        code = ""
        if self._prepares_kernel and not self.prepared_kernel:
            code += f"__import__('os').environ.pop({VARIABLE!r}, None)\n"
        if not self.bridgeable:
            code += hiding(f"{self._confinement.folders.run}/hidden")
        if not code:
            return
        self._hidden_from = self._worker
        async for _ in self.run(code, HIDING_S, silent=True):
            pass
