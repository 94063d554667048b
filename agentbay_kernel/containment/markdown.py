"""Markdown that a page may render itself.

Renderers of Markdown differ, and JupyterLab's reads it twice: it takes formulas out, renders the
rest, and puts them back into the HTML. So the page gets only Markdown from which no renderer can
make more than text, formulas and links to the web, because of its limited set of characters. All
other Markdown is rendered here, and then checked as HTML.
"""

from __future__ import annotations

import functools
import html
import itertools
import re
from typing import TYPE_CHECKING, Any

from agentbay_kernel.containment.tex import LONGEST, is_safe_tex

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

# The languages that a block of code may name; JupyterLab draws some others as pictures.
_LANGUAGES = """
    bash c console cpp css diff go html ini ipython ipython3 java javascript js json julia latex
    markdown md none plain py python python3 r rust sh shell sql text toml ts txt typescript xml
    yaml yml
    """.split()
# The allowed pieces of text. No backslash, no entity, no brace, no `<` that could start a tag; only
# a single `@`, since JupyterLab marks the place of a formula with two of them.
_TEXT = (
    r"[^\W_]++|[ \t\n#*_+\-.,;()'\"/%=|^?]|[^\x00-\x7f]"
    r"|>(?!(?:[ \t]*>){9})|<(?=[ \d=])|&(?= )|@(?!@)|!(?!\[)|:(?![/:])"
    r"|~{1,2}+(?!~)|`{1,2}+(?!`)"
)
_ADDRESS = r"https?://[a-zA-Z0-9][a-zA-Z0-9./?=#%+_,:-]{0,500}"
# Neither a colon nor a bracket may follow text in brackets, or it would name an address.
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
# An address in a text that becomes a link; punctuation at its end belongs to the sentence.
_autolink = re.compile(
    r"(?<![\w@.:/-])https?://[a-zA-Z0-9](?:[a-zA-Z0-9./?=#%+_,:;&~@!-]{0,500}[a-zA-Z0-9/=#%+_~-])?",
    re.A,
)
_task = re.compile(r"\[([ xX])\](?= )")
# Parsing time grows faster than the size, most of all with brackets. The end of each environment is
# searched for, and each line of a table has as many cells as its head.
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
    """Return the HTML of the Markdown, including raw HTML in it."""
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
    """Return how many cells the tables can have at most: a blank line ends a table."""
    blocks = (block.split("\n") for block in _blank_line.split(source) if "|" in block)
    return sum(len(lines) * max(line.count("|") for line in lines) for lines in blocks)


