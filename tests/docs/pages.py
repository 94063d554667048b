"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs"
# Copied by conf.py from elsewhere in the repository, where they are checked.
COPIED = {"course", "measurements"}
PAGES = sorted(it for it in FOLDER.glob("**/*.md") if it.parent.name not in COPIED)
# Beside what makes them, and pages of the site too.
TABLES = [
    ROOT / "benchmarks" / "README.md",
    ROOT / "tests" / "fidelity" / "README.md",
    ROOT / "tests" / "gallery" / "README.md",
]
# Markdown that is read on GitHub.
READ_THERE = sorted(
    [
        *ROOT.glob("*.md"),
        *PAGES,
        *TABLES,
        *ROOT.glob("binder/*.md"),
        *ROOT.glob("notebooks/*.md"),
        *ROOT.glob(".github/**/*.md"),
    ]
)
# A block that is not run says why, in the line above it.
_NOT_RUN = re.compile(r"<!-- not-run: (?P<reason>.+?) -->\s*$", re.S)


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    number: int
    language: str
    text: str
    # Why no test runs it; empty if one does.
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"

    @property
    def has_commands(self) -> bool:
        """May a reader copy it and run it?"""
        typed = ("%", "$ ", "jupyter ", "pip ")
        return self.language in ("sh", "console", "python", "yaml") or (
            # What a command or a library prints has no language either.
            self.language == "text" and self.text.startswith(typed)
        )


def name_of(page: Path) -> str:
    """A page's name, as in `how-to/install`."""
    folder = FOLDER if page.is_relative_to(FOLDER) else ROOT
    return page.relative_to(folder).with_suffix("").as_posix()


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    reason, number = "", 0
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            number += 1
            yield Block(name_of(page), number, token.info, token.content, reason)
        # A comment stands alone; what else is between it and a block takes it away.
        found = _NOT_RUN.search(token.content) if token.type == "html_block" else None
        reason = " ".join(found["reason"].split()) if found else ""


def words_of(page: Path) -> int:
    """How many words a page has, without its blocks of code."""
    count = 0
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.S)
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "inline":
            parts = [" " if it.type == "softbreak" else it.content for it in token.children or []]
            count += len("".join(parts).split())
    return count


def first_paragraph_of(page: Path) -> str:
    """The text below a page's title."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return next(
        tokens[at + 1].content for at, it in enumerate(tokens) if it.type == "paragraph_open"
    )
