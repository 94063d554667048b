"""Markdown that a page may render itself.

In: Markdown of a sandbox. Out: whether no reader of Markdown could make more of it than text,
links to the web and pictures that it holds itself; else the HTML that it means, to be judged as
such. What is kept is not decided by a parser: JupyterLab's (marked), VS Code's and GitHub's differ,
so anything that looks like raw HTML to any of them is rendered here.
"""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING

from agentbay_kernel.containment.tex import is_safe_tex
from agentbay_kernel.containment.text import is_plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# A tag, a comment, a declaration - but not an address in angle brackets.
_html = re.compile(r"<(?!https?://[\w./-]*>)[a-zA-Z/!?]")
_acting = re.compile(r"(?:javascript|vbscript|data|file|blob|filesystem)\s*:", re.I)
_destination = re.compile(r"\]\(\s*<?([^)\s>]*)|^\s{0,3}\[[^\]]*\]:\s*<?([^\s>]*)", re.M)
_web = re.compile(r"(?:https?://|mailto:)", re.I)
# JupyterLab draws these with a library that loads pictures and follows links.
_mermaid = re.compile(r"(?:```|~~~)\s*\{?\.?mermaid", re.I)
_LONGEST = 1_000_000


def is_inert(source: str) -> bool:
    """May a page render this Markdown as it is?"""
    meant = html.unescape(source).replace("\\", "")
    links = (found[1] or found[2] or "" for found in _destination.finditer(source))
    return (
        is_plain(meant)
        and not _html.search(source)
        and not _acting.search(re.sub(r"[\s\x00-\x20]", "", meant))
        # A picture is loaded from wherever it is, so it tells that it was seen.
        and "![" not in source
        and not _mermaid.search(source)
        and all(_web.match(link) for link in links)
        and is_safe_tex(source)
    )


def as_html(source: str) -> str:
    """The HTML that the Markdown means, raw HTML in it included."""
    if len(source) > _LONGEST:
        return f"<pre>{html.escape(source)}</pre>"
    return str(_parser().render(source))


@functools.cache
def _parser() -> MarkdownIt:
    # Formulas must come through as they are; MathJax reads them in HTML too.
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, renderer=_formula)
    return parser


def _formula(content: str, options: dict[str, bool]) -> str:
    marks = "$$" if options["display_mode"] else "$"
    return f"{marks}{html.escape(content, quote=False)}{marks}"
