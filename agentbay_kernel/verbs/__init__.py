"""`%agentbay ...` and the first line of `%%agentbay ...`: the same for kernel and magics.

A command takes a line of a cell, the session manager, and the context of the line. It returns
Jupyter messages. Commands run here; they send nothing to a sandbox except for their own purpose.

A command (a `Verb`) is one row of the table in `table.py`: its name, its arguments, its function.
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
