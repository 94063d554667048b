"""`make notebooks`: execute the notebooks and store their outputs in them.

In: names of notebooks in this folder; all of them without. Out: the notebooks, rewritten with what
they gave on the local runtime, isolated; nothing in them tells the machine. Exit code 1 when a
cell failed that was not meant to; that notebook is left as it was.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
CELL_TIMEOUT_S = 120
# Little memory, so that notebook 2 needs little to reach the limit.
SETTINGS = {
    "AGENTBAY_BACKEND": "local",
    "AGENTBAY_LOCAL_ISOLATION": "required",
    "AGENTBAY_LOCAL_MEMORY": "1024",
}
# What is another one each time, and what stands for it.
CHANGING = {
    r"session-[0-9a-z]{17}\b": "session-04bdwexample00000",
    r"127\.0\.0\.1:\d{4,5}": "127.0.0.1:43121",
}


def main(names: list[str]) -> int:
    """Execute and store; returns the exit code."""
    for name in [name for name in os.environ if name.startswith("AGENTBAY_")]:
        del os.environ[name]
    os.environ.update(SETTINGS)
    failed = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.name in names or path.stem in names:
            failed += not store(path)
    return 1 if failed else 0


def store(path: Path) -> bool:
    """Execute one notebook, in a copy of its folder, and rewrite it; was it all well?"""
    notebook = nbformat.read(path, as_version=4)
    print(path.name, end=" ", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AGENTBAY_STATE_DIR"] = f"{scratch}/state"
        copy = shutil.copytree(FOLDER, f"{scratch}/notebooks")
        try:
            execute(notebook, Path(copy))
        except CellExecutionError as error:
            print(f"failed:\n{error}")
            return False
    text = nbformat.writes(notebook)
    for pattern, stand_in in CHANGING.items():
        text = re.sub(pattern, stand_in, text)
    outputs = str([cell.get("outputs") for cell in notebook.cells])
    told = [word for word in machine_words() if word in outputs]
    if told:
        print(f"tells the machine: {', '.join(told)}")
        return False
    path.write_text(text + "\n", encoding="utf-8")
    print("is stored.")
    return True


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells with the kernel that the notebook names, in that folder.

    Raises:
        CellExecutionError: a cell failed that was not meant to.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata.language_info = {"name": "python"}


def machine_words() -> list[str]:
    """What of this machine must stand in no output."""
    words = [str(FOLDER.parent), str(Path.home()), sys.prefix, socket.gethostname()]
    user = getpass.getuser()
    if user != "root":
        words.append(f"/{user}/")
    return [word for word in words if len(word) > 4]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
