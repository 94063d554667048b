"""The notebooks: what is stored in them, and that they still give it when executed."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(autouse=True)
def local_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test runs a notebook anywhere else."""
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")


def read(path: Path) -> NotebookNode:
    """A notebook, checked against the notebook format."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(path: Path, folder: Path) -> NotebookNode:
    """Execute a notebook with the kernel that it names, in a folder."""
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=100, resources=resources).execute()
    return notebook


class Outputs:
    """The outputs of the one code cell whose source contains a text."""

    def __init__(self, notebook: NotebookNode, source: str) -> None:
        (cell,) = [
            cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source
        ]
        self.all: list[NotebookNode] = cell.outputs

    def text(self, name: str = "stdout") -> str:
        """What was printed."""
        return "".join(
            output.text
            for output in self.all
            if output.output_type == "stream" and output.name == name
        )

    def data(self, mime: str) -> str:
        """The one output of that MIME type."""
        (found,) = [output.data[mime] for output in self.all if mime in output.get("data", {})]
        return str(found)

    @property
    def error(self) -> NotebookNode:
        """The error, the only output: its traceback is not printed a second time."""
        (output,) = self.all
        assert output.output_type == "error"
        return output


def check_quickstart(notebook: NotebookNode) -> None:
    """What a reader of quickstart.ipynb is shown."""
    first = Outputs(notebook, "berths = {")
    assert first.text() == "Ships in the bay: Aurora, Borealis, Corvus\n"
    assert "THIS machine" in first.text("stderr")
    assert Outputs(notebook, "max(berths").data("text/plain") == "4"
    assert "<table" in Outputs(notebook, "pd.DataFrame").data("text/html")
    check_picture(Outputs(notebook, "plt.show()").data("image/png"))
    error = Outputs(notebook, 'berths["Erebus"]').error
    assert (error.ename, error.evalue) == ("KeyError", "'Erebus'")
    assert 'berths["Erebus"]' in without_colours(error.traceback)
    assert Outputs(notebook, "ships are still known").text() == "4 ships are still known\n"
    assert Outputs(notebook, "const tide").text() == "High water: 3.5 m\n"
    assert "metres: 3.5" in Outputs(notebook, "[0, 3.1, 6.2, 9.3]").data("text/plain")
    shared = Outputs(notebook, "read_text()").data("text/plain")
    assert shared == "'1505 containers on 4 ships'"
    status = Outputs(notebook, "%agentbay status").data("text/plain")
    assert "local runtime on this machine" in status


def check_magics(notebook: NotebookNode) -> None:
    """What a reader of magics.ipynb is shown."""
    assert Outputs(notebook, "Here:").text() == "Here: this notebook\n"
    assert Outputs(notebook, "There:").text() == "There: the sandbox\n"
    assert "THIS machine" in Outputs(notebook, 'place = "the sandbox"').text("stderr")
    plotted = Outputs(notebook, "tides.plot")
    check_picture(plotted.data("image/png"))
    assert "<table" in plotted.data("text/html")
    error = Outputs(notebook, "depth(25)").error
    assert (error.ename, error.evalue) == ("KeyError", "25")
    assert "depth(25)" in without_colours(error.traceback)
    assert "agentbay_kernel" not in without_colours(error.traceback)
    printed = Outputs(notebook, "const ship").text()
    assert printed == "Aurora carries 420 containers\n"
    status = Outputs(notebook, "%agentbay status").data("text/plain")
    assert "local runtime on this machine" in status


def check_picture(encoded: str) -> None:
    """A PNG picture that shows something."""
    picture = base64.b64decode(encoded)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 2000


def without_colours(traceback: list[str]) -> str:
    """A traceback as plain text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))


CHECKS: dict[str, Callable[[NotebookNode], None]] = {
    "quickstart": check_quickstart,
    "magics": check_magics,
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_stored_outputs_show_what_a_reader_needs(name: str) -> None:
    notebook = read(NOTEBOOKS / f"{name}.ipynb")
    CHECKS[name](notebook)
    for cell in notebook.cells:
        # Nothing of the machine that it was executed on.
        outputs = str(cell.get("outputs"))
        assert "/site-packages/" not in outputs, cell.source
        assert not re.search(r"/(home|root|Users)/", outputs), cell.source


def test_magics_notebook(tmp_path: Path) -> None:
    check_magics(execute(NOTEBOOKS / "magics.ipynb", tmp_path))
    # The sandbox has a folder of its own.
    assert list(tmp_path.iterdir()) == []


def test_make_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "run_demo.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "THIS machine" in done.stdout
    assert f"Result: {tmp_path / 'quickstart.html'}" in done.stdout
    assert "Ran:    12 of 12 code cells (3 of them JavaScript)" in done.stdout
    check_quickstart(read(tmp_path / "quickstart.ipynb"))
    page = (tmp_path / "quickstart.html").read_text()
    assert "data:image/png;base64," in page
    assert "1505 containers on 4 ships" in page
    # The files of the cells are the sandbox's, not the checkout's.
    assert not (NOTEBOOKS / "ships.json").exists()


def test_make_demo_says_what_failed(tmp_path: Path) -> None:
    # A service that refuses connections: the first cell fails, as it must not.
    environment = {
        **os.environ,
        "AGENTBAY_BACKEND": "cloud",
        "AGENTBAY_API_KEY": "akm-test",
        "AGENTBAY_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "run_demo.py", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 1
    assert "the AgentBay service" in done.stdout
    assert "A cell failed that was not meant to" in done.stderr
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "akm-test" not in done.stdout + done.stderr
    # What was executed is kept, the error included.
    failed = read(tmp_path / "quickstart.ipynb")
    assert Outputs(failed, "berths = {").error.evalue
