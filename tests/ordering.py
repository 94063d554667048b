"""The order of the test files: those that take longest first, so that all workers end together.

Files of browser tests stay behind all others: what drives the browser keeps an event loop in its
thread, which the tests that come after it in the same process would find running.
"""

from __future__ import annotations

import pytest

# Seconds of one worker, about. A file that is not named counts as short.
LONG = {
    "tests/notebooks/test_notebooks.py": 200,
    "tests/sessions/test_taking_back.py": 120,
    "tests/fidelity/test_fidelity.py": 100,
    "tests/sessions/test_losses.py": 70,
    "tests/docs/test_guides.py": 50,
    "tests/notebooks/test_demo.py": 50,
    "tests/chaos/test_chaos.py": 50,
    "tests/sessions/test_endings.py": 45,
    "tests/browser/test_containment.py": 560,
    "tests/browser/test_course.py": 180,
    "tests/browser/test_mathematics.py": 330,
    "tests/browser/test_charts.py": 290,
    "tests/browser/test_heights.py": 60,
    "tests/browser/test_pictures.py": 50,
    "tests/browser/test_gallery.py": 40,
    "tests/browser/test_notebook.py": 35,
    "tests/browser/test_live.py": 30,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; within one, tests keep their order."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("browser") is not None,
            -LONG.get(item.nodeid.partition("::")[0], 0),
        )
    )
