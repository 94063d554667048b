"""Run notebook cells in AgentBay sandboxes.

`%load_ext agentbay_kernel` adds the magics `%agentbay` and `%%agentbay`; the Jupyter kernels
are installed with the package. `agentbay_kernel.service` is the client of the service and
needs nothing of Jupyter, so nothing is imported here before it is used.
"""

from __future__ import annotations

from agentbay_kernel._version import __version__ as __version__

# Not from `typing`: a session's agent imports this module while its Python waits to be started.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register `%agentbay` and `%%agentbay`; called by `%load_ext agentbay_kernel`."""
    from agentbay_kernel.magics.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Close this notebook's sessions; called by `%unload_ext agentbay_kernel`."""
    from agentbay_kernel.magics.magics import unload

    unload(shell)
