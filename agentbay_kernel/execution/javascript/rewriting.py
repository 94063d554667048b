"""The rewrite of one JavaScript cell.

`var` replaces `const` and `let`. If the cell awaits, its statements move into asynchronous
functions, and its declarations become assignments to global variables that are declared before. The
functions of the cell are not moved: they stay functions of the script, hoisted and global.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentbay_kernel.execution.javascript.cell import (
    Cell,
    Import,
    Statement,
    bare_names,
    bound_names,
    content,
    deletions,
    end,
    gap,
    is_expression,
    locals_,
    meta_properties,
    read,
    text,
)
from agentbay_kernel.javascript import braced_object, with_calls

if TYPE_CHECKING:
    from tree_sitter import Node

_MAY_NEED = re.compile(r"\b(?:await|class|const|export|import|let)\b")
_MAY_NEED_STRICT = re.compile(rf"{_MAY_NEED.pattern}|\b(?:var|delete)\b")

# Node defines these as accessors without a setter, so `var crypto = ...` would be ignored. A
# function of that name replaces the accessor with a plain property before the cell starts.
_ACCESSORS = ("crypto", "navigator")

# For these modules, `require` returns the same as `import`, without waiting.
_NODE_MODULES = """
assert assert/strict async_hooks buffer child_process cluster console constants crypto dgram
diagnostics_channel dns dns/promises domain events fs fs/promises http http2 https inspector
inspector/promises module net os path path/posix path/win32 perf_hooks process punycode
querystring readline readline/promises stream stream/consumers stream/promises stream/web
string_decoder timers timers/promises tls tty url util util/types v8 vm wasi worker_threads
zlib
"""
_LINE_ENDS = "\n\r\u2028\u2029"
_LINE_END = re.compile(f"\r\n|[{_LINE_ENDS}]")

# The promise by which the parts of a cell that functions divide wait for each other.
_CHAIN = 'this[Symbol.for("agentbay.cell")]'

_REPORT = ".then(v=>{if(v!==void 0)console.log(v)},e=>{console.error('Uncaught',e)})"

# Defines names as properties that a later cell can define again: c (constants), l (other lexical
# names), and v (vars that may have been constants). e lists those of c and l that the cell uses
# before it declares them. A name that a `function` or a `var` of an earlier cell declared can't be
# defined again, and stays writable. The set under the symbol has the lexical names; those of e are
# added when their line is reached.
_SYMBOL = 'Symbol.for("agentbay.names")'
_NAMES = f"this[{_SYMBOL}]"
_DEFINE = (
    f"((c,l,e,v)=>{{const names={_NAMES}??="
    f"Object.defineProperty(this,{_SYMBOL},{{value:new Set,writable:true}})"
    f"[{_SYMBOL}],own=k=>Object.getOwnPropertyDescriptor(this,k),"
    "fixed=k=>own(k)?.configurable===false,"
    "put=(k,d)=>Object.defineProperty(this,k,{...d,enumerable:v.includes(k),configurable:true}),"
    "fail=(e,f)=>{Error.captureStackTrace(e,f);throw e},"
    "early=(k,f)=>fail(new ReferenceError(`Cannot access '${k}' before initialization`),f);"
    "for(const k of[...c,...l])if(e.includes(k))names.delete(k);else names.add(k);"
    "for(const k of c)if(!fixed(k)){let s=false,x;const get=()=>s?x:early(k,get),"
    "set=y=>{if(s)fail(new TypeError('Assignment to constant variable.'),set);"
    "if(!names.has(k))early(k,set);s=true;x=y};"
    "put(k,{get,set})}"
    "for(const k of l)if(fixed(k))this[k]=void 0;else{const get=()=>early(k,get),"
    "set=y=>{if(!names.has(k))early(k,set);put(k,{value:y,writable:true})};put(k,{get,set})}"
    "for(const k of v){names.delete(k);if(own(k)?.get&&!fixed(k))"
    "put(k,{value:void 0,writable:true})}"
    "})"
)
# `import.meta` for a plain script, if the runner does not provide one.
_META = (
    'var{}=[globalThis.import_meta??Object.defineProperty(globalThis,"import_meta",{value:(f=>({'
    'dirname:process.cwd(),filename:f,url:require("url").pathToFileURL(f).href,'
    'resolve:s=>require("module").isBuiltin(s)?"node:"+s.replace(/^node:/,""):'
    'require("url").pathToFileURL(require.resolve(s)).href'
    '}))(require("path").join(process.cwd(),"script.js")),writable:true,configurable:true})];'
)


@dataclass(frozen=True)
class Rewritten:
    """A cell as a plain script.

    `define`: a script to run before this one, if this one is valid; empty if not needed.
    `is_async`: whether the script's value is a promise of the cell's value, to be awaited.
    `column_offset`: number of UTF-16 units that were added before the first line. With the option
    `columnOffset: -column_offset` of `vm.Script`, V8's positions are those of the cell, except on
    the lines of `shifts`.
    `shifts`: lines on which units were added or removed, in the order of the text. Each item is a
    line, a column with that option, both from 0, and the number of added units, negative if they
    were removed.
    """

    code: str
    is_async: bool = False
    column_offset: int = 0
    define: str = ""
    shifts: tuple[tuple[int, int, int], ...] = ()


def rewrite(code: str, *, strict_const: bool = False, awaited: bool = True) -> Rewritten:
    """Rewrite a JavaScript cell so that it can be run again, in one context with all other cells.

    Without a top-level `await`, the script's value is the one that V8 returns. With one, it is a
    promise of the last statement's value, if this statement is an expression, or a block, `if` or
    `try` that ends in one. Imports of Node's own modules become `require`; other imports make the
    cell asynchronous. Code that does not parse is returned unchanged, so that V8 reports the error.

    Arguments:
        strict_const: whether assigning to a constant throws, as in V8. In both cases any cell may
            declare the name again.
        awaited: whether the runner waits for the promise of an asynchronous cell. If not, the cell
            prints its own value or failure when it settles, because nothing else would. The runner
            decides whether this output is still shown.
    """
    if awaited:
        code = with_calls(code)
    if braced_object(code):
        code = f"({code}\n)"
        rewritten = _rewrite(code, strict_const, awaited)
        moved = ((line, at - (line == 0), by) for line, at, by in rewritten.shifts)
        offset = rewritten.column_offset + 1
        return replace(rewritten, column_offset=offset, shifts=tuple(moved))
    return _rewrite(code, strict_const, awaited)


def _rewrite(code: str, strict_const: bool, awaited: bool) -> Rewritten:
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
    """Return whether `require` can replace this import: it makes no namespace with a `default`."""
    name = one.specifier[1:-1]
    if one.namespace is not None or one.attributes:
        return False
    if any(exported[1:-1] == "default" for exported, _ in one.names):
        return False
    return name.startswith("node:") or name in _NODE_MODULES.split()


class _Rewriting:
    """The edits of one cell; those at one position are kept in their order."""

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
        # `var` keeps properties that `define` defined before. Declarations become assignments if
        # `var` would make a local name, or a property that can't be defined again.
        self._assigns = is_async or (strict_const and not awaited and bool(self._lexical))
        self._early = self._named_early() if strict_const else frozenset()
        self._edits: list[tuple[int, int, str]] = []

    def run(self) -> Rewritten:
        """Collect the edits and apply them."""
        last = self._asynchronous() if self._is_async else self._synchronous()
        if not self._strict_const:
            for name in _ACCESSORS:
                if name in self._lexical:
                    self._insert(last, f";function {name}(){{}}")
        if b"import.meta" in self._source:
            # It has the same length, so columns stay.
            for node in meta_properties(self._cell):
                self._edits.append((node.start_byte, node.end_byte, "import_meta"))
            if not self._awaited and any(meta_properties(self._cell)):
                self._edits.insert(0, (0, 0, self._directive() + _META))
        if self._strict_const and self._cell.deletes and not self._cell.is_strict:
            for node, name in deletions(self._cell):
                self._insert(node.start_byte, f'(globalThis[{_SYMBOL}]?.has("{name}")?false:')
                # Inserted first: it closes before other insertions that end here, as it opens after
                # those that start there.
                self._edits.insert(0, (end(node), end(node), ")"))
        prefix = "".join(new for start, stop, new in self._edits if stop == 0)
        if prefix and self._source.startswith(b"#!"):
            self._edits.append((0, 2, "//"))
        code, shifts = self._applied()
        define = self._defined() if self._awaited else ""
        return Rewritten(code, self._is_async, _width(prefix), define, shifts)

    def _named_early(self) -> frozenset[str]:
        """Return the lexical names that appear before their declarations, or in functions."""
        found = set()
        statements = [one for one in self._cell.statements if one.kind in ("lexical", "class")]
        functions = [one.node for one in self._cell.statements if one.kind == "function"]
        for statement in statements:
            start = statement.node.start_byte
            texts = [self._source[:start], *(one.text or b"" for one in functions)]
            for name in _declared(statement):
                word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])")
                if any(word.search(one.decode()) for one in texts):
                    found.add(name)
        return frozenset(found)

    def _synchronous(self) -> int:
        head = "".join(
            _required(one, "" if self._assigns else "var ") for one in self._cell.imports
        )
        if not self._awaited:
            head = self._defined() + head
            # An assignment has a value, unlike a declaration, so `void 0` follows.
            head += "void 0;" if head and self._assigns else ""
        if head:
            self._insert(0, self._directive() + head)
        last = 0
        for statement in self._cell.statements:
            self._edit(statement, last)
            last = end(statement.node)
        return last

    def _asynchronous(self) -> int:
        """Put the statements between functions into asynchronous functions that run in turn."""
        cell = self._cell
        # `using` frees its resource at the end of its block. Such a cell can't be divided, so its
        # functions stay inside.
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
        if not self._awaited:
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
        # If the runner does not wait, the promise must not become the cell's value.
        report = "" if self._awaited or number < parts else f"{_REPORT};void 0"
        return f";}})(){report};" if number == 1 else f";}}){report};"

    def _directive(self) -> str:
        return '"use strict";' if self._cell.is_strict else ""

    def _defined(self) -> str:
        """Return the code that defines the cell's names with `strict_const`, else ""."""
        if not self._strict_const or not (self._lexical or self._cell.vars):
            return ""
        constants = [*self._cell.constants, *self._imported]
        groups = (constants, self._cell.lets, sorted(self._early), self._cell.vars)
        lists = (",".join(f'"{name}"' for name in dict.fromkeys(group)) for group in groups)
        return f"{_DEFINE}({','.join(f'[{names}]' for names in lists)});"

    def _edit(self, statement: Statement, before: int) -> None:
        """Rewrite one statement; the token before it ends at `before`."""
        node = statement.inner
        if statement.kind == "export":
            self._blank(node.start_byte, end(node), ";")
        elif node is not statement.node:
            # After `export default` comes an expression, even if it looks like a block.
            start = "0," if statement.kind == "expression" else ""
            self._blank(statement.node.start_byte, node.start_byte, start)
        if statement.kind == "import":
            self._blank(node.start_byte, end(node), ";")
        elif statement.kind == "lexical":
            self._reach(statement, before)
            names = bare_names(node)
            if names and (self._strict_const or not self._assigns):
                # `var x` keeps the value of x from an earlier run, `let x` does not.
                resets = ",".join(f"{name}=void 0" for name in names)
                self._declare(before, resets)
            if self._assigns and not self._is_async:
                self._insert(before, f"{';' if before else ''}var{{}}=[")
                self._insert(end(content(node)[-1]), "]")
                self._blank(node.children[0].start_byte, node.children[0].end_byte)
            else:
                self._keyword(node.children[0])
        elif statement.kind == "class":
            self._reach(statement, before)
            name = text(node.child_by_field_name("name") or node)
            valueless = self._assigns and not self._is_async
            if not self._assigns:
                # In an object, V8 reports an error in a class at its correct position.
                head, tail = f"var{{{name}}}={{{name}:", "};"
            elif valueless:
                head, tail = f"var{{}}=[{name}=", "];"
            else:
                head, tail = f"{name}=", ";"
            self._insert(before, (";" if before else "") + head)
            stop = end(node)
            self._insert(stop, tail)
            if self._source[stop : stop + 1] in (b" ", b"\t"):
                self._edits.append((stop, stop + 1, ""))

    def _reach(self, statement: Statement, before: int) -> None:
        """Allow assignments, from here on, to names that the cell uses before it declares them."""
        names = [name for name in _declared(statement) if name in self._early]
        if names:
            added = "".join(f'.add("{name}")' for name in names)
            self._insert(before, f"{';' if before else ''}var{{}}={_NAMES}{added};")

    def _declare(self, before: int, assignments: str) -> None:
        """Insert assignments before a statement, so that they don't become the cell's value."""
        start = ";" if before else ""
        if not self._assigns:
            self._insert(before, f"{start}var {assignments};")
        elif self._is_async:
            self._insert(before, f"{start}{assignments};")
        else:
            self._insert(before, f"{start}var{{}}=[{assignments}];")

    def _keyword(self, node: Node) -> None:
        """Replace `const`, `let` or `var`. `0, ` starts an expression after any text."""
        self._blank(node.start_byte, node.end_byte, "0," if self._assigns else "var")

    def _unvar(self, node: Node) -> None:
        """Turn a `var`, which would be local to the asynchronous function, into an assignment."""
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
        """Insert a `return` of the value in which the cell's last statement ends."""
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
        # V8 reports an unknown name at the position of `return`, which may be a line too early. In
        # an object it reports the name's own position. The comma keeps a function from getting the
        # name `v`.
        self._insert(at, f"{separator}return{{v:(0,")
        self._insert(end(value), ")}.v")

    def _insert(self, at: int, new: str) -> None:
        self._edits.append((at, at, new))

    def _blank(self, start: int, stop: int, new: str = "") -> None:
        """Replace text with `new` and spaces, so that all lines and columns stay."""
        kept = "".join(
            char if char in _LINE_ENDS else " " * _width(char)
            for char in self._source[start:stop].decode()
        )
        self._edits.append((start, stop, new + kept[len(new) :]))

    def _applied(self) -> tuple[str, tuple[tuple[int, int, int], ...]]:
        """Return the text with all edits, and its `shifts`; see `Rewritten`."""
        pieces: list[bytes] = []
        shifts: list[tuple[int, int, int]] = []
        done = line = column = 0
        # An insertion before a piece of text comes before the piece's replacement.
        for start, stop, new in sorted(self._edits, key=lambda edit: edit[:2]):
            kept = self._source[done:start]
            pieces += kept, new.encode()
            line, column = _behind(kept, line, column)
            by = _width(new) - _width(self._source[start:stop].decode())
            if by and stop:
                shifts.append((line, column, by))
            if stop:
                line, column = _behind(new.encode(), line, column)
            done = stop
        pieces.append(self._source[done:])
        return b"".join(pieces).decode(), tuple(shifts)


