"""`jupyter agentbay ...`: one module a command, `main.py` dispatches.

In: arguments. Out: text on stdout, one-line errors on stderr, an exit code.
"""

from agentbay_kernel.cli.main import main

__all__ = ["main"]
