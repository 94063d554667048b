"""The direction of imports between the parts: the contracts stand in pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_no_part_uses_what_is_above_it_and_there_is_no_circle() -> None:
    checked = lint_imports(CHECKOUT)
    assert checked.returncode == 0, checked.stdout
    assert "3 kept, 0 broken" in checked.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("service/code.py", "from agentbay_kernel.sessions.manager import SessionManager"),
        (
            "execution/messages.py",
            "from agentbay_kernel.execution.bridge.client import BridgeClient",
        ),
        ("service/results.py", "from agentbay_kernel.service.session import Session"),
        ("sandbox/exchange/values.py", "from agentbay_kernel.sandbox.exchange import tables"),
    ],
)
def test_an_import_that_runs_up_or_in_a_circle_is_found(
    tmp_path: Path, module: str, line: str
) -> None:
    for name in ("agentbay_kernel", "pyproject.toml"):
        subprocess.run(["cp", "-r", CHECKOUT / name, tmp_path / name], check=True)
    file = tmp_path / "agentbay_kernel" / module
    file.write_text(f"{file.read_text(encoding='utf-8')}\n\nif False:\n    {line}\n", "utf-8")
    assert lint_imports(tmp_path).returncode == 1


def test_the_picture_has_the_folders_and_what_they_use() -> None:
    folders = {path.parent.name for path in (CHECKOUT / "agentbay_kernel").glob("*/__init__.py")}
    graph = grimp.build_graph("agentbay_kernel")
    uses: dict[str, set[str]] = {
        part: {
            other
            for other in folders - {part}
            if graph.find_shortest_chains(
                f"agentbay_kernel.{part}", f"agentbay_kernel.{other}", as_packages=True
            )
        }
        for part in folders
    }
    # An arrow that follows from two others is left out.
    arrows = {
        (part, other)
        for part in folders
        for other in uses[part]
        if not any(other in uses[between] for between in uses[part] - {other})
    }
    picture = (CHECKOUT / "docs" / "project" / "architecture.dot").read_text("utf-8")
    assert set(re.findall(r"^    (\w+) \[label=", picture, re.MULTILINE)) == folders
    assert set(re.findall(r"^    (\w+) -> (\w+);", picture, re.MULTILINE)) == arrows
