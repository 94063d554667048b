"""The programs of `docs/how-to/many-sandboxes.md` run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel.service import AgentBay
from tests.docs.test_guides import blocks

POOL, JOBLIB, DASK = blocks("how-to/many-sandboxes", "python")


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (
            POOL,
            [
                "About 0.2 minutes for the items.",
                "('row 0', False) ('row 99', True) 100",
            ],
        ),
        pytest.param(JOBLIB, ["4 True"], marks=pytest.mark.slow),
        pytest.param(DASK, ["328350"], marks=pytest.mark.slow),
    ],
    ids=["pool", "joblib", "dask"],
)
def test_the_pages_programs_run(
    service: AgentBay, tmp_path: Path, program: str, printed: list[str]
) -> None:
    file = tmp_path / "program.py"
    file.write_text(program)
    ran = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        env=os.environ,
        cwd=tmp_path,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line for line in printed if line not in lines] == [], ran.stdout
    if program == POOL:
        assert "AgentBay: score is sent with threshold (float)." in ran.stderr
        assert "100/100" in ran.stderr
    assert not list(service.list_all())
