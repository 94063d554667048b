"""`make lab`: JupyterLab that shows this folder, with the AgentBay kernels.

In: arguments for JupyterLab, if any. Without AGENTBAY_API_KEY the kernels use the local runtime.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run JupyterLab until it ends; returns its exit code."""
    if not os.environ.get("AGENTBAY_API_KEY"):
        os.environ.setdefault("AGENTBAY_BACKEND", "local")
    if os.environ.get("AGENTBAY_BACKEND") == "local":
        # Notebook 02 uses up what a session may have.
        os.environ.setdefault("AGENTBAY_LOCAL_MEMORY", "1024")
        print("The AgentBay kernels use the local runtime: their cells run on THIS machine.")
    else:
        print("The AgentBay kernels use the AgentBay service (AGENTBAY_API_KEY is set).")
    folder = Path(__file__).resolve().parent
    # The clone is the root, so that links to its documentation work; shown is this folder.
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.parent}"),
        *(f"--LabApp.default_url=/lab/tree/{folder.name}", *sys.argv[1:]),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # In a container there is often nobody else.
        command.append("--allow-root")
    os.chdir(folder)
    sys.stdout.flush()
    if os.name == "posix":
        # JupyterLab takes this process's place, so Ctrl-C and signals reach it alone.
        os.execv(command[0], command)
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
