"""A notebook of hostile cells in a real JupyterLab, and what of it got out of its outputs.

In: cells. Out: the traces of every way out: the page's objects, title, styles and elements, files
on the Jupyter server, requests to it, windows and dialogs, a beacon on the network.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, TimeoutError

from tests.browser.beacon import Beacon
from tests.browser.lab import LabServer, NotebookPage

_TRACES = """() => {
  const told = [...(window.__pwned || ["the page is gone"])];
  const add = (name, found) => { if (found) told.push(name); };
  add("title", document.title.includes("pwned"));
  add("body", document.body.textContent.trim() === "pwned");
  add("storage", localStorage.pwned || document.cookie.includes("pwned"));
  add("name", window.name === "pwned");
  add("prototype", ({}).pwned);
  add("overlay", document.getElementById("pwned-overlay"));
  add("dialog", document.querySelector(".jp-OutputArea .jp-Dialog"));
  add("style", [...document.querySelectorAll("body, body *")].some(
    e => getComputedStyle(e).getPropertyValue("--pwned")));
  for (const e of document.querySelectorAll(".jp-OutputArea iframe"))
    add("frame " + e.outerHTML.slice(0, 80), e.getAttribute("sandbox") !== "allow-scripts");
  return told;
}"""
_CLICK_ALL = """() => {
  for (const e of document.querySelectorAll(OUTPUTS))
    // Links to the web lead there by the will of who clicks; JupyterLab makes some of plain text.
    if (e.closest(".jp-RenderedText") || /^https?:/.test(e.getAttribute("href"))) continue;
    else if (e.click) e.click(); else e.dispatchEvent(new MouseEvent("click", {bubbles: true}));
}"""
_CLICKABLE = "a, button, b, .click, summary, [href], [data-commandlinker-command]"
# In every frame; only the page's own counts.
_CANARY = """
window.__pwned = window === window.top ? [] : {push: i => window.top.__pwned.push(i)};
if (window === window.top) {
  window.__heard = [];
  window.__clicked = new Map();
  window.addEventListener("message", e => {
    if (e.data === "pwned") window.__heard.push(1);
    if (e.data?.clicked) window.__clicked.set(e.data.clicked, e.data.typed);
  });
  // Who listens to what is typed, pasted or sent in the whole page.
  window.__listening = new Set();
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (type, ...more) {
    const whole = this === window || this === undefined ? "window" : this === document
      ? "document" : this === document.body ? "body" : "";
    if (whole && /^(key|paste|copy|cut|beforeinput|input|message)/.test(type))
      window.__listening.add(whole + " " + type);
    return listen.call(this || window, type, ...more);
  };
} else {
  const page = window.top, clickAll = CLICK_ALL;
  window.addEventListener("message", e => {
    if (e.source !== page || !e.data?.clickAll) return;
    clickAll();
    const typed = document.getElementById("typed")?.textContent;
    page.postMessage({clicked: e.data.clickAll, typed}, "*");
  });
}
""".replace("CLICK_ALL", _CLICK_ALL.replace("OUTPUTS", json.dumps(_CLICKABLE)))

# Scrolls to a place. Where that is, the first point of each output's content that is in view, and
# what the page shows at points of a grid: is there an output in a place that is not its own?
_PASS_OVER = """at => {
  const panel = document.querySelector(".jp-NotebookPanel .jp-WindowedPanel-outer");
  panel.scrollTop = at;
  const view = panel.getBoundingClientRect(), points = [];
  const inView = (x, y) => x > view.left && x < view.right && y > view.top && y < view.bottom;
  for (const output of panel.querySelectorAll(".jp-OutputArea-output")) {
    const box = output.getBoundingClientRect();
    if (!box.height || box.bottom < view.top || box.top > view.bottom) continue;
    const content = document.createRange();
    content.selectNodeContents(output);
    for (const part of [...content.getClientRects(), box]) {
      const x = part.x + part.width / 2, y = part.y + part.height / 2;
      if (part.width && part.height && inView(x, y)) { points.push([x, y]); break; }
    }
  }
  for (let y = 150; y < 900; y += 125) for (let x = 350; x < 1200; x += 200) {
    const found = document.elementFromPoint(x, y), output = found?.closest(".jp-OutputArea-child");
    const box = output?.getBoundingClientRect();
    if (box && (x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1))
      window.__pwned?.push("laid over the page: " + found.outerHTML.slice(0, 80));
  }
  return [panel.scrollTop, points];
}"""
# The number of its code cell for each frame.
FRAMED_CELLS = """() => [...document.querySelectorAll(".jp-NotebookPanel .jp-CodeCell")].flatMap(
  (cell, number) => [...cell.querySelectorAll(".jp-OutputArea iframe")].map(() => number))"""
_OUTPUTS = ", ".join(f".jp-OutputArea-output {part.strip()}" for part in _CLICKABLE.split(","))
# Asks every frame of the outputs, and those in them, to click; returns how many there are.
_ASK_FRAMES = """() => {
  window.__asked = new Map();
  const ask = (frame, name) => {
    window.__asked.set(name, frame);
    frame.postMessage({clickAll: name}, "*");
    for (let i = 0; i < frame.length; i++) ask(frame[i], name + "." + i);
  };
  [...document.querySelectorAll(".jp-NotebookPanel .jp-CodeCell")].forEach((cell, number) =>
    [...cell.querySelectorAll(".jp-OutputArea iframe")].forEach((frame, i) =>
      ask(frame.contentWindow, `cell ${number}: ${i}`)));
  return window.__asked.size;
}"""
# The frames that are still there and have not clicked.
_MISSED = """[...window.__asked].filter(
  ([name, frame]) => !frame.closed && !window.__clicked.has(name)).map(([name]) => name)"""
# A notebook's tab was closed, or the page asks what to do with its changes.
_CLOSED_OR_ASKED = """() => !document.querySelector(".jp-NotebookPanel") ||
  document.querySelector("body > .jp-Dialog .jp-mod-warn")"""
# What MathJax may not have made, in any output: links, loads, classes and ids of the page.
_MADE = """() => [...document.querySelectorAll(".jp-OutputArea-output mjx-container, " +
  ".jp-OutputArea-output mjx-container *")].filter(e =>
    e.matches("a, img, [href], [data-commandlinker-command], [class*=jp-]") ||
    [...e.attributes].some(a => a.name.startsWith("on")) ||
    /url\\(|fixed|absolute/.test(e.getAttribute("style") || "") ||
    (e.id && !e.id.startsWith("mjx-eqn"))).map(e => e.outerHTML.slice(0, 300))"""
_HANDLERS = """() => [...document.querySelectorAll(".jp-OutputArea-output *")].filter(e =>
  [...e.attributes].some(a => a.name.startsWith("on"))).map(e => e.outerHTML.slice(0, 300))"""
_HOVER = """() => document.querySelectorAll(".jp-OutputArea-output *").forEach(e => {
  if (!e.attributes.length) return;
  for (const type of ["pointerover", "mouseover", "mouseenter", "mousemove", "focus"])
    e.dispatchEvent(new MouseEvent(type, {bubbles: true})); })"""
RUN_MS = 120_000
# A notebook of 300 outputs has some 100 views.
MOST_VIEWS = 400
# How long the frames are waited for, all together.
CLICK_MS = 30_000


@dataclass
class Traces:
    """What got out."""

    beacon: Beacon
    server: LabServer
    page: Page
    reached: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    #: How many frames were asked to click.
    frames: int = 0

    def found(self) -> list[str]:
        """All of it, in words."""
        files = {
            path.name
            for path in self.server.notebooks.rglob("*")
            if "pwned" in path.name or path.name.startswith("untitled")
        }
        found = [f"page: {trace}" for trace in self.page.evaluate(_TRACES)]
        found += [f"file: {name}" for name in sorted(files)]
        found += [f"server: {url}" for url in self.reached]
        found += [f"window: {url}" for url in self.windows]
        found += [f"dialog: {text}" for text in self.dialogs]
        found += [f"beacon: {line}" for line in self.beacon.requests]
        if self.beacon.datagrams:
            found.append("beacon: datagrams")
        return found

    def listeners(self) -> set[str]:
        """What is listened to in the whole page: the target and the event's type."""
        return set(self.page.evaluate("[...window.__listening]"))

    def hover_and_type(self) -> None:
        """Move the pointer over each output, and type keys that JupyterLab gives no meaning."""
        at, reached = 0.0, -1.0
        for _ in range(MOST_VIEWS):
            now, points = self.page.evaluate(_PASS_OVER, at)
            if now <= reached:
                break
            reached, at = now, now + 700
            for x, y in points:
                self.page.mouse.move(x, y)
        else:
            raise AssertionError(f"the page grows while the pointer moves: {reached:.0f} px")
        for key in ("7", "q", "Shift"):
            self.page.keyboard.press(key)

    def tell_all(self) -> None:
        """Let every element of the outputs hear that a pointer is over it."""
        self.page.evaluate(_HOVER)

    def made(self) -> list[str]:
        """What of formulas and of Markdown is in the page and could act there."""
        return [*self.page.evaluate(_MADE), *self.page.evaluate(_HANDLERS)]

    def click_all(self) -> None:
        """Click on everything in the outputs, and in their frames.

        Each frame is asked by a message to the script that it began with. `Frame.evaluate` may
        wait for ever: with hundreds of frames, Playwright misses the document of one.
        """
        self.page.evaluate(_CLICK_ALL.replace("OUTPUTS", json.dumps(_OUTPUTS)))
        self.frames = self.page.evaluate(_ASK_FRAMES)
        with contextlib.suppress(TimeoutError):
            self.page.wait_for_function(f"{_MISSED}.length === 0", timeout=CLICK_MS)

    def missed(self) -> list[str]:
        """The frames that are still there and were not clicked: the number of their cell."""
        missed: list[str] = self.page.evaluate(_MISSED)
        return missed

    def commands(self) -> list[str]:
        """The commands that frames show, to be typed; empty where one shows none."""
        return list(self.page.evaluate("[...window.__clicked.values()].filter(Boolean)"))


def write_notebook(path: Path, kernel: str, cells: list[str]) -> None:
    """A notebook of code cells, all of which may fail without an end of the run."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
        cells=[
            nbformat.v4.new_code_cell(code, metadata={"tags": ["raises-exception"]})
            for code in cells
        ],
    )
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)


@contextlib.contextmanager
def opened(
    browser: Browser, server: LabServer, beacon: Beacon, folder: str, name: str = ""
) -> Iterator[tuple[NotebookPage, Traces]]:
    """JupyterLab on a folder, or on a notebook in it, in a window of its own, watched."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 960}, locale="en-US", color_scheme="light"
    )
    context.set_default_timeout(60_000)
    context.add_init_script(_CANARY)
    page = context.new_page()
    traces = Traces(beacon, server, page)
    beacon.forget()
    context.on("page", lambda window: traces.windows.append(window.url))
    context.on("response", lambda it: _note_response(traces, it.url))
    page.on("dialog", lambda dialog: _note_dialog(traces, dialog))
    notebook = NotebookPage(server, page, folder)
    try:
        # Something to go back to.
        page.goto(f"{server.address}/api?token={server.token}")
        page.goto(
            f"{server.address}/lab/workspaces/{folder}/tree/{folder}/{name}"
            f"?reset&token={server.token}",
            wait_until="domcontentloaded",
        )
        page.locator("#jupyterlab-splash").wait_for(state="detached")
        shown = ".jp-NotebookPanel .jp-CodeCell" if name else ".jp-DirListing-item"
        page.locator(shown).first.wait_for()
        yield notebook, traces
    finally:
        context.close()
        server.shut_down_kernels(folder)


