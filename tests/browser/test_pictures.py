"""What the pictures of the documentation show, and that it is really so on the screen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import LabServer
from tests.browser.pictures import pictured_window, take_cells, take_launcher

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

TABLE = """\
import pandas as pd

ships = pd.DataFrame({"ship": ["Aurora", "Borealis", "Corvus", "Dorado"],
                      "containers": [420, 310, 515, 260]})
ships"""
PLOT = """\
import matplotlib.pyplot as plt

plt.figure(figsize=(6, 2))
plt.bar(ships["ship"], ships["containers"], color=["#2f7fc1", "#f0c419", "#1c4f7c", "#5fba7d"])
plt.title("Containers by ship")
plt.show()"""
FAILURE = """\
def berth_of(ship):
    return {"Aurora": 4, "Corvus": 7}[ship]

berth_of("Dorado")"""
CONTAINED = """\
import plotly.express as px
from IPython.display import HTML

plot = px.scatter(px.data.gapminder().query("year == 2007"), x="gdpPercap", y="lifeExp",
                  size="pop", color="continent", hover_name="country", log_x=True,
                  width=800, height=460)
HTML(plot.to_html(include_plotlyjs=True))      # its scripts run in a frame without a network"""
# The seventh part takes as long as the pictures need.
WORK = """\
import time
def load(part):
    time.sleep(0.05 if part < 7 else 100)
    return 1000 * part"""
PROGRESS = """\
from ipywidgets import IntProgress

bar = IntProgress(max=10, description="loading")
display(bar)
for part in range(1, 11):
    rows = load(part)          # minutes or hours: a cell may run as long as it needs
    bar.value = part
    print(f"part {part:2} of 10: {rows:6,} rows")"""

MAGICS = (
    "%load_ext agentbay_kernel\n"
    "berths = [12.5, 9.0, 14.2]            # this cell runs here, as ever",
    "%%agentbay python -i berths -o deepest\n"
    "deepest = max(berths)                 # this one in a sandbox",
    "deepest                               # and its result is here",
    "%%agentbay javascript -i berths\nberths.map(depth => ({ depth, large: depth > 10 }))",
    "%%agentbay python\nimport os\n"
    'os.listdir(), os.path.exists("/home") # the sandbox has none of your files',
)


def test_launcher_notebook_status_a_contained_plot_and_progress(
    browser: Browser, server: LabServer
) -> None:
    with pictured_window(browser, server, "harbour") as notebook:
        for kernel in ("AgentBay Python", "AgentBay JavaScript"):
            logo = notebook.card(kernel).locator("img")
            expect(logo).to_be_visible()
            assert logo.evaluate("image => image.complete && image.naturalWidth") > 0
        take_launcher(notebook, "launcher")

        notebook.open_notebook("AgentBay Python")
        for number, code in enumerate((TABLE, PLOT, FAILURE)):
            notebook.run(number, code)
        expect(notebook.cell(0).locator("table")).to_contain_text("Dorado")
        expect(notebook.cell(1).locator(".jp-OutputArea-output img")).to_be_visible()
        expect(notebook.outputs(2)).to_contain_text("KeyError: 'Dorado'")
        take_cells(notebook, "notebook", 0, 2, toolbar=True)

        notebook.run(3, "%agentbay status")
        expect(notebook.cell(3).locator("table")).to_contain_text("bridged execution")
        take_cells(notebook, "status", 3, 3)

        notebook.run(4, CONTAINED)
        framed = notebook.outputs(4).frame_locator("iframe").frame_locator("iframe")
        expect(framed.locator(".main-svg .point").first).to_be_visible()
        take_cells(notebook, "contained", 4, 4)

        notebook.run(5, WORK)
        notebook.start(6, PROGRESS)
        expect(notebook.cell(6).locator(".jp-OutputArea").first).to_contain_text("part  6 of 10")
        notebook.expect_prompt(6, r"\[\*\]:")
        take_cells(notebook, "progress", 6, 6)
        notebook.press_stop()
        expect(notebook.outputs(6).last).to_contain_text("KeyboardInterrupt")


def test_magics(browser: Browser, server: LabServer) -> None:
    with pictured_window(browser, server, "analysis") as notebook:
        notebook.open_notebook("Python 3 (ipykernel)")
        for number, code in enumerate(MAGICS):
            notebook.run(number, code)
        expect(notebook.outputs(2)).to_contain_text("14.2")
        expect(notebook.outputs(3).last).to_contain_text("large: true")
        expect(notebook.outputs(4).last).to_contain_text("([], False)")
        take_cells(notebook, "magics", 0, 4, toolbar=True)
        notebook.run(5, "here = 'this notebook'")
        notebook.run(6, "%%agentbay python\nhere")
        expect(notebook.outputs(6).last).to_contain_text("NameError: name 'here' is not defined")
        # Only the sandbox's frames: nothing of how the magic works.
        expect(notebook.outputs(6).last).not_to_contain_text("agentbay_kernel")
        notebook.run(7, "%agentbay status")
        expect(notebook.cell(7).locator("table")).to_contain_text("local runtime on this machine")
