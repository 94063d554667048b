"""One JupyterLab server and one Chromium for all browser tests; a window for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import LabServer, NotebookPage, chromium, find_chromium, lab_server

# On a busy machine a restart with a new session takes longer than Playwright's 5 seconds.
PATIENCE_MS = 30_000
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
    with lab_server(tmp_path_factory.mktemp("lab") / "home", AGENTBAY_BACKEND="local") as running:
        yield running


@pytest.fixture
def notebook(
    browser: Browser, server: LabServer, request: pytest.FixtureRequest
) -> Iterator[NotebookPage]:
    """A fresh window on JupyterLab's launcher; pictures of its end are kept, light and dark."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 960}, locale="en-US", color_scheme="light"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    folder = request.node.originalname.removeprefix("test_").replace("_", "-")
    opened = NotebookPage(server, page, folder)
    try:
        opened.open_launcher()
        yield opened
        assert not opened.errors, f"errors in the page: {opened.errors}"
        assert not opened.outside, f"requests that left this machine: {opened.outside}"
    finally:
        # Also of a failure, to see why.
        opened.take_pictures()
        context.close()
        server.shut_down_kernels(folder)
