"""`%agentbay ...` and the first line of `%%agentbay ...`: the same for kernel and magics.

In: a line of a cell, the session manager, what surrounds the line. Out: Jupyter messages. Verbs
are answered here; nothing of theirs is sent to a sandbox but what the verb itself is for.

A verb is one row of the table in `table.py`: its name, its arguments, the function that answers.
"""

from __future__ import annotations

from agentbay_kernel.verbs.cells import (
    CELL_MAGIC,
    MAGIC,
    CellMagic,
    VerbCell,
    parse_cell,
)
from agentbay_kernel.verbs.table import VERBS, is_cell_verb, passes_cells, run_verb
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

__all__ = [
    "CELL_MAGIC",
    "MAGIC",
    "VERBS",
    "CellMagic",
    "MimeBundle",
    "Verb",
    "VerbCell",
    "VerbContext",
    "is_cell_verb",
    "parse_cell",
    "passes_cells",
    "run_verb",
]
