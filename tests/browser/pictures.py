"""The documentation's pictures, taken of a real JupyterLab, light and dark, small enough to load.

In: a window and the part of it that the picture shows. Out: `build/pictures/NAME-light.png` and
`-dark.png`, or a `.gif` of several moments; with the environment variable `PICTURES` the same in
the directory that it names (`make pictures` names docs/images).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageStat
from playwright.sync_api import Browser, FloatRect, Locator

from tests.browser.lab import (
    IN_VIEW,
    SCHEMES,
    LabServer,
    NotebookPage,
    Scheme,
    opened_window,
)

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = CHECKOUT / "build" / "pictures"
# A page shows them about 900 pixels wide; twice as many look sharp on every screen.
WINDOW = {"width": 1050, "height": 1300}
SCALE = 2
# Text of a notebook has few colours, a gradient more.
COLOURS = 128
LARGEST_BYTES = 250_000
FILM = {"width": 880, "height": 560}
FILM_SCALE = 1.5
LARGEST_FILM_BYTES = 2_000_000
CAPTION_HEIGHT = 40
COLOURS_OF = {"light": ("#f2f2f2", "#222222"), "dark": ("#111111", "#eeeeee")}
POINTER = "#e4572e"


@contextlib.contextmanager
def pictured_window(
    browser: Browser,
    server: LabServer,
    folder: str,
    *,
    size: dict[str, int] = WINDOW,
    scale: float = SCALE,
) -> Iterator[NotebookPage]:
    """JupyterLab's launcher in a window of the pictures' size."""
    with opened_window(browser, server, folder, scale=scale, **size) as notebook:
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
        panel = _box_of(notebook.page.locator(IN_VIEW))
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


def take_beside(pages: dict[str, NotebookPage], name: str, cell: int) -> None:
    """Take the picture `name` of the same cell in several windows, side by side, each with its
    caption and the notebook's toolbar."""
    for scheme in SCHEMES:
        shots = []
        for caption, notebook in pages.items():
            notebook.choose(scheme)
            notebook.page.mouse.move(0, 0)
            notebook.bring_up(0)
            panel, last = _box_of(notebook.page.locator(IN_VIEW)), _box_of(notebook.cell(cell))
            clip = _strip(panel, panel["y"], last["y"] + last["height"] + 3)
            shot = notebook.page.screenshot(clip=clip, animations="disabled")
            shots.append(_captioned(_opened(shot), caption, scheme, SCALE, above=True))
        gap = 8 * SCALE
        width = sum(picture.width + gap for picture in shots) - gap
        height = max(picture.height for picture in shots)
        whole = Image.new("RGB", (width, height), COLOURS_OF[scheme][0])
        x = 0
        for picture in shots:
            # The page's own colour below a shorter one.
            lowest = picture.crop((0, picture.height - 1, picture.width, picture.height))
            whole.paste(lowest.resize((picture.width, height)), (x, 0))
            whole.paste(picture, (x, 0))
            x += picture.width + gap
        _save(whole, f"{name}-{scheme}.png")


class Film:
    """An animated picture: the whole window at several moments, each with its caption."""

    def __init__(self, notebook: NotebookPage, scheme: Scheme) -> None:
        self._page = notebook.page
        self._scheme = scheme
        self._frames: list[Image.Image] = []
        self._milliseconds: list[int] = []
        notebook.choose(scheme)

    def shoot(self, milliseconds: int, caption: str, at: Locator | None = None) -> None:
        """Take the window as it is now, with a mark where the mouse is about to click.

        Arguments:
            milliseconds: how long the film shows it.
            at: the middle of this part is marked.
        """
        # Before the picture: where the part is drawn, the window is.
        box = None if at is None else _box_of(at)
        picture = _opened(self._page.screenshot(animations="disabled"))
        if box is not None:
            x = (box["x"] + box["width"] / 2) * FILM_SCALE
            y = (box["y"] + box["height"] / 2) * FILM_SCALE
            radius = 16 * FILM_SCALE
            ImageDraw.Draw(picture).ellipse(
                (x - radius, y - radius, x + radius, y + radius), outline=POINTER, width=4
            )
        self._frames.append(_captioned(picture, caption, self._scheme, FILM_SCALE))
        self._milliseconds.append(milliseconds)

    def save(self, name: str, milliseconds: int) -> None:
        """Write `NAME-SCHEME.gif`, which takes that long and starts again at its end."""
        assert sum(self._milliseconds) == milliseconds, self._milliseconds
        # One palette for all: what does not change from frame to frame is stored once.
        sample = Image.new("RGB", (self._frames[0].width, self._frames[0].height * 3))
        for place, frame in enumerate(self._frames[:: len(self._frames) // 3][:3]):
            sample.paste(frame, (0, place * frame.height))
        palette = sample.quantize(COLOURS, Image.Quantize.MEDIANCUT)
        first, *others = (
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames
        )
        for folder in _folders():
            path = folder / f"{name}-{self._scheme}.gif"
            first.save(
                path,
                save_all=True,
                append_images=others,
                duration=self._milliseconds,
                loop=0,
                optimize=True,
            )
            size = path.stat().st_size
            assert size <= LARGEST_FILM_BYTES, f"{path.name} has {size:,} bytes"


def _captioned(
    picture: Image.Image, caption: str, scheme: Scheme, scale: float, *, above: bool = False
) -> Image.Image:
    """The picture with a line of text below it or above."""
    height = int(CAPTION_HEIGHT * scale)
    paper, ink = COLOURS_OF[scheme]
    whole = Image.new("RGB", (picture.width, picture.height + height), paper)
    whole.paste(picture, (0, height if above else 0))
    ImageDraw.Draw(whole).text(
        (whole.width / 2, (0 if above else picture.height) + height / 2),
        caption,
        fill=ink,
        font=ImageFont.load_default(18 * scale),
        anchor="mm",
    )
    return whole


def _opened(shot: bytes) -> Image.Image:
    with Image.open(io.BytesIO(shot)) as opened:
        return opened.convert("RGB")


def take_debugger(notebook: NotebookPage, name: str) -> None:
    """Take the picture `name` of the notebook and the debugger's panel beside it."""

    def part() -> FloatRect:
        panel = _box_of(notebook.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)"))
        side = _box_of(notebook.page.locator(".jp-DebuggerSidebar"))
        width = side["x"] + side["width"] - panel["x"]
        frames = _box_of(notebook.page.locator(".jp-DebuggerCallstackFrame").last)
        return _strip({**panel, "width": width}, panel["y"], frames["y"] + frames["height"] + 24)

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
        picture = _opened(shot)
        assert picture.width > 850 * SCALE, (name, picture.size)
        (brightness[scheme],) = ImageStat.Stat(picture.convert("L")).mean
        _save(picture, f"{name}-{scheme}.png")
    # Each is of its theme; a plot is white in both.
    assert brightness["light"] > brightness["dark"] + 50, (name, brightness)


def _save(picture: Image.Image, name: str) -> None:
    # Without dithering flat areas stay flat, and the file small.
    small = picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    for folder in _folders():
        small.save(folder / name, optimize=True)
        size = (folder / name).stat().st_size
        assert size < LARGEST_BYTES, f"{name} has {size:,} bytes"


def _folders() -> list[Path]:
    """Where pictures go."""
    folders = [BUILT]
    if chosen := os.environ.get("PICTURES"):
        folders.append(CHECKOUT / chosen)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders
