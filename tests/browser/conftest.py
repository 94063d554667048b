"""One JupyterLab server and one Chromium for all browser tests; a window for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from tests.browser.lab import LabServer, NotebookPage, chromium, find_chromium, lab_server


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
    """A fresh window on JupyterLab's launcher; dark where the test's parameter says so."""
    scheme: Literal["light", "dark"] = getattr(request, "param", "light")
    context = browser.new_context(
        viewport={"width": 1280, "height": 960}, locale="en-US", color_scheme=scheme
    )
    context.set_default_timeout(30_000)
    page = context.new_page()
    folder = f"{request.node.originalname}-{scheme}".removeprefix("test_").replace("_", "-")
    opened = NotebookPage(server, page, folder)
    try:
        opened.open_launcher()
        yield opened
        assert not opened.errors, f"errors in the page: {opened.errors}"
        assert not opened.outside, f"requests that left this machine: {opened.outside}"
    finally:
        # Also of a failure, to see why.
        opened.screenshot(folder)
        context.close()
        server.shut_down_kernels(folder)
