"""What JavaScript cells do: inputs and expectations, as Node's REPL would have it.

Node 20 decides where it has an opinion. Deno's and IJavascript's kernels decide what a REPL can't
know: that a name may be declared again, displays, `prompt()`. `test_javascript_table.py` runs all
rows in the kernel, in `%%agentbay javascript` and in direct execution; where a row can't hold in
direct execution or below `%%agentbay javascript`, it says why.
"""

from __future__ import annotations

from dataclasses import dataclass

# Why a row can't hold in direct execution.
WAITS = "one run_code is a plain script: nobody waits for its promise; the cell prints its value"
SHOWS = "display() needs a channel beside stdout, which one run_code does not have"
ASKS = "one run_code can't ask the user"
LATER = "one run_code ends with its cell: what timers do later is seen by nobody"
KEEPS = "one run_code does not keep what the cell before resulted in"
NAMES = "the service names the script"
WORDS = "the service words this, and not the cell"
LOOKS = "the service's plain JavaScript decides how a value is shown"
HOST = "what a plain script has beside JavaScript is the service's choice"
EMPTY = "IPython refuses a cell magic without a body"
CHILDREN = "whether a plain script may start a process is the service's choice"


@dataclass(frozen=True)
class Row:
    """Cells that are run one after the other; the expectations are those of the last.

    `value`: the result's plain text. `out`: all of stdout. `err`: part of stderr; without it,
    nothing is on stderr. `error`: "name: message" of the error. `trace`: parts of the traceback,
    in which `{n}` is the cell's number. `no_trace`: what it does not hold. `shown`: MIME types and
    contents of the displays. `typed`: what the user answers; `asked`: what was asked then.
    `paged`: parts of what the pager shows. `direct`: why it can't hold in direct execution;
    `magic`: why it can't hold in `%%agentbay javascript`.
    """

    name: str
    code: str | tuple[str, ...]
    value: str | None = None
    out: str = ""
    err: str = ""
    error: str = ""
    trace: tuple[str, ...] = ()
    no_trace: tuple[str, ...] = ()
    shown: tuple[dict[str, object], ...] = ()
    typed: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    paged: tuple[str, ...] = ()
    direct: str = ""
    magic: str = ""


@dataclass(frozen=True)
class Completion:
    """Completion where `|` stands, behind a cell. `has` are among the matches, `lacks` are not."""

    name: str
    code: str
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    before: str = "0"
    word: str | None = None


@dataclass(frozen=True)
class Inspection:
    """Inspection where `|` stands, behind a cell: parts of its text; without any, not found."""

    name: str
    code: str
    has: tuple[str, ...] = ()
    before: str = "0"


@dataclass(frozen=True)
class Completeness:
    """The content of an is_complete_reply."""

    code: str
    status: str
    indent: str | None = None


VALUES = [
    # Numbers, strings, and what is no object.
    Row("number", "1 + 1", "2"),
    Row("float", "0.1 + 0.2", "0.30000000000000004"),
    Row("minus zero", "-0", "-0"),
    Row("not a number", "0 / 0", "NaN"),
    Row("infinity", "1 / 0", "Infinity"),
    Row("bigint", "2n ** 64n", "18446744073709551616n"),
    Row("string", "'boat'", "'boat'"),
    Row("string with an apostrophe", '"it\'s"', '"it\'s"'),
    Row("string with a line end", "'a\\nb'", "'a\\nb'"),
    Row("string, not ASCII", "'héllo 😀'", "'héllo 😀'"),
    Row("half a character", "'😀'.length", "2"),
    Row("boolean", "!0", "true"),
    Row("null", "null", "null"),
    Row("undefined is not shown", "undefined", None),
    Row("void is not shown", "void 0", None),
    Row("symbol", "Symbol('s')", "Symbol(s)"),
    Row("typeof", "typeof nowhere", "'undefined'"),
    Row("comma", "1, 2, 3", "3"),
    Row("exponent", "(-2) ** 2", "4"),
    Row("optional chaining", "null?.a", None),
    Row("nullish", "null ?? 'x'", "'x'"),
    # Objects.
    Row("object", "({ a: 1, b: 'x' })", "{ a: 1, b: 'x' }"),
    Row("empty object", "({})", "{}"),
    Row(
        "nested object",
        "({ a: { b: { c: { d: 1 } } } })",
        "{ a: { b: { c: [Object] } } }",
        direct=LOOKS,
    ),
    Row("array", "[1, 2, 3]", "[ 1, 2, 3 ]"),
    Row("holes", "[1, , 3]", "[ 1, <1 empty item>, 3 ]"),
    Row("long array", "Array.from({ length: 120 }, () => 1).length", "120"),
    Row(
        "long array is cut at 100",
        "Array(101).fill(0)",
        "[\n" + ("  " + ", ".join(["0"] * 12) + ",\n") * 8 + "  0, 0, 0, 0,\n  ... 1 more item\n]",
    ),
    Row("circular", "const ring = {}; ring.self = ring; ring", "<ref *1> { self: [Circular *1] }"),
    Row("Map", "new Map([['a', 1]])", "Map(1) { 'a' => 1 }"),
    Row("Set", "new Set([1, 2])", "Set(2) { 1, 2 }"),
    Row("WeakMap", "new WeakMap()", "WeakMap { <items unknown> }"),
    Row("Date", "new Date(0)", "1970-01-01T00:00:00.000Z"),
    Row("invalid Date", "new Date(NaN)", "Invalid Date"),
    Row("regex", "/a[/]b/giu", "/a[/]b/giu"),
    Row("regex match", "'2026-11'.match(/(?<year>\\d+)/).groups.year", "'2026'"),
    Row("Buffer", "Buffer.from('hi')", "<Buffer 68 69>"),
    Row("typed array", "new Uint8Array([1, 2])", "Uint8Array(2) [ 1, 2 ]"),
    Row(
        "ArrayBuffer",
        "new ArrayBuffer(2)",
        "ArrayBuffer { [Uint8Contents]: <00 00>, byteLength: 2 }",
    ),
    Row("function", "function f1() {}; f1", "[Function: f1]"),
    Row("anonymous function", "(() => 1)", "[Function (anonymous)]"),
    Row("async function", "(async function go() {})", "[AsyncFunction: go]"),
    Row("generator function", "(function* gen() {})", "[GeneratorFunction: gen]"),
    Row("class", "(class A {})", "[class A]"),
    Row("class that extends", "class P0 {}; (class Q0 extends P0 {})", "[class Q0 extends P0]"),
    Row("instance", "class P1 { constructor() { this.x = 1 } }; new P1()", "P1 { x: 1 }"),
    Row("private fields are not shown", "class P2 { #p = 1; q = 2 }; new P2()", "P2 { q: 2 }"),
    Row("no prototype", "Object.create(null)", "[Object: null prototype] {}"),
    Row("getter", "({ get a() { return 1 } })", "{ a: [Getter] }"),
    Row("symbol as key", "({ [Symbol('k')]: 1 })", "{ [Symbol(k)]: 1 }"),
    Row("boxed", "new Number(3)", "[Number: 3]"),
    Row("arguments", "(function () { return arguments })(1)", "[Arguments] { '0': 1 }"),
    Row("resolved promise", "Promise.resolve(4)", "Promise { 4 }"),
    Row("pending promise", "new Promise(() => {})", "Promise { <pending> }"),
    Row("iterator", "[1][Symbol.iterator]()", "Object [Array Iterator] {}"),
    Row("generator", "(function* () { yield 1 })()", "Object [Generator] {}"),
    Row("spread of a generator", "[...(function* () { yield 1; yield 2 })()]", "[ 1, 2 ]"),
    Row("URL", "new URL('https://x.org/a?b=1').searchParams.get('b')", "'1'"),
    Row("global this", "this === globalThis", "true"),
    Row("this of a function", "(function () { return this === globalThis })()", "true"),
    Row("this of a strict function", "(function () { 'use strict'; return this })()", None),
    Row("template", "`a${1 + 1}b`", "'a2b'"),
    Row("tagged template", "String.raw`a\\n`", "'a\\\\n'"),
    Row("template over lines", "`a\nb`", "'a\\nb'"),
    Row("destructuring", "const { a1, ...r1 } = { a1: 1, b1: 2 }; [a1, r1]", "[ 1, { b1: 2 } ]"),
    Row("defaults", "const [d1 = 5] = []; d1", "5"),
    Row("swap", "let s1 = 1, s2 = 2; [s1, s2] = [s2, s1]; [s1, s2]", "[ 2, 1 ]"),
    Row("delete", "const o1 = { a: 1, b: 2 }; delete o1.a; o1", "{ b: 2 }"),
    Row("label", "outer: for (const i of [1, 2]) { for (;;) continue outer }", None),
    Row("loop's value", "for (let i = 0; i < 3; i++) i", "2"),
    Row("if's value", "if (true) 'yes'; else 'no'", "'yes'"),
    Row("switch's value", "switch (2) { case 2: 'two' }", "'two'"),
    Row("try's value", "try { nowhere } catch (e) { e.name }", "'ReferenceError'"),
    Row("assignment's value", "x1 = 5", "5"),
    Row("declaration has no value", "let y1 = 5", None),
    Row("const has no value", "const y2 = 5", None),
    Row("class has no value", "class Y3 {}", None),
    Row("function has no value", "function y4() {}", None),
    Row("import has no value", "import fs from 'fs'", None),
    Row("value before a declaration", "5; let y5 = 1", "5"),
    Row("value before a class", "6\nclass Y6 {}", "6"),
    Row("empty cell", "", None, magic=EMPTY),
    Row("only a comment", "// nothing", None),
    Row("only semicolons", ";;", None),
    Row("comment at the end", "3 // three", "3"),
    Row("block comment at the end", "3 /* three */", "3"),
    Row("semicolon at the end", "4;", "4"),
    Row("semicolons and comments", "4;; // four\n;", "4"),
    Row("line ends of Windows", "const w1 = 1\r\nw1 + 1\r\n", "2"),
    Row("hashbang", "#!/usr/bin/env node\n7", "7"),
    Row("byte order mark", "\ufeff8", "8"),
    Row("names that are not ASCII", "const größe = 1, 変数 = 2; größe + 変数", "3"),
    Row("escaped name", "var \\u0061bc = 1; abc", "1"),
    Row("a line that begins with a bracket", "const n1 = [3, 1]\n;[...n1].sort()", "[ 1, 3 ]"),
    Row(
        "no semicolon before a bracket",
        "const n2 = 1\n[n2]",
        error=("ReferenceError: Cannot access 'n2' before initialization"),
    ),
    Row("return and a line end", "(() => {\n  return\n  1\n})()", None),
    Row("increment on the next line", "let i1 = 1, i2 = 2\ni1\n++i2\n;[i1, i2]", "[ 1, 3 ]"),
    Row("regex or division", "const g1 = 2; 8 / g1 / 2", "2"),
    Row("strict directive", "'use strict'; (function () { return typeof this })()", "'undefined'"),
    Row(
        "strict assignment",
        "'use strict'; undeclared1 = 1",
        error="ReferenceError: undeclared1 is not defined",
    ),
    Row("sloppy assignment stays", ("undeclared2 = 1", "undeclared2"), "1"),
    Row("octal", "010", "8"),
    Row("with", "with ({ w2: 5 }) { w2 }", "5"),
    Row("hoisted function", "h1(); function h1() { return 'early' }", "'early'"),
    Row("hoisted var", "v1; var v1 = 1", None),
]

