"""Many sandboxes at once: an executor as those of `concurrent.futures`.

    with SandboxExecutor(max_workers=8) as pool:
        for result in pool.map(score, rows):
            ...

`pool` has the queue and the workers, `sessions` what they run in, `channel` the way into one
session, `functions` how a function is packed. The sandbox's side is `sandbox/executor.py`.
"""

import contextlib

from agentbay_kernel.errors import RemoteError, SessionLostError
from agentbay_kernel.executor.channel import RemoteTraceback
from agentbay_kernel.executor.pool import Plan, SandboxExecutor

# Registers itself. joblib is an extra.
with contextlib.suppress(ImportError):
    import agentbay_kernel.executor.joblib_backend  # noqa: F401

__all__ = ["Plan", "RemoteError", "RemoteTraceback", "SandboxExecutor", "SessionLostError"]
