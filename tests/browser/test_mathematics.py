"""Markdown and TeX in a real JupyterLab: hostile ones do nothing, ordinary ones look right."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.escapes import Traces, opened, run_all, write_notebook
from tests.browser.lab import LabServer, NotebookPage
from tests.browser.payloads import SETUP, mathematics_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

IMPORTS = f"{SETUP}\nfrom IPython.display import Latex"
# What MathJax may not have made, in any output: links, loads, classes and ids of the page.
MADE = """() => [...document.querySelectorAll(".jp-OutputArea-output mjx-container, " +
  ".jp-OutputArea-output mjx-container *")].filter(e =>
    e.matches("a, img, [href], [data-commandlinker-command], [class*=jp-]") ||
    [...e.attributes].some(a => a.name.startsWith("on")) ||
    /url\\(|fixed|absolute/.test(e.getAttribute("style") || "") ||
    (e.id && !e.id.startsWith("mjx-eqn"))).map(e => e.outerHTML.slice(0, 300))"""
HANDLERS = """() => [...document.querySelectorAll(".jp-OutputArea-output *")].filter(e =>
  [...e.attributes].some(a => a.name.startsWith("on"))).map(e => e.outerHTML.slice(0, 300))"""
HOVER = """() => document.querySelectorAll(".jp-OutputArea-output *").forEach(e => {
  if (!e.attributes.length) return;
  for (const type of ["pointerover", "mouseover", "mouseenter", "mousemove", "focus"])
    e.dispatchEvent(new MouseEvent(type, {bubbles: true})); })"""


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    """Where a beacon arrives."""
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(server: LabServer) -> LabServer:
    """The server, whose pages draw every cell at once."""
    settings = server.notebooks.parent / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    return server


def found_in(notebook: NotebookPage, traces: Traces) -> list[str]:
    """What acted once everything was loaded, passed over and clicked."""
    page = notebook.page
    # MathJax sets formulas one output after the other; the last cell holds an ordinary one.
    expect(page.locator(".jp-OutputArea-output mjx-container").last).to_be_attached()
    page.wait_for_timeout(1500)
    page.evaluate(HOVER)
    traces.click_all()
    page.wait_for_timeout(1000)
    return [*traces.found(), *page.evaluate(MADE), *page.evaluate(HANDLERS)]


@pytest.mark.parametrize("html", ["contain", "sanitize"])
@pytest.mark.parametrize("use", ["placeholders", "tex", "html"])
def test_no_markdown_and_no_tex_acts(
    browser: Browser, lab: LabServer, beacon: Beacon, use: str, html: str
) -> None:
    payloads = mathematics_payloads(beacon.address)[use]
    cells = [f"%agentbay config html={html}", IMPORTS]
    cells += [payload.code for payload in payloads]
    cells += ["Latex('$x^2$')"]
    folder = f"mathematics-{use}-{html}"
    write_notebook(lab.notebooks / folder / "cells.ipynb", "agentbay-python", cells)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        assert found_in(notebook, traces) == []
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        notebook.cell(0).locator(".cm-content").click()
        stored = notebook.save()
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        assert found_in(notebook, traces) == []
    # Changed by a stranger's hand it has no signature any more: JupyterLab does not trust it.
    stored["metadata"]["changed"] = True
    folder += "-untrusted"
    (lab.notebooks / folder).mkdir()
    (lab.notebooks / folder / "cells.ipynb").write_text(json.dumps(stored))
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        assert found_in(notebook, traces) == []
