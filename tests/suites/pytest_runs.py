"""A package's own tests, run once with each kernel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.suites.sources import Row, environment, source, tools

# The folder of the tests in the sdist, and the files that are left out: they start no kernel and
# need packages of cloud storage, or windows on a screen.
SUITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ipykernel": ("tests", ("test_eventloop.py", "test_matplotlib_eventloops.py")),
    "nbclient": ("tests", ()),
    "papermill": (
        "papermill/tests",
        ("test_abs.py", "test_adl.py", "test_gcs.py", "test_hdfs.py", "test_s3.py"),
    ),
    "nbconvert": ("tests", ()),
}
# A test that takes longer has failed. Minutes, because the machine may be busy.
TEST_S = 180
SUITE_S = 3600


def compare_suite(name: str, folder: Path, only: str, which: str = "ours") -> list[Row]:
    """The tests of a package in both kernels.

    Arguments:
        name: a key of `SUITES`.
        folder: where sources lie and what is made is kept.
        only: an expression for pytest's `-k`, or empty.
        which: what is compared with the stock kernel; see `environment`.
    """
    stock, ours = (_run(name, folder, only, one) for one in ("stock", which))
    missing = ("missing", "")
    return [
        Row(test, outcome, *ours.get(test, missing)) for test, (outcome, _) in sorted(stock.items())
    ]


def _run(name: str, folder: Path, only: str, which: str) -> dict[str, tuple[str, str]]:
    """Each test's outcome, and the end of what it reported."""
    tests, left_out = SUITES[name]
    origin, needed = source(name, folder), tools(folder)
    runs = folder / "runs"
    # Tests write beside themselves: each run has a copy.
    place = runs / f"{name}-{which}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(origin, place)
    report = runs / f"{name}-{which}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", tests, "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", f"--timeout={TEST_S}", "--continue-on-collection-errors"]
    # Warnings are errors in some suites, and new versions of pytest's plugins bring new ones.
    command += ["-W", "default", "-o", "asyncio_default_fixture_loop_scope=function"]
    command += [f"--ignore={tests}/{file}" for file in left_out]
    command += ["-k", only] if only else []
    assert needed.is_dir()
    with (runs / f"{name}-{which}.log").open("w") as log:
        subprocess.run(
            command,
            cwd=place,
            env=environment(folder, name, which),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=SUITE_S,
        )
    return dict(map(_outcome, ElementTree.parse(report).iter("testcase")))


def _outcome(case: ElementTree.Element) -> tuple[str, tuple[str, str]]:
    name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
    for kind, word in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if (element := case.find(kind)) is not None:
            text = element.get("message") or element.text or ""
            return name, (word, text[-600:])
    return name, ("passed", "")
