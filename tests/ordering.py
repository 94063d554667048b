"""The order of the test files: those that take longest first, so that all workers end together.

Files of browser tests stay behind all others: what drives the browser keeps an event loop in its
thread, which the tests that come after it in the same process would find running.
"""

from __future__ import annotations

import pytest

# Seconds of one worker, about. A file that is not named counts as short.
LONG = {
    "tests/browser/test_course.py": 200,
    "tests/browser/test_containment.py": 200,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; within one, tests keep their order."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("browser") is not None,
            -LONG.get(item.nodeid.partition("::")[0], 0),
        )
    )
