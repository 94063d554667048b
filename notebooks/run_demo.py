"""`make demo`: execute 01-first-steps.ipynb in a sandbox and show where the result lies.

In: the notebook, and another directory for the results if they are not wanted in build/demo. Out:
there the notebook, executed, and as .html, the file that it downloads, a summary on stdout, and
exit code 1 with a message on stderr when a cell failed that was not meant to.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

NOTEBOOK = Path(__file__).resolve().with_name("01-first-steps.ipynb")
RESULTS = NOTEBOOK.parents[1] / "build" / "demo"
# The first cell of a session imports pandas, perhaps from a cold disk.
CELL_TIMEOUT_S = 120
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def main() -> int:
    """Execute the notebook; returns the exit code."""
    if not os.environ.get("AGENTBAY_API_KEY"):
        os.environ.setdefault("AGENTBAY_BACKEND", "local")
    if os.environ.get("AGENTBAY_BACKEND") == "local":
        print("Backend: the local runtime, so this runs on THIS machine.")
        if not os.environ.get("AGENTBAY_API_KEY"):
            print("       Set AGENTBAY_API_KEY to use the AgentBay service instead.")
    else:
        print("Backend: the AgentBay service (AGENTBAY_API_KEY is set).")

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    # What the notebook downloads is put there too.
    shutil.copy(NOTEBOOK.with_name("ships.csv"), folder)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(folder)}},
    )
    log = folder / "kernel.log"
    began = time.monotonic()
    failure = ""
    try:
        with log.open("wb") as sink:
            client.execute(stderr=sink)
    except CellExecutionError as error:
        failure = f"A cell failed that was not meant to:\n\n{ANSI.sub('', str(error))}"
    except CellTimeoutError as error:
        failure = f"A cell did not end within {CELL_TIMEOUT_S} seconds: {error}"
    except DeadKernelError as error:
        failure = f"The kernel died: {error}. Its log: {log}"
    except NoSuchKernel as error:
        failure = f"There is no kernel named {error.name}: run `make setup`."
    seconds = time.monotonic() - began

    for path in save(notebook, folder):
        print(f"Result: {path}")
    print(summary(notebook, seconds))
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


def save(notebook: nbformat.NotebookNode, folder: Path) -> list[Path]:
    """Write the executed notebook and its HTML page."""
    stored = folder / NOTEBOOK.name
    nbformat.write(notebook, stored)
    page, _ = HTMLExporter().from_notebook_node(
        notebook, resources={"metadata": {"name": "First steps"}}
    )
    html = stored.with_suffix(".html")
    html.write_text(page, encoding="utf-8")
    return [stored, html]


def summary(notebook: nbformat.NotebookNode, seconds: float) -> str:
    """What was run, in numbers, and where, in the words of `%agentbay status`."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    executed = [cell for cell in cells if cell.execution_count is not None]
    javascript = [cell for cell in executed if cell.source.startswith("%%agentbay javascript")]
    lines = [
        f"Ran:    {len(executed)} of {len(cells)} code cells ({len(javascript)} of them "
        f"JavaScript) in {seconds:.1f} s"
    ]
    for cell in executed:
        if cell.source.strip() == "%agentbay status":
            lines += [
                f"        {line}"
                for output in cell.outputs
                for line in output.get("data", {}).get("text/plain", "").splitlines()
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
