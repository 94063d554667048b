"""Markdown that a page may render itself.

Readers of Markdown differ, and JupyterLab's reads it twice: it takes formulas out, renders the
rest, and puts them back into the HTML. So the page gets only Markdown of which no reader can make
more than text, formulas and links to the web, because nothing else can be written with what it may
consist of. All other Markdown is rendered here, and is judged as HTML then.
"""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING

from agentbay_kernel.containment.tex import LONGEST, is_safe_tex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# The languages that a block of code may name; JupyterLab draws some others as pictures.
_LANGUAGES = """
    bash c console cpp css diff go html ini ipython ipython3 java javascript js json julia latex
    markdown md none plain py python python3 r rust sh shell sql text toml ts txt typescript xml
    yaml yml
    """.split()
# What text may consist of, piece by piece. No backslash, no entity, no brace, no `<` that could
# begin a tag; an `@` alone, since JupyterLab marks with two of them where a formula goes.
_TEXT = (
    r"[^\W_]++|[ \t\n#*_+\-.,;()'\"/%=|^?]|[^\x00-\x7f]"
    r"|>(?!(?:[ \t]*>){9})|<(?=[ \d=])|&(?= )|@(?!@)|!(?!\[)|:(?![/:])"
    r"|~{1,2}+(?!~)|`{1,2}+(?!`)"
)
_ADDRESS = r"https?://[a-zA-Z0-9][a-zA-Z0-9./?=#%+_,:-]{0,500}"
# Neither a colon nor a bracket may follow one in brackets, or it names an address.
_BRACKETS = rf"\[(?:{_TEXT}){{0,300}}+\]"
_FORMULA = (
    r"(?:[a-zA-Z0-9 ^_{}+\-=*/.,()|!:;'>]|[^\x00-\x7f]|<(?=[ \d=])|\\[a-zA-Z]++|\\[,;:!{}| ])"
)
_plain = re.compile(
    rf"(?:\b{_ADDRESS}|{_TEXT}"
    rf"|{_BRACKETS}(?!\s*[(\[:])|{_BRACKETS}\({_ADDRESS}\)"
    rf"|(?:`{{3,}}+|~{{3,}}+)(?:{'|'.join(_LANGUAGES)})?(?=\n|\Z)"
    rf"|(?<![\w$])\$(?:{_FORMULA})++\$(?![\w$])"
    rf"|(?<![\w$])\$\$(?:{_FORMULA}|\n(?!\s*\n))++\$\$(?![\w$]))*+",
    re.A,
)
_formula = re.compile(r"\$\$?([^$]+)\$\$?")
# Parsing takes time that grows faster than what is parsed, with brackets above all. The end of each
# environment is searched for, and each line of a table has as many cells as its head.
_LONGEST, _MOST_BRACKETS, _MOST_LINES = 200_000, 10_000, 10_000
_MOST_ENVIRONMENTS, _MOST_CELLS = 300, 100_000
_blank_line = re.compile(r"\n\s*+\n|\n\Z")


def is_inert(source: str) -> bool:
    """Return whether a page may render this Markdown as it is."""
    return (
        len(source) <= LONGEST
        and all(part.isprintable() for part in re.split(r"[\n\t]", source))
        and _plain.fullmatch(source) is not None
        and all(_is_balanced(found[1]) for found in _formula.finditer(source))
        and is_safe_tex(source)
    )


def as_html(source: str) -> str:
    """Return the HTML that the Markdown means, raw HTML in it included."""
    if _is_too_much(source):
        return f"<pre>{html.escape(source)}</pre>"
    return str(_parser().render(source))


def _is_too_much(source: str) -> bool:
    """Return whether parsing would take more than about a second."""
    return (
        len(source) > _LONGEST
        or source.count("[") > _MOST_BRACKETS
        or source.count("\n") > _MOST_LINES
        or source.count("\\begin") > _MOST_ENVIRONMENTS
        or _most_cells(source) > _MOST_CELLS
    )


def _most_cells(source: str) -> int:
    """Return how many cells the tables can have: a blank line ends a table."""
    blocks = (block.split("\n") for block in _blank_line.split(source) if "|" in block)
    return sum(len(lines) * max(line.count("|") for line in lines) for lines in blocks)


def _is_balanced(formula: str) -> bool:
    """Return whether every brace is closed in the formula: JupyterLab searches for its end so."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", formula):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@functools.cache
def _parser() -> MarkdownIt:
    # Formulas must come through as they are; MathJax reads them in HTML too.
    from markdown_it import MarkdownIt
    from mdit_py_plugins.amsmath import amsmath_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_labels=False, allow_blank_lines=False, double_inline=True)
    parser.use(amsmath_plugin)
    for name in _FORMULAS:
        parser.add_render_rule(name, _as_text)
    return parser


# The element in which a formula stands, and what marks it there.
_FORMULAS = {
    "math_inline": ("span", "$"),
    "math_inline_double": ("span", "$$"),
    "math_block": ("div", "$$"),
    "amsmath": ("div", ""),
}


def _as_text(_: object, tokens: Sequence[Token], index: int, *__: object) -> str:
    element, marks = _FORMULAS[tokens[index].type]
    formula = html.escape(tokens[index].content, quote=False)
    return f"<{element}>{marks}{formula}{marks}</{element}>"
