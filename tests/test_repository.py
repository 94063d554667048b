"""What lies around the code for those who work on it: checks at a commit, forms of issues."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from agentbay_kernel import errors

CHECKOUT = Path(__file__).resolve().parents[1]
PRE_COMMIT = Path(sys.executable).with_name("pre-commit")


def test_checks_at_a_commit_find_a_fault(tmp_path: Path) -> None:
    if not (CHECKOUT / ".venv").is_dir():
        pytest.skip("the checks are programs of the checkout's .venv: make setup")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(CHECKOUT / ".venv")
    (tmp_path / "module.py").write_text(
        "from __future__ import annotations\n\nprint( undefined )\n"
    )
    for command in (["git", "init", "-q"], ["git", "add", "module.py", ".pre-commit-config.yaml"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(
        [PRE_COMMIT, "run", "--files", "module.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SKIP": "mypy"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "F821" in done.stdout
    # The formatter mends what it finds.
    assert "print(undefined)" in (tmp_path / "module.py").read_text()


def test_forms_of_issues_ask_for_what_helps() -> None:
    folder = CHECKOUT / ".github" / "ISSUE_TEMPLATE"
    if not folder.is_dir():
        pytest.skip("an sdist has no forms of issues")
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    asked = {part.get("id"): part["attributes"] for part in forms["bug"]["body"]}
    assert asked["doctor"]["label"] == "jupyter agentbay doctor --json"
    (named,) = re.findall(r"`(\w+Error)`", str(forms["bug"]["body"]))
    assert issubclass(getattr(errors, named), errors.AgentBayError)