class HostileLab:
    """One page of JupyterLab, in which hostile notebooks are opened one after the other.

    To load JupyterLab takes longer than what is tried in a notebook. Each notebook has a kernel of
    its own, which goes on while it is closed and opened again: a kernel draws only so many live
    charts. Of ordinary outputs, the next notebook may have the kernel. After a failure there is a
    new page, since traces stay.
    """

    def __init__(
        self, browser: Browser, server: LabServer, beacon: Beacon, folder: str, *kernels: str
    ) -> None:
        self._browser = browser
        self._server = server
        self._beacon = beacon
        self._folder = folder
        self._page = contextlib.ExitStack()
        self._kernel = ""
        self.notebook: NotebookPage
        self.traces: Traces
        for kernel in kernels:
            # The page lists them when it comes up, and needs no look for new ones.
            write_notebook(self._path_of(kernel), kernel, [])

    @contextlib.contextmanager
    def running(
        self, kernel: str, cells: list[str], *, kernel_stays: bool = False
    ) -> Iterator[None]:
        """A notebook whose cells have all run; it is closed afterwards.

        Arguments:
            kernel_stays: its kernel is the next notebook's of that name.
        """
        try:
            self.run(kernel, cells)
            yield
            if kernel_stays:
                # The dialog of a notebook that is closed has been there.
                self.notebook.close_listed(accept=False)
                self._close()
            else:
                self.notebook.close_listed()
        except BaseException:
            if self._kernel:
                self.notebook.take_picture(f"{self._folder}-{kernel}")
            self.end()
            raise

    def run(self, kernel: str, cells: list[str]) -> None:
        """Open a notebook, and run all its cells."""
        if not self._kernel:
            self.notebook, self.traces = self._page.enter_context(
                opened(self._browser, self._server, self._beacon, self._folder)
            )
        if self._kernel and self._kernel != kernel:
            # One that stayed is another notebook's: the page is not connected to it any more.
            self._server.shut_down_kernels(self._folder)
        self._kernel = kernel
        write_notebook(self._path_of(kernel), kernel, cells)
        self._open()
        run_all(self.notebook, len(cells))

    def save(self) -> dict[str, Any]:
        """The notebook as it is stored."""
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        self.notebook.cell(0).locator(".cm-content").click()
        return self.notebook.save(self._path_of(self._kernel).name)

    def reopen(self) -> None:
        """Close the saved notebook and open it: signed by this server, its outputs are trusted."""
        self._close()
        self._open()

    def reopen_changed(self) -> None:
        """Close the saved notebook, let a stranger change it, and open it.

        It has no signature any more: JupyterLab does not trust its outputs.
        """
        self._close()
        path = self._path_of(self._kernel)
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored["metadata"]["changed"] = True
        path.write_text(json.dumps(stored), encoding="utf-8")
        self._open()

    def end(self) -> None:
        """Close the page, and end its kernels."""
        self._kernel = ""
        self._page.close()

    def _path_of(self, kernel: str) -> Path:
        return self._server.notebooks / self._folder / f"{kernel}.ipynb"

    def _open(self) -> None:
        page = self.notebook.page
        page.locator(".jp-DirListing-item", has_text=self._path_of(self._kernel).name).dblclick()
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()

    def _close(self) -> None:
        page = self.notebook.page
        page.locator(".lm-DockPanel-tabBar .lm-mod-current .lm-TabBar-tabCloseIcon").click()
        panel, discard = (
            page.locator(".jp-NotebookPanel"),
            page.locator("body > .jp-Dialog .jp-mod-warn"),
        )
        # It is asked only if there is something to save.
        page.wait_for_function(_CLOSED_OR_ASKED)
        if panel.count():
            discard.click()
            panel.wait_for(state="detached")
        # The kernel runs on, and no longer counts this page as a connected one.
        self.notebook.wait_until_left()


def run_all(notebook: NotebookPage, count: int) -> None:
    """Kernel ready, Run menu, "Run All Cells", until the last has run."""
    notebook.wait_until_ready()
    page = notebook.page
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        """count => { const all = [...document.querySelectorAll(
            ".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt")].map(e => e.textContent);
            return all.length >= count && all.slice(0, count).every(t => /\\d/.test(t)); }""",
        arg=count,
        timeout=RUN_MS,
    )


def _note_response(traces: Traces, url: str) -> None:
    # JupyterLab itself asks whether a path in a printed text is one of its files.
    if "pwned" in url and "/api/resolvePath?" not in url:
        traces.reached.append(url)


def _note_dialog(traces: Traces, dialog: Any) -> None:
    traces.dialogs.append(dialog.message)
    dialog.dismiss()
