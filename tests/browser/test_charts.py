"""Charts in a real JupyterLab: hostile ones don't act, and those of the libraries are drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FrameLocator, Locator, expect

from tests.browser.attacks import VARIANTS
from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.escapes import FRAMED_CELLS, HostileLab
from tests.browser.lab import SCREENSHOTS, LabServer
from tests.browser.payloads import Payload, chart_payloads, dealt

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PYTHON, MAGICS = "agentbay-python", "python3"
# So many notebooks have all payloads: more charts in one than these are not all live.
PARTS = 3
FRAMES = ".jp-OutputArea iframe"
SETUP = "from IPython.display import display"


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(browser: Browser, server: LabServer, beacon: Beacon) -> Iterator[HostileLab]:
    """The page that these tests share; it draws every cell at once."""
    server.draw_all_cells()
    made = HostileLab(browser, server, beacon, "charts", PYTHON, MAGICS)
    yield made
    made.end()


def provoked(lab: HostileLab) -> list[str]:
    """What was found once all is loaded, the mouse was over it, keys were pressed, all clicked."""
    page, traces = lab.notebook.page, lab.traces
    page.wait_for_timeout(2000)
    traces.hover_and_type()
    page.keyboard.press("F8")
    traces.click_all()
    page.wait_for_timeout(1500)
    assert len(traces.missed()) <= traces.frames // 20, traces.missed()
    return traces.found()


@pytest.fixture(scope="module")
def listened_to(drawn: Drawn) -> set[str]:
    """What the page itself listens to when it draws a chart, and has one in a frame."""
    return drawn.listeners


def payloads_of(beacon: Beacon, part: int | None) -> list[Payload]:
    """A part of all charts; or else what `make test` tries: those that once acted, and one of each
    other type."""
    payloads = chart_payloads(beacon.address)
    if part is not None:
        return dealt(payloads, PARTS)[part]
    few = [it for it in payloads if it.name in VARIANTS]
    assert len(few) >= 5
    for payload in payloads:
        if payload.kind not in {it.kind for it in few}:
            few.append(payload)
    return few


@pytest.mark.parametrize(
    ("kernel", "part"),
    [
        (PYTHON, None),
        *(
            pytest.param(kernel, part, marks=pytest.mark.slow)
            for kernel in (PYTHON, MAGICS)
            for part in range(PARTS)
        ),
    ],
)
def test_no_chart_acts_in_the_page(
    lab: HostileLab, listened_to: set[str], beacon: Beacon, kernel: str, part: int | None
) -> None:
    """Contained, sanitised in the same notebook, reopened, and changed by a stranger.

    `make test` takes some of every type, all these ways. By magic, some are tried in
    `test_containment.py`. `make test-all` takes each payload every way.
    """
    codes = [payload.code for payload in payloads_of(beacon, part)]
    assert len(codes) >= (9 if part is None else 12)
    begin = SETUP
    if kernel == MAGICS:
        begin = "%load_ext agentbay_kernel"
        codes = [f"%%agentbay python\n{SETUP}\n{it}" for it in codes]
    with lab.running(kernel, [begin, *codes, "%agentbay config html=sanitize", *codes]):
        assert provoked(lab) == []
        assert lab.traces.listeners() <= listened_to
        page = lab.notebook.page
        # All but one that is a bare address, and plotly's second where frames are large.
        expect(page.locator(FRAMES).nth(len(codes) - 3)).to_be_attached()
        assert max(page.evaluate(FRAMED_CELLS)) <= len(codes)
        lab.save()
        lab.reopen()
        page.locator(FRAMES).first.wait_for(state="attached")
        assert provoked(lab) == []
        assert lab.traces.listeners() <= listened_to
        lab.reopen_changed()
        expect(page.locator(".jp-OutputArea-output:visible").first).to_be_visible()
        assert provoked(lab) == []
        assert lab.traces.listeners() <= listened_to
        assert page.locator(FRAMES).count() == 0


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
    "vega-lite-6": (f"sent(bars, {LITE_6!r}, 6)", "frame", "#chart canvas"),
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
# Drawn by the same scripts, or by those of an older version.
MORE_CHARTS = {
    "vega-lite-5-interactive": (
        f"sent(bars.interactive(), {LITE_5!r}, 5)",
        "frame",
        "#chart canvas",
    ),
    "altair-mimetype": (
        "with alt.renderers.enable('mimetype'):\n    display(bars)",
        "frame",
        "#chart canvas",
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


def draw(
    lab: HostileLab, charts: dict[str, tuple[str, str, str]], *, kernel_stays: bool = False
) -> Drawn:
    """A notebook of charts, drawn, passed over and clicked."""
    cells = [DATA, *(code for code, _, _ in charts.values())]
    pictures = SCREENSHOTS / "charts"
    pictures.mkdir(parents=True, exist_ok=True)
    seen = {}
    with lab.running(PYTHON, cells, kernel_stays=kernel_stays):
        notebook = lab.notebook
        for number, (name, (_, place, selector)) in enumerate(charts.items(), 1):
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
        lab.traces.hover_and_type()
        lab.traces.click_all()
        found = lab.traces.found()
        stored = lab.save()
    # The dialog of a notebook that is closed listens too.
    return Drawn(seen, found, lab.traces.listeners(), stored)


@pytest.fixture(scope="module")
def drawn(lab: HostileLab) -> Drawn:
    """A notebook with a chart of each kind; its kernel, which has the scripts, draws on."""
    return draw(lab, CHARTS, kernel_stays=True)


def check_drawn(drawn: Drawn, charts: dict[str, tuple[str, str, str]]) -> None:
    assert {name: number for name, number in drawn.colours.items() if number < 3} == {}
    assert drawn.colours.keys() == charts.keys()
    assert drawn.found == []
    for name, cell in zip(charts, drawn.stored["cells"][1:], strict=False):
        types = {mime for output in cell["outputs"] for mime in output.get("data", ())}
        assert (LITE_5 in types) is (name == "vega-lite-5-as-data")
        assert LITE_6 not in types


def test_charts_are_drawn_by_default(drawn: Drawn) -> None:
    check_drawn(drawn, CHARTS)


@pytest.mark.slow
def test_more_charts_are_drawn_by_default(lab: HostileLab, drawn: Drawn) -> None:
    more = draw(lab, MORE_CHARTS)
    check_drawn(more, MORE_CHARTS)
    # What listens to the page was there before.
    assert more.listeners <= drawn.listeners
