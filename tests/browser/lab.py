"""A real JupyterLab: its server, and a notebook of it as a person sees it in Chromium.

In: what to click and type. Out: what is on the screen, and what went wrong in the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import (
    Browser,
    Error,
    Locator,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
# The first start on a busy machine compiles and reads a lot.
SERVER_START_S = 60
READY_MS = 60_000
# On a busy machine the first cell, which starts a session, may take a minute. It is no bound: what
# is awaited is the event.
PATIENCE_MS = 90_000

# The notebook whose tab is in front.
IN_VIEW = ".jp-NotebookPanel:not(.lm-mod-hidden)"

# The command line does not silence these; a toast or a dialog would cover the cells.
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"renameUntitledFileOnSave": False},
    # The theme follows what the browser prefers, which a test chooses.
    "apputils-extension/themes": {"adaptive-theme": True},
}


@dataclass(frozen=True)
class LabServer:
    """A running JupyterLab server on loopback, with a home of its own."""

    address: str
    token: str
    notebooks: Path

    def get(self, path: str) -> Any:
        """The answer of the server's REST API to GET."""
        return self._request("GET", path)

    def draw_all_cells(self) -> None:
        """Have the pages that are opened from now on draw every cell, whatever is in view."""
        settings = self.notebooks.parent / "settings" / "@jupyterlab" / "notebook-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')

    def store_untrusted(self, folder: str, stored: dict[str, Any]) -> str:
        """Put a stored notebook, changed by a stranger's hand, into a folder; returns its name.

        It has no signature any more: JupyterLab does not trust its outputs.
        """
        name = "untrusted.ipynb"
        changed = {**stored, "metadata": {**stored["metadata"], "changed": True}}
        (self.notebooks / folder / name).write_text(json.dumps(changed), encoding="utf-8")
        return name

    def shut_down_kernels(self, folder: str) -> None:
        """End the kernels of the notebooks in a folder."""
        for session in self.get("sessions"):
            if session["path"].startswith(f"{folder}/"):
                self._request("DELETE", f"sessions/{session['id']}")

    def kernel_is_ready(self, folder: str) -> bool:
        """Is the kernel of the folder's notebook idle, with the page connected to it?

        The page itself says "Idle" before its connection is up; a cell sent then is lost.
        """
        kernels = [
            session["kernel"]
            for session in self.get("sessions")
            if session["path"].startswith(f"{folder}/")
        ]
        return bool(kernels) and all(
            kernel["execution_state"] == "idle" and kernel["connections"] for kernel in kernels
        )

    def is_connected(self, folder: str) -> bool:
        """Is a page connected to a kernel of a notebook in the folder?"""
        return any(
            session["kernel"]["connections"]
            for session in self.get("sessions")
            if session["path"].startswith(f"{folder}/")
        )

    def _request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.address}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextlib.contextmanager
def lab_server(
    home: Path, *, application: str = "jupyterlab", **environment: str
) -> Iterator[LabServer]:
    """A JupyterLab server whose files, settings and runtime are all below `home`.

    Arguments:
        application: the module of another server's front end, built on JupyterLab's.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = LabServer(f"http://127.0.0.1:{port}", secrets.token_hex(16), home / "notebooks")
    server.notebooks.mkdir(parents=True)
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    # Each page that comes up would ask the server, which looks at all extensions for a second.
    (home / "config" / "labconfig").mkdir(parents=True)
    (home / "config" / "labconfig" / "page_config.json").write_text('{"buildCheck": false}')
    own = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        **{f"JUPYTER_{kind}_DIR": home / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")},
    }
    log = home / "lab.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", application, "--no-browser", "--allow-root"),
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                # A taken port must fail, or the test would talk to somebody else.
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={server.token}",
                f"--ServerApp.root_dir={server.notebooks}",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                "--LabApp.extension_manager=readonly",
            ],
            env={**os.environ, **{name: str(path) for name, path in own.items()}, **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        _wait_until_up(server, process, log)
        yield server
    finally:
        # The group: its kernels and their runtimes too.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_up(server: LabServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while True:
        try:
            server.get("status")
            return
        except OSError:
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(
                    f"JupyterLab did not start: {log.read_text(errors='replace')[-3000:]}"
                ) from None
            time.sleep(0.1)


def find_chromium() -> str | None:
    """The Chromium of this machine; `CHROMIUM` names another."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


_started: list[Playwright] = []


@contextlib.contextmanager
def _playwright() -> Iterator[Playwright]:
    """This process's Playwright: a second one can't be started beside it."""
    if _started:
        yield _started[0]
        return
    with sync_playwright() as playwright:
        _started.append(playwright)
        try:
            yield playwright
        finally:
            _started.clear()


