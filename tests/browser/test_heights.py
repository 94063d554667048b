"""A frame is as high as its content: no scroll bar in it, and nothing empty below.

The frames stand in a page of a server, or of a file, and are put there whole or later by a script,
as nbconvert and JupyterLab do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from agentbay_kernel.containment.frame import _height_px, framed

pytestmark = pytest.mark.browser

ADDRESS = "http://notebook.test/"
# A frame is told its height a few times until its content is complete.
PATIENCE_MS = 30_000
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
    page.goto(ADDRESS)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 4500})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    "opened",
    [
        from_a_server,
        from_a_file,
        by_a_script,
        hidden_at_first,
        hidden_for_long,
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


@pytest.mark.parametrize("filling", ["height:100%", "position:absolute;inset:0", "height:100vh"])
def test_what_fills_its_frame_has_the_estimated_height(page: Page, filling: str) -> None:
    output = (
        "<style>html,body{height:100%;margin:0}</style>"
        f"<div style='{filling}'><div style='height:300px;background:#acd'></div></div>{_SCRIPT}"
    )
    serve(page, framed(output))
    assert until(page, 0, lambda height: height == _height_px(output)) is None


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
    page: Page, number: int, is_right: Callable[..., bool], what: str = "height"
) -> object | None:
    """Wait until a frame's height is right and nothing of it is scrolled; else what it is."""
    element = page.locator("section > div > iframe, body > div > iframe").nth(number)
    state: object = None
    for _ in range(PATIENCE_MS // 100):
        outer = element.element_handle().content_frame()
        box = element.bounding_box()
        if outer is not None and outer.child_frames and box is not None:
            inner, seen, whole = outer.child_frames[0].evaluate(_STATE)
            height = round(box["height"]) - STRIP_PX
            shown = inner if what == "innerHeight" else height
            is_whole = whole <= seen or shown == 700 or what == "innerHeight"
            drawn = outer.locator("iframe").bounding_box()
            state = (shown, inner, seen, whole, drawn)
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
