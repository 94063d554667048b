"""AgentBay notebooks as a person sees them: a real JupyterLab in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab import NotebookPage

pytestmark = pytest.mark.browser

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


def expect_python_outputs(notebook: NotebookPage) -> None:
    """What the four Python cells show."""
    expect(notebook.outputs(0).last).to_contain_text("Hello from the sandbox 42")
    expect(notebook.cell(1).locator("table")).to_contain_text("Borealis")
    picture = notebook.cell(2).locator(".jp-OutputArea-output img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    # One output: the traceback is not shown a second time as printed text.
    expect(notebook.outputs(3)).to_contain_text("ZeroDivisionError: division by zero")


def test_agentbay_python(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    for number, code in enumerate((TEXT, TABLE, PLOT, FAILURE)):
        notebook.run(number, code)
    expect_python_outputs(notebook)
    notebook.run(4, "print('an error does not end the session:', greeting)")
    expect(notebook.outputs(4)).to_contain_text("an error does not end the session: Hello")
    # From now on the prompts tell the two runs apart.
    notebook.run_again(0)
    notebook.expect_prompt(0, r"\[6\]:")

    notebook.restart_and_run_all()

    for number in range(4):
        notebook.expect_prompt(number, rf"\[{number + 1}\]:")
    # The error stops Run All.
    notebook.expect_prompt(4, r"\[ \]:")
    expect_python_outputs(notebook)
    stored = notebook.save()
    assert stored["metadata"]["kernelspec"]["name"] == "agentbay-python"
    # What was shown while the session started is not kept.
    assert "Starting" not in str(stored["cells"])
    notebook.hide_file_browser()


def expect_javascript_outputs(notebook: NotebookPage) -> None:
    """What the four JavaScript cells show."""
    expect(notebook.outputs(0).last).to_contain_text("Hello from Node 42")
    expect(notebook.outputs(1)).to_contain_text("Borealis")
    expect(notebook.outputs(2)).to_contain_text("730")
    expect(notebook.outputs(3)).to_contain_text("RangeError: no such berth: 7")


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
    notebook.hide_file_browser()


def test_the_stop_button_stops_a_cell(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.run(0, "kept = 'still here'")
    notebook.start(1, "import time\nprint('begun')\ntime.sleep(50)")
    notebook.expect_prompt(1, r"\[\*\]:")
    notebook.press_stop()
    notebook.expect_prompt(1, r"\[2\]:")
    expect(notebook.outputs(1).last).to_contain_text("KeyboardInterrupt")


def test_a_first_cell_stores_exactly_one_output(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.run(0, "1 + 1")
    expect(notebook.outputs(0)).to_have_count(1)
    expect(notebook.outputs(0)).to_have_text("2")
    (output,) = notebook.save()["cells"][0]["outputs"]
    assert output["data"] == {"text/plain": ["2"]}
    notebook.hide_file_browser()


def test_a_first_sandboxed_cell_stores_exactly_one_output(notebook: NotebookPage) -> None:
    notebook.open_notebook("Python 3 (ipykernel)")
    notebook.run(0, "%load_ext agentbay_kernel")
    notebook.run(1, "%%agentbay python\n1 + 1")
    expect(notebook.outputs(1)).to_have_text("2")
    first, second, *_ = notebook.save()["cells"]
    assert first["outputs"] == []
    (output,) = second["outputs"]
    assert output["data"] == {"text/plain": ["2"]}
    notebook.hide_file_browser()