@contextlib.contextmanager
def chromium(path: str, *more: str) -> Iterator[Browser]:
    """A headless Chromium that reaches nothing but loopback; of two arguments of a name in `more`
    and here, that in `more` is in force."""
    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--disable-extensions",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    arguments += more
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with _playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=arguments, handle_sigint=False
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened_window(
    browser: Browser,
    server: LabServer,
    folder: str,
    *,
    width: int = 1280,
    height: int = 960,
    scale: float = 1,
) -> Iterator[NotebookPage]:
    """A fresh window for a notebook in `folder`, where nothing may go wrong in the page.

    A picture of a failure is kept. The notebook's kernel ends with the window.

    Arguments:
        width, height: the window's size (CSS pixels).
        scale: pixels of the screen for one of CSS.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        locale="en-US",
        color_scheme="light",
    )
    context.set_default_timeout(PATIENCE_MS)
    notebook = NotebookPage(server, context.new_page(), folder)
    try:
        yield notebook
        assert not notebook.errors, f"errors in the page: {notebook.errors}"
        assert not notebook.outside, f"requests that left this machine: {notebook.outside}"
    except BaseException:
        notebook.take_picture(folder)
        raise
    finally:
        context.close()
        server.shut_down_kernels(folder)


@dataclass
class NotebookPage:
    """A notebook in a browser window, in a folder of its own on the server."""

    server: LabServer
    page: Page
    folder: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open_launcher(self) -> None:
        """Show JupyterLab with its launcher, in this notebook's folder."""
        (self.server.notebooks / self.folder).mkdir(exist_ok=True)
        self._watch()
        self.page.goto(
            f"{self.server.address}/lab/workspaces/{self.folder}/tree/{self.folder}"
            f"?reset&token={self.server.token}",
            wait_until="domcontentloaded",
        )
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def open_file(self, name: str) -> None:
        """Show a notebook that lies in this notebook's folder, and wait for its kernel."""
        self._watch()
        self.page.goto(
            f"{self.server.address}/lab/workspaces/{self.folder}/tree/{self.folder}/{name}"
            f"?reset&token={self.server.token}",
            wait_until="domcontentloaded",
        )
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")
        self._panel.wait_for()
        self.wait_until_ready()

    def open_listed(self, name: str) -> None:
        """Double-click a notebook in the file browser, and wait for its kernel."""
        self.page.locator(".jp-DirListing-item", has_text=name).dblclick()
        self._panel.locator(".jp-CodeCell").first.wait_for()
        self.wait_until_ready()

    def open_beside(self, name: str) -> None:
        """Double-click a notebook in the file browser, whose tab then is in front of the others."""
        panels = self.page.locator(".jp-NotebookPanel")
        number = panels.count()
        self.page.locator(".jp-DirListing-item", has_text=name).dblclick()
        panels.nth(number).locator(".jp-CodeCell").first.wait_for()

    def close_listed(self, *, accept: bool = True) -> None:
        """File menu, "Close and Shut Down Notebook", and accept the dialog, or refuse it."""
        self.page.get_by_role("menuitem", name="File", exact=True).click()
        self.page.get_by_role("menuitem", name="Close and Shut Down Notebook").click()
        answer = "accept" if accept else "reject"
        self.page.locator(f".jp-Dialog .jp-mod-{answer}").click()
        gone = self.page.locator(".jp-NotebookPanel" if accept else ".jp-Dialog")
        gone.wait_for(state="detached")

    def start_again(self) -> None:
        """Leave the page as it is, with its kernels, and show the launcher in a new one."""
        context = self.page.context
        self.page.close()
        self.server.shut_down_kernels(self.folder)
        self.errors.clear()
        self.outside.clear()
        self.page = context.new_page()
        self.open_launcher()

    def card(self, kernel: str) -> Locator:
        """The launcher's card for a notebook of the kernel with that name."""
        return self.page.locator(
            '.jp-LauncherCard[data-category="Notebook"]',
            has=self.page.get_by_text(kernel, exact=True),
        )

    def open_notebook(self, kernel: str) -> None:
        """Click the launcher's card and wait until the kernel is ready."""
        self.card(kernel).click()
        self._panel.wait_for()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the kernel is idle and the page is connected to it."""
        self._wait(lambda: self.server.kernel_is_ready(self.folder))
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

    def wait_until_left(self) -> None:
        """Wait until no page is connected to the notebook's kernel."""
        self._wait(lambda: not self.server.is_connected(self.folder))

    def cell(self, number: int) -> Locator:
        """The code cell with that number, from 0."""
        return self._panel.locator(".jp-CodeCell").nth(number)

    @property
    def last(self) -> int:
        """The number of the last code cell, which is empty after a run."""
        return self._panel.locator(".jp-CodeCell").count() - 1

    def outputs(self, number: int) -> Locator:
        """The outputs of a code cell."""
        return self.cell(number).locator(".jp-OutputArea-output")

    def start(self, number: int, code: str) -> None:
        """Type a cell and press Shift+Enter."""
        self.cell(number).locator(".cm-content").click()
        # In one piece, so that the editor closes no brackets.
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")

    def run(self, number: int, code: str) -> None:
        """Type a cell, run it and wait for its end."""
        self.start(number, code)
        self.expect_prompt(number, r"\[\d+\]:")

    def run_again(self, number: int) -> None:
        """Run a cell that is there and wait for its end."""
        before = self.cell(number).locator(".jp-InputPrompt").inner_text()
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        self.expect_prompt(number, rf"(?!{re.escape(before)})\[\d+\]:")

    def expect_prompt(self, number: int, pattern: str) -> None:
        """Wait until the prompt of a cell is as given, for example `[3]:`."""
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(re.compile(pattern))

    def press_stop(self) -> None:
        """Click the toolbar's Stop button."""
        self._panel.locator('[data-jp-item-name="interrupt"]').click()

    def restart_and_run_all(self) -> None:
        """Kernel menu, "Restart Kernel and Run All Cells…", and accept the dialog."""
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    def save(self, name: str = "*.ipynb") -> dict[str, Any]:
        """Press Ctrl+S; returns the notebook as it was stored, the only one of that name."""
        self.page.keyboard.press("Control+s")
        self.page.locator(".lm-TabBar-tab.jp-mod-dirty").wait_for(state="detached")
        (file,) = (self.server.notebooks / self.folder).glob(name)
        notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return notebook

    def hide_file_browser(self) -> None:
        """Give the notebook the whole window."""
        self.page.locator("#filebrowser").wait_for()
        self.page.keyboard.press("Control+b")
        self.page.locator("#filebrowser").wait_for(state="hidden")

    def take_picture(self, name: str) -> None:
        """Keep a picture of the whole window in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        # A page that hangs must not hide what failed.
        with contextlib.suppress(Error):
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    def choose(self, scheme: Scheme) -> None:
        """Show the page in JupyterLab's light or dark theme."""
        # The theme follows the browser.
        self.page.emulate_media(color_scheme=scheme)
        is_light = str(scheme == "light").lower()
        self.page.locator(f'body[data-jp-theme-light="{is_light}"]').wait_for(state="attached")

    def bring_up(self, number: int) -> None:
        """Scroll until a code cell begins at the notebook's upper edge, as far as that goes."""
        self.cell(number).evaluate("cell => cell.scrollIntoView({block: 'start'})")

    @property
    def _panel(self) -> Locator:
        return self.page.locator(IN_VIEW)

    def _watch(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

        def note(url: str) -> None:
            if not url.startswith((self.server.address, "data:", "blob:")):
                self.outside.append(url)

        self.page.on("request", lambda request: note(request.url))

    def _wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_MS / 1000
        while not until():
            assert time.monotonic() < deadline, "the kernel is not as awaited"
            # Not time.sleep: the page's events are handled while this waits.
            self.page.wait_for_timeout(50)


#: Two ways by which a slider shows its value below it.
SLIDERS = {
    "output": """\
import ipywidgets
slider, shown = ipywidgets.IntSlider(max=200), ipywidgets.Output()
def show(change):
    with shown:
        shown.clear_output(wait=True)
        print("at", change.new, "here")
slider.observe(show, "value")
ipywidgets.VBox([slider, shown])""",
    "interact": """\
from ipywidgets import interact
@interact(value=(0, 200))
def show(value=0):
    print("at", value, "here")""",
}


def drag_to_and_fro(cell: Locator, times: int) -> None:
    """Drag a cell's slider with the mouse; each time its last value must be shown below it."""
    page, handle = cell.page, cell.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    track = cell.locator(".noUi-target").bounding_box()
    assert track is not None
    output = cell.locator(".jupyter-widgets-output-area, .widget-output").last
    before = None
    for number in range(times):
        box = handle.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        # There and back at another place each time.
        share = (0.9 if number % 2 else 0.1) + 0.004 * (number % 20)
        target = track["x"] + track["width"] * min(share, 0.97)
        page.mouse.move(target, box["y"], steps=12)
        page.mouse.up()
        value = cell.locator(".widget-readout").inner_text()
        assert value != before
        expect(output).to_contain_text(f"at {value} here", timeout=30_000)
        before = value
