"""Checks whether a JavaScript cell is complete, and replaces its lines of IPython syntax by calls.

Lines such as `!ls` and `name?`, as IPython has them, become calls. Both work here, without a
request to the sandbox. Code that does not parse is incomplete if some text after it makes it parse,
else it is invalid. So a few endings are tried. tree-sitter is loaded only when it is first needed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

_CLOSERS = {"(": ")", "[": "]", "{": "}", "${": "}", "`": "`"}
# Text that may be missing at the end of the code: an operand, a body, a name and a body, ...
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
# Text that may be missing after all brackets are closed: a statement's body or second half.
_TAILS = ("", " x", " {}", " while (x)", " catch {}", " => x", ' from "x"', " = x", " (x) {}")
# Each ending costs a parse. For more characters than this, only the likeliest are tried.
_LARGE = 4_000


def completeness(code: str) -> dict[str, str]:
    """Return the content of the is_complete_reply for a cell (Jupyter messaging protocol).

    The status is "complete", "incomplete" or "invalid"; it is "unknown" without a parser.
    """
    grammar = language()
    if grammar is None:
        return {"status": "unknown"}
    if braced_object(code):
        return {"status": "complete"}
    code = with_calls(code)
    tree = _parse(grammar, code)
    if not tree.root_node.has_error:
        status = _status_of_parsed(tree.root_node)
    else:
        status = "incomplete" if _can_be_finished(grammar, tree, code) else "invalid"
    if status != "incomplete":
        return {"status": status}
    return {"status": status, "indent": _indent(grammar, code)}


# Lines that are not JavaScript.
_COMMAND = re.compile(
    r"[ \t]*![ \t]*(?!(?:async|await|class|delete|function|import|new|super|this|typeof|void)\b)"
    r"([\w./~$\"'-][^\s(]*(?:[ \t].*)?)"
)
_NAME = r"([A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*|\[(?:\d+|'[^'\n]*'|\"[^\"\n]*\")\])*)"
_HELP = re.compile(rf"[ \t]*(?:{_NAME}[ \t]*(\?\??)|(\?\??)[ \t]*{_NAME})[ \t]*;?\s*")
# `!ls`, `!ls -la`: a negation if there is a variable of that name, else a command.
_EITHER = re.compile(r"[ \t]*!([A-Za-z_][\w$]*)((?:[ \t]+--?[A-Za-z][\w-]*)*)[ \t]*\s*")
_LITERALS = ("true", "false", "null", "undefined", "NaN", "Infinity", "this")
# The object that runs these lines in the sandbox (node_worker.js).
_LINES = 'globalThis[Symbol.for("agentbay.lines")]'
# The nodes in which such a line is only text.
_TEXTS = frozenset({"comment", "string", "template_string"})


def with_calls(code: str) -> str:
    """Return a cell with calls in place of lines that are IPython's syntax and not JavaScript.

    `!command` runs a command in the sandbox's shell. `name?`, `?name` and `name??` show help about
    a value. JavaScript such as `!ready` and `a ? b : c` stays. All lines keep their positions.
    """
    grammar = language() if "!" in code or "?" in code else None
    if grammar is None:
        return code
    lines = code.split("\n")
    root = _parse(grammar, code).root_node
    if root.has_error:
        commands = _with_commands(grammar, root, lines)
        helped = [_help_call(line) or line for line in commands]
        lines = commands
        if helped != commands or commands != code.split("\n"):
            root = _parse(grammar, "\n".join(helped)).root_node
            lines = commands if root.has_error else helped
    if not root.has_error:
        # A name that the cell uses elsewhere is not a command of the shell.
        names = [one.text for one in _leaves(root) if one.type == "identifier"]
        for number in [one.start_point.row for one in root.children]:
            either = _EITHER.fullmatch(lines[number])
            if either and either[1] not in _LITERALS and names.count(either[1].encode()) == 1:
                command = json.dumps(lines[number].strip()[1:])
                test = f"typeof {either[1]}==='undefined'?{_LINES}.shell({command}):"
                lines[number] = test + lines[number]
    return "\n".join(lines)


def _with_commands(grammar: Language, root: Node, lines: list[str]) -> list[str]:
    """Return the lines of a cell that is not valid JavaScript, with calls for its commands."""
    found: list[str] = []
    start, at = 0, 0
    while at < len(lines):
        line, first = lines[at], start
        at, start = at + 1, start + len(line.encode("utf-8", "replace")) + 1
        match = _COMMAND.fullmatch(line.rstrip("\r"))
        if not match or _is_text(root, first) or not _parse(grammar, line).root_node.has_error:
            found.append(line)
            continue
        command, more = match[1], 0
        while command.endswith("\\") and at < len(lines):
            command = f"{command}\n{lines[at]}"
            start += len(lines[at].encode("utf-8", "replace")) + 1
            at, more = at + 1, more + 1
        found.append(f"{_LINES}.shell({json.dumps(command)});")
        found.extend([""] * more)
    return found


def _help_call(line: str) -> str | None:
    match = _HELP.fullmatch(line)
    if match is None:
        return None
    name, marks = (match[1] or match[4]), (match[2] or match[3])
    return f"{_LINES}.help({json.dumps(name)},{len(marks) - 1});"


def _is_text(root: Node, at: int) -> bool:
    node = root.descendant_for_byte_range(at, at)
    while node is not None and (node.type not in _TEXTS or node.start_byte == at):
        node = node.parent
    return node is not None


def braced_object(code: str) -> bool:
    """Return whether a cell in braces is an object, as Node's REPL reads it, and not a block."""
    grammar = language() if code.lstrip().startswith(("{", "/")) else None
    if grammar is None or "{" not in code:
        return False
    statements = [
        one for one in _parse(grammar, f"({code}\n)").root_node.children if one.type != "comment"
    ]
    if len(statements) != 1 or statements[0].type != "expression_statement":
        return False
    if statements[0].has_error:
        return False
    value = statements[0].named_children[0]
    inside = [one for one in value.named_children if one.type != "comment"]
    if value.type != "parenthesized_expression" or len(inside) != 1:
        return False
    first = inside[0]
    while first.child_count and first.type != "object":
        first = first.children[0]
    return first.type == "object"


