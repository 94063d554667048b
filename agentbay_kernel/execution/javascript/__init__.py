"""JavaScript cells that can be run again.

In: a cell's source. Out: a `Rewritten` cell, a plain script for one persistent context. In a
plain script a `const`, `let` or `class` can be declared once only, `import` and a top-level
`await` not at all; in a notebook all of them are run again and again.

Lines stay where they are, and so do columns: what is replaced keeps its length, and what must be
added goes to the end of the line before, or before the cell's first line (`column_offset`).
"""

from __future__ import annotations

from agentbay_kernel.execution.javascript.rewriting import Rewritten, rewrite

__all__ = ["Rewritten", "rewrite"]