# Braces: an expression where it can be one, a block otherwise.
BRACES = [
    Row("one property", "{a: 1}", "{ a: 1 }"),
    Row("two properties", "{a: 1, b: 2}", "{ a: 1, b: 2 }"),
    Row("empty braces", "{}", "{}"),
    Row("properties over lines", "{\n  a: 1,\n  b: [2]\n}", "{ a: 1, b: [ 2 ] }"),
    Row("shorthand", ("let c2 = 3", "{ c2 }"), "{ c2: 3 }"),
    Row("spread", ("const c3 = { a: 1 }", "{ ...c3, b: 2 }"), "{ a: 1, b: 2 }"),
    Row("method", "{ go() { return 1 } }", "{ go: [Function: go] }"),
    Row("string key", '{"a-b": 1}', "{ 'a-b': 1 }"),
    Row("computed key", "{['a' + 1]: 1}", "{ a1: 1 }"),
    Row("object and a comment", "{a: 1} // one", "{ a: 1 }"),
    Row("comment and an object", "// one\n{a: 1, b: 2}", "{ a: 1, b: 2 }"),
    Row("property of an object", "{a: 7}.a", "7"),
    Row("a block", "{ let q = 1; q }", "1"),
    Row("a block's names stay inside", ("{ let q9 = 1; q9 }", "typeof q9"), "'undefined'"),
    Row("a block by its semicolon", "{a: 1};", "1"),
    Row("a block of statements", "{ const q = 2; console.log(q) }", None, out="2\n"),
    Row("two blocks", "{ 1 }\n{ 2 }", "2"),
    Row("object with await", "{ a: await 1, b: 2 }", "{ a: 1, b: 2 }", direct=WAITS),
    Row(
        "an error in braces",
        "{\n  a: 1,\n  b: nowhere1\n}",
        error="ReferenceError: nowhere1 is not defined",
        trace=("In[{n}]:3:6",),
        direct=NAMES,
    ),
    Row("braces that are neither", "{a: 1, b: }", error="SyntaxError: Unexpected token ':'"),
]

