"""Run notebook cells in AgentBay sandboxes.

`%load_ext agentbay_kernel` adds the magics `%agentbay` and `%%agentbay`. The Jupyter kernels are
installed with the package. `agentbay_kernel.service` is the client of the service and does not need
Jupyter, so this module imports everything only when it is used.
"""

from __future__ import annotations

from agentbay_kernel._version import __version__ as __version__

# Not imported from `typing`: a session's agent imports this module before it starts its Python,
# which would wait for that.
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
