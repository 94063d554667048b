"""What holds for the rewrite of any text: it never raises, lines stay, tokens keep their place."""

from __future__ import annotations

import re

import tree_sitter
from hypothesis import given, settings
from hypothesis import strategies as st

from agentbay_kernel.execution.javascript import Rewritten, rewrite
from agentbay_kernel.javascript import language
from tests.execution.scripts import placed

# Statements, each ended: `N` becomes a name of its own.
_STATEMENTS = (
    "const N = 1;",
    "let N;",
    "let N, M_N = [2], K_N;",
    "const { N, b: [c_N = `é${1}😀`] } = {};",
    "class N { m() { let inner; return inner } }",
    "class N extends Object {} // const comment",
    "function N() { const q = 1; return q }",
    "async function N() { for await (const q of []) { class Q {} } }",
    "var N = /let x/;",
    "{ let N = '😀 const'; }",
    "for (let N = 0; N < 3; N++) { const z = N; }",
    "if (true) { var N = 1; } else { let w; }",
    "`line ${'let'}\nconst two`;",
    "/* class A {} */ call(N => { const v = N; });",
    "import N from 'fs';",
    "import * as N from './é😀.mjs';",
    "export const N = 2;",
    "export default function N() {}",
    "await N;",
    "for await (const x of N) { let y; }",
    "try {\n  let N;\n  N\n} catch {\n  await N;\n}",
    "'😀'.length + N;",
    "",
    "// let N",
)
_DECLARATIONS = {"await", "class", "const", "let", "var", "import", "export", "default"}

cells = st.lists(
    st.tuples(st.sampled_from(_STATEMENTS), st.sampled_from(("\n", "\r\n", "\n\n", "\u2028", " "))),
    max_size=12,
).map(
    lambda lines: "".join(
        re.sub(r"\bN\b", f"n{number}", text).replace("_N", f"_{number}") + line_end
        for number, (text, line_end) in enumerate(lines)
    )
)


def lines(code: str) -> list[str]:
    return re.split("\r\n|[\n\r\u2028\u2029]", code)


def tokens(code: str) -> list[tuple[str, int, int]]:
    """Names, literals and brackets with line and column, columns in UTF-16 units."""
    grammar = language()
    assert grammar is not None
    source = code.encode()
    stack = [tree_sitter.Parser(grammar).parse(source).root_node]
    found = []
    while stack:
        node = stack.pop()
        if node.child_count and node.type not in ("string", "template_string"):
            stack.extend(node.children)
        elif "comment" not in node.type:
            before = lines(source[: node.start_byte].decode())
            column = len(before[-1].encode("utf-16-le")) // 2
            found.append(((node.text or b"").decode(), len(before), column))
    return found


@given(cells, st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_tokens_keep_their_place(code: str, strict_const: bool, awaited: bool) -> None:
    rewritten = rewrite(code, strict_const=strict_const, awaited=awaited)
    assert len(lines(rewritten.code)) == len(lines(code))
    # What stands before the first line is what `column_offset` says.
    first_line = rewritten.column_offset
    after = set()
    for text, line, column in tokens(rewritten.code):
        shown = column - (first_line if line == 1 else 0) + 1
        after.add((text, *placed(rewritten, line, shown)))
    gone = set()
    if rewritten.code != code:
        # Imports and lists of exports run elsewhere; their text is blank.
        for number, text in enumerate(lines(code), 1):
            if "import" in text:
                gone.add(number)
    for text, line, column in tokens(code):
        if text in _DECLARATIONS or text in (";", ",") or line in gone:
            continue
        assert (text, line, column + 1) in after, rewritten.code


@given(cells)
@settings(max_examples=200, deadline=None)
def test_the_result_parses_and_needs_nothing_more(code: str) -> None:
    once = rewrite(code)
    if once.code != code:
        assert rewrite(once.code).code == once.code


@given(st.text(max_size=80), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_text_is_survived(code: str, strict_const: bool) -> None:
    assert len(lines(rewrite(code, strict_const=strict_const).code)) == len(lines(code))


_WORDS = """
let const class import export await function from default as async for of in return if else { } (
) [ ] ; , = => a b 'x' `t` ${ 1 . ... * / + # @ < > ? : // /* */ 😀 é #! using static get yield
new var try catch
"""
_PIECES = st.sampled_from([*_WORDS.split(), "\n", "\r\n", "\ufeff"])


@given(st.lists(_PIECES, max_size=14).map(" ".join), st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_tokens_are_survived(code: str, strict_const: bool, awaited: bool) -> None:
    rewritten = rewrite(code, strict_const=strict_const, awaited=awaited)
    assert len(lines(rewritten.code)) == len(lines(code))


@given(cells)
@settings(max_examples=100, deadline=None)
def test_code_without_declarations_is_unchanged(code: str) -> None:
    nested = f"void async function () {{\n{re.sub('^(im|ex)port.*', '', code, flags=re.M)}\n}}"
    assert rewrite(nested) == Rewritten(nested)
