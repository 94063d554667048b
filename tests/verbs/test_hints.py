"""The line that says how to fix a remote error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentbay_kernel.verbs.hints import Here, find_hint, find_javascript_hint


@pytest.fixture
def here(tmp_path: Path) -> Here:
    (tmp_path / "data.csv").touch()
    (tmp_path / "two words.csv").touch()
    (tmp_path / ".env").touch()
    (tmp_path / "own.py").touch()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").touch()
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
        ("ModuleNotFoundError", "No module named 'traitlets'", "`%pip install traitlets`"),
        ("ModuleNotFoundError", "No module named 'traitlets.x'", "install --upgrade traitlets`"),
        ("ModuleNotFoundError", "No module named 'cv2'", "install opencv-python-headless`"),
        ("ModuleNotFoundError", "No module named 'sklearn'", '`pip = ["scikit-learn"]`'),
        ("ModuleNotFoundError", "No module named 'surely_not_installed'", "surely_not_installed`"),
        ("ModuleNotFoundError", "No module named 'own'", "`%agentbay upload own.py`"),
        ("ModuleNotFoundError", "No module named 'tools'", "`%agentbay upload tools`"),
        ("ModuleNotFoundError", "No module named 'dateutil'", "install python-dateutil`"),
    ],
)
def test_a_hint_is_given(here: Here, ename: str, evalue: str, hint: str) -> None:
    told = find_hint(ename, evalue, here)
    assert told is not None and hint in told
    assert told.count("\n") <= 1


@pytest.mark.parametrize(
    ("ename", "evalue"),
    [
        ("NameError", "name 'other' is not defined"),
        ("FileNotFoundError", f"{MISSING}'other.csv'"),
        ("FileNotFoundError", f"{MISSING}'.env'"),
        ("FileNotFoundError", f"{MISSING}'/etc/passwd'"),
        ("FileNotFoundError", f"{MISSING}'../'"),
        ("FileNotFoundError", f"{MISSING}'.'"),
        ("ModuleNotFoundError", "No module named 'surely.not_installed'"),
        ("ModuleNotFoundError", "No module named 'tkinter'"),
        ("ModuleNotFoundError", "No module named 'urllib2'"),
        ("ModuleNotFoundError", "No module named 'google.colab'"),
        ("ModuleNotFoundError", "No module named 'x; rm'"),
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
    told = find_hint("ModuleNotFoundError", "No module named 'own'", untrusted)
    assert told is not None and "upload" not in told


def test_an_error_names_no_package_to_be_installed_on_this_machine(here: Here) -> None:
    offline = replace(here, sandbox_has=("numpy", "pandas"), offline_python="/usr/bin/python3")
    told = find_hint("ModuleNotFoundError", "No module named 'evil_thing'", offline)
    assert told is not None and "pip install" not in told
    assert "It has numpy, pandas; `%pip list` lists all." in told
    told = find_hint("ModuleNotFoundError", "No module named 'cv2'", offline)
    assert told is not None
    assert told.endswith("terminal: /usr/bin/python3 -m pip install opencv-python-headless")


@pytest.mark.parametrize(
    ("ename", "evalue", "code", "direct", "hint"),
    [
        ("SyntaxError", "Unexpected token ':'", "let a: string", False, "looks like TypeScript"),
        ("SyntaxError", "Unexpected token '<'", "a = <b/>", True, "looks like JSX"),
        ("SyntaxError", "Unexpected identifier", "!echo x", True, "`!command`"),
        ("ReferenceError", "prompt is not defined", "prompt()", True, "prompt() needs bridged"),
        ("Error", "Cannot find module 'd3/x'\nRequire stack:", "", False, '`npm = ["d3"]`'),
        ("Error", "Cannot find package '@a/b' from x", "", True, '`npm = ["@a/b"]`'),
    ],
)
def test_a_hint_for_javascript(ename: str, evalue: str, code: str, direct: bool, hint: str) -> None:
    told = find_javascript_hint(ename, evalue, code, direct=direct)
    assert told is not None and hint in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("ename", "evalue", "code", "direct"),
    [
        ("SyntaxError", "Unexpected token ';'", "let a = ;", False),
        ("SyntaxError", "Unexpected identifier", "!echo x", False),
        ("TypeError", "Unexpected token ':'", "let a: string", False),
        ("ReferenceError", "prompt is not defined", "prompt()", False),
        ("ReferenceError", "prompter is not defined", "prompter()", True),
        ("Error", "Cannot find module './own.js'\nRequire stack:", "", False),
        ("Error", "Cannot find module '/own.js'\nRequire stack:", "", False),
    ],
)
def test_no_hint_for_javascript(ename: str, evalue: str, code: str, direct: bool) -> None:
    assert find_javascript_hint(ename, evalue, code, direct=direct) is None