# Names: constants are constant, each cell may declare anew.
CONSTANT = "TypeError: Assignment to constant variable."
DECLARATIONS = [
    Row("assignment to a const", "const k1 = 1; k1 = 2", error=CONSTANT),
    Row("assignment to a const of an earlier cell", ("const k2 = 1", "k2 = 2"), error=CONSTANT),
    Row("the const stays", ("const k3 = 1", "k3 = 2", "k3"), "1"),
    Row("increment of a const", ("const k4 = 1", "k4++"), error=CONSTANT),
    Row("compound assignment to a const", ("const k5 = 1", "k5 += 1"), error=CONSTANT),
    Row(
        "assignment to a destructured const", ("const { k6 } = { k6: 1 }", "k6 = 2"), error=CONSTANT
    ),
    Row("to a const of an array pattern", "const [k7] = [1]; k7 = 2", error=CONSTANT),
    Row(
        "to a const of a nested pattern",
        ("const { a: { b: k8 } } = { a: { b: 1 } }", "k8 = 2"),
        error=CONSTANT,
    ),
    Row("to the rest of a pattern", ("const { ...k9 } = {}", "k9 = 2"), error=CONSTANT),
    Row("destructuring into a const", ("const k10 = 1", "[k10] = [2]"), error=CONSTANT),
    Row("in a function", ("const k11 = 1", "(() => { k11 = 2 })()"), error=CONSTANT),
    Row(
        "in a strict function",
        ("const k12 = 1", "(() => { 'use strict'; k12 = 2 })()"),
        error=CONSTANT,
    ),
    Row("to a const with await", ("const k13 = await 1", "k13 = 2"), error=CONSTANT, direct=WAITS),
    Row("to a const beside await", "const k14 = 1; await 0; k14 = 2", error=CONSTANT, direct=WAITS),
    Row("to an imported name", ("import { sep } from 'path'", "sep = 1"), error=CONSTANT),
    Row(
        "where it is assigned",
        "const k15 = 1\n\n  k15 = 2",
        error=CONSTANT,
        trace=("In[{n}]:3:7",),
        direct=NAMES,
    ),
    Row("what a const holds can change", "const k16 = { a: 1 }; k16.a = 2; k16", "{ a: 2 }"),
    Row("const again", ("const r1 = 1", "const r1 = 2", "r1"), "2"),
    Row("const to let", ("const r2 = 1", "let r2 = 2; r2 = 3; r2"), "3"),
    Row("const to var", ("const r3 = 1", "var r3 = 2; r3 = 3; r3"), "3"),
    Row("const to function", ("const r4 = 1", "function r4() { return 2 }", "r4()"), "2"),
    Row("const to class", ("const r5 = 1", "class r5 { m() { return 2 } }", "new r5().m()"), "2"),
    Row("let again", ("let r6 = 1", "let r6; r6"), None),
    Row("class again", ("class r7 {}", "class r7 { m() { return 3 } }", "new r7().m()"), "3"),
    Row(
        "function again", ("function r8() { return 1 }", "function r8() { return 2 }", "r8()"), "2"
    ),
    Row("var again keeps its value", ("var r9 = 1", "var r9; r9"), "1"),
    Row("function to const", ("function r10() {}", "const r10 = 5; r10"), "5"),
    Row(
        "import again",
        ("import os from 'os'", "import os from 'node:os'; typeof os.EOL"),
        "'string'",
    ),
    Row(
        "a function sees the newest",
        ("const r11 = 1; function get11() { return r11 }", "const r11 = 2", "get11()"),
        "2",
    ),
    Row(
        "let twice in a cell",
        "let r12 = 1; let r12 = 2",
        error="SyntaxError: Identifier 'r12' has already been declared",
    ),
    Row(
        "const without a value",
        "const r13;",
        error="SyntaxError: Missing initializer in const declaration",
    ),
    Row("a failed cell again", ("const r14 = nowhere2", "const r14 = 3; r14"), "3"),
    Row(
        "let before its line",
        "z1; let z1 = 1",
        error="ReferenceError: Cannot access 'z1' before initialization",
    ),
    Row(
        "const before its line",
        "z2; const z2 = 1",
        error="ReferenceError: Cannot access 'z2' before initialization",
    ),
    Row(
        "class before its line",
        "new Z3(); class Z3 {}",
        error="ReferenceError: Cannot access 'Z3' before initialization",
    ),
    Row(
        "typeof before its line",
        "typeof z4; let z4",
        error="ReferenceError: Cannot access 'z4' before initialization",
    ),
    Row(
        "assignment before its line",
        "z5 = 1; let z5 = 2",
        error="ReferenceError: Cannot access 'z5' before initialization",
    ),
    Row(
        "in its own initializer",
        "let z6 = z6 + 1",
        error="ReferenceError: Cannot access 'z6' before initialization",
    ),
    Row(
        "in a function that is called too early",
        "f7(); let z7 = 1; function f7() { z7 }",
        error="ReferenceError: Cannot access 'z7' before initialization",
    ),
    Row(
        "let without a value before its line",
        "z8\nlet z8",
        error="ReferenceError: Cannot access 'z8' before initialization",
    ),
    Row(
        "let with await before its line",
        "await 0; z9; let z9 = 1",
        error="ReferenceError: Cannot access 'z9' before initialization",
        direct=WAITS,
    ),
    Row(
        "of an earlier cell, before its line",
        ("let z10 = 1", "z10; let z10 = 2"),
        error="ReferenceError: Cannot access 'z10' before initialization",
    ),
    Row(
        "where it was used",
        "\n  z11\nlet z11 = 1",
        error="ReferenceError: Cannot access 'z11' before initialization",
        trace=("In[{n}]:2:3",),
        direct=NAMES,
    ),
    Row("a later cell declares it", ("z12; let z12 = 1", "let z12 = 2; z12"), "2"),
    Row("let without a value", "let z13; z13 === undefined", "true"),
    Row("names of Node", "const process1 = process; typeof process1.pid", "'number'"),
    Row(
        "crypto as a name",
        "const crypto = require('crypto'); typeof crypto.createHash",
        "'function'",
    ),
    Row("delete of a let", ("let z14 = 1", "delete z14"), "false"),
    Row(
        "a let in a loop",
        "const fs1 = []; for (let i = 0; i < 2; i++) fs1.push(() => i); fs1.map((f) => f())",
        "[ 0, 1 ]",
    ),
]

