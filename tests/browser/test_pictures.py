"""What the pictures of the documentation show, and that it is really so on the screen."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import LabServer, Scheme
from tests.browser.pictures import (
    FILM,
    FILM_SCALE,
    Film,
    pictured_window,
    take_beside,
    take_cells,
    take_launcher,
)

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

# The film.
CHART = """\
import matplotlib.pyplot as plt

ships = {"Aurora": 420, "Borealis": 310, "Corvus": 515, "Dorado": 260}
plt.figure(figsize=(7, 2.2))
plt.bar(ships.keys(), ships.values(), color="#2f7fc1")
plt.show()"""
# A later part takes longer: when Stop is pressed, most of the time is still to come.
LOADING = """\
import time
from ipywidgets import IntProgress

display(bar := IntProgress(max=20, description="loading"))
rows = 0
for part in range(1, 21):
    time.sleep(part / 5)            # each part is larger than the one before
    rows += 1000 * part
    bar.value = part
    print(f"\\r{part:2} of 20 parts, {rows:,} rows", end="")"""
AFTER = "part, rows"

# Harmless where it runs: it only shows what it could take.
HOSTILE = """\
from pathlib import Path
from IPython.display import HTML

keys = Path.home().glob(".ssh/id_*")
print("keys:", [key.name for key in keys])
HTML('''Jupyter's token: <b id="got"></b><script>
page = document.getElementById("jupyter-config-data")
got.textContent = page
  ? JSON.parse(page.textContent).token.slice(0, 8)
  : "not reachable"
</script>''')"""
NARROW = {"width": 560, "height": 700}

ANSWERS = """\
%load_ext agentbay_kernel
import pandas as pd

df = pd.DataFrame({"model": ["A", "B", "C"],
                   "answer": ["6 * 7", "2 ** 10", "__import__('os').getcwd()"]})"""
SCORING = """\
%%agentbay python -i df -o scores
scores = df.assign(value=[str(eval(answer)) for answer in df.answer])"""

MAGICS = (
    "%load_ext agentbay_kernel\n"
    "berths = [12.5, 9.0, 14.2]            # this cell runs here, as usual",
    "%%agentbay python -i berths -o deepest\n"
    "deepest = max(berths)                 # this one in a sandbox",
    "deepest                               # and its result is here",
    "%%agentbay javascript -i berths\nberths.map(depth => ({ depth, large: depth > 10 }))",
    "%%agentbay python\nimport os\n"
    'os.listdir(), os.path.exists("/home") # the sandbox has none of your files',
)


@pytest.mark.slow
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


# Output while a cell runs, Stop and what is kept after it are in `test_notebook.py` as well.
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_film_of_a_first_session(browser: Browser, server: LabServer, scheme: Scheme) -> None:
    name = f"film-{scheme}"
    with pictured_window(browser, server, name, size=FILM, scale=FILM_SCALE) as notebook:
        film = Film(notebook, scheme)
        film.shoot(1000, "Choose the kernel", notebook.card("AgentBay Python"))
        notebook.open_notebook("AgentBay Python")
        notebook.cell(0).locator(".cm-content").click()
        notebook.page.keyboard.insert_text(CHART)
        film.shoot(900, "Write a cell as usual. It runs in a sandbox")
        notebook.page.keyboard.press("Shift+Enter")
        notebook.expect_prompt(0, r"\[\d+\]:")
        expect(notebook.cell(0).locator(".jp-OutputArea-output img")).to_be_visible()
        film.shoot(1200, "Write a cell as usual. It runs in a sandbox")

        notebook.start(1, LOADING)
        for part in (1, 3, 5, 6):
            reached = "|".join(str(later) for later in range(part, 21))
            expect(notebook.outputs(1).last).to_contain_text(
                re.compile(rf"\b({reached}) of 20 parts")
            )
            notebook.bring_up(1)
            film.shoot(400, "Output appears while the cell runs")
        stop = notebook.page.locator('[data-jp-item-name="interrupt"]')
        film.shoot(800, "Stop interrupts the code in the sandbox", stop)
        notebook.press_stop()
        expect(notebook.outputs(1).last).to_contain_text("KeyboardInterrupt")
        notebook.expect_prompt(1, r"\[\d+\]:")
        notebook.cell(2).evaluate("cell => cell.scrollIntoView({block: 'end'})")
        film.shoot(1000, "Stop interrupts the code in the sandbox")
        notebook.run(2, AFTER)
        expect(notebook.outputs(2).last).to_contain_text(re.compile(r"\(\d+, \d+\)"))
        notebook.cell(2).evaluate("cell => cell.scrollIntoView({block: 'end'})")
        film.shoot(1500, "The variables are still there")
        film.save("film", 8000)


# That no hostile cell acts here is in `test_containment.py`.
@pytest.mark.slow
def test_a_hostile_cell_in_an_ordinary_kernel_and_here(browser: Browser, server: LabServer) -> None:
    keys = server.notebooks.parent / ".ssh"
    keys.mkdir()
    (keys / "id_ed25519").write_text("no key, but a file where one would be")
    with (
        pictured_window(browser, server, "ordinary", size=NARROW) as ordinary,
        pictured_window(browser, server, "here", size=NARROW) as here,
    ):
        ordinary.open_notebook("Python 3 (ipykernel)")
        ordinary.run(0, HOSTILE)
        expect(ordinary.outputs(0).first).to_contain_text("keys: ['id_ed25519']")
        expect(ordinary.outputs(0).last).to_contain_text(f"token: {server.token[:8]}")
        here.open_notebook("AgentBay Python")
        here.run(0, HOSTILE)
        expect(here.outputs(0).first).to_contain_text("keys: []")
        framed = here.outputs(0).last.frame_locator("iframe").frame_locator("iframe")
        expect(framed.locator("body")).to_contain_text("token: not reachable")
        pages = {"An ordinary kernel": ordinary, "AgentBay Python": here}
        take_beside(pages, "hostile", 0)


@pytest.mark.slow
def test_a_table_goes_in_and_comes_back(browser: Browser, server: LabServer) -> None:
    with pictured_window(browser, server, "answers") as notebook:
        notebook.open_notebook("Python 3 (ipykernel)")
        for number, code in enumerate((ANSWERS, SCORING, "scores")):
            notebook.run(number, code)
        expect(notebook.cell(2).locator("table")).to_contain_text("1024")
        # It ran there.
        expect(notebook.cell(2).locator("table")).to_contain_text("/workspace")
        take_cells(notebook, "exchange", 0, 2, toolbar=True)


@pytest.mark.slow
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
