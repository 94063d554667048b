"""Notebook 7, whose page is another than JupyterLab's: an AgentBay notebook in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, expect

from tests.browser.lab import SLIDERS, LabServer, NotebookPage, drag_to_and_fro, lab_server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]

FOLDER = "notebook7"
FRAMED = """\
from IPython.display import HTML
HTML("<p>not yet</p><script>document.body.textContent = 'alone in its frame'</script>")"""
WIDGET = "import ipywidgets\nslider = ipywidgets.IntSlider(value=3)\nslider"
LONG = """\
import time
for step in range(600):
    print('step', step, flush=True)
    time.sleep(0.1)"""
CELLS = (
    "print('hello', 6 * 7)",
    FRAMED,
    WIDGET,
    LONG,
    "name = input('who? ')",
    "name / 2",
    *SLIDERS.values(),
)


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[LabServer]:
    """A Notebook 7 server."""
    with lab_server(tmp_path / "home", application="notebook", AGENTBAY_BACKEND="local") as running:
        yield running


def test_a_notebook_in_notebook_7(browser: Browser, server: LabServer) -> None:
    folder = server.notebooks / FOLDER
    folder.mkdir()
    stored = new_notebook(cells=[new_code_cell(code) for code in CELLS])
    stored.metadata["kernelspec"] = {"name": "agentbay-python", "display_name": "AgentBay Python"}
    nbformat.write(stored, folder / "n.ipynb")
    page = browser.new_context(viewport={"width": 1280, "height": 960}).new_page()
    notebook = NotebookPage(server, page, FOLDER)
    page.goto(f"{server.address}/notebooks/{FOLDER}/n.ipynb?token={server.token}")
    page.locator(".jp-NotebookPanel").wait_for()
    while not server.kernel_is_ready(FOLDER):
        page.wait_for_timeout(100)

    notebook.run_again(0)
    expect(notebook.outputs(0).last).to_contain_text("hello 42")
    notebook.run_again(1)
    # A frame for the policy, and the output's own in it.
    frame = notebook.cell(1).frame_locator("iframe").frame_locator("iframe")
    expect(frame.locator("body")).to_have_text("alone in its frame")
    notebook.run_again(2)
    expect(notebook.cell(2).locator(".widget-readout")).to_have_text("3")
    notebook.cell(3).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(notebook.outputs(3).first).to_contain_text("step 2")
    notebook.press_stop()
    expect(notebook.outputs(3).last).to_contain_text("KeyboardInterrupt")
    notebook.cell(4).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    question = notebook.cell(4).locator("input")
    question.fill("Ada")
    question.press("Enter")
    notebook.expect_prompt(4, r"\[\d+\]:")
    notebook.run_again(5)
    expect(notebook.outputs(5).last).to_contain_text("TypeError")
    for sliding in (6, 7):
        notebook.run_again(sliding)
        drag_to_and_fro(notebook.cell(sliding), 30)
    page.context.close()
    server.shut_down_kernels(FOLDER)
