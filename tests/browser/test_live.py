"""What moves on the page: output while a cell runs, input, updated displays, widgets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import (
    SLIDERS,
    LabServer,
    NotebookPage,
    drag_to_and_fro,
    opened_window,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

SLIDER = """\
from ipywidgets import interact
@interact(berth=(0, 10))
def show(berth=3):
    print("berth", berth)"""
UPDATES = """\
import time
from IPython.display import display, clear_output
shown = display("loading", display_id=True)
print("first line", flush=True)
answer = input("go on? ")
shown.update("loaded")
print("answered", answer)"""


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: LabServer) -> Iterator[NotebookPage]:
    """A notebook that these tests share: each begins at its last cell, which is empty."""
    with opened_window(browser, server, "live") as opened:
        opened.open_launcher()
        opened.open_notebook("AgentBay Python")
        yield opened


def test_input_and_display_updates_while_a_cell_runs(notebook: NotebookPage) -> None:
    here = notebook.last
    notebook.start(here, UPDATES)
    # All this is on the page while the cell waits.
    shown = notebook.cell(here).locator(".jp-OutputArea").first
    expect(shown).to_contain_text("loading")
    expect(shown).to_contain_text("first line")
    box = notebook.cell(here).locator(".jp-Stdin-input")
    box.fill("yes")
    box.press("Enter")
    notebook.expect_prompt(here, r"\[\d+\]:")
    expect(shown).to_contain_text("answered yes")
    expect(shown).to_contain_text("loaded")
    expect(shown).not_to_contain_text("loading")


def test_a_widget_calls_code_in_the_sandbox(notebook: NotebookPage) -> None:
    here = notebook.last
    notebook.run(here, SLIDER)
    output = notebook.cell(here).locator(".jupyter-widgets-output-area, .widget-output").last
    expect(output).to_contain_text("berth 3")
    handle = notebook.cell(here).locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    expect(output).to_contain_text("berth 4")
    handle.press("ArrowRight")
    expect(output).to_contain_text("berth 5")


@pytest.mark.parametrize(
    ("way", "times"),
    [("output", 4), *(pytest.param(it, 10, marks=pytest.mark.slow) for it in SLIDERS)],
)
def test_a_dragged_slider_is_followed_to_its_last_value(
    notebook: NotebookPage, way: str, times: int
) -> None:
    here = notebook.last
    notebook.run(here, SLIDERS[way])
    drag_to_and_fro(notebook.cell(here), times)


def test_twenty_thousand_lines_arrive_and_the_page_stays_usable(notebook: NotebookPage) -> None:
    here = notebook.last
    notebook.run(here, "for number in range(20_000): print(f'line {number:05d}', '.' * 40)")
    notebook.run(here + 1, "print('the page is usable')")
    expect(notebook.outputs(here + 1).last).to_contain_text("the page is usable")
    stored = notebook.save()
    lines = "".join(
        "".join(output["text"])
        for output in stored["cells"][here]["outputs"]
        if output.get("name") == "stdout"
    ).splitlines()
    assert [line[:10] for line in lines] == [f"line {number:05d}" for number in range(20_000)]