def _behind(piece: bytes, line: int, column: int) -> tuple[int, int]:
    """Return the line and the column behind a piece of text that starts at a line and column."""
    *lines, last = _LINE_END.split(piece.decode())
    return line + len(lines), _width(last) + (0 if lines else column)


def _declared(statement: Statement) -> list[str]:
    """Return the names of a lexical declaration or a class."""
    if statement.kind == "class":
        return [text(statement.inner.child_by_field_name("name") or statement.inner)]
    targets = [one.child_by_field_name("name") for one in content(statement.inner)]
    return [name for target in targets if target is not None for name in bound_names(target)]


def _width(piece: str) -> int:
    """Return the width in columns as JavaScript counts them, in UTF-16 units."""
    return len(piece.encode("utf-16-le")) // 2


def _required(one: Import, keyword: str) -> str:
    """Return an import as a `require`, into new variables, or existing ones without a keyword."""
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
    """Return an import as a dynamic import, into existing variables."""
    module = f"await import({one.specifier}{one.attributes})"
    names = one.names if one.default is None else (('"default"', one.default), *one.names)
    value = _checked(one, names, module)
    if one.namespace is not None:
        value = f"{one.namespace}={value}"
    return f"({_pattern(names)}={value});" if names else f"{value};"


def _pattern(names: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f"{exported}:{local}" for exported, local in names) + "}"


def _checked(one: Import, names: tuple[tuple[str, str], ...], module: str) -> str:
    """Return code for a module that raises a static import's error if a name is missing."""
    if not names:
        return module
    return (
        f"(m=>{{for(const k of[{','.join(exported for exported, _ in names)}])if(!(k in m))"
        f'throw new SyntaxError("The requested module \'"+{one.specifier}+'
        '"\' does not provide an export named \'"+k+"\'");return m})'
        f"({module})"
    )
