"""The line that says how to fix a remote error."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentbay_kernel.verbs.hints import Here, find_hint


@pytest.fixture
def here(tmp_path: Path) -> Here:
    (tmp_path / "data.csv").touch()
    (tmp_path / "two words.csv").touch()
    (tmp_path / ".env").touch()
    return Here(tmp_path, {"df": 1})


MISSING = "[Errno 2] No such file or directory: "


@pytest.mark.parametrize(
    ("ename", "evalue", "hint"),
    [
        ("NameError", "name 'df' is not defined", "`-i df`"),
        ("NameError", "name 'df' is not defined. Did you mean: 'dir'?", "`-i df`"),
        ("ReferenceError", "df is not defined", "`-i df`"),
        ("FileNotFoundError", f"{MISSING}'data.csv'", "`%agentbay upload data.csv`"),
        ("FileNotFoundError", f"{MISSING}'two words.csv'", "`%agentbay upload 'two words.csv'`"),
        ("Error", "ENOENT: no such file or directory, open 'data.csv'", "upload data.csv`"),
        ("ModuleNotFoundError", "No module named 'traitlets.config'", "`%pip install traitlets`"),
        ("ModuleNotFoundError", "No module named 'dateutil'", "install python-dateutil`"),
    ],
)
def test_a_hint_is_given(here: Here, ename: str, evalue: str, hint: str) -> None:
    told = find_hint(ename, evalue, here)
    assert told is not None and hint in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("ename", "evalue"),
    [
        ("NameError", "name 'other' is not defined"),
        ("FileNotFoundError", f"{MISSING}'other.csv'"),
        ("FileNotFoundError", f"{MISSING}'.env'"),
        ("FileNotFoundError", f"{MISSING}'/etc/passwd'"),
        ("FileNotFoundError", f"{MISSING}'../'"),
        ("FileNotFoundError", f"{MISSING}'.'"),
        ("ModuleNotFoundError", "No module named 'surely_not_installed'"),
        ("ValueError", "name 'df' is not defined"),
        ("ZeroDivisionError", "division by zero"),
    ],
)
def test_where_nothing_here_helps_nothing_is_said(here: Here, ename: str, evalue: str) -> None:
    assert find_hint(ename, evalue, here) is None


def test_no_hint_leads_untrusted_cells_to_this_machine(here: Here) -> None:
    untrusted = Here(here.folder, here.names, untrusted=True)
    assert find_hint("NameError", "name 'df' is not defined", untrusted) is None
    assert find_hint("FileNotFoundError", f"{MISSING}'data.csv'", untrusted) is None
