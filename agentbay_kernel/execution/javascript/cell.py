"""Reads from a JavaScript cell's syntax tree what the cell declares at its top level.

The result is a `Cell` of statements, names and imports, or None if V8 will refuse the code. Such
code is sent unchanged, so that V8 reports the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agentbay_kernel.javascript import language

if TYPE_CHECKING:
    from tree_sitter import Node

Kind = Literal[
    "class", "empty", "export", "expression", "function", "import", "lexical", "other", "var"
]

_FUNCTIONS = frozenset({"function_declaration", "generator_function_declaration"})
_COMMENTS = frozenset({"comment", "html_comment", "hash_bang_line"})
_KINDS: dict[str, Kind] = {
    "class_declaration": "class",
    "empty_statement": "empty",
    "expression_statement": "expression",
    "import_statement": "import",
    "lexical_declaration": "lexical",
    "variable_declaration": "var",
    **dict.fromkeys(_FUNCTIONS, "function"),
}
# `await`, `return` and `var` in these belong to another function, except in a computed name.
_FUNCTION_SCOPES = _FUNCTIONS | {
    "arrow_function",
    "class_static_block",
    "field_definition",
    "function_expression",
    "generator_function",
    "method_definition",
}
# Nodes in which a statement can be inside another one.
_NESTING = frozenset(
    {
        "catch_clause",
        "do_statement",
        "else_clause",
        "export_statement",
        "finally_clause",
        "for_in_statement",
        "for_statement",
        "if_statement",
        "labeled_statement",
        "program",
        "statement_block",
        "switch_body",
        "switch_case",
        "switch_default",
        "switch_statement",
        "try_statement",
        "while_statement",
        "with_statement",
    }
)
# `let` refuses these names; `var` would accept them and ignore the value.
_NEVER_LEXICAL = frozenset({"let", "undefined", "NaN", "Infinity"})


@dataclass(frozen=True)
class Import:
    """One static import. Names and the specifier are JavaScript source text.

    `names` are (exported, local) pairs; the exported one is a string literal.
    """

    specifier: str
    default: str | None
    namespace: str | None
    names: tuple[tuple[str, str], ...]
    attributes: str


@dataclass(frozen=True)
class Statement:
    """One statement of the top level; `inner` is the statement without its `export`."""

    kind: Kind
    node: Node
    inner: Node


@dataclass
class Cell:
    """A cell's top level.

    `awaits`, `returns` and `disposes` are true if there is an `await`, `return` or `using` outside
    of the cell's functions.
    """

    statements: list[Statement] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    lets: list[str] = field(default_factory=list)
    bare_lets: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    vars: list[str] = field(default_factory=list)
    # The nodes that declare `vars`, at any depth: declarations and heads of for-in and for-of.
    var_nodes: list[Node] = field(default_factory=list)
    awaits: bool = False
    returns: bool = False
    disposes: bool = False
    is_strict: bool = False
    # Whether it deletes a name.
    deletes: bool = False


def read(source: bytes) -> Cell | None:
    """Return the top level of a cell, or None if V8 will refuse it or the parser can't read it."""
    grammar = language()
    if grammar is None:
        return None
    from tree_sitter import Parser

    # Threads can't share a parser, and making one costs nothing.
    root = Parser(grammar).parse(source).root_node
    if root.has_error:
        return None
    cell = Cell()
    for node in root.named_children:
        if node.type == "hash_bang_line" and node.start_byte:
            return None
        if node.type in _COMMENTS:
            continue
        statement = _statement(node)
        if statement is None or not _declare(cell, statement):
            return None
        cell.statements.append(statement)
    cell.is_strict = _is_strict(cell.statements)
    _look_inside(cell, root, b"await" in source or b"delete" in source)
    lexical = [
        *cell.constants,
        *cell.lets,
        *(name for one in cell.imports for name in locals_(one)),
    ]
    taken = set(lexical)
    if len(taken) < len(lexical) or taken & {*cell.functions, *cell.vars, *_NEVER_LEXICAL}:
        return None
    return cell


def locals_(one: Import) -> list[str]:
    """Return the names that an import declares."""
    own = [name for name in (one.default, one.namespace) if name is not None]
    return own + [local for _, local in one.names]


def text(node: Node) -> str:
    """Return the source text of a node."""
    return (node.text or b"").decode()


def end(node: Node) -> int:
    """Return the end of a node's last token: for the grammar, comments after it are part of it."""
    while node.child_count:
        last = next(
            (
                c
                for c in reversed(node.children)
                if c.type not in _COMMENTS and c.end_byte > c.start_byte
            ),
            None,
        )
        if last is None:
            break
        node = last
    return node.end_byte


def gap(node: Node) -> int:
    """Return the end of the token before a nested statement."""
    previous = node.prev_sibling
    while previous is not None and previous.type in _COMMENTS:
        previous = previous.prev_sibling
    return node.start_byte if previous is None else end(previous)


def content(node: Node) -> list[Node]:
    """Return a node's children without comments, for example the statements of a block."""
    return [child for child in node.named_children if child.type not in _COMMENTS]


def bound_names(pattern: Node) -> Iterator[str]:
    """Yield the names that a declaration's pattern binds."""
    stack = [pattern]
    while stack:
        node = stack.pop()
        if node.type in ("identifier", "shorthand_property_identifier_pattern"):
            yield text(node)
        elif node.type == "pair_pattern":
            stack.extend(node.children_by_field_name("value"))
        elif node.type in ("assignment_pattern", "object_assignment_pattern"):
            stack.extend(node.children_by_field_name("left"))
        else:
            stack.extend(node.named_children)


def is_expression(node: Node) -> bool:
    """Return whether V8 also reads a statement that starts like this node as an expression."""
    statements = ("class", "function_expression", "generator_function", "object")
    while node.type not in statements:
        if not node.child_count:
            return True
        node = node.children[0]
    return False