# The grammar's names of nodes that only these dialects have.
_TYPESCRIPT = frozenset(
    {
        "abstract_class_declaration",
        "accessibility_modifier",
        "ambient_declaration",
        "as_expression",
        "enum_declaration",
        "implements_clause",
        "interface_declaration",
        "internal_module",
        "override_modifier",
        "satisfies_expression",
        "type_alias_declaration",
        "type_annotation",
        "type_parameters",
    }
)
_JSX = frozenset({"jsx_element", "jsx_self_closing_element"})


def dialect(code: str) -> str:
    """Return "TypeScript" or "JSX" for code that is valid there and not in JavaScript, else ""."""
    grammar = _typescript()
    root = _parse(grammar, code).root_node if grammar else None
    if root is None or root.has_error:
        return ""
    kinds = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        kinds.add(node.type)
        waiting.extend(node.named_children)
    return "TypeScript" if kinds & _TYPESCRIPT else "JSX" if kinds & _JSX else ""


@functools.cache
def _typescript() -> Language | None:
    """Return the grammar of TypeScript with JSX; None if it is not installed."""
    try:
        import tree_sitter
        import tree_sitter_typescript
    except ImportError:
        return None
    return tree_sitter.Language(tree_sitter_typescript.language_tsx())


def _indent(grammar: Language, code: str) -> str:
    """Return the indentation of the line after an incomplete cell."""
    lines = [line for line in code.split("\n") if line.strip()]
    last = lines[-1] if lines else ""
    before = last[: len(last) - len(last.lstrip())]
    leaves = [one.type for one in _leaves(_parse(grammar, code).root_node)]
    # In a template or a comment, white space would be part of the text.
    if leaves.count("`") % 2 or code.rfind("/*") > code.rfind("*/"):
        return ""
    kinds = [one.type for one in _leaves(_parse(grammar, last.strip()).root_node)]
    opened = sum((kind in _CLOSERS) - (kind in (")", "]", "}")) for kind in kinds)
    ends_open = not last.rstrip().endswith((")", "]", "}", ";")) or last.lstrip().startswith(
        ("if", "for", "while", "function")
    )
    begins = len(lines) < 2 and opened == 0 and ends_open
    return before + "  " * (opened > 0 or begins)


@functools.cache
def language() -> Language | None:
    """Return JavaScript's grammar; None if tree-sitter is not installed."""
    try:
        import tree_sitter
        import tree_sitter_javascript
    except ImportError:
        return None
    return tree_sitter.Language(tree_sitter_javascript.language())


def _parse(language: Language, code: str) -> Tree:
    import tree_sitter

    # Threads can't share a parser, and making one costs nothing.
    return tree_sitter.Parser(language).parse(code.encode("utf-8", "replace"))


def _status_of_parsed(root: Node) -> str:
    """Return the status of code that tree-sitter accepts, which JavaScript may still refuse."""
    statements = root.named_children
    for statement in statements:
        if statement.type == "expression_statement" and _is_nameless_declaration(statement):
            return "invalid"
        if _lacks_value(statement) or _lacks_catch(statement):
            # `const x` can still get a value on the next line, `const x;` can't.
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
    last = _last_leaf(tree.root_node)
    if last is not None and last.type == "comment" and (last.text or b"").startswith(b"//"):
        # The endings must not become part of the comment.
        code += "\n"
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
    """Return the brackets that are open at the end; None if a closing one does not match."""
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


def _last_leaf(node: Node) -> Node | None:
    last = None
    for leaf in _leaves(node):
        last = leaf
    return last


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
