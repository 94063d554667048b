"""The order of the test files: those that take longest first, so that all workers end together.

Files of browser tests stay behind all others: what drives the browser keeps an event loop in its
thread, which the tests that come after it in the same process would find running.
"""

from __future__ import annotations

import pytest

# Seconds of one worker, about. A file that is not named counts as short.
LONG = {
    "tests/sessions/test_taking_back.py": 60,
    "tests/notebooks/test_notebooks.py": 180,
    "tests/execution/test_tunnel.py": 60,
    "tests/local/test_output_limits.py": 60,
    "tests/fidelity/test_fidelity.py": 60,
    "tests/containment/test_charts.py": 60,
    "tests/sessions/test_losses.py": 50,
    "tests/kernel/test_payloads.py": 40,
    "tests/docs/test_commands.py": 80,
    "tests/docs/test_guides.py": 60,
    "tests/docs/test_docs.py": 25,
    "tests/chaos/test_chaos.py": 30,
    "tests/kernel/test_interrupt.py": 30,
    "tests/grading/test_grade.py": 30,
    "tests/notebooks/test_submission_notebooks.py": 30,
    "tests/local/test_bounded.py": 30,
    "tests/local/test_watch.py": 30,
    "tests/sessions/test_manager.py": 25,
    "tests/sessions/test_endings.py": 20,
    "tests/cli/test_run_many.py": 20,
    "tests/service/test_files_and_jobs.py": 15,
    "tests/browser/test_containment.py": 200,
    "tests/browser/test_charts.py": 70,
    "tests/browser/test_frames.py": 60,
    "tests/browser/test_mathematics.py": 50,
    "tests/browser/test_heights.py": 40,
    "tests/browser/test_site.py": 50,
    "tests/browser/test_pictures.py": 30,
    "tests/browser/test_course.py": 30,
    "tests/browser/test_notebook.py": 30,
    "tests/browser/test_live.py": 25,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; within one, tests keep their order."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("browser") is not None,
            -LONG.get(item.nodeid.partition("::")[0], 0),
        )
    )
