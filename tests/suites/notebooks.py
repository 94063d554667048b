"""Notebooks of others, executed with both kernels, their outputs compared."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat

from tests.fidelity.comparison import Place, normalized
from tests.suites.sources import SDISTS, Row, environment, source

# Run in a process of its own, so that each run finds its own kernel behind `python3`.
EXECUTE = """\
import sys, nbformat
from nbclient import NotebookClient
from pathlib import Path
source, target = map(Path, sys.argv[1:])
notebook = nbformat.read(source, as_version=4)
where = nbformat.v4.new_code_cell("import os; print(os.getcwd() + '|' + os.path.expanduser('~'))")
# The first cell in a sandbox also says where it runs.
notebook.cells[:0] = [nbformat.v4.new_code_cell(''), nbformat.v4.new_code_cell('1'), where]
options = {"allow_errors": True, "timeout": 120, "coalesce_streams": True, "startup_timeout": 120}
resources = {"metadata": {"path": str(source.parent)}}
NotebookClient(notebook, kernel_name="python3", resources=resources, **options).execute()
nbformat.write(notebook, target)
"""
FIRST = 3
NOTEBOOK_S = 600


def compare_notebooks(name: str, folder: Path, only: str) -> list[Row]:
    """All notebooks in Python of the sdists and of this environment, in both kernels.

    A notebook that the stock kernel itself does not repeat is left out of the comparison.
    """
    environments = {which: environment(folder, name, which) for which in ("stock", "ours")}
    rows = []
    with ThreadPoolExecutor(2) as pool:
        for label, path in _notebooks(folder).items():
            if only not in label:
                continue
            stock, ours = pool.map(
                lambda which, path=path: _executed(path, folder, environments[which], which),
                ("stock", "ours"),
            )
            if stock == ours:
                rows.append(Row(label, "passed", "passed"))
            else:
                again = _executed(path, folder, environments["stock"], "again")
                outcome = "passed" if stock == again else "not the same twice"
                rows.append(Row(label, outcome, "differs", _difference(stock, ours)))
            row = rows[-1]
            print(f"{label}: {row.stock}, {row.ours}", row.detail, file=sys.stderr, flush=True)
    return rows


def _notebooks(folder: Path) -> dict[str, Path]:
    """Notebooks with Python cells by a name that says where they are from, each content once."""
    roots = {name: source(name, folder) for name in SDISTS}
    roots["installed"] = Path(sysconfig.get_path("purelib"))
    found: dict[str, Path] = {}
    seen = set()
    for name, root in roots.items():
        for path in sorted(root.rglob("*.ipynb")):
            try:
                notebook = nbformat.read(path, as_version=4)
            except (ValueError, KeyError, nbformat.ValidationError, nbformat.reader.NotJSONError):
                continue
            language = notebook.metadata.get("kernelspec", {}).get("language", "python")
            language = notebook.metadata.get("language_info", {}).get("name", language)
            cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            content = hashlib.sha256(json.dumps(cells).encode()).digest()
            if language in ("python", "ipython") and any(cells) and content not in seen:
                seen.add(content)
                found[f"{name}: {path.relative_to(root)}"] = path
    return found


def _executed(path: Path, folder: Path, variables: dict[str, str], which: str) -> list[Any]:
    """The outputs of each cell and the state of the widgets; what differs by chance has a name."""
    target = folder / "runs" / f"{which}.ipynb"
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    # Some write beside themselves.
    place = folder / "runs" / f"{which}-place"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(path.parent, place)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", EXECUTE, str(place / path.name), str(target)],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=NOTEBOOK_S,
        )
    except subprocess.TimeoutExpired:
        return [{"not executed": f"{which}: takes longer than {NOTEBOOK_S} s"}]
    if not target.exists():
        return [{"not executed": ran.stderr.strip().rpartition("\n")[2]}]
    notebook = nbformat.read(target, as_version=4)
    told = "".join(output.get("text", "") for output in notebook.cells[FIRST - 1].outputs)
    where, home = told.strip().split("|")
    names = Place(where, home)
    left: list[Any] = [
        normalized({"outputs": cell.outputs, "count": cell.execution_count}, names)
        for cell in notebook.cells[FIRST:]
        if cell.cell_type == "code"
    ]
    widgets = notebook.metadata.get("widgets", {}).values()
    states = [model for kind in widgets for model in kind.get("state", {}).values()]
    left.append(sorted(json.dumps(normalized(model, names), sort_keys=True) for model in states))
    return left


def _difference(stock: list[Any], ours: list[Any]) -> str:
    old, new = (json.dumps(left, indent=1, sort_keys=True).splitlines() for left in (stock, ours))
    changes = difflib.unified_diff(old, new, "stock", "ours", lineterm="", n=1)
    return "\n".join(line[:300] for line in itertools.islice(changes, 30))
