"""What all tests share: a home of their own, and no skips under CI."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine draws slowly, and that is no fault.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty HOME without AgentBay settings, for this process and all its children."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AGENTBAY_", "JUPYTER_")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        # The official SDK writes a log into the working directory unless told otherwise.
        patch.setenv("AGENTBAY_LOG_FILE", str(folder / "sdk.log"))
        patch.setenv("AGENTBAY_LOG_LEVEL", "CRITICAL")
        # No .env file above the checkout may be found.
        patch.chdir(folder)
        yield folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files: those that may take long first, so that workers end at about the same time.

    Browser tests come last: what drives the browser keeps an event loop in this thread.
    """
    longest: Counter[Path] = Counter()
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            longest[item.path] = max(longest[item.path], limit.args[0])
    items.sort(key=lambda it: (it.get_closest_marker("browser") is not None, -longest[it.path]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turn skips into failures where CI promises that nothing is missing."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped under CI: {report.longrepr}"
