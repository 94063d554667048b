"""A small part of the gallery: what people plot with, in a page as it is run and reopened."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.lab import LabServer
from tests.gallery.entries import GALLERY
from tests.gallery.test_gallery import Gallery, is_reopened, is_shown, is_untrusted

# `make test` shows these libraries in `test_containment.py`.
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_small_gallery(browser: Browser, server: LabServer) -> None:
    server.draw_all_cells()
    gallery = Gallery(browser, server, [entry for entry in GALLERY if entry.small])
    gallery.run()
    gallery.reopen()
    misses = gallery.misses("JupyterLab", is_shown) + gallery.misses("reopened", is_reopened)
    assert not misses + gallery.misses("untrusted", is_untrusted)
