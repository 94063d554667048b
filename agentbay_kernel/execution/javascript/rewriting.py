"""The rewrite of one JavaScript cell.

In: a cell's source and how strictly `const` is meant. Out: a `Rewritten`. `var` takes the place
of `const` and `let`; where the cell awaits, its statements move into asynchronous functions and
its declarations become assignments to global variables declared before. The functions of the
cell are not moved: they stay functions of the script, hoisted and global.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentbay_kernel.execution.javascript.cell import (
    Cell,
    Import,
    Statement,
    bare_names,
    content,
    end,
    gap,
    is_expression,
    locals_,
    read,
    text,
)

if TYPE_CHECKING:
    from tree_sitter import Node

_MAY_NEED = re.compile(r"\b(?:await|class|const|export|import|let)\b")
_MAY_NEED_STRICT = re.compile(rf"{_MAY_NEED.pattern}|\bvar\b")

# Node defines these as accessors without a setter: `var crypto = ...` would be ignored. A
# function of that name replaces the accessor by a plain property before the cell begins.
_ACCESSORS = ("crypto", "navigator")

# `require` gives what `import` gives for these, and needs no waiting.
_NODE_MODULES = """
assert assert/strict async_hooks buffer child_process cluster console constants crypto dgram
diagnostics_channel dns dns/promises domain events fs fs/promises http http2 https inspector
inspector/promises module net os path path/posix path/win32 perf_hooks process punycode
querystring readline readline/promises stream stream/consumers stream/promises stream/web
string_decoder timers timers/promises tls tty url util util/types v8 vm wasi worker_threads
zlib
"""
_LINE_ENDS = "\n\r\u2028\u2029"

# Where the parts of a cell that is cut by functions wait for one another.
_CHAIN = 'this[Symbol.for("agentbay.cell")]'

_REPORT = ".then(v=>{if(v!==void 0)console.log(v)},e=>{console.error('Uncaught',e)})"

# Defines c (constants), l (other lexical names) and v (vars that may have been constants) as
# properties that a later cell can define anew. What a `function` or a `var` of an earlier cell
# declared can't be, and stays writable.
_DEFINE = (
    "((c,l,v)=>{const own=k=>Object.getOwnPropertyDescriptor(this,k),"
    "fixed=k=>own(k)?.configurable===false,"
    "put=(k,d)=>Object.defineProperty(this,k,{...d,enumerable:true,configurable:true}),"
    "fail=(e,f)=>{Error.captureStackTrace(e,f);throw e};"
    "for(const k of c)if(!fixed(k)){let s=false,x;const "
    "get=()=>s?x:fail(new ReferenceError(`Cannot access '${k}' before initialization`),get),"
    "set=y=>{if(s)fail(new TypeError('Assignment to constant variable.'),set);s=true;x=y};"
    "put(k,{get,set})}"
    "for(const k of l)if(fixed(k))this[k]=void 0;else put(k,{value:void 0,writable:true});"
    "for(const k of v)if(own(k)?.get&&!fixed(k))put(k,{value:void 0,writable:true})"
    "})"
)


@dataclass(frozen=True)
class Rewritten:
    """A cell as a plain script.

    `is_async`: the script's value is a promise of the cell's value, to be awaited.
    `column_offset`: how many UTF-16 units were put before the first line; a runner that gives
    `vm.Script` the option `columnOffset: -column_offset` gets V8's positions in the cell's own.
    """

    code: str
    is_async: bool = False
    column_offset: int = 0


def rewrite(code: str, *, strict_const: bool = False, awaited: bool = True) -> Rewritten:
    """Make a JavaScript cell one that can be run again, in one context with all other cells.

    Without a top-level `await` the script's value is the one that V8 gives it. With one it is a
    promise of the last statement's value, where that is an expression, or a block, `if` or `try`
    that ends in one. Imports of Node's own modules become `require`, other imports make the cell
    asynchronous. Code that does not parse is returned as it is, so that V8 words the error.

    Arguments:
        strict_const: assigning to a constant throws, as it does in V8; else it is allowed. In
            both cases any cell may declare the name anew.
        awaited: whether the runner waits for the promise of an asynchronous cell. Where it does
            not, the cell prints its own value or failure when it settles, because nothing else
            would; whether that is still seen is up to the runner.
    """
    if not (_MAY_NEED_STRICT if strict_const else _MAY_NEED).search(code):
        return Rewritten(code)
    try:
        source = code.encode()
    except UnicodeEncodeError:
        return Rewritten(code)
    cell = read(source)
    if cell is None:
        return Rewritten(code)
    is_async = cell.awaits or not all(map(_is_required, cell.imports))
    # In a function, `return` would become valid.
    if is_async and cell.returns:
        return Rewritten(code)
    return _Rewriting(source, cell, is_async, strict_const, awaited).run()


def _is_required(one: Import) -> bool:
    """Whether `require` does for this import. It can't make a namespace with a `default`."""
    name = one.specifier[1:-1]
    if one.namespace is not None or one.attributes:
        return False
    if any(exported[1:-1] == "default" for exported, _ in one.names):
        return False
    return name.startswith("node:") or name in _NODE_MODULES.split()


