"""The gallery's browser: the one of the browser tests."""

from __future__ import annotations

from tests.browser.conftest import browser as browser
