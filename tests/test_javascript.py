"""Which JavaScript cells are finished, unfinished, or wrong."""

from __future__ import annotations

import pytest

from agentbay_kernel.javascript import completeness, dialect, with_calls

COMPLETE = [
    "",
    "   \n",
    "1 + 1",
    "const x = 1",
    "let x",
    "let x, y = 2;",
    "var a = [1, 2,\n 3]",
    "function f() {}",
    "function* g() { yield 1 }",
    "async function f() { await g() }",
    "class A {}",
    "class A extends B { #x = 1; get x() { return this.#x } }",
    "x => x + 1",
    "(function () {})()",
    "(class {})",
    "const C = class {}",
    "await fetch('x')",
    "for await (const x of y) {}",
    "for (const x of [1, 2]) console.log(x)",
    "for (let i = 0; i < 3; i++) { a(i) }",
    "if (a) b()",
    "if (a) { b() } else { c() }",
    "try { a() } catch { b() }",
    "do { a() } while (b)",
    "switch (a) { case 1: b(); break; default: c() }",
    "import fs from 'fs'",
    "import { readFile } from 'node:fs/promises'",
    "export default 1",
    "`a ${b} c`",
    "`a\nb`",
    "/a[/]b/g.test('x')",
    "// comment",
    "/* comment */",
    "a?.b ?? c",
    "x = {a: 1, ...b}",
    "({a: 1})",
    "const {a, b = 2} = c",
    "label: for (;;) { break label }",
    "'(['",
    "throw new Error('x')",
]

INCOMPLETE = [
    "function f() {",
    "function f(",
    "function f",
    "function f()",
    "class A {",
    "class A",
    "class A extends",
    "if (a) {",
    "if (a)",
    "if (a) { b() } else",
    "for (let i = 0; i < 3; i++) {",
    "for (let i = 0;",
    "for (const x of",
    "while (true)",
    "while (true",
    "try {",
    "try { a() }",
    "do { a() }",
    "switch (x) {",
    "switch (x) { case 1:",
    "x = {",
    "x = {a: 1,",
    "x = {a:",
    "x = [1, 2,",
    "x =",
    "x +",
    "x ? y",
    "x ? y :",
    "x &&",
    "const x",
    "const x =",
    "const {a, b}",
    "f(1, 2",
    "f(function () {",
    "a.b(x => {",
    "x =>",
    "`abc",
    "`abc ${",
    "`abc ${d",
    "/* comment",
    "new",
    "import { a } from",
    "import { a }",
    "import {",
    "a.",
    "'abc\\\n",
    "async () => {\n  await x",
]

INVALID = [
    "x = )",
    "f(]",
    "}",
    "if (a) { b() ))",
    "const const = 1",
    "const x; y()",
    "class {}",
    "function () {}",
    "1 2",
    "let 1x = 2",
    "for (;;;) {}",
    "x = {a: 1]",
    "'abc\nd",
    "a b c",
]


@pytest.mark.parametrize("code", COMPLETE)
def test_complete(code: str) -> None:
    assert completeness(code) == {"status": "complete"}


@pytest.mark.parametrize("code", INCOMPLETE)
def test_incomplete(code: str) -> None:
    reply = completeness(code)
    assert reply["status"] == "incomplete"
    # White space, also where there is none to add.
    assert reply["indent"].strip() == ""


@pytest.mark.parametrize("code", INVALID)
def test_invalid(code: str) -> None:
    assert completeness(code) == {"status": "invalid"}


def test_half_a_surrogate_pair_is_no_crash() -> None:
    assert completeness("x = '\ud800'")["status"] in ("complete", "incomplete", "invalid")


SHELL = 'globalThis[Symbol.for("agentbay.lines")].shell'
HELP = 'globalThis[Symbol.for("agentbay.lines")].help'


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("!echo one two", f'{SHELL}("echo one two");'),
        ("  !npm i x\nconst a = 1", f'{SHELL}("npm i x");\nconst a = 1'),
        ("!echo 'é'\r\n1", f"{SHELL}(\"echo '\\u00e9'\");\n1"),
        ("!./run.sh --fast > out.txt", f'{SHELL}("./run.sh --fast > out.txt");'),
        ('!"my tool" x', f'{SHELL}("\\"my tool\\" x");'),
        ("!a \\\n  b c\n2", f'{SHELL}("a \\\\\\n  b c");\n\n2'),
        ("if (x) {\n  !ls *.js\n}", f'if (x) {{\n{SHELL}("ls *.js");\n}}'),
        ("!ls\n!npm i", f'typeof ls===\'undefined\'?{SHELL}("ls"):!ls\n{SHELL}("npm i");'),
        ("moor?", f'{HELP}("moor",0);'),
        ("a = 1;\n?? a.b['c d'][0]\n", f"a = 1;\n{HELP}(\"a.b['c d'][0]\",1);\n"),
        ("?moor;", f'{HELP}("moor",0);'),
    ],
)
def test_lines_that_are_no_javascript_become_calls(code: str, called: str) -> None:
    assert with_calls(code) == called
    assert completeness(code) == {"status": "complete"}


@pytest.mark.parametrize(
    "code",
    [
        "!true",
        "!!x",
        "!(a && b)",
        "!f()",
        "!a.b",
        "!function () {\n}()",
        "!async function () {\n}()",
        "let ls = 1\n!ls",
        "a = ready &&\n!ls -la",
        "`\n!echo one two\nmoor?\n`",
        "/*\n!echo one two\n*/ const x = ;",
        "a ? b : c",
        "a?\nb : c",
        "a?.b",
        "a ?? b",
        "x = y?",
        "const broken = ;\nmoor?",
        "1 != 2",
        "'!echo one two'",
    ],
)
def test_javascript_stays_javascript(code: str) -> None:
    assert with_calls(code) == code


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("let a: number = 1", "TypeScript"),
        ("type A = string | null", "TypeScript"),
        ("abstract class A {}", "TypeScript"),
        ("class A { private x = 1 }", "TypeScript"),
        ("class A implements B {}", "TypeScript"),
        ("x = y satisfies Z", "TypeScript"),
        ("declare const z: any", "TypeScript"),
        ("namespace N { }", "TypeScript"),
        ("const f = <T,>(x: T) => <b>{x}</b>", "TypeScript"),
        ("return <></>", "JSX"),
        ("f(<a.b c='d' {...e}/>)", "JSX"),
        ("const a = 1", ""),
        ("a < b > c", ""),
        ("hello!", ""),
        ("function f(a, b)", ""),
        ("x = {a: 1, b: }", ""),
        ("label: for (;;) break label", ""),
        ("import { a as b } from 'c'; const d = ;", ""),
        ("class A { x = 1; static y }", ""),
        ("\ud800", ""),
    ],
)
def test_which_dialect_it_is(code: str, name: str) -> None:
    assert dialect(code) == name
