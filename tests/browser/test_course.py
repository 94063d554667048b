"""The notebooks of the course as a student runs them: Restart and Run All in a real JupyterLab.

`make test` takes those that show what only a page has: frames that ask, a question, a widget
that is moved. The others it executes without one (tests/notebooks); `make test-all` takes them all.
They are opened one after the other from the file browser of one window, in their folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import NotebookNode
from playwright.sync_api import Browser, expect

from agentbay_kernel.sessions.statefile import StateFile
from tests.browser.lab import LabServer, NotebookPage, opened_window
from tests.notebooks.course import (
    FOLDER,
    NOTEBOOKS,
    SETTINGS,
    agree,
    code_cells,
    kinds,
    may_fail,
    read,
    tagged,
)
from tests.notebooks.test_notebooks import KEPT, check

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

RUN_S = 400
ENDED_WITHIN_S = 60
# Its question is answered here; its widgets are not stored.
ANSWERED = "05-long-work"
TYPED = "Borealis"
KERNEL = "agentbay-course"


@pytest.fixture(scope="module")
def window(browser: Browser, server: LabServer) -> Iterator[NotebookPage]:
    """JupyterLab on a folder with the course, with an AgentBay Python that has its settings."""
    spec = server.notebooks.parent / "data" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    described = {
        "argv": ["python", "-m", "agentbay_kernel", "-f", "{connection_file}"],
        "display_name": KERNEL,
        "language": "python",
        "interrupt_mode": "message",
        "env": SETTINGS,
    }
    (spec / "kernel.json").write_text(json.dumps(described))
    folder = server.notebooks / "course"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.ipynb", "__pycache__"))
    for path in NOTEBOOKS:
        nbformat.write(as_a_student_gets_it(path), folder / path.name)
    with opened_window(browser, server, folder.name) as opened:
        opened.open_launcher()
        yield opened


def as_a_student_gets_it(path: Path) -> NotebookNode:
    """A notebook without outputs, so that those seen are new."""
    notebook = read(path)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    if notebook.metadata.kernelspec.name == "agentbay-python":
        notebook.metadata.kernelspec.name = KERNEL
    return notebook


@contextlib.contextmanager
def opened_notebook(window: NotebookPage, path: Path) -> Iterator[None]:
    """A notebook of the course in a tab; after a failure the next one finds a new window."""
    try:
        window.open_listed(path.name)
        yield
        window.close_listed()
    except BaseException:
        window.take_picture(f"course-{path.stem}")
        window.start_again()
        raise


def wait_for_the_end(notebook: NotebookPage, last: int, *, folded: bool) -> None:
    """Wait until the code cell with that number has run; type an answer where one is asked for.

    Arguments:
        folded: it is the check of an exercise, which has no number but prints.
    """
    prompt = notebook.cell(last).locator(".jp-InputPrompt")
    printed = notebook.outputs(last)
    question = notebook.page.locator(".jp-Stdin-input")
    deadline = time.monotonic() + RUN_S
    while not (printed.count() if folded else re.search(r"\d", prompt.inner_text())):
        if question.count():
            question.first.fill(TYPED)
            question.first.press("Enter")
            question.first.wait_for(state="detached")
        assert time.monotonic() < deadline, "the notebook did not come to its end"
        notebook.page.wait_for_timeout(100)


def expect_drawn(notebook: NotebookPage, number: int, outputs: list[NotebookNode]) -> None:
    """What a cell gave is on the page: pictures, widgets, frames, tables."""
    cell = notebook.cell(number)
    held = kinds(outputs)
    if any(kind.endswith("image/png") for kind in held):
        for picture in cell.locator(".jp-OutputArea-output img").all():
            expect(picture).to_be_visible()
            assert picture.evaluate("image => image.naturalWidth") > 100
    if any(kind.endswith("widget-view+json") for kind in held):
        expect(cell.locator(".jp-OutputArea-output .jupyter-widgets").first).to_be_visible()
    html = "".join(str(it["data"].get("text/html", "")) for it in outputs if "data" in it)
    for mark in ("iframe", "table"):
        if f"<{mark}" in html:
            expect(cell.locator(f".jp-OutputArea-output {mark}").first).to_be_visible()


def expect_break_the_sandbox(notebook: NotebookPage, cells: list[NotebookNode]) -> None:
    (number,) = [number for number, cell in enumerate(cells) if "fetch(" in cell.source]
    frame = notebook.cell(number).locator("iframe").content_frame
    # The frame that asks is in a frame that keeps it from going elsewhere.
    inner = frame.locator("iframe").content_frame if frame.locator("iframe").count() else frame
    expect(inner.locator("#told li")).to_have_count(4)
    for told in inner.locator("#told li").all_inner_texts():
        assert "stopped" in told


def expect_long_work(notebook: NotebookPage, cells: list[NotebookNode]) -> None:
    (number,) = [number for number, cell in enumerate(cells) if "input(" in cell.source]
    expect(notebook.outputs(number).last).to_contain_text(f"Welcome, {TYPED}")
    (number,) = [number for number, cell in enumerate(cells) if "@interact" in cell.source]
    cell = notebook.cell(number)
    printed = cell.locator(".jupyter-widgets-output-area, .widget-output").last
    expect(printed).to_contain_text("4 h: 168 containers")
    handle = cell.locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    expect(printed).to_contain_text("5 h: 210 containers")


def left_behind(server: LabServer, notebook: str) -> tuple[set[str], set[str], set[int]]:
    """What there is on the server: files, sessions, and processes started for that notebook."""
    folder = server.notebooks / "course"
    files = {str(path) for path in folder.rglob("*") if ".ipynb_checkpoints" not in path.parts}
    records = StateFile(server.notebooks.parent / "state").read().values()
    # A create that was cut short names no session.
    sessions = {record.session_id for record in records if record.session_id}
    return files, sessions, {it.pid for it in psutil.process_iter() if is_of(it, notebook)}


def is_of(process: psutil.Process, notebook: str) -> bool:
    """Was it started, by whichever way, for the notebook of that name?"""
    try:
        return process.environ().get("JPY_SESSION_NAME", "").endswith(f"/{notebook}")
    except psutil.Error:
        return False


# Runs in a page with each `make test`; all are executed without one there.
QUICK = "02-break-the-sandbox"
FURTHER = {
    QUICK: expect_break_the_sandbox,
    ANSWERED: expect_long_work,
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem != QUICK)) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_of_the_course(window: NotebookPage, path: Path) -> None:
    cells = code_cells(as_a_student_gets_it(path))
    files, sessions, processes = left_behind(window.server, path.name)
    kept = {str(window.server.notebooks / "course" / name) for name in KEPT.get(path.stem, ())}
    before = (files | kept, sessions, processes)
    with opened_notebook(window, path):
        window.restart_and_run_all()
        last = max(n for n, cell in enumerate(cells) if cell.source.strip())
        wait_for_the_end(window, last, folded=tagged(cells[last], "check"))
        if path.stem in FURTHER:
            FURTHER[path.stem](window, cells)
        executed = nbformat.reads(json.dumps(window.save(path.name)), as_version=4)
        if path.stem != ANSWERED:
            check(path.stem, executed)
        pairs = zip(code_cells(executed), code_cells(read(path)), strict=True)
        for number, (cell, stored) in enumerate(pairs):
            assert agree(cell, stored), cell.source
            failed = [output for output in cell.outputs if output.output_type == "error"]
            assert may_fail(cell) or not failed, cell.source
            expect_drawn(window, number, cell.outputs)
        assert not window.errors, f"errors in the page: {window.errors}"
        assert not window.outside, f"requests that left this machine: {window.outside}"
        assert left_behind(window.server, path.name)[2], "its kernel runs"
    deadline = time.monotonic() + ENDED_WITHIN_S
    while (left := left_behind(window.server, path.name)) != before:
        assert time.monotonic() < deadline, (left, before)
        time.sleep(0.2)
