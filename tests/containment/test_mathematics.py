"""Markdown and TeX: what a page gets of them, read by other parsers than the containment's."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agentbay_kernel.containment.bundle import HTML, PLAIN, contain_bundle, contain_html
from agentbay_kernel.containment.markdown import as_html
from agentbay_kernel.containment.markup import Fate, judge
from agentbay_kernel.containment.policy import Policy
from tests.containment.outputs import harm_in
from tests.containment.test_messages import contain, opened

LATEX, MARKDOWN = "text/latex", "text/markdown"


def contained(mime: str, source: str, html: str = "contain") -> dict[str, Any]:
    """The data that a page gets of one type beside plain text."""
    data = contain_bundle({mime: source, PLAIN: "plain"}, {}, Policy(html)).data
    assert data.pop(PLAIN) == "plain"
    return data


class Reader(HTMLParser):
    """The texts that MathJax reads, each in one: parted by tags, but not by `br` and comments."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.runs = [""]
        self.verbatim = 0
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.verbatim += tag in ("pre", "code")
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        self.verbatim -= tag in ("pre", "code")
        self._part(tag)

    def handle_data(self, data: str) -> None:
        if not self.verbatim:
            self.runs[-1] += data

    def _part(self, tag: str) -> None:
        if tag == "br":
            self.runs[-1] += "\n"
        elif tag != "wbr":
            self.runs.append("")


