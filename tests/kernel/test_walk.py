"""Which files a cell passes in the kernel's process: the documentation lists just these."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.walked_kernel import FOLDER_VARIABLE
from tests.kernels import running_kernel

PAGE = Path(__file__).parents[2] / "docs" / "project" / "code.md"
ROW = re.compile(
    r"^\| `(?P<file>[a-z_/]+\.py)` \| [^|]+ \| (?P<bridged>✓?) ?\| (?P<direct>✓?) ?\|$"
)

THREADS = {
    "bridged": {"MainThread", "agentbay-feed", "agentbay-bridge", "agentbay-websocket"},
    "direct": {"MainThread", "agentbay-feed", "agentbay-websocket"},
}


def documented(execution: str) -> list[str]:
    """The files in the page's table for that execution."""
    rows = [found for line in PAGE.read_text().splitlines() if (found := ROW.match(line))]
    return [row["file"] for row in rows if row[execution]]


# `make test` has the longer way.
@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_a_print_passes_the_files_that_the_page_lists(
    execution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "walked"
    spec.mkdir(parents=True)
    flags = ["-f", "{connection_file}", "--AgentBayKernel.language=python"]
    script = str(Path(__file__).with_name("walked_kernel.py"))
    (spec / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, script, *flags],
                "display_name": "walked",
                "language": "python",
                "interrupt_mode": "message",
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    # The script's own folder must not be imported from.
    env = {"AGENTBAY_BACKEND": "local", "PYTHONSAFEPATH": "1", FOLDER_VARIABLE: str(tmp_path)}
    with running_kernel("walked", {**env, "AGENTBAY_EXECUTION": execution}) as kernel:
        for code in ("1", "print(2)"):
            kernel.run(code)
        (tmp_path / "begin").touch()
        assert kernel.run("print('walked')").text() == "walked\n"
        expected = documented(execution)
        # The last of a cell is done beside its reply.
        ends_at = time.monotonic() + 20
        files: set[str] = set()
        threads: set[str] = set()
        while time.monotonic() < ends_at and files != set(expected):
            steps = [line.split() for line in (tmp_path / "passed").read_text().splitlines()]
            files, threads = {file for file, _ in steps}, {thread for _, thread in steps}
            time.sleep(0.05)
        assert sorted(files) == sorted(expected)
        # None finds the manager or opens the session, which is open.
        assert threads == THREADS[execution]