def meta_properties(cell: Cell) -> Iterator[Node]:
    """Yield the nodes that are `import.meta`."""
    for node in _all_nodes(cell):
        if node.type == "meta_property" and text(node) == "import.meta":
            yield node


def deletions(cell: Cell) -> Iterator[tuple[Node, str]]:
    """Yield the nodes that delete a name, and the name."""
    for node in _all_nodes(cell):
        if node.type == "unary_expression" and node.children[0].type == "delete":
            name = content(node)[0]
            if name.type == "identifier":
                yield node, text(name)


def _all_nodes(cell: Cell) -> Iterator[Node]:
    stack = [statement.node for statement in cell.statements]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)


def bare_names(declaration: Node) -> list[str]:
    """Return the names that a declaration gives no value to."""
    return [
        text(name)
        for declarator in content(declaration)
        if declarator.child_by_field_name("value") is None
        for name in declarator.children_by_field_name("name")
    ]


def _statement(node: Node) -> Statement | None:
    if node.type != "export_statement":
        return Statement(_KINDS.get(node.type, "other"), node, node)
    if node.child_by_field_name("decorator") or node.child_by_field_name("source"):
        return None
    declaration = node.child_by_field_name("declaration")
    if declaration is not None:
        return Statement(_KINDS.get(declaration.type, "other"), node, declaration)
    value = node.child_by_field_name("value")
    if value is not None:
        return Statement("expression", node, value)
    return Statement("export", node, node)


def _declare(cell: Cell, statement: Statement) -> bool:
    """Note what a statement declares; return False if it is not valid JavaScript."""
    node = statement.inner
    if statement.kind == "lexical":
        is_const = node.children[0].type == "const"
        for declarator in content(node):
            target = declarator.child_by_field_name("name")
            if target is None:
                return False
            bare = declarator.child_by_field_name("value") is None
            if bare and (is_const or target.type != "identifier"):
                return False
            (cell.constants if is_const else cell.lets).extend(bound_names(target))
        cell.bare_lets.extend(bare_names(node))
    elif statement.kind in ("class", "function"):
        name = node.child_by_field_name("name")
        if name is None:
            return False
        (cell.lets if statement.kind == "class" else cell.functions).append(text(name))
    elif statement.kind == "import":
        one = _import(node)
        if one is None:
            return False
        cell.imports.append(one)
    return True


def _import(node: Node) -> Import | None:
    specifier, default, namespace = "", None, None
    names: list[tuple[str, str]] = []
    attributes = ""
    for child in node.named_children:
        if child.type == "string":
            specifier = text(child)
        elif child.type == "import_clause":
            for part in content(child):
                if part.type == "identifier":
                    default = text(part)
                elif part.type == "namespace_import":
                    namespace = text(content(part)[0])
                else:
                    names.extend(_import_names(part))
        elif child.type == "import_attribute":
            pairs = content(content(child)[0])
            if any(pair.type != "pair" for pair in pairs):
                return None
            attributes = ",".join(":".join(text(part) for part in content(pair)) for pair in pairs)
            attributes = f",{{{text(child.children[0])}:{{{attributes}}}}}"
    pieces = (specifier, attributes, *(exported for exported, _ in names))
    # A string may have several lines, but the text before a cell's first line may not.
    if any(len(piece.splitlines()) > 1 for piece in pieces):
        return None
    return Import(specifier, default, namespace, tuple(names), attributes)


def _import_names(node: Node) -> Iterator[tuple[str, str]]:
    for specifier in content(node):
        # `default` is a keyword: it has no field of its own.
        exported = specifier.child_by_field_name("name") or specifier.children[0]
        alias = specifier.child_by_field_name("alias")
        literal = text(exported) if exported.type == "string" else f'"{text(exported)}"'
        yield literal, text(exported if alias is None else alias)


def _is_strict(statements: list[Statement]) -> bool:
    for statement in statements:
        words = content(statement.node) if statement.kind == "expression" else []
        if not words or words[0].type != "string":
            return False
        if text(words[0])[1:-1] == "use strict":
            return True
    return False


def _look_inside(cell: Cell, root: Node, may_look: bool) -> None:
    """Find what matters for the whole cell anywhere outside of functions, such as `await`."""
    stack = [root]
    while stack:
        node = stack.pop()
        kind = node.type
        if kind in _FUNCTION_SCOPES:
            key = node.child_by_field_name("name") or node.child_by_field_name("property")
            if may_look and key is not None and key.type == "computed_property_name":
                stack.append(key)
            continue
        # The grammar reads the `await` of `await (f)()`, `await [p][0]` and `await `x`` as a name.
        if kind == "await_expression" or (kind == "identifier" and node.text == b"await"):
            cell.awaits = True
        elif kind == "unary_expression" and node.children[0].type == "delete":
            cell.deletes |= node.children[1].type == "identifier"
        elif kind == "return_statement":
            cell.returns = True
        elif kind == "using_declaration":
            cell.disposes = True
            cell.awaits |= node.children[0].type == "await"
        elif kind == "variable_declaration":
            for declarator in content(node):
                for target in declarator.children_by_field_name("name"):
                    cell.vars.extend(bound_names(target))
            cell.var_nodes.append(node)
        elif kind == "for_in_statement":
            cell.awaits |= any(child.type == "await" for child in node.children[:2])
            keyword = node.child_by_field_name("kind")
            left = node.child_by_field_name("left")
            if keyword is not None and keyword.type == "var" and left is not None:
                cell.vars.extend(bound_names(left))
                cell.var_nodes.append(node)
        if may_look or kind in _NESTING:
            stack.extend(node.named_children)