# All commands that the pieces below are made of and that only set mathematics.
GOOD = (
    *(
        r"\alpha",
        r"\frac{1}{2}",
        r"\sqrt[3]{x}",
        r"\displaystyle ",
        r"\left(x\right)",
        r"\,",
        r"\{",
    ),
    *(
        r"\operatorname{a}",
        r"\text{for $x$}",
        r"\begin{matrix}1 & 2\\3 & 4\end{matrix}",
        "x^2",
        "a_1",
    ),
    *(r"\mathbb{R}", r"\color{red}", r"\begin{array}{c|c}1&2\end{array}", r"\hat{x}", "'", "a < b"),
)
ALLOWED = set(re.findall(r"\\[a-zA-Z]+|\\.", "".join(GOOD))) | {"\\(", "\\)", "\\[", "\\]", "\\$"}
# Accents, spaces and signs, as the pieces make them of their neighbours.
ALLOWED |= {f"\\{sign}" for sign in "'\"`^~=.|#%& >}\n\\"}
HOSTILE = (
    *(r"\href", r"\class{a}{b}", r"\unicode{x41}", r"\def\x{y}", r"\require{html}", r"\csname a"),
    *(r"\cssId{a}{b}", r"\style{a}{b}", r"\data{a=b}{c}", r"\mmlToken{mi}[id=a]{b}", r"\verb|$|"),
    *(r"\newcommand{\x}{y}", r"\let\x=\href", r"\raise9em{x}", r"\eqref{a}", r"\\[-9em]", r"\hr"),
    *("\\hre<b></b>f", "\\hr</b>ef", "&#92;href", "&bsol;href", "%\n", "\\", "ef{javascript:x}{y}"),
)
AROUND = (
    *(
        "$",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\\\(",
        "\\\\)",
        "\\$",
        "&#36;",
        "&dollar;",
        "%",
    ),
    *("<b>", "</b>", "<br>", "<wbr>", "<!-- x -->", "<p>", "</p>", "<tr>", "<ruby>", "</div>"),
    *("<code>", "</code>", "<style>.dataframe td{text-align:left}</style>", "{", "}", " ", "\n"),
    *("`", "```\n", "@@0@@", "@", "\\@", "[x](https://a/", "[x]: ", ")", '"', "](", "* ", "> "),
    *("| a | b |\n|---|---|\n", "# ", "**", "text", "\\begin{align}", "\\end{align}", "~~~", "~D"),
)
PIECES = st.lists(st.sampled_from([*GOOD, *HOSTILE, *AROUND]), max_size=14).map("".join)
FORMULA = re.compile(r"\$.*\$|\\\(|\\\[|\\begin|\\(?:eq)?ref", re.S)


def foreign_commands(text: str) -> set[str]:
    """The commands in a text that MathJax could set and that aren't among the good pieces."""
    if FORMULA.search(text) is None:
        return set()
    return set(re.findall(r"\\(?:[a-zA-Z]+|.|\Z)", text, re.S)) - ALLOWED


def assert_inert(data: dict[str, Any]) -> None:
    """No reader finds in it a command that isn't a good one."""
    ((mime, shown),) = data.items()
    if mime == HTML:
        assert not harm_in(shown)
        if "<iframe" not in shown:
            assert [found for run in Reader(shown).runs if (found := foreign_commands(run))] == []
    else:
        assert mime in (LATEX, MARKDOWN)
        assert foreign_commands(shown) == set()
        assert "<b" not in shown


@pytest.mark.parametrize("mime", [HTML, LATEX, MARKDOWN])
@settings(deadline=None, max_examples=400)
@given(source=PIECES)
def test_no_foreign_command_is_set(mime: str, source: str) -> None:
    for html in ("contain", "sanitize"):
        data = contain_bundle({mime: source}, {}, Policy(html)).data
        if set(data) != {PLAIN}:
            assert_inert(data)


@settings(deadline=None, max_examples=600)
@given(PIECES)
def test_markdown_that_is_kept_is_text_links_and_formulas(source: str) -> None:
    if MARKDOWN not in contained(MARKDOWN, source):
        return
    assert "@@" not in source
    # Two readers: with formulas and without.
    for text in (source, re.sub(r"\$[^$]+\$", "", source)):
        for token in MarkdownIt("js-default", {"linkify": False}).parse(text):
            assert token.type.partition("_")[0] in BLOCKS, token
            assert token.type != "fence" or re.fullmatch(r"\w*", token.info)
            for inline in token.children or ():
                assert inline.type in INLINES, inline
                for value in inline.attrs.values():
                    assert re.fullmatch(r"https://[\w./]+", str(value)), inline
    for formula in re.findall(r"\$[^$]+\$", source):
        assert not set(formula) & set('"&`<') - {"<"}
        assert not re.search(r"<[a-zA-Z/!?]", formula)


BLOCKS = {
    *("paragraph", "heading", "bullet", "ordered", "list", "blockquote", "inline", "table"),
    *("thead", "tbody", "tr", "th", "td", "fence", "code", "hr"),
}
INLINES = {
    *("text", "softbreak", "hardbreak", "code_inline", "link_open", "link_close"),
    *("strong_open", "strong_close", "em_open", "em_close", "s_open", "s_close"),
}


@pytest.mark.parametrize(
    "tex",
    [
        r"$\displaystyle \int\limits_{0}^{1} x^{2}\, dx = \frac{1}{3}$",
        r"$\displaystyle \left[\begin{matrix}1 & 2\\3 & 4\end{matrix}\right]$",
        r"$\displaystyle \begin{cases} x & \text{for}\: x > 1 \\0 & \text{otherwise} \end{cases}$",
        r"$\displaystyle \operatorname{Poly}{\left( x + \alpha, x, domain=\mathbb{Z} \right)}$",
        r"$$\begin{array}{rl}a &= b\\[2pt] c &= d\end{array}$$",
        "\\begin{align}\na &= b \\\\\nc &= \\mathbf{d} \\tag{1}\n\\end{align}",
        r"no formula at all: C:\new \href",
        r"\(\ket{\psi}\) and \[\boldsymbol{x}\]",
    ],
)
def test_latex_that_sets_mathematics_is_kept(tex: str) -> None:
    assert contained(LATEX, tex) == {LATEX: tex}
    escaped = tex.replace("&", "&amp;").replace(">", "&gt;")
    assert contained(HTML, escaped) == {HTML: escaped}


@pytest.mark.parametrize(
    "tex",
    [
        r"$\href{https://example.org}{x}$",
        r"$\text{a \href{x}{y}}$",
        "$\\hre%\nf{x}{y}$",
        r"\begin{alignat}{999999}x\end{alignat}",
        r"\begin{tabular}{lr}a & b\end{tabular}",
        r"$\begin{array}{*{9999}{c}}x\end{array}$",
        r"$x\\[-9em]y$",
        r"$\color{url(x)}{y}$",
        "$" + "{" * 200 + "}" * 200 + "$",
        "$" + r"\displaystyle " * 200 + "x$",
        "$" + "x+" * 60_000 + "$",
        "$x$ \\",
    ],
)
def test_other_latex_is_shown_as_it_is_written(tex: str) -> None:
    shown = contained(LATEX, tex)[HTML]
    assert shown.startswith("<pre>")
    (text,) = re.findall(r"<pre>(.*)</pre>", shown, re.S)
    assert (
        re.sub(r"&(amp|lt|gt);", lambda it: {"amp": "&", "lt": "<", "gt": ">"}[it[1]], text) == tex
    )
    # What else the output has says the same.
    picture = contain_bundle({LATEX: tex, "image/png": "AAAA", PLAIN: "x"}, {}, Policy()).data
    assert set(picture) == {"image/png", PLAIN}


TASK = '<li style="list-style-type:none">'


def link(address: str) -> str:
    return f'<a href="{address}">{address}</a>'


def coloured(colour: str, code: str) -> str:
    name, _, otherwise = colour.partition(",")
    return f'<span style="color:var(--jp-mirror-editor-{name}-color,{otherwise})">{code}</span>'


def test_ordinary_markdown_is_kept() -> None:
    for source in (
        "# Title\n\n*a* **b** `c` ~~d~~ [link](https://example.org/a_b?c=1#d) $a_1$, $x < y$",
        "| a | b |\n|---|:-:|\n| 1 | $\\alpha^2$ |\n\n> quote\n\n1. one\n   - two\n- [x] done",
        "```python\nfor ship in ships:\n    pass\n```\n\n$$\n\\frac{1}{2} + \\sum_{i} x_i\n$$",
        "Inline $\\frac{a_1}{b_1}$ and $$\\sum_{i=1}^n x_i$$ displayed, $a$",
        "Grüße → 船, 50% & more: (a), [1], 'b' \"c\"! d@example.org https://example.org/x a < 3",
        "",
    ):
        assert contained(MARKDOWN, source) == {MARKDOWN: source}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("costs $5 \\_", "<p>costs $5 _</p>\n"),
        (
            "$\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}$",
            "<p><span>$\\begin{pmatrix}1&amp;2\\\\3&amp;4\\end{pmatrix}$</span></p>\n",
        ),
        ("a\n\n$$\nx_1\\\\\ny_1\n$$\n", "<p>a</p>\n<div>$$\nx_1\\\\\ny_1\n$$</div>"),
        (
            "\\begin{align}\na&=b_1\\\\\nc&=d_1\n\\end{align}",
            "<div>\\begin{align}\na&amp;=b_1\\\\\nc&amp;=d_1\n\\end{align}</div>",
        ),
        ("see $$x_1 \\\\ y_1$$ here", "<p>see <span>$$x_1 \\\\ y_1$$</span> here</p>\n"),
        ("`$x \\foo$`", "<p><code>$x \\foo$</code></p>\n"),
        (
            "$\\foo$ $x$ &",
            "<p><span><span>$</span>\\foo<span>$</span></span> <span>$x$</span> &amp;",
        ),
        ("```mermaid\ngraph\n```", "<pre><code>graph\n</code></pre>"),
        ("[x](https://a/@\\@0@@) $y$", '<p><a href="https://a/@@0@@">x</a> <span>$y$</span></p>'),
        ("[" * 20_000, "<pre>[["),
        ("- [ ] a\\_b\n- [x] **c**", f"<ul>\n{TASK}\u2610 a_b</li>\n{TASK}\u2611 <strong>c<"),
        ("1. [X]b\n2. c [ ] d\\_", "<ol>\n<li>[X]b</li>\n<li>c [ ] d_</li>"),
        ("at https://a.org/?b=1&c. \\_", f"<p>at {link('https://a.org/?b=1&amp;c')}. _</p>"),
        ("(https://a.org) \\_", f"<p>({link('https://a.org')}) _</p>"),
        (
            "[https://a.org](https://b.org/\\_)",
            '<p><a href="https://b.org/_">https://a.org</a></p>',
        ),
        (
            "<a href='https://b.org'>https://a.org</a>",
            "<p><a href='https://b.org'>https://a.org</a>",
        ),
        (
            "`https://a.org` javascript:https://a.org ws://a.org \\_",
            "<p><code>https://a.org</code> j",
        ),
        ("```python\nx = {'a': 1}\n```", f"<pre><code>x {coloured('operator,#7800c2', '=')} {{"),
        ("```json\n{1}\n```", f"<pre><code>{{{coloured('number,#080', '1')}}}\n</code></pre>"),
        ("```sh\necho ${x}\n```", f"<pre><code>{coloured('builtin,#008000', 'echo')} "),
        ("```other\n{a}\n```", "<pre><code>{a}\n</code></pre>"),
        ("```\n{a} $b$ \\c\n```", "<pre><code>{a} $b$ \\c\n</code></pre>"),
    ],
)
def test_other_markdown_is_rendered(source: str, shown: str) -> None:
    assert contained(MARKDOWN, source)[HTML].startswith(shown)


