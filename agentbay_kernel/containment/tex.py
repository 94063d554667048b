"""TeX that only sets mathematics.

In: text that a page may give to MathJax: LaTeX, and HTML or Markdown with formulas in it. Out:
does it hold no command that links, loads or gives its parts a look of the page's own?
"""

from __future__ import annotations

import re

# The commands of MathJax's html, require and action packages. JupyterLab's MathJax filters what
# they do (its `safe` extension); exports of a notebook to HTML don't.
_acting = re.compile(
    r"\\(?:class|cssId|data|style|require|html\w*|csname|toggle|mathtip|texttip|includegraphics|"
    r"href(?!\s*\{\s*https?://[^\\{}]*\}))(?![a-zA-Z])"
)


def is_safe_tex(text: str) -> bool:
    """May MathJax see this text?"""
    return "\\" not in text or _acting.search(text) is None