def _is_balanced(formula: str) -> bool:
    """Return whether all braces of the formula are closed, as JupyterLab searches for its end."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", formula):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@functools.cache
def _parser() -> MarkdownIt:
    # Formulas must stay unchanged; MathJax reads them in HTML too.
    from markdown_it import MarkdownIt
    from mdit_py_plugins.amsmath import amsmath_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_labels=False, allow_blank_lines=False, double_inline=True)
    parser.use(amsmath_plugin)
    for name in _FORMULAS:
        parser.add_render_rule(name, _as_text)
    parser.add_render_rule("fence", _as_code)
    parser.core.ruler.push("tasks", _mark_tasks)
    parser.core.ruler.push("autolinks", _link_addresses)
    return parser


# The element around a formula, and the marks of the formula in it.
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


def _mark_tasks(state: StateCore) -> None:
    """Write a list's `[ ]` and `[x]` as ☐ and ☑: a page's own HTML has no checkboxes."""
    for item, paragraph, inline in zip(
        state.tokens, state.tokens[1:], state.tokens[2:], strict=False
    ):
        if (item.type, paragraph.type) != ("list_item_open", "paragraph_open"):
            continue
        text = inline.children[0] if inline.children else None
        if text is not None and text.type == "text" and (task := _task.match(text.content)):
            box = "\u2610" if task[1] == " " else "\u2611"
            text.content = box + text.content[task.end() :]
            item.attrSet("style", "list-style-type:none")


def _link_addresses(state: StateCore) -> None:
    """Turn web addresses in the text into links."""
    for block in state.tokens:
        if block.type == "inline" and block.children and "://" in block.content:
            block.children = list(_with_links(state, block.children))


def _with_links(state: StateCore, tokens: Sequence[Token]) -> Iterator[Token]:
    from markdown_it.token import Token

    within = 0
    for token in tokens:
        if token.type == "html_inline" and re.match(r"</?a\b", token.content, re.I):
            within += -1 if token.content.startswith("</") else 1
        elif token.type in ("link_open", "link_close"):
            within += token.nesting
        if token.type != "text" or within > 0:
            yield token
            continue
        at = 0
        for found in _autolink.finditer(token.content):
            address = state.md.normalizeLink(found[0])
            yield Token("text", "", 0, content=token.content[at : found.start()])
            yield Token("link_open", "a", 1, attrs={"href": address})
            yield Token("text", "", 0, content=found[0])
            yield Token("link_close", "a", -1)
            at = found.end()
        yield Token("text", "", 0, content=token.content[at:])


# The languages whose code is coloured, by the names in blocks of code. Languages whose lexers take
# very long for hostile code are missing.
_COLOURED = {
    name: lexer
    for lexer, names in {
        "PythonLexer": "ipython ipython3 py python python3",
        "BashLexer": "bash sh shell",
        "JavascriptLexer": "javascript js",
        "JsonLexer": "json",
        "SLexer": "r",
        "SqlLexer": "sql",
        "HtmlLexer": "html",
        "CssLexer": "css",
        "CLexer": "c",
    }.items()
    for name in names.split()
}
# Characters of code in one text, since lexers are slow.
_MOST_COLOURED = 10_000
# JupyterLab's own colours, which follow its theme; the second values are for other pages.
_COLOURS = {
    "Comment": ("comment", "#408080", "italic"),
    "Comment.Preproc": ("meta", "#a2f", ""),
    "Keyword": ("keyword", "#008000", "bold"),
    "Keyword.Constant": ("atom", "#66c", ""),
    "Literal.Number": ("number", "#080", ""),
    "Literal.String": ("string", "#ba2121", ""),
    "Name.Attribute": ("attribute", "#00c", ""),
    "Name.Builtin": ("builtin", "#008000", ""),
    "Name.Class": ("def", "#00f", ""),
    "Name.Decorator": ("meta", "#a2f", ""),
    "Name.Function": ("def", "#00f", ""),
    "Name.Tag": ("tag", "#170", ""),
    "Operator": ("operator", "#7800c2", ""),
    "Operator.Word": ("keyword", "#008000", "bold"),
}


def _as_code(
    _: object, tokens: Sequence[Token], index: int, __: object, env: MutableMapping[str, Any]
) -> str:
    token = tokens[index]
    language = token.info.strip().partition(" ")[0].lower()
    return f"<pre><code>{_coloured(token.content, language, env)}</code></pre>\n"


def _coloured(code: str, language: str, env: MutableMapping[str, Any]) -> str:
    """Return code as HTML: coloured, if its language is known."""
    so_far = env.get("coloured", 0)
    name = _COLOURED.get(language)
    if name is None or so_far + len(code) > _MOST_COLOURED:
        return html.escape(code, quote=False)
    env["coloured"] = so_far + len(code)
    from pygments import lexers  # type: ignore[import-untyped]

    lexer = getattr(lexers, name)(stripnl=False, ensurenl=False)
    styled = ((_style_of(kind), text) for kind, text in lexer.get_tokens(code))
    pieces = []
    for style, run in itertools.groupby(styled, key=lambda it: it[0]):
        shown = html.escape("".join(text for _, text in run), quote=False)
        pieces.append(f'<span style="{style}">{shown}</span>' if style else shown)
    return "".join(pieces)


@functools.cache
def _style_of(kind: tuple[str, ...]) -> str:
    """Return the style of a kind of token; empty for plain text."""
    for length in range(len(kind), 0, -1):
        if found := _COLOURS.get(".".join(kind[:length])):
            variable, colour, more = found
            font = {"bold": ";font-weight:bold", "italic": ";font-style:italic"}.get(more, "")
            return f"color:var(--jp-mirror-editor-{variable}-color,{colour}){font}"
    return ""
