"""The notebooks of the course: read, executed without a browser, compared with what is stored.

In: a notebook's path. Out: what its cells gave, and the facts about that which are the same each
time: kinds of output and names of errors.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# The same as when the outputs were stored: notebook 2 eats up to the limit.
SETTINGS = {"AGENTBAY_BACKEND": "local", "AGENTBAY_LOCAL_MEMORY": "1024"}
CELL_TIMEOUT_S = 300
# The first answer of a Markdown cell, and the code in it.
ANSWER = re.compile(r"<details><summary>Answer</summary>\n(.*?)</details>", re.S)
BLOCK = re.compile(r"^```\w*\n(.*?)\n```$", re.M | re.S)


def read(path: Path) -> NotebookNode:
    """A notebook, checked against the notebook format."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(notebook: NotebookNode, folder: Path, *, goes_on: bool = False) -> NotebookNode:
    """Execute a notebook with the kernel that it names, in a folder.

    Arguments:
        goes_on: also after a cell that failed and was not meant to.

    Raises:
        CellExecutionError: such a cell.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        allow_errors=goes_on,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, in their order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Does a cell have that tag?"""
    return tag in cell.metadata.get("tags", [])


def with_answers(notebook: NotebookNode) -> NotebookNode:
    """The notebook with each exercise solved after its check, as its answer shows, and checked.

    What is added has the tag `added`.
    """
    longer = copy.deepcopy(notebook)
    longer.cells = []
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        longer.cells.append(copy.deepcopy(cell))
        if tagged(cell, "check"):
            answer = ANSWER.match(following.source)
            assert answer, f"no answer follows the check {cell.source}"
            added = [*BLOCK.findall(answer[1]), cell.source]
            assert len(added) > 1, f"no code in the answer: {answer[1]}"
            longer.cells += [
                new_code_cell(source, metadata={"tags": ["added"]}) for source in added
            ]
    return longer


def verdicts(notebook: NotebookNode, *, added: bool) -> list[str]:
    """What the checks of exercises print, of those that `with_answers` added or of the others."""
    return [
        "".join(output.get("text", "") for output in cell.outputs)
        for cell in code_cells(notebook)
        if re.search(r"^check\($", cell.source, re.M) and tagged(cell, "added") == added
    ]


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what `with_answers` added."""
    shorter = copy.copy(notebook)
    shorter.cells = [cell for cell in notebook.cells if not tagged(cell, "added")]
    return shorter


def kinds(outputs: list[NotebookNode]) -> set[str]:
    """What of a cell's outputs is the same each time: streams, MIME types, names of errors."""
    found: set[str] = set()
    for output in outputs:
        if output["output_type"] == "stream":
            # What was typed is stored as a stream too, where somebody typed.
            found.update({output["name"]} - {"stdin"})
        elif output["output_type"] == "error":
            found.add(output["ename"])
        else:
            found.update(f"{output['output_type']} {mime}" for mime in output["data"])
    return found


def agree(cell: NotebookNode, stored: NotebookNode) -> bool:
    """Did a cell give what is stored? What takes a while may show its progress besides."""
    progress = {"display_data text/plain"} if "%agentbay" in cell.source else set()
    return not (kinds(cell.outputs) ^ kinds(stored.outputs)) - progress


def may_fail(cell: NotebookNode) -> bool:
    """Is it tagged as one that is meant to fail?"""
    return "raises-exception" in cell.metadata.get("tags", [])


def without_colours(traceback: list[str]) -> str:
    """A traceback as plain text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))


class Outputs:
    """The outputs of the one code cell whose source contains a text."""

    def __init__(self, notebook: NotebookNode, source: str) -> None:
        (cell,) = [cell for cell in code_cells(notebook) if source in cell.source]
        self.all: list[NotebookNode] = cell.outputs

    def text(self, name: str = "stdout") -> str:
        """What was printed."""
        return "".join(
            output.text
            for output in self.all
            if output.output_type == "stream" and output.name == name
        )

    def data(self, mime: str) -> str:
        """The last output of that MIME type."""
        return str([output.data[mime] for output in self.all if mime in output.get("data", {})][-1])

    @property
    def error(self) -> NotebookNode:
        """The error, the only one: its traceback is not printed a second time."""
        (output,) = [output for output in self.all if output.output_type == "error"]
        return output