ERRORS = [
    Row("unknown name", "nowhere3", error="ReferenceError: nowhere3 is not defined"),
    Row("type error", "null.x", error=("TypeError: Cannot read properties of null (reading 'x')")),
    Row("not a function", "let e1 = 5; e1()", error="TypeError: e1 is not a function"),
    Row("range error", "[].length = -1", error="RangeError: Invalid array length"),
    Row(
        "recursion",
        "(function f() { f() })()",
        error="RangeError: Maximum call stack size exceeded",
    ),
    Row(
        "JSON",
        "JSON.parse('{')",
        error=("SyntaxError: Expected property name or '}' in JSON at position 1"),
    ),
    Row(
        "bigint and number",
        "1n + 1",
        error="TypeError: Cannot mix BigInt and other types, use explicit conversions",
    ),
    Row(
        "a class of one's own",
        "class Full extends Error {}; throw new Full('no berth')",
        error="Full: no berth",
    ),
    Row(
        "a name of one's own",
        "throw Object.assign(new Error('m'), { name: 'Mine' })",
        error="Mine: m",
    ),
    Row(
        "a cause",
        "throw new Error('outer', { cause: new Error('inner') })",
        error="Error: outer",
        trace=("[cause]: Error: inner",),
        direct=WORDS,
    ),
    Row(
        "aggregate",
        "throw new AggregateError([new Error('a')], 'all')",
        error="AggregateError: all",
    ),
    Row("an error as a value", "new RangeError('kept').message", "'kept'"),
    Row(
        "thrown string",
        "throw 'text'",
        error="Error: 'text'",
        trace=("Uncaught 'text'",),
        direct=WORDS,
    ),
    Row("thrown number", "throw 7", error="Error: 7", trace=("Uncaught 7",), direct=WORDS),
    Row("thrown undefined", "throw undefined", error="Error: undefined", direct=WORDS),
    Row("thrown null", "throw null", error="Error: null", direct=WORDS),
    Row("thrown object", "throw { code: 1 }", error="Error: { code: 1 }", direct=WORDS),
    Row(
        "an awaited rejection",
        "await Promise.reject(new TypeError('t'))",
        error="TypeError: t",
        no_trace=("Uncaught", "in promise"),
        direct=WAITS,
    ),
    Row(
        "an awaited rejection of a string",
        "await Promise.reject('s')",
        error="Error: 's'",
        direct=WAITS,
    ),
    Row(
        "a rejection that nobody awaits",
        "Promise.reject(new Error('late1')); await new Promise((go) => setTimeout(go, 20)); 1",
        "1",
        err="Uncaught (in promise) Error: late1",
        direct=WAITS,
    ),
    Row(
        "a rejection of a number that nobody awaits",
        "Promise.reject(7); await new Promise((go) => setTimeout(go, 20)); 1",
        "1",
        err="Uncaught (in promise) 7\n",
        direct=WAITS,
    ),
    Row("a rejection that is caught", "Promise.reject(1).catch(() => 0); 2", "2"),
    Row(
        "an exception in a timer",
        "setTimeout(() => { throw new Error('late2') }); "
        "await new Promise((go) => setTimeout(go, 20)); 1",
        "1",
        err="Uncaught Error: late2",
        direct=WAITS,
    ),
    Row("return at top level", "return 1", error="SyntaxError: Illegal return statement"),
    Row("break at top level", "break", error="SyntaxError: Illegal break statement"),
    Row(
        "unfinished",
        "function (",
        error=("SyntaxError: Function statements require a function name"),
    ),
    Row("unexpected end", "f(1,", error="SyntaxError: Unexpected end of input"),
    Row("unexpected token", "const e2 = ;", error="SyntaxError: Unexpected token ';'"),
    Row(
        "await in a function",
        "function e3() { await 1 }",
        error=(
            "SyntaxError: await is only valid in async functions and the top level "
            "bodies of modules"
        ),
    ),
    Row(
        "where: a call",
        "\n  nowhere4()",
        error="ReferenceError: nowhere4 is not defined",
        trace=("In[{n}]:2:3",),
        direct=NAMES,
    ),
    Row(
        "where: a function",
        "function e4() {\n  throw new Error('e4')\n}\ne4()",
        error="Error: e4",
        trace=("at e4 (In[{n}]:2:9)", "In[{n}]:4:1"),
        direct=NAMES,
    ),
    Row(
        "where: a function of another cell",
        ("function e5() { throw new Error('e5') }", "e5()"),
        error="Error: e5",
        trace=("In[{n}]:1:1",),
        direct=NAMES,
    ),
    Row(
        "where: behind an import",
        "import fs from 'fs'; nowhere5",
        error="ReferenceError: nowhere5 is not defined",
        trace=("In[{n}]:1:22",),
        direct=NAMES,
    ),
    Row(
        "where: below an import",
        "import { join } from 'path'\nimport os from 'os'\n\n  nowhere6()",
        error="ReferenceError: nowhere6 is not defined",
        trace=("In[{n}]:4:3",),
        direct=NAMES,
    ),
    Row(
        "where: below a namespace",
        "import * as p7 from 'path'\n\n  nowhere7()",
        error="ReferenceError: nowhere7 is not defined",
        trace=("In[{n}]:3:3",),
        direct=WAITS,
    ),
    Row(
        "where: behind await",
        "await 1; nowhere8()",
        error="ReferenceError: nowhere8 is not defined",
        trace=("In[{n}]:1:10",),
        direct=WAITS,
    ),
    Row(
        "where: the value of a const",
        "const e9 = nowhere9",
        error="ReferenceError: nowhere9 is not defined",
        trace=("In[{n}]:1:12",),
        direct=NAMES,
    ),
    Row(
        "where: the value of a const with await",
        "await 0\nconst e10 = nowhere10",
        error="ReferenceError: nowhere10 is not defined",
        trace=("In[{n}]:2:",),
        direct=WAITS,
    ),
    Row(
        "where: a pattern",
        "const {\n  e11\n} = null",
        error=("TypeError: Cannot destructure property 'e11' of 'null' as it is null."),
        trace=("In[{n}]:2:3",),
        direct=NAMES,
    ),
    Row(
        "where: a syntax error",
        "let e12 = 1\nlet e13 = ;",
        error="SyntaxError: Unexpected token ';'",
        trace=("In[{n}]:2", "let e13 = ;"),
        direct=NAMES,
    ),
    Row(
        "where: a missing export",
        "import { nowhere11 } from 'fs'",
        error=(
            "SyntaxError: The requested module 'fs' does not provide an export named 'nowhere11'"
        ),
        no_trace=(":-", ":0"),
    ),
    Row(
        "where: a missing module",
        "require('./no-such-module')",
        error=("Error: Cannot find module './no-such-module'"),
        trace=("In[{n}]:1:1",),
        direct=WORDS,
    ),
    Row(
        "where: an object",
        "nowhere12 = {\n  a: nowhere13\n}",
        error="ReferenceError: nowhere13 is not defined",
        trace=("In[{n}]:2:6",),
        direct=NAMES,
    ),
    Row(
        "where: classes on one line",
        "class E14 {} class E15 extends nowhere14 {}",
        error="ReferenceError: nowhere14 is not defined",
        trace=("In[{n}]:1:32",),
        direct=NAMES,
    ),
    Row(
        "a stack holds nothing of ours",
        "null.x",
        error=("TypeError: Cannot read properties of null (reading 'x')"),
        no_trace=("node_worker", "node:vm", "agentbay_kernel"),
        direct=NAMES,
    ),
    Row(
        "Node's own errors",
        "require('fs').readFileSync('/no/such/file')",
        error=("Error: ENOENT: no such file or directory, open '/no/such/file'"),
        trace=("errno: -2", "In[{n}]:1:"),
        direct=WORDS,
    ),
    Row("assert", "require('assert').equal(1, 2)", error=("AssertionError: 1 == 2"), direct=WORDS),
    Row(
        "DOMException",
        "structuredClone(() => {})",
        error=("DataCloneError: () => {} could not be cloned."),
    ),
]

# What is not of this world never fails a cell that did not fail.
STRANGE = [
    Row("proxy", "new Proxy({ a: 1 }, {})", "Proxy [ { a: 1 }, {} ]", direct=LOOKS),
    Row(
        "proxy that throws",
        "new Proxy({ a: 1 }, { get() { throw new Error('no') } }); ",
        "Proxy [ { a: 1 }, { get: [Function: get] } ]",
        direct=LOOKS,
    ),
    Row(
        "no trap is sprung",
        (
            "let traps = 0; const watched = new Proxy({}, { get() { traps++ }, "
            "has() { traps++ }, ownKeys() { traps++; return [] } })",
            "watched; traps",
        ),
        "0",
    ),
    Row(
        "no trap is sprung by a result",
        (
            "let traps2 = 0; new Proxy({}, { get() { traps2++ }, "
            "has() { traps2++ }, ownKeys() { traps2++; return [] } })",
            "traps2",
        ),
        "0",
    ),
    Row(
        "proxy that answers everything",
        "new Proxy(function any() {}, { get: () => () => 1 })",
        "Proxy [ [Function: any], { get: [Function: get] } ]",
        direct=LOOKS,
    ),
    Row(
        "revoked proxy",
        "const gone = Proxy.revocable({}, {}); gone.revoke(); gone.proxy",
        "<Revoked Proxy>",
    ),
    Row(
        "revoked proxy with await",
        "const gone2 = Proxy.revocable({}, {}); gone2.revoke(); await 0; [gone2.proxy]",
        "[ <Revoked Proxy> ]",
        direct=WAITS,
    ),
    Row(
        "revoked proxy thrown",
        "const gone3 = Proxy.revocable({}, {}); gone3.revoke(); throw gone3.proxy",
        error="Error: <Revoked Proxy>",
        direct=WORDS,
    ),
    Row("getter that throws", "({ get a() { throw new Error('no') } })", "{ a: [Getter] }"),
    Row("then that throws", "({ get then() { throw new Error('no') } })", "{ then: [Getter] }"),
    Row(
        "a display method that throws",
        "({ get [Symbol.for('Jupyter.display')]() { throw new Error('no') } }); ",
        "{ [Symbol(Jupyter.display)]: [Getter] }",
    ),
    Row(
        "an inspection that throws",
        "({ [Symbol.for('nodejs.util.inspect.custom')]() { throw new Error('no') } })",
        "{\n  [Symbol(nodejs.util.inspect.custom)]: [Function: [nodejs.util.inspect.custom]]\n}",
        direct=LOOKS,
    ),
    Row(
        "an inspection of one's own",
        "({ [Symbol.for('nodejs.util.inspect.custom')]: () => 'mine' })",
        "mine",
    ),
    Row(
        "a tag that throws",
        "class Tag { get [Symbol.toStringTag]() { throw new Error('no') } }; typeof new Tag()",
        "'object'",
    ),
    Row(
        "a tag that throws, as a result",
        "class Tag2 { get [Symbol.toStringTag]() { throw new Error('no') } }; new Tag2(); ",
        "[object that can't be shown: no]",
        direct=LOOKS,
    ),
    Row(
        "an error whose message throws",
        "const e16 = new Error('x'); "
        "Object.defineProperty(e16, 'message', { get() { throw 1 } }); e16.name",
        "'Error'",
    ),
    Row(
        "an error whose message throws, thrown",
        "const e17 = new Error('x'); "
        "Object.defineProperty(e17, 'message', { get() { throw 1 } }); throw e17",
        error="Error: an error that can not be shown",
        direct=WORDS,
    ),
    Row(
        "a stack that is no text",
        "throw Object.assign(new Error('m'), { stack: 5 })",
        error="Error: m",
        direct=WORDS,
    ),
    Row(
        "a constructor that throws",
        "const c9 = { get constructor() { throw new Error('no') } }; c9",
        "{ constructor: [Getter] }",
    ),
    Row(
        "toString that throws",
        "({ toString() { throw new Error('no') } })",
        "{ toString: [Function: toString] }",
    ),
    Row(
        "toJSON that throws",
        "({ toJSON() { throw new Error('no') } })",
        "{ toJSON: [Function: toJSON] }",
    ),
    Row("a changed prototype", "Object.prototype.extra = 1; const p9 = {}; p9.extra", "1"),
    Row("and back", "delete Object.prototype.extra", "true"),
    Row(
        "a display of a revoked proxy",
        "const gone4 = Proxy.revocable({}, {}); gone4.revoke(); display(gone4.proxy)",
        None,
        shown=({"text/plain": "<Revoked Proxy>"},),
        direct=SHOWS,
    ),
]

