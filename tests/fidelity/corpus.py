"""The cells that both kernels run: read from the `.cells` files beside this module.

In: files of cells, one file a subject. Out: `CorpusCell` values in the order they are run. A cell
begins with a line `#%% title`; a line `#: {...}` below it holds options in JSON: those of an
execute_request (silent, store_history, user_expressions, allow_stdin), `answers` to what the
cell asks, `answer_after`: what must have been printed before, `send`: messages that the page
sends after it, `metadata` of the request, `padding`: characters of a comment below the code. All
cells of all files share one kernel, as one long notebook.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("cells")
SUBJECTS = (
    "streams",
    "values",
    "displays",
    "updates",
    "history",
    "errors",
    "magics",
    "async",
    "libraries",
    "requests",
)


@dataclass(frozen=True)
class CorpusCell:
    """One cell of the corpus and how it is sent."""

    subject: str
    title: str
    code: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Names the cell within the corpus."""
        return f"{self.subject}: {self.title}"


def read_corpus() -> list[CorpusCell]:
    """All cells, subject by subject."""
    cells = []
    for subject in SUBJECTS:
        text = (FOLDER / f"{subject}.cells").read_text(encoding="utf-8")
        for part in re.split(r"^#%% ", text, flags=re.MULTILINE)[1:]:
            title, _, code = part.partition("\n")
            options: dict[str, Any] = {}
            if code.startswith("#: "):
                line, _, code = code[3:].partition("\n")
                options = json.loads(line)
            code = code.removesuffix("\n")
            if padding := options.pop("padding", 0):
                code += "\n# " + "padding " * (padding // 8)
            cells.append(CorpusCell(subject, title, code, options))
    return cells
