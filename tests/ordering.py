"""The order of the test files: those that take longest first, so that all workers end together.

Files of browser tests stay behind all others: what drives the browser keeps an event loop in its
thread, which the tests that come after it in the same process would find running.
"""

from __future__ import annotations

import pytest

# Seconds of one worker, about. A file that is not named counts as short.
LONG = {
    "tests/docs/test_guides.py": 50,
    "tests/kernel/test_debugger.py": 45,
    "tests/notebooks/test_notebooks.py": 30,
    "tests/execution/test_tunnel.py": 60,
    "tests/grading/test_grade.py": 40,
    "tests/fidelity/test_fidelity.py": 45,
    "tests/containment/test_charts.py": 28,
    "tests/sessions/test_taking_back.py": 25,
    "tests/execution/test_display_hooks.py": 25,
    "tests/execution/test_javascript_table.py": 25,
    "tests/local/test_watch.py": 20,
    "tests/containment/test_hostile_sizes.py": 30,
    "tests/cli/test_run.py": 25,
    "tests/local/test_output_limits.py": 25,
    "tests/cli/test_run_many.py": 25,
    "tests/kernel/test_payloads.py": 12,
    "tests/cli/test_doctor.py": 20,
    "tests/exchange/test_files.py": 15,
    "tests/local/test_bounded.py": 20,
    "tests/docs/test_docs.py": 35,
    "tests/sessions/test_manager.py": 25,
    "tests/sessions/test_losses.py": 20,
    "tests/exchange/test_routes.py": 10,
    "tests/kernel/test_interrupt.py": 20,
    "tests/containment/test_bundle.py": 30,
    "tests/sessions/test_endings.py": 15,
    "tests/local/test_life.py": 20,
    "tests/executor/test_limits.py": 15,
    "tests/chaos/test_chaos.py": 25,
}

# xdist gives a worker its next file while two tests of the last one are left, so a long file of one
# or two tests brings the file behind it to the same worker.
BROWSER = (
    *("containment", "heights"),
    *("charts", "site"),
    *("course", "mathematics", "debugger"),
    *("frames", "notebook"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; within one, tests keep their order."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        file = item.nodeid.partition("::")[0]
        if item.get_closest_marker("browser") is None:
            return (False, -LONG.get(file, 0))
        name = file.removeprefix("tests/browser/test_").removesuffix(".py")
        return (True, BROWSER.index(name) if name in BROWSER else len(BROWSER))

    items.sort(key=place)
