"""The start of the agent: its identity, its limits, and the session's first worker.

A new session waits mostly for its Python to start. So the agent starts it before it imports what it
needs itself. Whatever this module imports delays each session.
"""

from __future__ import annotations

import os
import sys

from agentbay_kernel.local.agent import limits
from agentbay_kernel.local.agent.identity import Identity, close_to_others
from agentbay_kernel.local.agent.workers import Worker


def main() -> None:
    """Start the first worker, then serve the local runtime's calls until their socket ends.

    The arguments of the process are words `name=value` (`Confinement.agent_arguments` has the
    names), then `--`, the worker's name and its command.
    """
    end = sys.argv.index("--")
    options = dict(word.split("=", 1) for word in sys.argv[1:end])
    try:
        # Before `close_to_others`, which closes these files to this process too.
        weight = os.open("/proc/self/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        weight = None
    identity = Identity()
    if options["cells_uid"]:
        identity = Identity(int(options["cells_uid"]))
        identity.become_agent(int(options["agent_uid"]), (options["workspace"], options["run"]))
    sock, worker_sock = int(options["socket"]), int(options["worker_socket"])
    os.set_inheritable(sock, False)
    os.chdir(options["workspace"])
    limits.apply(options)
    limits.free_at_once()
    if os.getpid() == 1:
        close_to_others()
    name, *argv = sys.argv[end + 1 :]
    worker = Worker(name, argv, worker_sock, options["run"], options["workspace"], identity)
    from agentbay_kernel.local.agent import idle

    idle.serve(sock, options, identity, weight, worker)
