"""The parts of the documentation that are written from the code: `python docs/reference.py`.

In: the traits of the settings, the parsers of the commands, the docstrings of the errors, the goals
of the notebooks, the table of the benchmarks. Out: the text between the marks
`<!-- begin: NAME -->` and `<!-- end: NAME -->` of the pages. With `--check` nothing is written, and
a page that is not what the code says is an error.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Integer, List, TraitType

from agentbay_kernel import errors
from agentbay_kernel.cli.main import make_parser
from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.grading import SubmissionError
from agentbay_kernel.local import serve
from agentbay_kernel.local.actions import ACTIONS, TOOL_CALL
from agentbay_kernel.local.listener import CONTROL_LIMIT, TOOL_LIMIT
from agentbay_kernel.local.routes import ROUTES
from agentbay_kernel.verbs.cell_options import cell_parser
from agentbay_kernel.verbs.table import VERBS

PAGES = Path(__file__).resolve().parent
ROOT = PAGES.parent
# The measured rows that a page shows, by their names in benchmarks/README.md.
FIGURES = (
    "start to the first `kernel_info` reply",
    "first cell, three seconds after the start",
    "short cell, bridged",
    "short cell, direct",
    "interrupt of sleeping code to idle",
)
# Settings by what they are for; each stands in one of these, or has the prefix below.
GROUPS = {
    "Where cells run": ("backend", "start", "execution", "image"),
    "Cells and their output": (
        *("timeout", "output_limit", "display_limit", "late_output_seconds", "strict_const"),
        *("response_limit", "exchange_limit", "download_endings"),
    ),
    "Safety": (
        *("html", "html_hosts", "widget_packages", "untrusted", "audit_log"),
        *("trusted_kernels",),
    ),
    "Sessions": (
        *("idle_minutes", "max_minutes", "keep_alive_minutes", "max_sessions", "on_restart"),
        *(
            "grace_minutes",
            "state_dir",
            "session_id",
            "delete_attached",
            "setup_env",
            "session_files",
        ),
    ),
}
_LOCAL = "local_"
_IN_NOTEBOOK = {"free": "change it", "lower": "lower it", None: "not change it"}
# Why no test runs the examples of a command.
NOT_RUN = {"jupyter agentbay policy": "it would change the environment that runs the tests"}
# An error's branch of the tree, and what its errors are about.
BRANCHES = {
    "ConfigurationError": "Keys and settings",
    "SessionError": "Sessions",
    "CommandError": "The service",
    "BridgeError": "The bridge",
    "ExchangeError": "Values and files",
    "AgentBayError": "Commands, notebooks, and the rest",
}


def settings() -> str:
    """A table of all settings, then each of them under a heading."""
    traits = AgentBaySettings.class_own_traits(config=True)
    groups = {**GROUPS, "The local runtime": tuple(it for it in traits if it.startswith(_LOCAL))}
    grouped = [name for names in groups.values() for name in names]
    if sorted(grouped) != sorted(traits):
        raise ValueError(f"GROUPS in {__file__} are wrong about {set(grouped) ^ set(traits)}")
    rows = [
        (f"[`{name}`](#{name})", _default(traits[name]), _short(traits[name])) for name in grouped
    ]
    parts = [_table(("setting", "default", "may a cell change it?"), rows)]
    for group, names in groups.items():
        parts.append(f"## {group}")
        for name in names:
            trait = traits[name]
            facts = (
                f"`AGENTBAY_{name.upper()}`",
                _values(trait),
                f"default: {_default(trait)}",
                f"a cell may {_may(trait)}",
            )
            parts += [f"### `{name}`", str(trait.help), " · ".join(facts)]
    return "\n\n".join(parts)


def _default(trait: TraitType[Any, Any]) -> str:
    value = trait.default()
    if value == sys.executable:
        return "Jupyter's own"
    if value in (None, "") or value == []:
        return "none"
    if isinstance(value, bool):
        return "no" if not value else "yes"
    if isinstance(value, int | float):
        return f"{value:,.0f}"
    return f"`{value}`"


def _may(trait: TraitType[Any, Any]) -> str:
    rule = trait.metadata.get("in_notebook")
    return "make it stricter" if isinstance(rule, tuple) else _IN_NOTEBOOK[rule]


def _short(trait: TraitType[Any, Any]) -> str:
    return {"change it": "yes", "not change it": "no"}.get(_may(trait), _may(trait))


def _values(trait: TraitType[Any, Any]) -> str:
    if isinstance(trait, Enum):
        return "one of " + ", ".join(f"`{value}`" for value in trait.values or ())
    if isinstance(trait, Bool):
        return "`1` or `0`"
    if isinstance(trait, List):
        return "names, in the environment separated by commas"
    if isinstance(trait, Integer | Float):
        kind = "a whole number" if isinstance(trait, Integer) else "a number"
        if trait.min not in (None, -inf):
            kind += f" from {trait.min:,.0f}"
        if trait.max not in (None, inf):
            kind += f" to {trait.max:,.0f}"
        return kind + (", or `none`" if trait.allow_none else "")
    return "a string"


def verbs() -> str:
    """A table of all `%agentbay` commands, then the help of the cell magic and of each command."""
    parts = [("%%agentbay LANGUAGE", cell_parser().help_text())]
    parts += [(verb.typed, verb.parser.help_text()) for verb in VERBS.values()]
    rows = [("[`%%agentbay LANGUAGE`](#agentbay-language)", "Run the cell in a sandbox")]
    rows += [(f"[`{verb.typed}`](#agentbay-{verb.name})", verb.summary) for verb in VERBS.values()]
    texts = [f"### `{title}`\n\n```text\n{help_text}\n```" for title, help_text in parts]
    return "\n\n".join([_table(("line", "does"), rows), *texts])


def commands() -> str:
    """Each command of `jupyter agentbay`, under a heading, with its arguments."""
    return "\n\n".join(_command(parser) for parser in _commands(make_parser()))


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    inner = [it for it in parser._actions if isinstance(it, argparse._SubParsersAction)]
    for action in inner:
        summaries = {it.dest: it.help for it in action._choices_actions}
        for name, command in action.choices.items():
            command.description = command.description or _sentence(summaries[name] or "")
            yield from _commands(command)
    if not inner and not parser.prog.endswith(" serve"):
        yield parser


def _command(parser: argparse.ArgumentParser) -> str:
    places = [_value(it) for it in parser._actions if not it.option_strings]
    parts = [f"### `{' '.join([parser.prog, *places])}`", parser.description or ""]
    if rows := _arguments(parser):
        parts.append(_table(("argument", "meaning"), rows))
    if parser.epilog:
        examples = parser.epilog.removeprefix("examples:\n")
        mark = f"<!-- not-run: {reason} -->\n" if (reason := NOT_RUN.get(parser.prog)) else ""
        parts.append(f"{mark}```sh\n{inspect.cleandoc(examples)}\n```")
    return "\n\n".join(parts)


def serving() -> str:
    """The flags of `serve`."""
    return _table(("flag", "meaning"), _arguments(serve.make_parser()))


def actions() -> str:
    """The routes of the local runtime, then its actions with the largest body of each."""
    paths = [
        (
            f"`{'`, `'.join(kind.methods)}`",
            f"`{path.replace('([^/]+)', name) if name else '/?Action=NAME'}`",
            _first_line(kind),
            _bytes(limit),
        )
        for (path, kind, limit), name in zip(ROUTES, ("", "ID", "ID", "TOKEN"), strict=True)
    ]
    rows = [
        (
            f"`{name}`",
            _first_line(action),
            _bytes(TOOL_LIMIT if name == TOOL_CALL else CONTROL_LIMIT),
        )
        for name, action in sorted(ACTIONS.items())
    ]
    return "\n\n".join(
        [
            _table(("method", "route", "does", "largest body"), paths),
            _table(("action", "does", "largest body"), rows),
        ]
    )


def _first_line(thing: object) -> str:
    line = (inspect.getdoc(thing) or "").partition("\n")[0]
    if not line:
        raise ValueError(f"{thing} lacks a docstring")
    return line.rstrip(".")


def _bytes(number: int) -> str:
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if number >= size:
            return f"{number // size} {unit}"
    return "none"


def _arguments(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    rows = []
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or action.dest == "help":
            continue
        value = "" if action.nargs == 0 else _value(action)
        name = " ".join([", ".join(action.option_strings), value]).strip()
        text = (action.help or "") % {"default": action.default, "prog": parser.prog}
        rows.append((f"`{name}`", text.replace(sys.prefix, "`sys.prefix`")))
    return rows


def _value(action: argparse.Action) -> str:
    if action.choices and not action.metavar:
        return "|".join(map(str, action.choices))
    value = str(action.metavar or action.dest.upper().replace("-", "_"))
    return f"{value} ..." if action.nargs in ("*", "+") else value


def failures() -> str:
    """Every error of the tree with cause and fix, by branch."""
    found: dict[str, list[type[Exception]]] = {branch: [] for branch in BRANCHES}
    for kind in _kinds():
        branch = next(it.__name__ for it in kind.__mro__ if it.__name__ in BRANCHES)
        found[branch].append(kind)
    found["AgentBayError"] += [errors.CodeSyntaxWarning, SubmissionError]
    names = sorted(kind.__name__ for kinds in found.values() for kind in kinds)
    parts = [", ".join(f"[{name}](#{name.lower()})" for name in names) + "."]
    for branch, kinds in found.items():
        parts.append(f"## {BRANCHES[branch]}")
        parts += [_failure(kind) for kind in kinds]
    tree = re.search(r"^AgentBayError\n(?:[│├└ ].*\n)+", inspect.getdoc(errors) or "", re.M)
    drawn = re.findall(r"(\w+) {2,}|^(\w+)$", tree[0] if tree else "", re.M)
    if tree is None or sorted(map("".join, drawn)) != sorted(it.__name__ for it in _kinds()):
        raise ValueError("The tree in the docstring of errors.py is not that of its classes")
    parts += [
        "## In Python",
        "`SubmissionError` is in `agentbay_kernel.grading`. All others are in "
        "`agentbay_kernel.errors`, in one tree:",
        f"```text\n{tree[0]}```",
    ]
    return "\n\n".join(parts)


def _kinds() -> Iterable[type[AgentBayError]]:
    """All of the tree, in the order of the source."""
    return [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, AgentBayError)
    ]


def _failure(kind: type[Exception]) -> str:
    text = inspect.cleandoc(kind.__doc__ or "")
    summary = text.partition("\n\n")[0]
    told = dict(re.findall(r"^(Cause|Fix): (.+?)(?=^\S|\Z)", text, re.M | re.S))
    if set(told) != {"Cause", "Fix"}:
        raise ValueError(f"The docstring of {kind.__name__} lacks a line `Cause:` or `Fix:`")
    lines = [f"**{word}.** {' '.join(words.split())}" for word, words in told.items()]
    return "\n\n".join([f"### `{kind.__name__}`", summary.replace("\n", " "), *lines])


def figures() -> str:
    """Five rows of the table of benchmarks/README.md."""
    table = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    cells = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in table.splitlines()
        if line.startswith("| ")
    ]
    measured = {row[0]: row for row in cells if len(row) == 6}
    rows = [(name, measured[name][1], measured[name][4]) for name in FIGURES]
    return _table(("median, on the local runtime", "here (ms)", "stock kernel (ms)"), rows)


def course() -> str:
    """A table of the notebooks with the goal of each, and the tree of their pages."""
    rows, pages = [], []
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        title, goal = _introduction("".join(cells[0]["source"]), path.name)
        number = int(path.name.partition("-")[0])
        rows.append((str(number), f"[{title}](../../notebooks/{path.name})", goal))
        pages.append(f"{number} · {title} <../course/{path.stem}>")
    tree = "\n".join(["```{toctree}", ":hidden:", "", *pages, "```"])
    return "\n\n".join([_table(("", "notebook", "what you do"), rows), tree])


def _introduction(text: str, name: str) -> tuple[str, str]:
    found = re.match(r"# (?P<title>.+)\n+\*\*Goal\.\*\* (?P<goal>.+)", text)
    if not found:
        raise ValueError(f"The first cell of {name} lacks a title or a goal")
    # A goal may name another notebook.
    goal = re.sub(r"\]\((?=[\w-]+\.ipynb\))", "](../../notebooks/", found["goal"])
    return found["title"], goal


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head)]
    lines += [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


WRITTEN: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("reference/settings.md", settings),
    "verbs": ("reference/commands.md", verbs),
    "commands": ("reference/command-line.md", commands),
    "serve": ("reference/local-runtime.md", serving),
    "actions": ("reference/local-runtime.md", actions),
    "errors": ("reference/errors.md", failures),
    "figures": ("explanation/how-it-works.md", figures),
    "course": ("tutorials/course.md", course),
}


def main() -> int:
    """Write the pages, or with `--check` say which of them are stale."""
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, (page, write) in WRITTEN.items():
        path = PAGES / page
        before = path.read_text("utf-8")
        begin, end = f"<!-- begin: {name} -->\n", f"\n<!-- end: {name} -->"
        head, has_begin, rest = before.partition(begin)
        _, has_end, tail = rest.partition(end)
        if not (has_begin and has_end):
            raise ValueError(f"{page} lacks the marks of {name}")
        after = f"{head}{begin}\n{write()}\n{end}{tail}"
        if after != before:
            stale.append(page)
            if not check:
                path.write_text(after, "utf-8")
    if check and stale:
        print(f"Not what the code says: {', '.join(stale)}. Run `make docs`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
