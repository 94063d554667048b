"""The documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from myst_parser.mdit_to_docutils.base import default_slugify

from tests.docs.pages import (
    FOLDER,
    PAGES,
    READ_THERE,
    ROOT,
    TABLES,
    first_paragraph_of,
    name_of,
    words_of,
)
from tests.docs.site import built

# Sphinx takes some seconds; beside other tests, more.
pytestmark = pytest.mark.timeout(300)
PACKAGE = ROOT / "agentbay_kernel"
# What a page of another kind than reference may have.
MOST_WORDS = 900
REFERENCE = ("reference/", "project/code", "project/changelog")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation."""
    return built(tmp_path_factory)


def test_every_page_is_built(site: Path) -> None:
    pages = {it.relative_to(site).with_suffix("").as_posix() for it in site.rglob("*.html")}
    assert {name_of(page) for page in PAGES} <= pages
    notebooks = {f"course/{path.stem}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert notebooks and notebooks <= pages


def test_a_notebooks_page_shows_its_stored_outputs(site: Path) -> None:
    page = (site / "course" / "01-first-steps.html").read_text()
    assert "Ships in the bay: Aurora, Borealis, Corvus" in page
    assert '<img alt="../_images/' in page and "<table" in page
    assert "KeyError" in page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_short_unless_it_is_reference(page: Path) -> None:
    if not name_of(page).startswith(REFERENCE):
        assert words_of(page) < MOST_WORDS


@pytest.mark.parametrize("page", [*PAGES, *TABLES], ids=lambda it: str(it.relative_to(ROOT)))
def test_the_first_paragraph_names_the_reader(page: Path) -> None:
    # This one includes its text.
    text = first_paragraph_of(ROOT / "SECURITY.md" if page.stem == "promises" else page)
    assert re.match(r"This (?:page|documentation) is for ", text), text
    # What the reader has at the end; a page of reference lists something.
    end = r"[Aa]t (?:its|the) end|In five minutes|lists|has (?:the|what)|shows"
    assert re.search(end, text), text


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|object|source)\b[^>]*\b(?:src|data|srcset)=[\"']?(?:https?:)?//[^>]*>"
        r"|<link\b(?![^>]*rel=\"(?:canonical|author)\")[^>]*href=[\"']?(?:https?:)?//[^>]*>"
        r"|@import\s|url\([\"']?(?:https?:)?//"
    )
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    found = {file.name: loads.findall(file.read_text()) for file in files}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("page", READ_THERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_on_github_too(page: Path) -> None:
    astray = []
    for link in _links(page):
        address, anchor = urldefrag(unquote(link))
        if re.match(r"[a-z]+:", address):
            continue
        target = (page.parent / address).resolve() if address else page
        if not target.is_relative_to(ROOT) or not target.exists():
            astray.append(f"{link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            astray.append(f"{link}: there is no such heading")
    assert astray == []


@pytest.mark.parametrize("page", READ_THERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_of_the_source_are_there(page: Path) -> None:
    named = {token.content for token in _tokens(page) if token.type == "code_inline"}
    paths = {
        name for name in named if re.fullmatch(r"[a-z_]+/[\w./-]*(?:\.py|\.js|(?<=[a-z])/)", name)
    }
    gone = {name for name in paths if not any((top / name).exists() for top in (ROOT, PACKAGE))}
    assert gone == set()


def test_the_reference_is_what_the_code_says() -> None:
    command = [sys.executable, str(FOLDER / "reference.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def _links(page: Path) -> Iterator[str]:
    for token in _tokens(page):
        if token.type == "link_open":
            yield str(token.attrs["href"])
        elif token.type == "image":
            yield str(token.attrs["src"])
        elif token.type in ("html_block", "html_inline"):
            yield from re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", token.content)


def _anchors(page: Path) -> set[str]:
    tokens, anchors = list(_tokens(page)), set()
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(part.content for part in content.children or [] if part.content)
            slug = name = default_slugify(text)
            further = 0
            while name in anchors:
                further += 1
                name = f"{slug}-{further}"
            anchors.add(name)
    return anchors


def _tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or []