CONSOLE = [
    Row("log", "console.log('a', 1, { b: 2 })", None, out="a 1 { b: 2 }\n"),
    Row("log of a format", "console.log('%s is %d', 'x', 5)", None, out="x is 5\n"),
    Row("log of nothing", "console.log()", None, out="\n"),
    Row("info", "console.info('i')", None, out="i\n"),
    Row("debug", "console.debug('d')", None, out="d\n"),
    Row("error", "console.error('problem')", None, err="problem\n"),
    Row("warn", "console.warn('careful')", None, err="careful\n"),
    Row(
        "table",
        "console.table([{ a: 1 }])",
        None,
        out=(
            "┌─────────┬───┐\n│ (index) │ a │\n├─────────┼───┤\n│ 0       │ 1 │\n└─────────┴───┘\n"
        ),
    ),
    Row(
        "group",
        "console.group('g'); console.log('in'); console.groupEnd(); console.log('out')",
        None,
        out="g\n  in\nout\n",
    ),
    Row("dir", "console.dir({ a: { b: { c: {} } } }, { depth: 0 })", None, out="{ a: [Object] }\n"),
    Row(
        "count",
        "console.count('c1'); console.count('c1'); console.countReset('c1')",
        None,
        out="c1: 1\nc1: 2\n",
    ),
    Row("assert", "console.assert(1 === 2, 'not so')", None, err="Assertion failed: not so\n"),
    Row("assert that holds", "console.assert(true, 'x')", None),
    Row("trace", "console.trace('here')", None, err="Trace: here\n"),
    Row("time", "console.time('t1'); console.timeEnd('t1'); 1", "1", out="t1: <time>\n"),
    Row("stdout", "process.stdout.write('raw'); undefined", None, out="raw"),
    Row("a result and a print", "console.log('p'); 5", "5", out="p\n"),
    Row("a print in a loop", "for (const i of [1, 2]) console.log(i)", None, out="1\n2\n"),
    Row(
        "print of a promise",
        "Promise.resolve(1).then(console.log)",
        "Promise { <pending> }",
        out="1\n",
    ),
    Row(
        "order",
        "console.log('1'); console.log('2'); process.stdout.write('3\\n'); 0",
        "0",
        out="1\n2\n3\n",
    ),
]

ASYNC = [
    Row("await", "await 5", "5", direct=WAITS),
    Row("await prints in direct", "await 6; console.log('six')", None, out="six\n"),
    Row("await declares", ("const a2 = await 5", "a2"), "5"),
    Row(
        "await of a timer",
        "await new Promise((go) => setTimeout(go, 5, 'late'))",
        "'late'",
        direct=WAITS,
    ),
    Row("await of a thenable", "await { then(go) { go(3) } }", "3", direct=WAITS),
    Row(
        "for await",
        "const seen = []; for await (const x of [Promise.resolve(1), 2]) seen.push(x); seen",
        "[ 1, 2 ]",
        direct=WAITS,
    ),
    Row("async function", "async function a3() { return 3 }; await a3()", "3", direct=WAITS),
    Row(
        "async generator",
        "async function* a4() { yield 1 }; (await a4().next()).value",
        "1",
        direct=WAITS,
    ),
    Row("await in a block", "{ await 0; 7 }", "7", direct=WAITS),
    Row("await in try", "try { await Promise.reject(1) } catch (e) { e + 1 }", "2", direct=WAITS),
    Row("await in an arrow only", "const a5 = async () => await 5; a5()", "Promise { <pending> }"),
    Row("all", "await Promise.all([1, Promise.resolve(2)])", "[ 1, 2 ]", direct=WAITS),
    Row(
        "allSettled",
        "(await Promise.allSettled([Promise.reject(1)]))[0]",
        "{ status: 'rejected', reason: 1 }",
        direct=WAITS,
    ),
    Row(
        "microtasks", "await null; queueMicrotask(() => console.log('micro'))", None, out="micro\n"
    ),
    Row(
        "a timer after the cell",
        (
            "var ticks = 0; setTimeout(() => { ticks++ }, 1); 0",
            "await new Promise((go) => setTimeout(go, 20)); ticks",
        ),
        "1",
        direct=LATER,
    ),
    Row(
        "an interval",
        "let n4 = 0; await new Promise((go) => { const t = setInterval(() => "
        "{ if (++n4 === 3) { clearInterval(t); go() } }, 1) }); n4",
        "3",
        direct=WAITS,
    ),
    Row("abort", "const stop = new AbortController(); stop.abort(); stop.signal.aborted", "true"),
    Row("abort with a reason", "AbortSignal.abort().reason.name", "'AbortError'"),
    Row(
        "event target",
        "const target = new EventTarget(); target.addEventListener('x', () => "
        "console.log('heard')); target.dispatchEvent(new Event('x'))",
        "true",
        out="heard\n",
    ),
    Row(
        "await of what is rejected later",
        "await (async () => { await 0; throw new Error('deep') })()",
        error="Error: deep",
        direct=WAITS,
    ),
]

