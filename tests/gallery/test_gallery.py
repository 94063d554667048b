"""What people plot with is shown, by default settings and without a network, in every reader.

The whole gallery is run by `make test-gallery`, which also writes the table of README.md, beside
this file; a small part of it with the other browser tests (tests/browser/test_gallery.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Page, expect

from tests.browser.lab import LabServer, NotebookPage, lab_server
from tests.gallery.entries import GALLERY, SETUP, Entry, Shown
from tests.gallery.readers import Height, Look, heights, keep, look_at

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURES = CHECKOUT / "build" / "gallery"
DOCS = Path(__file__).with_name("README.md")
DOCS_PICTURES = CHECKOUT / "docs" / "images" / "gallery"
# What the page shows of JupyterLab.
PICTURED = ("Altair", "plotly", "Bokeh", "HoloViews with a slider", "pyvis", "scikit-learn")
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of the table -->)", re.S)
# Ten charts of one library, in a notebook (bytes).
TEN_CHARTS = 12_000_000
RUN_MS = 400_000
# A frame is as high as its content up to here, with margins and the strip to drag it by.
HIGHEST_PX, MOST_EMPTY_PX = 700, 40

Looks = dict[str, dict[str, Look]]


class Gallery:
    """A notebook with the entries' cells, run once in JupyterLab, then read everywhere."""

    def __init__(self, browser: Browser, server: LabServer, entries: Sequence[Entry]) -> None:
        self.browser = browser
        self.server = server
        self.entries = entries
        self.looks: Looks = {}
        self.heights: dict[str, dict[str, list[Height]]] = {}
        self.stored: dict[str, int] = {}

    def run(self) -> None:
        """Run all cells in JupyterLab, look at them, and store the notebook."""
        notebook = new_notebook(
            cells=[new_code_cell(code) for code in (SETUP, *(one.code for one in self.entries))]
        )
        name = {"name": "agentbay-python", "display_name": "AgentBay Python"}
        notebook.metadata["kernelspec"] = name
        self.write("run", notebook)
        page = self.open("run")
        self.run_all(page)
        self.look("JupyterLab", page.page, lambda entry: entry.shown)
        stored = page.save()
        # The first cell is the setup.
        for entry, cell in zip(self.entries, stored["cells"][1:], strict=True):
            self.stored[entry.name] = len(json.dumps(cell["outputs"]))
        self.close(page)

    def reopen(self) -> None:
        """Open the stored notebook again: in a page that trusts it, and in one that doesn't."""
        page = self.open("run")
        self.look("reopened", page.page, lambda entry: entry.reopened)
        self.close(page)
        notebook = nbformat.read(self.path("run"), 4)
        for cell in notebook.cells:
            # A notebook that was changed elsewhere is no longer trusted.
            cell.source += "\n# changed"
        self.write("untrusted", notebook)
        page = self.open("untrusted")
        self.look("untrusted", page.page, lambda entry: entry.untrusted)
        self.close(page)

    def convert(self) -> None:
        """Look at the notebook as nbconvert makes it."""
        command = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR"]
        subprocess.run([*command, str(self.path("run"))], check=True, timeout=120)
        page = self.new_page()
        page.goto(self.path("run").with_suffix(".html").as_uri(), wait_until="domcontentloaded")
        # No kernel is there to answer widgets.
        self.look("nbconvert", page, lambda entry: entry.converted)
        page.context.close()

    def run_in_notebook_7(self) -> None:
        """Run all cells once more in Notebook 7's page, and look at them."""
        notebook = nbformat.read(self.path("run"), 4)
        for cell in notebook.cells:
            cell.outputs = []
        self.write("seven", notebook)
        page = NotebookPage(self.server, self.new_page(), "seven")
        page.page.goto(
            f"{self.server.address}/notebooks/seven/n.ipynb?token={self.server.token}",
            wait_until="domcontentloaded",
        )
        page.page.locator(".jp-NotebookPanel").wait_for()
        while not self.server.kernel_is_ready("seven"):
            page.page.wait_for_timeout(100)
        self.run_all(page)
        self.look("Notebook 7", page.page, lambda entry: entry.shown)
        self.close(page)

    def look(self, reader: str, page: Page, expected: Callable[[Entry], Shown]) -> None:
        """Look at all cells in one reader, and keep the pictures."""
        found = self.looks.setdefault(reader, {})
        for number, entry in enumerate(self.entries, 1):
            cell = page.locator(".jp-CodeCell").nth(number)
            found[entry.name] = look_at(page, cell, expected(entry))
            self.heights.setdefault(reader, {})[entry.name] = heights(cell)
            keep(found[entry.name], PICTURES / reader.lower().replace(" ", "-"), entry.name)

    def run_all(self, page: NotebookPage) -> None:
        """Run menu, "Run All Cells", and wait for the end of the last one."""
        page.page.get_by_role("menuitem", name="Run", exact=True).click()
        page.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        expect(page.cell(len(self.entries)).locator(".jp-InputPrompt")).to_have_text(
            re.compile(r"\[\d+\]:"), timeout=RUN_MS
        )

    def path(self, folder: str) -> Path:
        """The notebook in a folder of the server."""
        return self.server.notebooks / folder / "n.ipynb"

    def write(self, folder: str, notebook: Any) -> None:
        """Put a notebook into a folder of its own."""
        self.path(folder).parent.mkdir()
        nbformat.write(notebook, self.path(folder))

    def open(self, folder: str) -> NotebookPage:
        """A folder's notebook in JupyterLab."""
        page = NotebookPage(self.server, self.new_page(), folder)
        page.open_file("n.ipynb")
        page.hide_file_browser()
        return page

    def new_page(self) -> Page:
        """A window of the pictures' width."""
        context = self.browser.new_context(
            viewport={"width": 1000, "height": 900}, locale="en-US", color_scheme="light"
        )
        context.set_default_timeout(60_000)
        return context.new_page()

    def close(self, page: NotebookPage) -> None:
        """Close a window and end the kernel of its notebook."""
        page.page.context.close()
        self.server.shut_down_kernels(page.folder)

    def misses(self, reader: str, expected: Callable[[Entry], Shown]) -> list[str]:
        """What does not look as it must in a reader."""
        looks = self.looks[reader]
        return [
            f"{reader}: {entry.name} is {looks[entry.name].shown}, not {expected(entry)}: "
            f"{looks[entry.name].text[-300:]!r}"
            for entry in self.entries
            if looks[entry.name].shown != expected(entry)
        ]

    def wrong_heights(self) -> list[str]:
        """The frames that are scrolled, or have much that is empty below what is drawn."""
        return [
            f"{reader}: {name} is {height}"
            for reader, found in self.heights.items()
            for name, heights_ in found.items()
            for height in heights_
            if (height.scrolls and height.frame < HIGHEST_PX)
            # What is drawn in shadow roots is not seen from here.
            or (height.content and height.frame - height.content > MOST_EMPTY_PX)
        ]

    def too_large(self) -> list[str]:
        """The charts of which ten take more than a notebook may have of them.

        Of plotly's, whose script is the largest, the seventh is not live.
        """
        return [
            f"{name}: {size:,} bytes"
            for name, size in self.stored.items()
            if size * (6 if name.startswith("plotly") else 10) > TEN_CHARTS
        ]


