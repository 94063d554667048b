"""`jupyter agentbay demo`: a few cells in a sandbox, shown in the terminal.

In: nothing, or `--local`. Out: the cells and what they gave. It is run as any notebook is.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from agentbay_kernel.cli.run import execute
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import ConfigurationError, NoBackendError
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.service import find_credentials

CELLS = (
    "import os, platform\n"
    "print('This runs in a sandbox, in', os.getcwd(), 'with Python', platform.python_version())",
    "squares = [n * n for n in range(10)]\nsquares",
    "sum(squares)   # variables stay from cell to cell",
    "%%agentbay javascript\n[1, 2, 3].map(n => n ** 2)",
    "%agentbay status",
)


def demo(options: Namespace) -> int:
    """Run the demo; returns 0 if all its cells ended well."""
    try:
        from nbformat.v4 import new_code_cell, new_notebook
    except ImportError as error:
        raise ConfigurationError(
            "nbclient, which runs the demo, is not installed. Run: pip install nbclient"
        ) from error
    environment = dict(os.environ)
    if options.local:
        environment["AGENTBAY_BACKEND"] = "local"
    elif load_settings().backend != "local" and not find_credentials().api_key:
        raise NoBackendError(
            "The demo needs an AgentBay API key, which is not set. Set AGENTBAY_API_KEY, or run "
            "the cells on THIS machine, in the local runtime: jupyter agentbay demo --local"
        )
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    failure = execute(notebook, PYTHON, Path.cwd(), environment)
    for cell in notebook.cells:
        print("\n" + "\n".join(f">>> {line}" for line in cell.source.splitlines()))
        failed = [output for output in cell.outputs if output.output_type == "error"]
        for output in cell.outputs:
            if output not in failed:
                print(_text(output).rstrip())
        if failed:
            # It is said below; no cell after it was run.
            break
    if failure:
        print(f"jupyter agentbay demo: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    return str(output.data.get("text/plain", ""))
