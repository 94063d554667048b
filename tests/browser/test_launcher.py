"""What JupyterLab's launcher offers, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab import NotebookPage

pytestmark = pytest.mark.browser


def test_launcher(notebook: NotebookPage) -> None:
    for kernel in ("AgentBay Python", "AgentBay JavaScript"):
        logo = notebook.card(kernel).locator("img")
        expect(logo).to_be_visible()
        assert logo.evaluate("image => image.complete && image.naturalWidth") > 0