SERVE = (
    "const http = require('http'); const server = http.createServer((_, answer) => {"
    " answer.setHeader('content-type', 'application/json'); answer.end('{\"port\": true}') });"
    " await new Promise((go) => server.listen(0, '127.0.0.1', go));"
)
# (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
ADD = (
    "0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,"
    "32,0,32,1,106,11"
)
HOST_ROWS = [
    Row(
        "fetch",
        f"{SERVE} const got = await (await fetch(`http://127.0.0.1:${{server.address().port}}`"
        ")).json(); server.closeAllConnections(); server.close(); got",
        "{ port: true }",
        direct=WAITS,
    ),
    Row(
        "fetch posts",
        f"{SERVE} const got2 = await fetch(`http://127.0.0.1:"
        "${server.address().port}`, { method: 'POST', body: 'x' }); server.closeAllConnections(); "
        "server.close(); [got2.status, got2.headers.get('content-type')]",
        "[ 200, 'application/json' ]",
        direct=WAITS,
    ),
    Row(
        "fetch of a data URL",
        "await (await fetch('data:text/plain,hi')).text()",
        "'hi'",
        direct=WAITS,
    ),
    Row(
        "fetch that fails",
        "await fetch('http://127.0.0.1:1/')",
        error="TypeError: fetch failed",
        direct=WAITS,
    ),
    Row("fetch is there", "typeof fetch + typeof Response", "'functionfunction'"),
    Row(
        "WebAssembly",
        f"new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([{ADD}])))"
        ".exports.add(2, 3)",
        "5",
    ),
    Row(
        "WebAssembly, later",
        f"(await WebAssembly.instantiate(new Uint8Array([{ADD}]))).instance.exports.add(2, 4)",
        "6",
        direct=WAITS,
    ),
    Row(
        "WebAssembly memory",
        "new WebAssembly.Memory({ initial: 1, maximum: 100 }).buffer.byteLength",
        "65536",
    ),
    Row(
        "a package that uses WebAssembly",
        "await (await import('./wasm-package/index.mjs')).add(4, 5)",
        "9",
        direct=WAITS,
    ),
    Row("a package that uses fetch", "await require('fetch-package')()", "'fetched'", direct=WAITS),
    Row("require", "require('path').join('a', 'b')", "'a/b'"),
    Row("require with node:", "require('node:path').sep", "'/'"),
    Row("require of a file", "require('./old.cjs').answer", "42", direct=HOST),
    Row("require of JSON", "require('./data.json').n", "7", direct=HOST),
    Row("require of a package", "require('small-package').size", "3", direct=HOST),
    Row("require.resolve", "require.resolve('fs')", "'fs'"),
    Row("import of a package", "import small from 'small-package'; small.size", "3", direct=WAITS),
    Row(
        "import of a file",
        "import main, { one } from './lib.mjs'; [main, one]",
        "[ 'main', 1 ]",
        direct=WAITS,
    ),
    Row(
        "import of JSON",
        "import data1 from './data.json' with { type: 'json' }; data1.n",
        "7",
        direct=WAITS,
    ),
    Row(
        "dynamic import of JSON",
        "(await import('./data.json', { with: { type: 'json' } })).default.n",
        "7",
        direct=WAITS,
    ),
    Row("dynamic import", "(await import('node:path')).sep", "'/'", direct=WAITS),
    Row(
        "dynamic import in a function",
        "const load = () => import('./lib.mjs'); (await load()).one",
        "1",
        direct=WAITS,
    ),
    Row("import from node", "import { join as j2 } from 'node:path'; j2('a', 'b')", "'a/b'"),
    Row(
        "import and an old name",
        "import { promises as files } from 'fs'; typeof files.readFile",
        "'function'",
    ),
    Row("export", "export const x9 = 9; x9", "9"),
    Row("export default", "export default { a: 1 }", "{ a: 1 }"),
    Row("module", "module.exports === exports", "true", direct=HOST),
    Row("exports", "exports.boat = 1; module.exports.boat", "1", direct=HOST),
    Row("__dirname", "__dirname === process.cwd()", "true", direct=HOST),
    Row("__filename", "require('path').dirname(__filename) === __dirname", "true", direct=HOST),
    Row(
        "import.meta.url",
        "import.meta.url === require('url').pathToFileURL(__filename).href",
        "true",
        direct=HOST,
    ),
    Row("import.meta.dirname", "import.meta.dirname === process.cwd()", "true"),
    Row(
        "import.meta.filename",
        "require('path').dirname(import.meta.filename) === process.cwd()",
        "true",
    ),
    Row("import.meta.resolve", "import.meta.resolve('node:fs')", "'node:fs'", direct=HOST),
    Row(
        "import.meta keeps its columns",
        "import.meta.url; nowhere20",
        error="ReferenceError: nowhere20 is not defined",
        trace=("In[{n}]:1:18",),
        direct=NAMES,
    ),
    Row(
        "new URL of import.meta",
        "new URL('x.txt', import.meta.url).pathname.endsWith('/x.txt')",
        "true",
    ),
    Row("createRequire", "require('module').createRequire(import.meta.url)('path').sep", "'/'"),
    Row(
        "structuredClone", "structuredClone({ a: new Date(0) })", "{ a: 1970-01-01T00:00:00.000Z }"
    ),
    Row("performance", "performance.now() > 0", "true"),
    Row(
        "crypto",
        "globalThis.crypto?.randomUUID?.().length ?? require('crypto').randomUUID().length",
        "36",
    ),
    Row(
        "hash",
        "require('crypto').createHash('sha1').update('a').digest('hex').slice(0, 8)",
        "'86f7e437'",
    ),
    Row("TextEncoder", "new TextEncoder().encode('é').length", "2"),
    Row("Intl", "new Intl.NumberFormat('en').format(1234.5)", "'1,234.5'"),
    Row("zlib", "require('zlib').gunzipSync(require('zlib').gzipSync('z')).toString()", "'z'"),
    Row("process.argv", "process.argv.length > 0", "true"),
    Row("global", "global === globalThis", "true"),
    Row(
        "a worker",
        "const { Worker } = require('worker_threads'); await new Promise((go) => new "
        "Worker('require(\"worker_threads\").parentPort.postMessage(8)', { eval: true })"
        ".on('message', go))",
        "8",
        direct=WAITS,
    ),
    Row(
        "files",
        "require('fs').writeFileSync('t.txt', 'x'); require('fs').readFileSync('t.txt', 'utf8')",
        "'x'",
        direct=HOST,
    ),
    Row("Atomics", "Atomics.add(new Int32Array(new SharedArrayBuffer(4)), 0, 1)", "0"),
    Row(
        "events",
        "const { EventEmitter } = require('events'); const bus = new EventEmitter(); "
        "bus.on('x', (v) => console.log(v)); bus.emit('x', 5)",
        "true",
        out="5\n",
    ),
]