def test_amounts_in_tables_are_kept_byte_for_byte() -> None:
    prices = pd.DataFrame({"ship": ["Aurora", "C:\\new"], "price": ["$5", "$6 to"]})
    for table in (prices.to_html(), prices._repr_html_(), prices.style.to_html()):
        assert contained(HTML, table) == {HTML: table}
    with pd.option_context("display.html.use_mathjax", False):
        table = prices._repr_html_()
        assert "mathjax_ignore" in table
        assert contained(HTML, table) == {HTML: table}


def test_html_with_other_tex_is_shown_without_formulas() -> None:
    table = pd.DataFrame({"a": ["from $5 to $6 in C:\\new", "$x^2$"]})._repr_html_()
    shown = contained(HTML, table)[HTML]
    assert "from <span>$</span>5 to <span>$</span>6 in C:\\new" in shown
    assert "<td>$x^2$</td>" in shown
    for source in (
        "$\\hr</b>ef{x}{y}$",
        "$\\hr<wbr>ef{x}{y}$",
        "$\\hr<ruby></ruby>ef{x}{y}$",
        "&#36;&#92;h&#x72;ef{x}{y}&dollar;",
        "$\\hr<style>.dataframe td{text-align:left}</style>ef{x}{y}$",
        "</div>$\\href{x}{y}$",
    ):
        assert "<span>$</span>" in contained(HTML, source)[HTML]


