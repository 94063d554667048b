"""Charts in a real JupyterLab: hostile ones don't act, and those of the libraries are drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FrameLocator, Locator, expect

from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.escapes import (
    FRAMED_CELLS,
    Traces,
    opened,
    run_all,
    write_notebook,
)
from tests.browser.lab import IN_VIEW, SCREENSHOTS, LabServer, NotebookPage
from tests.browser.payloads import chart_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

FRAMES = ".jp-OutputArea iframe"
OUTPUTS = ".jp-OutputArea-output"
# Brings an output into view; two points in it, or none if it isn't shown.
POINTS = """number => {
  const output = document.querySelectorAll(".jp-OutputArea-output")[number];
  if (!output?.offsetParent) return [];
  output.scrollIntoView({block: "center"});
  const box = output.getBoundingClientRect();
  return [0.1, 0.5].map(part => [box.x + box.width * part, box.y + box.height / 2]);
}"""
SETUP = "from IPython.display import display"
# As many as are live in one notebook.
STEP = 12


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(server: LabServer) -> LabServer:
    """The server, whose pages draw every cell at once."""
    server.draw_all_cells()
    return server


def provoked(notebook: NotebookPage, traces: Traces) -> list[str]:
    """What was found once all is loaded, the mouse was over it, keys were pressed, all clicked."""
    page = notebook.page
    page.wait_for_timeout(2000)
    for number in range(page.locator(OUTPUTS).count()):
        # Asked in one go: a chart that loads in vain all the time never stands still, and an output
        # may be drawn anew at any moment.
        for x, y in page.evaluate(POINTS, number):
            page.mouse.move(x, y)
    page.mouse.move(5, 5)
    page.keyboard.press("Escape")
    page.keyboard.press("F8")
    traces.click_all()
    page.wait_for_timeout(1500)
    assert len(traces.missed()) <= traces.frames // 20, traces.missed()
    return traces.found()


@pytest.fixture(scope="module")
def listened_to(drawn: Drawn) -> set[str]:
    """What the page itself listens to when it draws a chart, and has one in a frame."""
    return drawn.listeners


@pytest.mark.parametrize(
    ("kernel", "payloads"),
    [
        ("agentbay-python", slice(0, STEP)),
        ("agentbay-python", slice(STEP, 2 * STEP)),
        ("agentbay-python", slice(2 * STEP, 3 * STEP)),
        # The magics take the same way from the containment on: every third payload.
        ("python3", slice(0, 3 * STEP, 3)),
        pytest.param("python3", slice(1, 3 * STEP, 3), marks=pytest.mark.slow),
        pytest.param("python3", slice(2, 3 * STEP, 3), marks=pytest.mark.slow),
    ],
)
def test_no_chart_acts_in_the_page(
    browser: Browser,
    lab: LabServer,
    beacon: Beacon,
    listened_to: set[str],
    kernel: str,
    payloads: slice,
) -> None:
    """Contained, then sanitised in the same notebook."""
    all_payloads = chart_payloads(beacon.address)
    assert len(all_payloads) == 3 * STEP
    codes = [payload.code for payload in all_payloads[payloads]]
    folder = f"charts-{kernel}-{payloads.start}"
    begin = SETUP
    if kernel == "python3":
        begin = "%load_ext agentbay_kernel"
        codes = [f"%%agentbay python\n{SETUP}\n{it}" for it in codes]
    cells = [begin, *codes, "%agentbay config html=sanitize", *codes]
    sanitized_from = len(codes) + 1
    write_notebook(lab.notebooks / folder / "cells.ipynb", kernel, cells)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        assert provoked(notebook, traces) == []
        assert traces.listeners() <= listened_to
        # All but one that is a bare address, and plotly's second where frames are large.
        expect(notebook.page.locator(FRAMES).nth(len(codes) - 3)).to_be_attached()
        assert max(notebook.page.evaluate(FRAMED_CELLS)) < sanitized_from
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        notebook.cell(0).locator(".cm-content").click()
        stored = notebook.save()
    untrusted = lab.store_untrusted(folder, stored)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        expect(notebook.page.locator(".jp-OutputArea-output").first).to_be_visible()
        assert provoked(notebook, traces) == []
        assert traces.listeners() <= listened_to
        notebook.open_beside(untrusted)
        expect(notebook.page.locator(".jp-OutputArea-output:visible").first).to_be_visible()
        assert provoked(notebook, traces) == []
        assert traces.listeners() <= listened_to
        assert notebook.page.locator(f"{IN_VIEW} {FRAMES}").count() == 0


DATA = (
    "import pandas as pd\n"
    "ships = pd.DataFrame({'ship': ['Aurora', 'Borealis', 'Corvus'], 'n': [420, 310, 515]})\n"
    "def sent(chart, mime, version):\n"
    "    spec = chart.to_dict()\n"
    "    spec['$schema'] = f'https://vega.github.io/schema/vega-lite/v{version}.json'\n"
    "    display({mime: spec, 'text/plain': 'chart'}, raw=True)\n"
    "import altair as alt\n"
    "bars = alt.Chart(ships).mark_bar().encode(x='n', y='ship', color='ship', tooltip=['n'])"
)
LITE_5, LITE_6 = "application/vnd.vegalite.v5+json", "application/vnd.vegalite.v6.json"
VEGA = {
    "width": 300,
    "height": 150,
    "signals": [{"name": "most", "update": "max(3, 5)"}],
    "data": [{"name": "d", "values": [1, 5, 3]}],
    "scales": [
        {"name": "y", "domain": {"signal": "[0, most]"}, "range": "height"},
        {"name": "c", "type": "ordinal", "domain": [1, 5, 3], "range": ["red", "green", "blue"]},
    ],
    "marks": [
        {
            "type": "rect",
            "from": {"data": "d"},
            "encode": {
                "enter": {
                    "x": {"signal": "datum.data * 50"},
                    "width": {"value": 40},
                    "y": {"scale": "y", "field": "data"},
                    "y2": {"scale": "y", "value": 0},
                    "fill": {"scale": "c", "field": "data"},
                }
            },
        }
    ],
}
# What is displayed, where it is, what is drawn there.
CHARTS = {
    "vega-lite-5-as-data": (f"sent(bars, {LITE_5!r}, 5)", "page", ".vega-embed canvas"),
    "vega-lite-5-interactive": (
        f"sent(bars.interactive(), {LITE_5!r}, 5)",
        "frame",
        "#chart canvas",
    ),
    "vega-lite-6": (f"sent(bars, {LITE_6!r}, 6)", "frame", "#chart canvas"),
    "altair-mimetype": (
        "with alt.renderers.enable('mimetype'):\n    display(bars)",
        "frame",
        "#chart canvas",
    ),
    "vega": (
        f"display({{'application/vnd.vega.v5+json': {VEGA!r}}}, raw=True)",
        "frame",
        "#chart canvas",
    ),
    "plotly-by-its-type": (
        "import plotly.express as px\nimport plotly.io as pio\n"
        "pio.renderers.default = 'plotly_mimetype'\n"
        "px.bar(ships, x='ship', y='n', title='Containers').show()",
        "frame",
        ".bars path",
    ),
}


def colours(element: Locator) -> int:
    """How many colours with more than a few pixels are on the screen."""
    image = Image.open(io.BytesIO(element.screenshot(animations="disabled"))).convert("RGB")
    found = image.quantize(64).getcolors() or []
    return sum(count > 200 for count, _ in found)


@dataclass
class Drawn:
    """The charts of the libraries, as the page showed them."""

    colours: dict[str, int]
    found: list[str]
    listeners: set[str]
    stored: dict[str, Any]


@pytest.fixture(scope="module")
def drawn(browser: Browser, lab: LabServer, beacon: Beacon) -> Drawn:
    """A notebook of charts, drawn, passed over and clicked."""
    cells = [DATA, *(code for code, _, _ in CHARTS.values())]
    write_notebook(lab.notebooks / "charts-drawn" / "cells.ipynb", "agentbay-python", cells)
    pictures = SCREENSHOTS / "charts"
    pictures.mkdir(parents=True, exist_ok=True)
    seen = {}
    with opened(browser, lab, beacon, "charts-drawn") as (notebook, traces):
        run_all(notebook, len(cells))
        for number, (name, (_, place, selector)) in enumerate(CHARTS.items(), 1):
            cell = notebook.cell(number)
            cell.scroll_into_view_if_needed()
            output = cell.locator(".jp-OutputArea-output").last
            inside: Locator | FrameLocator = output
            if place == "frame":
                inside = output.frame_locator("iframe").frame_locator("iframe")
            expect(inside.locator(selector).first).to_be_visible()
            notebook.page.mouse.move(5, 5)
            cell.screenshot(path=pictures / f"{name}.png", animations="disabled")
            seen[name] = colours(inside.locator(selector.split()[0]).first)
        traces.hover_and_type()
        traces.click_all()
        found = traces.found()
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        notebook.cell(0).locator(".cm-content").click()
        stored = notebook.save()
        return Drawn(seen, found, traces.listeners(), stored)


def test_charts_are_drawn_by_default(drawn: Drawn) -> None:
    assert {name: number for name, number in drawn.colours.items() if number < 3} == {}
    assert drawn.colours.keys() == CHARTS.keys()
    assert drawn.found == []
    cells = drawn.stored["cells"]
    assert LITE_5 in cells[1]["outputs"][-1]["data"]
    assert all(LITE_6 not in output["data"] for output in cells[3]["outputs"])
