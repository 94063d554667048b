"""What moves on the page: output while a cell runs, input, updated displays, widgets."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab import NotebookPage

pytestmark = pytest.mark.browser

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


def test_input_and_display_updates_while_a_cell_runs(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.start(0, UPDATES)
    # All this is on the page while the cell waits.
    shown = notebook.cell(0).locator(".jp-OutputArea").first
    expect(shown).to_contain_text("loading")
    expect(shown).to_contain_text("first line")
    box = notebook.cell(0).locator(".jp-Stdin-input")
    box.fill("yes")
    box.press("Enter")
    notebook.expect_prompt(0, r"\[1\]:")
    expect(shown).to_contain_text("answered yes")
    expect(shown).to_contain_text("loaded")
    expect(shown).not_to_contain_text("loading")


def test_a_widget_calls_code_in_the_sandbox(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.run(0, SLIDER)
    output = notebook.cell(0).locator(".jupyter-widgets-output-area, .widget-output").last
    expect(output).to_contain_text("berth 3")
    handle = notebook.cell(0).locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    expect(output).to_contain_text("berth 4")
    handle.press("ArrowRight")
    expect(output).to_contain_text("berth 5")
    notebook.hide_file_browser()


def test_twenty_thousand_lines_arrive_and_the_page_stays_usable(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.run(0, "for number in range(20_000): print(f'line {number:05d}', '.' * 40)")
    notebook.run(1, "print('the page is usable')")
    expect(notebook.outputs(1).last).to_contain_text("the page is usable")
    stored = notebook.save()
    lines = "".join(
        "".join(output["text"])
        for output in stored["cells"][0]["outputs"]
        if output.get("name") == "stdout"
    ).splitlines()
    assert [line[:10] for line in lines] == [f"line {number:05d}" for number in range(20_000)]


def test_javascript_prints_late_and_is_stopped_with_its_state_kept(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay JavaScript")
    notebook.run(
        0,
        "let tick = 0;\nconst timer = setInterval(() => {\n  console.log('tick ' + ++tick);\n"
        "  if (tick === 3) clearInterval(timer);\n}, 400);\n'started'",
    )
    # The cell has ended; its timer prints under it, with no other cell run.
    shown = notebook.cell(0).locator(".jp-OutputArea").first
    expect(shown).to_contain_text("tick 3")
    notebook.start(1, "console.log('spinning');\nwhile (true) tick++;")
    expect(notebook.outputs(1).first).to_contain_text("spinning")
    notebook.press_stop()
    expect(notebook.outputs(1).last).to_contain_text("KeyboardInterrupt")
    notebook.run(2, "function boat() { return tick; }\ndisplay.html(`<b>kept ${tick > 3}</b>`);")
    expect(notebook.cell(2).locator(".jp-OutputArea b")).to_have_text("kept true")
    notebook.run(3, "boat(")
    expect(notebook.outputs(3).last).to_contain_text("SyntaxError")
