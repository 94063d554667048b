"""Which JavaScript cells are finished, unfinished, or wrong."""

from __future__ import annotations

import pytest

from agentbay_kernel.javascript import completeness

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
    assert completeness(code) == {"status": "incomplete"}


@pytest.mark.parametrize("code", INVALID)
def test_invalid(code: str) -> None:
    assert completeness(code) == {"status": "invalid"}


def test_half_a_surrogate_pair_is_no_crash() -> None:
    assert completeness("x = '\ud800'")["status"] in ("complete", "incomplete", "invalid")
