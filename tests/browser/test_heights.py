"""A frame is as high as its content: no scroll bar in it, and nothing empty below.

The frames stand in a page of a server, or of a file, and are put there whole or later by a script,
as nbconvert and JupyterLab do it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bokeh.plotting import figure
from playwright.sync_api import Browser, Error, Page
from plotly import graph_objects

from agentbay_kernel.containment.frame import _height_px, framed
from agentbay_kernel.sandbox.display_hooks import bokeh_html
from tests.browser.lab import PATIENCE_MS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

ADDRESS = "http://notebook.test/"
MOST_EMPTY_PX = 40
# Below each frame, to drag it by.
STRIP_PX = 6

_LIBRARY = f"<script>/*{'library ' * 10_000}*/</script>"
_SCRIPT = "<script>window.ran = true</script>"
_BOX = "<div id='box' style='height:{}px;background:#acd'></div>"
_LATER = "setTimeout(() => document.getElementById('box').style.height = '{}px', 300)"
# Outputs, and how high their content is without the margins of a document (CSS pixels).
OUTPUTS = {
    "a line": (f"<p style='margin:0;line-height:20px'>one</p>{_SCRIPT}", 20),
    "lines": (f"<pre style='margin:0;line-height:20px'>{'line<br>' * 20}</pre>{_SCRIPT}", 400),
    "a table": (
        f"<table cellspacing=0>{'<tr><td style=height:24px;padding:0>x' * 12}</table>{_SCRIPT}",
        288,
    ),
    "a box": (_BOX.format(120) + _SCRIPT, 120),
    "it says that it is higher": (
        f"{_BOX.format(100)}<script>const option = {{height: 600}}</script>",
        100,
    ),
    "a picture": (
        "<svg width='90' height='210' style='display:block'><rect width='90' height='210'/></svg>"
        + _SCRIPT,
        210,
    ),
    "a canvas": (f"<canvas height='330' style='display:block'></canvas>{_SCRIPT}", 330),
    "it grows": (f"{_BOX.format(10)}<script>{_LATER.format(500)}</script>", 500),
    "it shrinks": (f"{_BOX.format(500)}<script>{_LATER.format(60)}</script>", 60),
    "it has a library": (
        f"{_LIBRARY}{_BOX.format(10)}<script>{_LATER.format(260)}</script>",
        260,
    ),
    "it is wider than the page": (
        f"<div style='width:3000px;height:90px;background:#acd'></div>{_SCRIPT}",
        90,
    ),
    "another document": (
        "<iframe style='display:block;border:0;height:180px' srcdoc='<p>inside</p>'></iframe>",
        180,
    ),
}
# How long a frame's document is waited for, each time that it is looked at.
FRAME_MS = 5_000
# The height of the output's frame, how much of its document is in view, and all of it.
_STATE = """() => {
  const root = document.documentElement;
  return [innerHeight, root.clientHeight, root.scrollHeight];
}"""


def body_of(outputs: dict[str, tuple[str, int]]) -> str:
    return "".join(f"<section>{framed(source)}</section>" for source, _ in outputs.values())


def from_a_server(page: Page, _: Path) -> None:
    serve(page, f"<!doctype html><title>n</title>{body_of(OUTPUTS)}")


def from_a_file(page: Page, folder: Path) -> None:
    file = folder / "n.html"
    file.write_text(f"<!doctype html><title>n</title>{body_of(OUTPUTS)}", encoding="utf-8")
    page.goto(file.as_uri())


def by_a_script(page: Page, _: Path) -> None:
    serve(page, "<!doctype html><title>n</title><main></main>")
    page.evaluate(
        """body => {
          const area = document.createElement("div");
          area.innerHTML = body;
          document.querySelector("main").append(area);
        }""",
        body_of(OUTPUTS),
    )


def hidden_at_first(page: Page, _: Path) -> None:
    serve(page, f"<!doctype html><title>n</title><main hidden>{body_of(OUTPUTS)}</main>")
    page.evaluate("document.querySelector('main').hidden = false")


def hidden_for_long(page: Page, _: Path) -> None:
    serve(page, f"<!doctype html><title>n</title><main hidden>{body_of(OUTPUTS)}</main>")
    for number in range(len(OUTPUTS)):
        element = page.locator("section > div > iframe").nth(number).element_handle()
        outer = element.content_frame()
        assert outer is not None
        outer.wait_for_selector("iframe", state="attached")
        for inner in outer.child_frames:
            inner.wait_for_load_state()
    page.evaluate("document.querySelector('main').hidden = false")


def serve(page: Page, document: str) -> None:
    page.route(ADDRESS, lambda route: route.fulfill(body=document, content_type="text/html"))
    page.goto(ADDRESS, wait_until="commit")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 4500})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    "opened",
    [
        # As JupyterLab does it.
        by_a_script,
        hidden_for_long,
        *(
            pytest.param(it, marks=pytest.mark.slow)
            for it in (from_a_server, from_a_file, hidden_at_first)
        ),
    ],
)
def test_a_frame_is_as_high_as_its_content(
    page: Page, tmp_path: Path, opened: Callable[[Page, Path], None]
) -> None:
    opened(page, tmp_path)
    missed = {}
    for number, (name, (_, content)) in enumerate(OUTPUTS.items()):
        if state := until(page, number, lambda height, content=content: fits(height, content)):
            missed[name] = (content, state)
    assert missed == {}


def test_what_is_very_high_is_scrolled(page: Page) -> None:
    serve(page, framed(_BOX.format(5000) + _SCRIPT))
    assert until(page, 0, lambda height: height == 700) is None


# Documents as high as their frame, as Bokeh, Panel and plotly write them, whose content is not.
FILLED = "<style>html,body{height:100%}</style>"
BARE = "<style>html,body{height:100%;margin:0}</style>"
_IN_A_SHADOW = """<div id=host style=display:contents></div><script>
setTimeout(() => {
  const plot = document.createElement("div"), canvas = document.createElement("canvas");
  plot.style.cssText = "position:relative;width:300px;height:%dpx";
  canvas.style.cssText = "position:absolute;width:100%%;height:100%%";
  plot.attachShadow({mode: "open"}).append(canvas);
  host.append(plot);
}, 300)</script>"""
FILLING = {
    "a box in a box": (f"{BARE}<div style='height:100%'>{_BOX.format(300)}</div>{_SCRIPT}", 300),
    "a body with margins": (f"{FILLED}{_BOX.format(250)}{_SCRIPT}", 266),
    "a body of the frame's height": (
        f"<style>body{{min-height:100vh;margin:0}}</style>{_BOX.format(130)}{_SCRIPT}",
        130,
    ),
    "text": (f"{BARE}<pre style='margin:0;line-height:20px'>{'x<br>' * 9}</pre>{_SCRIPT}", 180),
    "a picture that comes later": (BARE + _IN_A_SHADOW % 170, 170),
    "a picture that is higher than its frame": (BARE + _IN_A_SHADOW % 620, 620),
    "it grows": (f"{BARE}{_BOX.format(50)}<script>{_LATER.format(330)}</script>", 330),
    "it shrinks": (f"{BARE}{_BOX.format(500)}<script>{_LATER.format(60)}</script>", 60),
}
# What is drawn as high as the frame has no height of its own: it keeps the estimated one.
_CANVAS = "<canvas style='display:block;width:100%;{}'></canvas>" + _SCRIPT
FOLLOWING = {
    "a canvas": BARE + _CANVAS.format("height:100%"),
    "a part of a canvas": BARE + _CANVAS.format("height:80%"),
    "a canvas below a box": f"{BARE}<div style='height:100%'>{_BOX.format(40)}"
    f"{_CANVAS.format('height:calc(100% - 40px)')}</div>",
    "a canvas in a layer": f"{BARE}<div style='position:absolute;inset:0'>"
    f"{_CANVAS.format('height:100%')}</div>",
    "a canvas of the window's height": BARE + _CANVAS.format("height:100vh"),
    "a layer": f"{BARE}<div style='position:absolute;inset:0'>{_BOX.format(300)}</div>{_SCRIPT}",
}


def shown_by_bokeh(**sizes: Any) -> str:
    plot = figure(title="Wave", **sizes)
    plot.line([1, 2, 3], [1, 3, 2])
    return bokeh_html(plot)


def shown_by_plotly(height: int) -> str:
    return str(graph_objects.Figure(layout={"height": height}).to_html(include_plotlyjs=True))


def libraries() -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    following = {"Bokeh": shown_by_bokeh(sizing_mode="stretch_both")}
    filling = {"Bokeh": (shown_by_bokeh(width=400, height=220), 220)}
    filling["Bokeh, higher than its frame"] = (shown_by_bokeh(), 600)
    filling["plotly"] = (shown_by_plotly(300), 316)
    return following, filling


def documents_of_their_kinds() -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    return FOLLOWING, FILLING


@pytest.mark.parametrize(
    "documents", [documents_of_their_kinds, pytest.param(libraries, marks=pytest.mark.slow)]
)
def test_what_fills_its_frame_is_as_high_as_its_content(
    page: Page, documents: Callable[[], tuple[dict[str, str], dict[str, tuple[str, int]]]]
) -> None:
    following, filling = documents()
    # Chromium measures nothing that is out of view.
    page.set_viewport_size({"width": 900, "height": 7000})
    outputs = [(source, 0) for source in following.values()] + list(filling.values())
    body = "".join(f"<section>{framed(source)}</section>" for source, _ in outputs)
    serve(page, f"<!doctype html><title>n</title>{body}")
    missed: dict[str, object] = {}
    # These first: when they have their height, those above had the time to get a wrong one.
    for number, (name, (_, content)) in enumerate(filling.items(), len(following)):
        if state := until(page, number, lambda height, it=content: height == it):
            missed[name] = (content, state)
    for number, (name, source) in enumerate(following.items()):
        wanted = _height_px(source)
        if state := until(page, number, lambda height, it=wanted: height == it, whole=False):
            missed[f"following: {name}"] = (wanted, state)
    assert missed == {}


def test_a_frame_that_was_dragged_is_filled(page: Page) -> None:
    serve(page, framed(_BOX.format(200) + _SCRIPT))
    assert until(page, 0, lambda height: fits(height, 200)) is None
    for dragged in (350, 120):
        page.locator("iframe").evaluate(f"frame => frame.style.height = '{dragged}px'")
        assert until(page, 0, lambda height, to=dragged: height == to, "innerHeight") is None


def test_a_frame_can_be_dragged_by_its_corner(page: Page) -> None:
    serve(page, framed(_BOX.format(200) + _SCRIPT))
    assert until(page, 0, lambda height: fits(height, 200)) is None
    box = page.locator("iframe").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60, steps=5)
    page.mouse.up()
    dragged = round(box["height"]) - STRIP_PX + 60
    assert until(page, 0, lambda height: abs(height - dragged) < 4, "innerHeight") is None


def fits(height: int, content: int) -> bool:
    # The document's own margins are content.
    return content + 16 <= height <= content + MOST_EMPTY_PX


def until(
    page: Page,
    number: int,
    is_right: Callable[..., bool],
    what: str = "height",
    *,
    whole: bool = True,
) -> object | None:
    """Wait until a frame's height is right; else what it is.

    A frame is told its height a few times until its content is complete.

    Arguments:
        whole: nothing of it is scrolled.
    """
    element = page.locator("section > div > iframe, body > div > iframe").nth(number)
    state: object = None
    for _ in range(PATIENCE_MS // 100):
        outer = element.element_handle().content_frame()
        box = element.bounding_box()
        # A packed document just takes the place of an empty one.
        with contextlib.suppress(Error):
            if outer is not None and outer.child_frames and box is not None:
                output = outer.child_frames[0].locator(":root")
                inner, seen, all_of_it = output.evaluate(_STATE, timeout=FRAME_MS)
                height = round(box["height"]) - STRIP_PX
                shown = inner if what == "innerHeight" else height
                is_whole = all_of_it <= seen or shown == 700 or what == "innerHeight" or not whole
                drawn = outer.locator("iframe").bounding_box()
                state = (shown, inner, seen, all_of_it, drawn)
                if (
                    is_right(shown)
                    and is_whole
                    and abs(inner - height) < 2
                    # The output's frame lies in ours, and fills it.
                    and drawn is not None
                    and abs(drawn["y"] - box["y"]) < 2
                    and drawn["width"] == box["width"]
                    and outer.child_frames[0].locator("body").is_visible()
                ):
                    return None
        page.wait_for_timeout(100)
    return state