FRONT_END = [
    Row("the last value", ("40 + 2", "_ + 1"), "43", direct=KEEPS),
    Row("the last value is undefined", ("let u1 = 1", "_ === undefined"), "true", direct=KEEPS),
    Row("the last value with await", ("await 5", "_"), "5", direct=KEEPS),
    Row("the last error", ("throw new Error('kept')", "_error.message"), "'kept'", direct=KEEPS),
    Row("a name of one's own", ("const _ = { map: 1 }", "5", "_.map"), "1"),
    Row("prompt", "prompt('Name?')", "'Ada'", typed=("Ada",), asked=("Name?",), direct=ASKS),
    Row(
        "prompt with a default",
        "prompt('Name?', 'Bob')",
        "'Bob'",
        typed=("",),
        asked=("Name?",),
        direct=ASKS,
    ),
    Row(
        "prompt, two",
        "[prompt('a'), prompt('b')]",
        "[ '1', '2' ]",
        typed=("1", "2"),
        asked=("a", "b"),
        direct=ASKS,
    ),
    Row(
        "prompt behind await",
        "await 0; prompt('later')",
        "'x'",
        typed=("x",),
        asked=("later",),
        direct=ASKS,
    ),
    Row(
        "prompt, not ASCII",
        "prompt('Größe?')",
        "'é😀'",
        typed=("é😀",),
        asked=("Größe?",),
        direct=ASKS,
    ),
    Row("confirm, yes", "confirm('Sail?')", "true", typed=("y",), asked=("Sail?",), direct=ASKS),
    Row("confirm, no", "confirm('Sail?')", "false", typed=("n",), asked=("Sail?",), direct=ASKS),
    Row(
        "confirm, nothing", "confirm('Sail?')", "false", typed=("",), asked=("Sail?",), direct=ASKS
    ),
    Row("alert", "alert('Storm')", None, typed=("",), asked=("Storm",), direct=ASKS),
    Row("display", "display({ a: 1 })", None, shown=({"text/plain": "{ a: 1 }"},), direct=SHOWS),
    Row(
        "display of html",
        "display({ html: '<b>x</b>' })",
        None,
        shown=({"text/html": "<b>x</b>"},),
        direct=SHOWS,
    ),
    Row(
        "display.html",
        "display.html('<b>x</b>')",
        None,
        shown=({"text/html": "<b>x</b>"},),
        direct=SHOWS,
    ),
    Row(
        "display of markdown",
        "display({ markdown: '*x*' })",
        None,
        shown=({"text/markdown": "*x*"},),
        direct=SHOWS,
    ),
    Row(
        "display of a MIME type",
        "display({ 'text/html': '<i>y</i>' })",
        None,
        shown=({"text/html": "<i>y</i>"},),
        direct=SHOWS,
    ),
    Row(
        "display of both",
        "display({ html: '<b>z</b>', 'text/plain': 'z' })",
        None,
        shown=({"text/html": "<b>z</b>", "text/plain": "z"},),
        direct=SHOWS,
    ),
    Row(
        "display of what only looks so",
        "display({ html: 1, other: 2 })",
        None,
        shown=({"text/plain": "{ html: 1, other: 2 }"},),
        direct=SHOWS,
    ),
    Row(
        "display twice",
        "display(1); display(2); 3",
        "3",
        shown=({"text/plain": "1"}, {"text/plain": "2"}),
        direct=SHOWS,
    ),
    Row(
        "a value with a display of its own",
        "({ [Symbol.for('Jupyter.display')]() { return { 'text/plain': 'mine' } } })",
        "mine",
        direct=SHOWS,
    ),
    Row(
        "help",
        ("function moor(boat, berth = 1) { return berth }", "moor?"),
        None,
        paged=("moor(boat, berth = 1)",),
        direct=SHOWS,
    ),
    Row("help in front", "?moor", None, paged=("moor(boat, berth = 1)",), direct=SHOWS),
    Row("help with the source", "moor??", None, paged=("return berth",), direct=SHOWS),
    Row(
        "help of a value",
        ("const port = { size: 3 }", "port.size?"),
        None,
        paged=("3",),
        direct=SHOWS,
    ),
    Row(
        "help of what is not there",
        "nowhere30?",
        None,
        out="Object `nowhere30` not found.\n",
        direct=SHOWS,
    ),
    Row("a conditional is no help", "true ? 1 : 2", "1"),
    Row("a command", "!echo boat", None, out="boat\n", direct=CHILDREN),
    Row("a command with flags", "!printf '%s' a-b", None, out="a-b", direct=CHILDREN),
    Row("commands", "!echo one\n!echo two", None, out="one\ntwo\n", direct=CHILDREN),
    Row(
        "a command and code", "!echo one\nconst after = 2; after", "2", out="one\n", direct=CHILDREN
    ),
    Row("a command's stderr", "!echo oh >&2", None, err="oh\n", direct=CHILDREN),
    Row("a command is not a negation", ("let ready = false", "!ready"), "true"),
    Row("nor is this", "!true", "false"),
    Row("nor this", "!!'x'", "true"),
    Row("nor a call", "!(1 > 2)", "true"),
    Row("nor a function", "!function () { console.log('called') }()", "true", out="called\n"),
    Row(
        "TypeScript: a type",
        "let n9: number = 1",
        error=("SyntaxError: Unexpected token ':'"),
        err="TypeScript",
    ),
    Row(
        "TypeScript: an interface",
        "interface Boat { size: number }",
        error=("SyntaxError: Unexpected identifier 'Boat'"),
        err="TypeScript",
    ),
    Row(
        "TypeScript: as",
        "const n10 = 1 as number",
        error=("SyntaxError: Unexpected identifier 'as'"),
        err="TypeScript",
    ),
    Row(
        "TypeScript: an enum",
        "enum Sail { Main }",
        error=("SyntaxError: Unexpected reserved word"),
        err="TypeScript",
    ),
    Row(
        "TypeScript: parameters",
        "function f9(a: string, b?: number): void {}",
        error=("SyntaxError: Unexpected token ':'"),
        err="TypeScript",
    ),
    Row(
        "TypeScript: generics",
        "function f10<T>(a) { return a }",
        error=("SyntaxError: Unexpected token '<'"),
        err="TypeScript",
    ),
    Row("JSX", "const el = <b>x</b>", error="SyntaxError: Unexpected token '<'", err="JSX"),
    Row(
        "JSX with a component",
        "const el2 = <Boat size={1} />",
        error=("SyntaxError: Unexpected token '<'"),
        err="JSX",
    ),
    Row("no hint for a mistake", "const n11 = (1", error=("SyntaxError: Unexpected end of input")),
    Row(
        "no hint for a missing body",
        "function f11(a, b)",
        error=("SyntaxError: Unexpected end of input"),
    ),
    Row("no hint for an exclamation mark", "hello!", error=("SyntaxError: Unexpected token '!'")),
    Row(
        "no hint for a comparison",
        "1 < / 2",
        error=("SyntaxError: Invalid regular expression: missing /"),
    ),
    Row(
        "no hint for JSON that is broken",
        "JSON.parse('<b>')",
        error=("SyntaxError: Unexpected token '<', \"<b>\" is not valid JSON"),
    ),
]