def test_a_frames_text_for_readers_without_frames_holds_no_tex() -> None:
    data = {HTML: "<script>1</script>", PLAIN: "$\\href{javascript:x}{y}$"}
    assert "href{" not in contain_bundle(data, {}, Policy()).data[HTML]


@pytest.mark.parametrize(("widget", "key"), [("Label", "value"), ("IntSlider", "description")])
def test_what_a_widget_sets_holds_only_mathematics(widget: str, key: str) -> None:
    for text, shown in (
        ("costs $5, $x^2$", "costs $5, $x^2$"),
        ("$\\href{x}{y}$", "\uff04\uff3chref{x}{y}\uff04"),
    ):
        (message,) = contain(opened("1", widget, {key: text}))
        assert message.content["data"]["state"][key] == shown
    # What nothing sets stays as it is.
    (message,) = contain(opened("1", "Text", {"value": "$\\href{x}{y}$"}))
    assert message.content["data"]["state"]["value"] == "$\\href{x}{y}$"


@pytest.mark.parametrize(
    "language", ["python", "ipython", "bash", "javascript", "json", "r", "sql", "html", "css", "c"]
)
@given(code=st.text(st.sampled_from("{}$\\<>'\"`/*#()[] \n\r\tab1&;:-@\u202e\u00e9"), max_size=60))
def test_coloured_code_is_the_code_and_inert(language: str, code: str) -> None:
    code = code.replace("`", "'")
    shown = as_html(f"```{language}\n{code}\n```")
    plain = as_html(f"```\n{code}\n```")
    assert re.sub(r"</?span[^<>]*>", "", shown) == plain
    assert judge(shown).fate is not Fate.FOREIGN
    assert not harm_in(contain_html(shown, Policy()))


def test_not_more_is_coloured_than_takes_a_moment() -> None:
    block = "```python\nx = {1}\n```\n\n"
    shown = as_html(block * 2_000)
    assert shown.count("<pre>") == 2_000
    assert 1_000 < shown.count("<pre><code>x <span") < 1_500
