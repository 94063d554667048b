"""Prose uses the project's terms: in pages, in the course, and in what the programs show."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import READ_THERE, ROOT

# What is not written, and what is written instead.
INSTEAD = {
    r"shall": "must, or the imperative",
    r"anew": "again",
    r"mend(s|ed|ing)?|cure[sd]?": "fix",
    r"as ever": "as before, as usual",
    r"of one's own": "its own, a separate",
    r"travel(s|l?ed|l?ing)?": "transfer",
    r"folders?": "directory",
    r"spares?|spare sessions?": "pre-warmed session",
    r"verbs?": "command, subcommand",
    r"begin(s|ning)? with": "start with",
    r"(go|goes|going) on": "continue",
    r"tells?|told|hears?|heard|says?|said": "reports, returns, shows, names, sends",
    r"(?<!there )(is|are) none": "is invalid, is not a",
    r"greatest age|maximum life": "maximum lifetime",
    r"utili[sz]e[sd]?": "use",
    r"whilst|thus|hence|therein|wherein": "while, so, in it",
    r"obviously|of course": "nothing",
}
UNUSED = re.compile(rf"(?<![\w`/.-])({'|'.join(INSTEAD)})(?![\w`/(=-])(?!\.\w)", re.I)
CODE_MARK = "`"
# A page that lists past states, in the words of their time.
OTHERS = {"CHANGELOG.md", "changelog.md"}
PAGES = [path for path in READ_THERE if path.name not in OTHERS]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
MODULES = sorted(ROOT.glob("agentbay_kernel/**/*.py"))
# Texts that are code, or a format of others.
CODE = re.compile(
    r"\bimport \w|/dev/null|\bdef \w|;\w|\{[\w-]+:|^\s*#|=\{|\.\w+\(\)|\)\.\w+\(", re.M
)


def without_code(text: str) -> str:
    """The prose of Markdown: neither code nor addresses."""
    lines = []
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        parts = block.children or []
        lines.append("".join(CODE_MARK if it.type == "code_inline" else it.content for it in parts))
    return "\n".join(lines)


def found_in(text: str) -> list[str]:
    """Each such term with what stands around it and what to write instead."""
    prose = without_code(text) if UNUSED.search(text) else ""
    return [
        f"…{prose[max(0, it.start() - 40) : it.end() + 30]}…".replace("\n", " ")
        + f" Write: {instead_of(it[0])}"
        for it in UNUSED.finditer(prose)
    ]


def instead_of(term: str) -> str:
    """What to write instead of a term."""
    return next(
        good for pattern, good in INSTEAD.items() if re.fullmatch(f"(?:{pattern})", term, re.I)
    )


def shown_texts(module: Path) -> Iterator[str]:
    """A module's texts of several words that are no docstrings and no code."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    bare = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )
            bare.update(map(id, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if (
            id(node) not in bare
            and " " in text.strip()
            and UNUSED.search(text)
            and not CODE.search(text)
        ):
            yield text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_of_a_page(page: Path) -> None:
    assert found_in(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_of_a_notebook(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert texts
    assert [found for text in texts for found in found_in(text)] == []


def test_of_what_the_programs_show() -> None:
    found = {
        str(module.relative_to(ROOT)): terms
        for module in MODULES
        if (terms := [term for text in shown_texts(module) for term in found_in(text)])
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The file is in its folder, and this tells you so.", 2),
        ("See [`verbs.md`](verbs.md) and `folder`.\n\n```python\nfolder = 1\n```\n", 0),
        ("A value travels; a name begins with a dot.", 2),
        ("agentbay_kernel/verbs/ and --folder=x", 0),
    ],
)
def test_that_it_finds_them(text: str, count: int) -> None:
    assert len(found_in(text)) == count