COMPLETIONS = [
    Completion(
        "a variable", "lightho|", only=("lighthouse",), before="const lighthouse = { beam: 7 }"
    ),
    Completion("a member", "lighthouse.b|", has=("beam",), lacks=("lighthouse",)),
    Completion("all members", "lighthouse.|", has=("beam", "toString")),
    Completion(
        "a nested member",
        "harbour.pier.l|",
        only=("length",),
        before="const harbour = { pier: { length: 3 } }",
    ),
    Completion("a global", "structuredC|", only=("structuredClone",)),
    Completion("a method of an array", "[1, 2].ma|", only=("map",)),
    Completion("a method of a string", "'x'.toUpper|", only=("toUpperCase",)),
    Completion("a method of a template", "`x`.toUpper|", only=("toUpperCase",)),
    Completion("a method of a regex", "/x/.te|", only=("test",)),
    Completion(
        "a method of a module",
        "fs9.readFileS|",
        only=("readFileSync",),
        before="const fs9 = require('fs')",
    ),
    Completion("optional chaining", "lighthouse?.be|", only=("beam",)),
    Completion("a static method", "Array.fr|", has=("from",)),
    Completion("a keyword", "functi|", only=("function",)),
    Completion("in a call", "console.log(lightho|", only=("lighthouse",)),
    Completion("in a template", "`${lightho|", only=("lighthouse",)),
    Completion("behind a cursor", "1 + lightho| + 2", only=("lighthouse",)),
    Completion(
        "a key in brackets",
        'boat["na|',
        only=("name",),
        before="const boat = { name: 'x', 'two words': 1, nested: { deep: 1 } }",
        word="na",
    ),
    Completion("a key in brackets, apostrophes", "boat['na|", only=("name",)),
    Completion("a key that is no name", "boat['tw|", only=("two words",), word="tw"),
    Completion("a key with a space", "boat['two w|", only=("two words",), word="two w"),
    Completion("all keys", "boat['|", has=("name", "two words", "nested")),
    Completion("a key of a nested object", "boat['nested']['d|", only=("deep",)),
    Completion("behind brackets", "boat['nested'].d|", only=("deep",)),
    Completion("a module", 'require("f|', has=("fs", "fs/promises"), lacks=("function",), word="f"),
    Completion("a module with node:", "require('node:pa|", has=("node:path",)),
    Completion("a package", "require('small-p|", only=("small-package",)),
    Completion("a file", "require('./ol|", only=("./old.cjs",)),
    Completion("a dynamic import", 'import("no|', has=("node:fs",), word="no"),
    Completion("a static import", "import fs from 'f|", has=("fs",)),
    Completion("an import of nothing", "import 'f|", has=("fs",)),
    Completion("an export from", "export { x } from 'pat|", has=("path",)),
    Completion("in a string", "console.log('lightho|", only=()),
    Completion("in a comment", "// lightho|", only=()),
    Completion("in a block comment", "/* lightho|", only=()),
    Completion("behind a string", "'lightho' + lightho|", only=("lighthouse",)),
    Completion(
        "a getter is not run",
        "trap.a.|",
        only=(),
        before="const trap = { get a() { throw new Error('run') } }",
    ),
    Completion(
        "a proxy is not asked",
        "watched9.|",
        only=(),
        before="const watched9 = new Proxy({}, { ownKeys() { throw new Error('run') } })",
    ),
    Completion(
        "a revoked proxy",
        "gone9.|",
        only=(),
        before="const gone9 = (() => { const r = Proxy.revocable({}, {}); r.revoke(); "
        "return r.proxy })()",
    ),
    Completion("a name that is nowhere", "nowhere40.x|", only=()),
    Completion("a number is no object", "1.|", only=()),
]

INSPECTIONS = [
    Inspection("null", "null|", ("Type: null", "null")),
    Inspection("undefined", "undefined|", ("Type: undefined", "undefined")),
    Inspection("true", "true|", ("Type: boolean", "true")),
    Inspection("a number", "lamp|", ("Type: number", "7"), before="const lamp = 7"),
    Inspection("null in a variable", "nothing|", ("Type: null",), before="const nothing = null"),
    Inspection("undefined in a variable", "missing|", ("Type: undefined",), before="let missing"),
    Inspection(
        "an object", "crate|", ("Type: Object", "{ a: 1 }"), before="const crate = { a: 1 }"
    ),
    Inspection("an array", "row|", ("Type: Array", "[ 1, 2 ]"), before="const row = [1, 2]"),
    Inspection(
        "a function",
        "tie|",
        ("tie(a, b = 2, ...more)", "Type: Function"),
        before="function tie(a, b = 2, ...more) {}",
    ),
    Inspection("in its call", "tie(1, |", ("tie(a, b = 2, ...more)",)),
    Inspection("an arrow", "untie|", ("untie(x)",), before="const untie = x => x"),
    Inspection(
        "a pattern",
        "open1|",
        ("open1({ a, b = ')' } = {})",),
        before="const open1 = ({ a, b = ')' } = {}) => a",
    ),
    Inspection(
        "a comment among parameters",
        "odd|",
        ("odd(a /* ) */, b)",),
        before="function odd(a /* ) */, b) {}",
    ),
    Inspection(
        "a class",
        "Dinghy|",
        ("new Dinghy(size)", "Type: class"),
        before="class Dinghy { constructor(size) { this.size = size } }",
    ),
    Inspection(
        "a class without a constructor",
        "Raft|",
        ("new Raft(size)",),
        before="class Raft extends Dinghy {}",
    ),
    Inspection(
        "an async function",
        "later1|",
        ("later1(a)", "AsyncFunction"),
        before="async function later1(a) {}",
    ),
    Inspection("a method", "kit.go|", ("go(x, y)",), before="const kit = { go(x, y) {} }"),
    Inspection("a method of JavaScript", "Math.max|", ("max(...values)",)),
    Inspection("a method of an array", "row.map|", ("map(callbackFn, thisArg?)",)),
    Inspection("a method of JSON", "JSON.stringify|", ("stringify(value, replacer?, space?)",)),
    Inspection("a constructor of JavaScript", "Map|", ("new Map(iterable?)",)),
    Inspection("a function of JavaScript", "parseInt|", ("parseInt(string, radix?)",)),
    Inspection(
        "a function of Node",
        "fs9.readFileSync|",
        ("readFileSync(path, options)",),
        before="const fs9 = require('fs')",
    ),
    Inspection("fetch", "fetch|", ("fetch(input, init = undefined)",)),
    Inspection("a timer", "setTimeout|", ("setTimeout(callback, after, arg1, arg2, arg3)",)),
    Inspection(
        "a bound function",
        "bound1|",
        ("bound1(...)",),
        before="const bound1 = (function (a) {}).bind(null)",
    ),
    Inspection(
        "a getter is not run",
        "trap9.a|",
        (),
        before="const trap9 = { get a() { throw new Error('run') } }",
    ),
    Inspection("a proxy", "veil|", ("Proxy",), before="const veil = new Proxy({ a: 1 }, {})"),
    Inspection("what is not there", "nowhere50|"),
    Inspection("a keyword", "while|"),
]

COMPLETENESS = [
    Completeness("1 + 1", "complete"),
    Completeness("const x = 1", "complete"),
    Completeness("{a: 1}", "complete"),
    Completeness("{a: 1, b: 2}", "complete"),
    Completeness("x = )", "invalid"),
    Completeness("moor?", "complete"),
    Completeness("moor??", "complete"),
    Completeness("?moor", "complete"),
    Completeness("!ls -la", "complete"),
    Completeness("!npm install x", "complete"),
    Completeness("import.meta.url", "complete"),
    Completeness("function f() {", "incomplete", "  "),
    Completeness("if (a) {\n  b()", "incomplete", "  "),
    Completeness("if (a) {\n  for (;;) {", "incomplete", "    "),
    Completeness("if (a) {\n  for (;;) {\n  }", "incomplete", "  "),
    Completeness("f(1,", "incomplete", "  "),
    Completeness("const a = [", "incomplete", "  "),
    Completeness("const a = [\n  1,", "incomplete", "  "),
    Completeness("x =", "incomplete", "  "),
    Completeness("(a) =>", "incomplete", "  "),
    Completeness("`text", "incomplete", ""),
    Completeness("/* text", "incomplete", ""),
    Completeness("function f() {\n    return {", "incomplete", "      "),
    Completeness("if (a) { // (", "incomplete", "  "),
    Completeness("if (x)", "incomplete", "  "),
    Completeness("a.", "incomplete", "  "),
    Completeness("while (true) {\n  f('{')", "incomplete", "  "),
    Completeness("{a: 1,", "incomplete", "  "),
]

# They end the worker, or what it prints comes later: last.
LAST = [
    Row(
        "exit",
        "process.exit(3)",
        error=("NodeError: the JavaScript process ended (exit status 3): all variables are lost"),
        direct=WORDS,
    ),
    # The cell that ended the process has said what is lost.
    Row("after the exit", "typeof lighthouse", "'undefined'", direct=WORDS),
]


ROWS = [
    *VALUES,
    *BRACES,
    *DECLARATIONS,
    *ERRORS,
    *STRANGE,
    *CONSOLE,
    *ASYNC,
    *HOST_ROWS,
    *FRONT_END,
    *LAST,
]
