"""How a notebook's outputs look to its readers: what is drawn of each cell, judged by pixels.

In: a notebook that lies on a server, or was converted to HTML, in a page. Out: for each cell a
picture of its outputs, and whether that is something live, something static, a notice, or nothing.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Error, Locator, Page

from tests.gallery.entries import Shown

# How long scripts may take to draw, on a busy machine.
DRAWN_S = 60.0
# A blank area has one colour, and a line of text is more than this share of it.
LEAST_COLOURS, LEAST_SHARE = 5, 0.003
# What a frame, or a page that draws none, says in place of an output.
NOTICES = (
    *("Blocked:", "Not loaded:", "Run the cell again", "Error displaying widget"),
    "<IPython.core.display.SVG object>",
)


@dataclass(frozen=True)
class Look:
    """How one cell's outputs look."""

    shown: Shown | None
    picture: Image.Image
    text: str


def is_blank(picture: Image.Image) -> bool:
    """Is there nothing in a picture but its background?"""
    colours = picture.convert("RGB").getcolors(1 << 24) or []
    most = max((count for count, _ in colours), default=0)
    share = 1 - most / max(1, picture.width * picture.height)
    return len(colours) < LEAST_COLOURS or share < LEAST_SHARE


def look_at(page: Page, cell: Locator, expected: Shown) -> Look:
    """The look of a cell, as soon as it is what is expected; else as it is in the end."""
    ends_at = time.monotonic() + DRAWN_S
    while True:
        look = _look_now(cell)
        if look.shown == "live" and expected == "static":
            # Only what made it knows whether anything moves in a frame.
            look = replace(look, shown="static")
        if look.shown == expected or time.monotonic() > ends_at:
            return look
        page.wait_for_timeout(250)


def _look_now(cell: Locator) -> Look:
    cell.evaluate("cell => cell.scrollIntoView({block: 'center'})")
    area = cell.locator(".jp-OutputArea, .jp-Cell-outputWrapper").first
    if not area.count():
        return Look(None, Image.new("RGB", (1, 1)), "")
    with Image.open(io.BytesIO(area.screenshot(animations="disabled"))) as shot:
        picture = shot.convert("RGB")
    texts = [area.inner_text(), *_texts_of_frames(area)]
    text = "\n".join(texts)
    if is_blank(picture):
        return Look(None, picture, text)
    if any(notice in text for notice in NOTICES):
        return Look("notice", picture, text)
    acts = area.locator("iframe, .jupyter-widgets, audio, video").count()
    return Look("live" if acts else "static", picture, text)


def _texts_of_frames(area: Locator) -> Iterator[str]:
    for element in area.locator("iframe").element_handles():
        frame = element.content_frame()
        for one in [frame, *(frame.child_frames if frame else [])]:
            try:
                if one is not None:
                    yield str(one.evaluate("document.body ? document.body.innerText : ''"))
            except Error:
                # It was just replaced.
                yield ""


@dataclass(frozen=True)
class Height:
    """How high a frame is, and what stands in it (CSS pixels)."""

    frame: int
    content: int
    scrolls: bool


# The bottom of the lowest thing that is drawn, and whether the document is scrolled.
_CONTENT = """() => {
  const root = document.documentElement, drawn = document.querySelectorAll(
    "canvas, svg, img, video, td, th, button, input, pre, p, h1, span, label, li, a, b");
  const bottoms = [...drawn].filter(one => one.offsetParent !== null || one.closest("svg"))
    .map(one => one.getBoundingClientRect().bottom + scrollY);
  const flow = root.getBoundingClientRect();
  return [Math.ceil(Math.max(...bottoms, flow.height < innerHeight ? flow.bottom + scrollY : 0)),
    root.scrollHeight > root.clientHeight];
}"""


def heights(cell: Locator) -> list[Height]:
    """The heights of a cell's frames around outputs."""
    found = []
    for element in cell.locator("iframe").element_handles():
        box, outer = element.bounding_box(), element.content_frame()
        if box is None or outer is None or not outer.child_frames:
            continue
        content, scrolls = outer.child_frames[0].evaluate(_CONTENT)
        note = outer.evaluate("document.getElementById('note').offsetHeight")
        found.append(Height(round(box["height"] - note), content, scrolls))
    return found


def keep(look: Look, folder: Path, name: str, colours: int | None = None) -> None:
    """Store the picture of a look; with few colours the file is small."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-").lower()
    picture = look.picture
    if colours:
        picture = picture.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(folder / f"{plain}.png", optimize=True)
