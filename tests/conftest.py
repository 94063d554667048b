"""What all tests share: a home of their own, and no skips under CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.ordering import pytest_collection_modifyitems as pytest_collection_modifyitems

# A busy machine draws slowly, and that is no fault.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("busy")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So does what a shell runs in the background, and all that it starts: no Ctrl-C would arrive.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turn skips into failures where CI promises that nothing is missing."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped under CI: {report.longrepr}"
