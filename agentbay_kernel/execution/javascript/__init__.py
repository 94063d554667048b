"""Rewrites JavaScript cells so that they can be run again.

A rewritten cell is a plain script for one persistent context. A plain script can declare a `const`,
`let` or `class` only once, and can't have `import` or a top-level `await`. A notebook runs cells
with all of them several times.

Lines and columns keep their positions. Replaced text keeps its length, and text that must be added
goes to the end of the line before, or before the cell's first line (`column_offset`).
"""

from __future__ import annotations

from agentbay_kernel.execution.javascript.rewriting import Rewritten, rewrite

__all__ = ["Rewritten", "rewrite"]