class _Rewriting:
    """The edits of one cell, collected in the order of the text."""

    def __init__(
        self, source: bytes, cell: Cell, is_async: bool, strict_const: bool, awaited: bool
    ) -> None:
        self._source = source
        self._cell = cell
        self._is_async = is_async
        self._strict_const = strict_const
        self._awaited = awaited
        self._imported = [name for one in cell.imports for name in locals_(one)]
        self._lexical = [*cell.constants, *cell.lets, *self._imported]
        # Declarations become assignments where `var` would make a local name or a fixed one.
        self._assigns = is_async or (strict_const and bool(self._lexical))
        self._edits: list[tuple[int, int, str]] = []

    def run(self) -> Rewritten:
        """Collect the edits, apply them."""
        last = self._asynchronous() if self._is_async else self._synchronous()
        if not self._strict_const:
            for name in _ACCESSORS:
                if name in self._lexical:
                    self._insert(last, f";function {name}(){{}}")
        prefix = "".join(new for start, stop, new in self._edits if stop == 0)
        if prefix and self._source.startswith(b"#!"):
            self._edits.append((0, 2, "//"))
        return Rewritten(self._applied(), self._is_async, _width(prefix))

    def _synchronous(self) -> int:
        head = self._defined() + "".join(
            _required(one, "" if self._assigns else "var ") for one in self._cell.imports
        )
        if head:
            self._insert(0, self._directive() + head)
        last, ends_in_value = 0, True
        for statement in self._cell.statements:
            self._edit(statement, last)
            last = end(statement.node)
            if statement.kind not in ("empty", "function"):
                ends_in_value = statement.kind in ("expression", "other")
        if self._assigns and not ends_in_value:
            # An assignment has a value, a declaration has none.
            self._insert(last, ";void 0")
        return last

    def _asynchronous(self) -> int:
        """Put what lies between functions into asynchronous functions that follow each other."""
        cell = self._cell
        # A resource lives as long as its block: such a cell can't be cut, its functions stay in.
        outside = () if cell.disposes else ("function",)
        acting = [one for one in cell.statements if one.kind != "empty"]
        runs = itertools.groupby(acting, key=lambda one: one.kind in outside)
        parts = sum(1 for is_outside, _ in runs if not is_outside)
        final = next(one for one in reversed(acting) if one.kind not in ("function", "empty"))
        last, opened, is_open = 0, 0, False
        for statement in cell.statements:
            if statement.kind in outside:
                if is_open:
                    self._insert(last, self._closing(opened, parts))
                is_open = False
            elif statement.kind != "empty":
                if not is_open:
                    self._insert(last, (";" if last else "") + self._opening(opened, parts))
                    is_open = True
                    opened += 1
                if statement is final:
                    self._return(statement, last)
            self._edit(statement, last)
            last = end(statement.node)
        if is_open:
            self._insert(last, self._closing(opened, parts))
        for node in cell.var_nodes:
            self._unvar(node)
        return last

    def _opening(self, number: int, parts: int) -> str:
        if number:
            return f"{_CHAIN}={_CHAIN}.then(async()=>{{"
        cell = self._cell
        declared = cell.vars if self._strict_const else [*self._lexical, *cell.vars]
        pieces = [self._directive()]
        if declared:
            pieces.append(f"var {','.join(dict.fromkeys(declared))};")
        pieces.append(self._defined())
        if cell.bare_lets and not self._strict_const:
            pieces.append(f"{'='.join(cell.bare_lets)}=void 0;")
        if parts > 1:
            pieces.append(f"{_CHAIN}=")
        pieces.append("(async()=>{")
        if cell.disposes:
            pieces.extend(f"this.{name}={name};" for name in dict.fromkeys(cell.functions))
        pieces.extend(map(_awaited, cell.imports))
        return "".join(pieces)

    def _closing(self, number: int, parts: int) -> str:
        report = "" if self._awaited or number < parts else _REPORT
        return f";}})(){report};" if number == 1 else f";}}){report};"

    def _directive(self) -> str:
        return '"use strict";' if self._cell.is_strict else ""

    def _defined(self) -> str:
        """The definition of the cell's names where constants are meant strictly."""
        if not self._strict_const or not (self._lexical or self._cell.vars):
            return ""
        groups = ([*self._cell.constants, *self._imported], self._cell.lets, self._cell.vars)
        lists = (",".join(f'"{name}"' for name in dict.fromkeys(group)) for group in groups)
        return f"{_DEFINE}({','.join(f'[{names}]' for names in lists)});"

    def _edit(self, statement: Statement, before: int) -> None:
        """Rewrite one statement; the token before it ends at `before`."""
        node = statement.inner
        if statement.kind == "export":
            self._blank(node.start_byte, end(node), ";")
        elif node is not statement.node:
            # What follows `export default` is an expression even where it looks like a block.
            start = "0," if statement.kind == "expression" else ""
            self._blank(statement.node.start_byte, node.start_byte, start)
        if statement.kind == "import":
            self._blank(node.start_byte, end(node), ";")
        elif statement.kind == "lexical":
            names = bare_names(node)
            if names and not self._assigns:
                # `var x` keeps the value that a run before gave to x, `let x` does not.
                resets = ",".join(f"{name}=void 0" for name in names)
                self._insert(before, f"{';' if before else ''}var {resets};")
            self._keyword(node.children[0])
        elif statement.kind == "class":
            name = text(node.child_by_field_name("name") or node)
            keyword = "" if self._assigns else "var "
            self._insert(before, f"{';' if before else ''}{keyword}{name}=")
            stop = end(node)
            self._insert(stop, ";")
            if self._source[stop : stop + 1] in (b" ", b"\t"):
                self._edits.append((stop, stop + 1, ""))

    def _keyword(self, node: Node) -> None:
        """Replace `const`, `let` or `var`. `0, ` starts an expression, whatever comes before."""
        self._blank(node.start_byte, node.end_byte, "0," if self._assigns else "var")

    def _unvar(self, node: Node) -> None:
        """Make an assignment of a `var`, which would be local to the asynchronous function."""
        if node.type == "variable_declaration":
            self._keyword(node.children[0])
            return
        keyword, left = node.child_by_field_name("kind"), node.child_by_field_name("left")
        # Neither `for (async of` nor `for (x = 1 in` is an assignment.
        if keyword is None or left is None or text(left) == "async":
            return
        if node.child_by_field_name("value") is None:
            self._blank(keyword.start_byte, keyword.end_byte)

    def _return(self, statement: Statement, before: int) -> None:
        """Return the value that the cell's last statement ends in."""
        if statement.kind == "expression":
            node = statement.inner
            exported = node is not statement.node
            value = node if exported else content(node)[0]
            if exported or is_expression(value):
                self._return_value(value, before, ";" if before else "")
            return
        stack: list[Node] = [statement.inner]
        while stack:
            node = stack.pop()
            if node.type == "expression_statement":
                value = content(node)[0]
                in_block = node.parent is not None and node.parent.type == "statement_block"
                if is_expression(value):
                    self._return_value(value, gap(node), ";" if in_block else " ")
            elif node.type in ("statement_block", "else_clause"):
                stack.extend(content(node)[-1:])
            elif node.type in ("if_statement", "try_statement", "labeled_statement"):
                for name in ("consequence", "alternative", "body", "handler"):
                    stack.extend(node.children_by_field_name(name))
            elif node.type == "catch_clause":
                stack.extend(node.children_by_field_name("body"))

    def _return_value(self, value: Node, at: int, separator: str) -> None:
        # V8 gives an unknown name the place of the `return`, which may be a line too early, but
        # in an object the place of its own. The comma keeps a function from being named `v`.
        self._insert(at, f"{separator}return{{v:(0,")
        self._insert(end(value), ")}.v")

    def _insert(self, at: int, new: str) -> None:
        self._edits.append((at, at, new))

    def _blank(self, start: int, stop: int, new: str = "") -> None:
        """Put `new` and spaces in the place of some text, every line and column kept."""
        kept = "".join(
            char if char in _LINE_ENDS else " " * _width(char)
            for char in self._source[start:stop].decode()
        )
        self._edits.append((start, stop, new + kept[len(new) :]))

    def _applied(self) -> str:
        pieces: list[bytes] = []
        done = 0
        # What is inserted before a piece of text comes before what replaces it.
        for start, stop, new in sorted(self._edits, key=lambda edit: edit[:2]):
            pieces.append(self._source[done:start])
            pieces.append(new.encode())
            done = stop
        pieces.append(self._source[done:])
        return b"".join(pieces).decode()


