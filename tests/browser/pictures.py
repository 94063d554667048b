"""The documentation's pictures, taken of a real JupyterLab, light and dark, small enough to load.

In: a window and the part of it that the picture shows. Out: `build/pictures/NAME-light.png` and
`-dark.png`; with the environment variable `PICTURES` the same in the folder that it names
(`make pictures` names docs/images).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageStat
from playwright.sync_api import Browser, FloatRect, Locator

from tests.browser.lab import SCHEMES, LabServer, NotebookPage, opened_window

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = CHECKOUT / "build" / "pictures"
# A page shows them about 900 pixels wide; twice as many look sharp on every screen.
WINDOW = {"width": 1050, "height": 1300}
SCALE = 2
# Text of a notebook has few colours, a gradient more.
COLOURS = 128
LARGEST_BYTES = 250_000


@contextlib.contextmanager
def pictured_window(browser: Browser, server: LabServer, folder: str) -> Iterator[NotebookPage]:
    """JupyterLab's launcher in a window of the pictures' size."""
    with opened_window(browser, server, folder, scale=SCALE, **WINDOW) as notebook:
        notebook.open_launcher()
        notebook.hide_file_browser()
        yield notebook


def take_cells(
    notebook: NotebookPage, name: str, first: int, last: int, *, toolbar: bool = False
) -> None:
    """Take the picture `name` of some code cells, below the notebook's toolbar or with it."""

    def part() -> FloatRect:
        notebook.bring_up(first)
        last_box = _box_of(notebook.cell(last))
        panel = _box_of(notebook.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)"))
        above = panel["y"] if toolbar else _box_of(notebook.cell(first))["y"]
        return _strip(panel, above, last_box["y"] + last_box["height"] + 3)

    _take(notebook, name, part)


def take_launcher(notebook: NotebookPage, name: str) -> None:
    """Take the picture `name` of the launcher's cards for notebooks and consoles."""
    cards = notebook.page.locator('.jp-LauncherCard[data-category="Console"]')

    def part() -> FloatRect:
        launcher = _box_of(notebook.page.locator(".jp-Launcher"))
        last = _box_of(cards.last)
        return _strip(launcher, launcher["y"], last["y"] + last["height"] + 24)

    _take(notebook, name, part)


def _box_of(part: Locator) -> FloatRect:
    """The part of the window that an element takes, once it stays where it is."""
    before = part.bounding_box()
    while True:
        part.page.wait_for_timeout(100)
        box = part.bounding_box()
        if box is not None and box == before:
            return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}
        before = box


def _strip(panel: FloatRect, above: float, below: float) -> FloatRect:
    assert above >= panel["y"] and below <= panel["y"] + panel["height"], "it is not all in view"
    # Without the lines that part the panel from its neighbours.
    x, y = panel["x"] + 1, above + 1
    return {"x": x, "y": y, "width": panel["width"] - 2, "height": below - y}


def _take(notebook: NotebookPage, name: str, part: Callable[[], FloatRect]) -> None:
    brightness = {}
    for scheme in SCHEMES:
        notebook.choose(scheme)
        # Out of the way: no button lights up.
        notebook.page.mouse.move(WINDOW["width"] - 1, WINDOW["height"] - 1)
        shot = notebook.page.screenshot(clip=part(), animations="disabled")
        with Image.open(io.BytesIO(shot)) as opened:
            picture = opened.convert("RGB")
        assert picture.width > 850 * SCALE, (name, picture.size)
        (brightness[scheme],) = ImageStat.Stat(picture.convert("L")).mean
        _save(picture, f"{name}-{scheme}.png")
    # Each is of its theme; a plot is white in both.
    assert brightness["light"] > brightness["dark"] + 50, (name, brightness)


def _save(picture: Image.Image, name: str) -> None:
    folders = [BUILT]
    if chosen := os.environ.get("PICTURES"):
        folders.append(CHECKOUT / chosen)
    # Without dithering flat areas stay flat, and the file small.
    small = picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        small.save(folder / name, optimize=True)
        size = (folder / name).stat().st_size
        assert size < LARGEST_BYTES, f"{name} has {size:,} bytes"
