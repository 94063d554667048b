"""AgentBay notebooks as a person sees them: a real JupyterLab in Chromium.

And what moves there: output while a cell runs, input, updated displays, widgets.
"""

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

FIRST = "1 + 1"
TEXT = "greeting = 'Hello from the sandbox'\nprint(greeting, 6 * 7)"
TABLE = """\
import pandas as pd
ships = pd.DataFrame({"ship": ["Aurora", "Borealis", "Corvus"], "containers": [420, 310, 515]})
ships"""
PLOT = """\
import matplotlib.pyplot as plt
plt.figure(figsize=(5, 2))
plt.bar(ships["ship"], ships["containers"], color=["#2f7fc1", "#f0c419", "#1c4f7c"])
plt.show()"""
FAILURE = "containers = 420\ncontainers / 0"
ENDLESS = "import time\nprint('begun')\ntime.sleep(50)"
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
def python(browser: Browser, server: LabServer) -> Iterator[NotebookPage]:
    """A notebook that these tests share: all but the first begin at its last, empty cell."""
    with opened_window(browser, server, "python") as opened:
        opened.open_launcher()
        opened.open_notebook("AgentBay Python")
        yield opened


def expect_python_outputs(notebook: NotebookPage) -> None:
    """What the five Python cells show."""
    expect(notebook.outputs(0)).to_have_count(1)
    expect(notebook.outputs(0)).to_have_text("2")
    expect(notebook.outputs(1).last).to_contain_text("Hello from the sandbox 42")
    expect(notebook.cell(2).locator("table")).to_contain_text("Borealis")
    picture = notebook.cell(3).locator(".jp-OutputArea-output img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    # One output: the traceback is not shown a second time as printed text.
    expect(notebook.outputs(4)).to_contain_text("ZeroDivisionError: division by zero")


def test_agentbay_python(python: NotebookPage) -> None:
    notebook = python
    notebook.run(0, FIRST)
    # What was shown while the session started is gone, and not stored.
    expect(notebook.outputs(0)).to_have_count(1)
    expect(notebook.outputs(0)).to_have_text("2")
    (output,) = notebook.save()["cells"][0]["outputs"]
    assert output["data"] == {"text/plain": ["2"]}
    for number, code in enumerate((TEXT, TABLE, PLOT, FAILURE), 1):
        notebook.run(number, code)
    expect_python_outputs(notebook)
    notebook.run(5, "print('an error does not end the session:', greeting)")
    expect(notebook.outputs(5)).to_contain_text("an error does not end the session: Hello")
    # From now on the prompts tell the two runs apart.
    notebook.run_again(1)
    notebook.expect_prompt(1, r"\[7\]:")

    notebook.restart_and_run_all()

    for number in range(5):
        notebook.expect_prompt(number, rf"\[{number + 1}\]:")
    # The error stops Run All.
    notebook.expect_prompt(5, r"\[ \]:")
    expect_python_outputs(notebook)
    stored = notebook.save()
    assert stored["metadata"]["kernelspec"]["name"] == "agentbay-python"
    assert "Starting" not in str(stored["cells"])

    notebook.start(6, ENDLESS)
    notebook.expect_prompt(6, r"\[\*\]:")
    expect(notebook.outputs(6).first).to_contain_text("begun")
    notebook.press_stop()
    notebook.expect_prompt(6, r"\[6\]:")
    expect(notebook.outputs(6).last).to_contain_text("KeyboardInterrupt")


def test_input_and_display_updates_while_a_cell_runs(python: NotebookPage) -> None:
    notebook, here = python, python.last
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


def test_a_widget_calls_code_in_the_sandbox(python: NotebookPage) -> None:
    notebook, here = python, python.last
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
    python: NotebookPage, way: str, times: int
) -> None:
    notebook, here = python, python.last
    notebook.run(here, SLIDERS[way])
    drag_to_and_fro(notebook.cell(here), times)


def test_twenty_thousand_lines_arrive_and_the_page_stays_usable(python: NotebookPage) -> None:
    notebook, here = python, python.last
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


def expect_javascript_outputs(notebook: NotebookPage) -> None:
    """What the four JavaScript cells show."""
    expect(notebook.outputs(0).last).to_contain_text("Hello from Node 42")
    expect(notebook.outputs(1)).to_contain_text("Borealis")
    expect(notebook.outputs(2)).to_contain_text("730")
    expect(notebook.outputs(3)).to_contain_text("RangeError: no such berth: 7")


# What the kernel sends is in tests/kernel/test_javascript.py; the page treats it as Python's.
@pytest.mark.slow
def test_agentbay_javascript(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay JavaScript")
    cells = (
        'const greeting = "Hello from Node";\nconsole.log(greeting, 6 * 7);',
        'const ships = [{ ship: "Aurora", containers: 420 },\n'
        '               { ship: "Borealis", containers: 310 }];\nships',
        "const total = ships.reduce((sum, { containers }) => sum + containers, 0);\ntotal",
        "function moor(berth) {\n  throw new RangeError(`no such berth: ${berth}`);\n}\nmoor(7);",
    )
    for number, code in enumerate(cells):
        notebook.run(number, code)
    expect_javascript_outputs(notebook)
    # JavaScript is highlighted as JavaScript: `const` is a keyword of it only.
    expect(notebook.cell(0).locator(".cm-line span").first).to_have_text("const")
    notebook.run_again(0)
    notebook.expect_prompt(0, r"\[5\]:")

    notebook.restart_and_run_all()

    for number in range(4):
        notebook.expect_prompt(number, rf"\[{number + 1}\]:")
    expect_javascript_outputs(notebook)
    assert notebook.save()["metadata"]["kernelspec"]["name"] == "agentbay-javascript"

    notebook.run(
        4,
        "let tick = 0;\nconst timer = setInterval(() => {\n  console.log('tick ' + ++tick);\n"
        "  if (tick === 3) clearInterval(timer);\n}, 400);\n'started'",
    )
    # The cell has ended; its timer prints under it, with no other cell run.
    expect(notebook.cell(4).locator(".jp-OutputArea").first).to_contain_text("tick 3")
    notebook.start(5, "console.log('spinning');\nwhile (true) tick++;")
    expect(notebook.outputs(5).first).to_contain_text("spinning")
    notebook.press_stop()
    expect(notebook.outputs(5).last).to_contain_text("KeyboardInterrupt")
    # Its state is kept.
    notebook.run(6, "function boat() { return tick; }\ndisplay.html(`<b>kept ${tick > 3}</b>`);")
    expect(notebook.cell(6).locator(".jp-OutputArea b")).to_have_text("kept true")
    notebook.run(7, "boat(")
    expect(notebook.outputs(7).last).to_contain_text("SyntaxError")
