"""Is a JavaScript cell finished? Answered here, without asking the sandbox.

In: code. Out: the content of a Jupyter is_complete_reply. Code that does not parse is unfinished
if something can be written after it that makes it parse, and invalid otherwise: so a few
endings are tried. tree-sitter is loaded with the first question.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

_CLOSERS = {"(": ")", "[": "]", "{": "}", "${": "}", "`": "`"}
# What may be missing where the code stops: an operand, a body, a name and a body, ...
_MIDDLES = (
    "",
    " x",
    " {}",
    " x : x",
    " : x",
    " = x",
    " => x",
    "() {}",
    " x() {}",
    " x {}",
    " x = x",
    " (x) {}",
    " of x",
    ' from "x"',
    ' "x"',
    " default x",
    " x from 'x'",
    "; ;",
    ";",
)
# What may be missing after everything open is closed: a statement's body or second half.
_TAILS = ("", " x", " {}", " while (x)", " catch {}", " => x", ' from "x"', " = x", " (x) {}")
# Each ending is a parse. Beyond this size only the likeliest are tried.
_LARGE = 4_000


def completeness(code: str) -> dict[str, str]:
    """`{"status": "complete" | "incomplete" | "invalid"}` of a cell; "unknown" without parser."""
    grammar = language()
    if grammar is None:
        return {"status": "unknown"}
    tree = _parse(grammar, code)
    if not tree.root_node.has_error:
        return {"status": _status_of_parsed(tree.root_node)}
    return {"status": "incomplete" if _can_be_finished(grammar, tree, code) else "invalid"}


@functools.cache
def language() -> Language | None:
    """JavaScript's grammar; None where tree-sitter is not installed."""
    try:
        import tree_sitter
        import tree_sitter_javascript
    except ImportError:
        return None
    return tree_sitter.Language(tree_sitter_javascript.language())


def _parse(language: Language, code: str) -> Tree:
    import tree_sitter

    # A parser may not be shared by threads, and making one costs nothing.
    return tree_sitter.Parser(language).parse(code.encode("utf-8", "replace"))


def _status_of_parsed(root: Node) -> str:
    """The status of code that tree-sitter takes, as it takes some that JavaScript does not."""
    statements = root.named_children
    for statement in statements:
        if statement.type == "expression_statement" and _is_nameless_declaration(statement):
            return "invalid"
        if _lacks_value(statement) or _lacks_catch(statement):
            # `const x` can still be given its value on the next line, `const x;` can't.
            ended = bool(statement.children) and statement.children[-1].type == ";"
            return "invalid" if ended or statement != statements[-1] else "incomplete"
    return "complete"


def _is_nameless_declaration(statement: Node) -> bool:
    value = statement.named_children[0] if statement.named_children else None
    return (
        value is not None
        and value.type in ("class", "function_expression", "generator_function")
        and value.child_by_field_name("name") is None
    )


def _lacks_catch(statement: Node) -> bool:
    return (
        statement.type == "try_statement"
        and statement.child_by_field_name("handler") is None
        and statement.child_by_field_name("finalizer") is None
    )


def _lacks_value(declaration: Node) -> bool:
    if declaration.type != "lexical_declaration":
        return False
    kind = declaration.child_by_field_name("kind")
    is_const = kind is not None and kind.type == "const"
    for declarator in declaration.named_children:
        if declarator.type != "variable_declarator":
            continue
        name = declarator.child_by_field_name("name")
        needs_value = is_const or (name is not None and name.type.endswith("_pattern"))
        if needs_value and declarator.child_by_field_name("value") is None:
            return True
    return False


def _can_be_finished(language: Language, tree: Tree, code: str) -> bool:
    opened = _open_brackets(tree.root_node)
    if opened is None:
        return False
    closers = "".join(_CLOSERS[bracket] for bracket in reversed(opened))
    large = len(code) > _LARGE
    middles = ("", " x") if large else _MIDDLES
    if "/*" in code:
        middles = ("*/", *middles)
    if code.rstrip("\n").endswith("\\"):
        middles = ('"', "'", *middles)
    for tail in _TAILS[:3] if large else _TAILS:
        for middle in middles:
            ending = f"{middle}{closers}{tail}"
            if ending and not _parse(language, code + ending).root_node.has_error:
                return True
    return False


def _open_brackets(root: Node) -> list[str] | None:
    """The brackets that are still open at the end; None if one is closed that was not open."""
    opened: list[str] = []
    for leaf in _leaves(root):
        kind = leaf.type
        if kind == "`":
            if opened and opened[-1] == "`":
                opened.pop()
            else:
                opened.append(kind)
        elif kind in _CLOSERS:
            opened.append(kind)
        elif kind in (")", "]", "}") and (not opened or _CLOSERS[opened.pop()] != kind):
            return None
    return opened


def _leaves(node: Node) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.is_missing:
            continue
        if node.child_count:
            waiting.extend(reversed(node.children))
        else:
            yield node