def is_shown(entry: Entry) -> Shown:
    return entry.shown


def is_reopened(entry: Entry) -> Shown:
    return entry.reopened


def is_untrusted(entry: Entry) -> Shown:
    return entry.untrusted


def is_converted(entry: Entry) -> Shown:
    return entry.converted


def prepared_server(home: Path, **options: Any) -> Any:
    """A server whose pages hold all cells at once, whatever is in view."""
    file = home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"windowingMode": "none"}))
    return lab_server(home, AGENTBAY_BACKEND="local", **options)


@pytest.mark.gallery
def test_the_gallery(browser: Browser, home: Path, tmp_path: Path) -> None:
    # Notebook's server has JupyterLab's page too.
    with prepared_server(tmp_path / "home", application="notebook") as server:
        gallery = Gallery(browser, server, GALLERY)
        gallery.run()
        gallery.reopen()
        gallery.convert()
        gallery.run_in_notebook_7()
    (PICTURES / "heights.txt").write_text(
        "\n".join(f"{r} {n} {h}" for r, all_ in gallery.heights.items() for n, h in all_.items())
    )
    (PICTURES / "table.md").write_text(table(gallery), encoding="utf-8")
    if os.environ.get("GALLERY_DOCS"):
        text = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(TABLE.sub(lambda _: table(gallery), text), encoding="utf-8")
        for name in PICTURED:
            keep(gallery.looks["JupyterLab"][name], DOCS_PICTURES, name, colours=64)
    misses = [
        *gallery.misses("JupyterLab", is_shown),
        *gallery.misses("Notebook 7", is_shown),
        *gallery.misses("reopened", is_reopened),
        *gallery.misses("untrusted", is_untrusted),
        *gallery.misses("nbconvert", is_converted),
        *gallery.wrong_heights(),
        *gallery.too_large(),
    ]
    assert not misses, "\n".join(misses)


def table(gallery: Gallery) -> str:
    """The table of the documentation."""
    readers = ("JupyterLab", "Notebook 7", "reopened", "untrusted", "nbconvert")
    lines = [_row(["library", *readers, "bytes stored"]), _row(["---"] * 6 + ["---:"])]
    for entry in gallery.entries:
        shown = [gallery.looks[reader][entry.name].shown or "nothing" for reader in readers]
        lines.append(_row([entry.name, *shown, f"{gallery.stored[entry.name]:,}"]))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
