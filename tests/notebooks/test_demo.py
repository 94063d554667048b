"""`make demo`: the first notebook, executed, and what it says when that fails."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebooks.course import FOLDER, SETTINGS, Outputs, agree, code_cells, read
from tests.notebooks.test_notebooks import check

NAME = "01-first-steps"


def demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it, with the results in that folder."""
    return subprocess.run(
        [sys.executable, FOLDER / "run_demo.py", folder],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_make_demo(tmp_path: Path) -> None:
    done = demo(tmp_path, **SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "THIS machine" in done.stdout
    assert f"Result: {tmp_path / NAME}.html" in done.stdout
    assert "Ran:    20 of 20 code cells (3 of them JavaScript)" in done.stdout
    executed, stored = read(tmp_path / f"{NAME}.ipynb"), read(FOLDER / f"{NAME}.ipynb")
    check(NAME, executed)
    for cell, before in zip(code_cells(executed), code_cells(stored), strict=True):
        assert agree(cell, before), cell.source
    page = (tmp_path / f"{NAME}.html").read_text()
    assert "data:image/png;base64," in page
    assert "1505 containers on 4 ships" in page
    # The files of the cells are the sandbox's, not the checkout's.
    assert not (FOLDER / "ships.json").exists()
    assert (tmp_path / "total.txt").read_text() == "1505 containers on 4 ships"


def test_make_demo_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A service that refuses connections: the first cell fails, as it must not.
    for name, value in (
        ("AGENTBAY_BACKEND", "cloud"),
        ("AGENTBAY_API_KEY", "akm-test"),
        ("AGENTBAY_ENDPOINT", "http://127.0.0.1:9"),
    ):
        monkeypatch.setenv(name, value)
    script = FOLDER / "run_demo.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    assert runpy.run_path(str(script))["main"]() == 1
    done = capsys.readouterr()
    assert "the AgentBay service" in done.out
    assert "A cell failed that was not meant to" in done.err
    assert "127.0.0.1" in done.err
    assert "Traceback" not in done.err
    assert "akm-test" not in done.out + done.err
    # What was executed is kept, the error included.
    assert Outputs(read(tmp_path / f"{NAME}.ipynb"), "berths = {").error.evalue
