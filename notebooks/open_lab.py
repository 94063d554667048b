"""`make lab`: JupyterLab in this folder, with the AgentBay kernels.

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
        print("The AgentBay kernels use the local runtime: their cells run on THIS machine.")
    else:
        print("The AgentBay kernels use the AgentBay service (AGENTBAY_API_KEY is set).")
    command = [sys.executable, "-m", "jupyterlab", *sys.argv[1:]]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # In a container there is often nobody else.
        command.append("--allow-root")
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parent) as lab:
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:
                # JupyterLab has got the Ctrl-C too, and asks whether it is meant.
                continue


if __name__ == "__main__":
    sys.exit(main())