def _width(piece: str) -> int:
    """Columns as JavaScript counts them: in UTF-16 units."""
    return len(piece.encode("utf-16-le")) // 2


def _required(one: Import, keyword: str) -> str:
    """An import as `require` does it, into new variables or into those there are."""
    module = f"require({one.specifier})"
    pieces = []
    if one.default is not None:
        pieces.append(f"{keyword}{one.default}={module};")
    if one.names or one.default is None:
        wanted = _pattern(one.names)
        value = _checked(one, one.names, module)
        pieces.append(f"var {wanted}={value};" if keyword else f"({wanted}={value});")
    return "".join(pieces)


def _awaited(one: Import) -> str:
    """An import as a dynamic one does it, into the variables there are."""
    module = f"await import({one.specifier}{one.attributes})"
    names = one.names if one.default is None else (('"default"', one.default), *one.names)
    value = _checked(one, names, module)
    if one.namespace is not None:
        value = f"{one.namespace}={value}"
    return f"({_pattern(names)}={value});" if names else f"{value};"


def _pattern(names: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f"{exported}:{local}" for exported, local in names) + "}"


def _checked(one: Import, names: tuple[tuple[str, str], ...], module: str) -> str:
    """A module that has all the names, else the error that a static import raises."""
    if not names:
        return module
    return (
        f"(m=>{{for(const k of[{','.join(exported for exported, _ in names)}])if(!(k in m))"
        f'throw new SyntaxError("The requested module \'"+{one.specifier}+'
        '"\' does not provide an export named \'"+k+"\'");return m})'
        f"({module})"
    )
