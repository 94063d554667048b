"""One JupyterLab server and one Chromium for all browser tests; a window for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import (
    PATIENCE_MS,
    LabServer,
    NotebookPage,
    chromium,
    find_chromium,
    lab_server,
    opened_window,
)

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or a skip that says what is missing."""
    path = find_chromium()
    if path is None:
        pytest.skip("Chromium was not found: install it, or name it in CHROMIUM")
    with chromium(path) as running:
        yield running


@pytest.fixture(scope="session")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """JupyterLab, with the local runtime as the kernels' place."""
    folder = tmp_path_factory.mktemp("lab") / "home"
    settings = {"AGENTBAY_BACKEND": "local", "AGENTBAY_STATE_DIR": str(folder / "state")}
    with lab_server(folder, **settings) as running:
        yield running


@pytest.fixture
def notebook(
    browser: Browser, server: LabServer, request: pytest.FixtureRequest
) -> Iterator[NotebookPage]:
    """A fresh window on JupyterLab's launcher; a picture of a failure is kept."""
    folder = request.node.originalname.removeprefix("test_").replace("_", "-")
    failures = request.session.testsfailed
    with opened_window(browser, server, folder) as opened:
        opened.open_launcher()
        yield opened
        if request.session.testsfailed > failures:
            opened.take_picture(folder)
