"""Files that a sandbox wrote are data here: nothing on this machine runs or obeys them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import marshal
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VerbContext, run_verb

TAG = sys.implementation.cache_tag
MARK = "ran.txt"
EVIL = f"open({MARK!r}, 'a').write('x')\n"


def byte_code() -> bytes:
    """A .pyc that is used whatever its source is: its flags say not to look (PEP 552)."""
    code = compile(EVIL, "helper.py", "exec")
    return importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + b"\0" * 8 + marshal.dumps(code)


@pytest.fixture(scope="module")
def manager(home: Path) -> Iterator[SessionManager]:
    """A session of the local runtime."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTBAY_BACKEND", "local")
        with contextlib.closing(SessionManager(load_settings())) as manager:
            yield manager


Fetch = Callable[..., str]


@pytest.fixture
def fetch(manager: SessionManager, tmp_path: Path) -> Fetch:
    """Makes files in a new folder of the sandbox, then downloads into `tmp_path`."""
    live = manager.open(language="python")

    def run(line: str, files: dict[str, bytes], **settings: Any) -> str:
        made = {name: data.hex() for name, data in files.items()}
        code = (
            "import json, os, tempfile\n"
            "top = tempfile.mkdtemp()\n"
            f"for name, data in json.loads({json.dumps(json.dumps(made))}).items():\n"
            "    path = os.path.join(top, name)\n"
            "    os.makedirs(os.path.dirname(path), exist_ok=True)\n"
            "    open(path, 'wb').write(bytes.fromhex(data))\n"
            "print(top)"
        )
        result = live.session.code.run_code(code, "python", 30)
        assert result.success, result.error_message
        top = "".join(result.logs.stdout).strip()
        chosen = load_settings()
        chosen.set_trait("backend", "local")
        for name, value in settings.items():
            chosen.set_trait(name, value)
        context = VerbContext(tmp_path, chosen, "kernel")
        shown = ""
        for message in run_verb(line.replace("TOP", top), manager, context):
            shown = message.content["data"]["text/plain"]
        return shown

    return run


PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
IMPORT = [sys.executable, "-c", "import helper; print(helper.mine)"]
OWN = {
    "helper.py": "mine = 'mine'\n",
    "test_own.py": "import helper\ndef test_own():\n    assert helper.mine == 'mine'\n",
}
# What a cell downloads, and what the user does afterwards in the notebook's folder.
RUNS: dict[str, tuple[str, dict[str, bytes], list[str]]] = {
    "byte code of an own module": (
        "download TOP/a.pyc __pycache__/helper.{tag}.pyc",
        {"a.pyc": byte_code()},
        IMPORT,
    ),
    "byte code in a folder": (
        "download TOP/__pycache__",
        {f"__pycache__/helper.{TAG}.pyc": byte_code()},
        IMPORT,
    ),
    "byte code in other letters": (
        "download TOP/a.pyc __PyCache__/helper.{tag}.pyc",
        {"a.pyc": byte_code()},
        IMPORT,
    ),
    "a package before an own module": (
        "download TOP/helper",
        {"helper/__init__.py": EVIL.encode()},
        IMPORT,
    ),
    "byte code without a source": (
        "download TOP/helper",
        {"helper/__init__.pyc": byte_code()},
        IMPORT,
    ),
    "a conftest.py deeper": (
        "download TOP/testing_mine",
        {"testing_mine/conftest.py": EVIL.encode()},
        PYTEST,
    ),
    "a test file": ("download TOP/test_it.py", {"test_it.py": EVIL.encode()}, PYTEST),
    "a doctest in a text": (
        "download TOP/test_it.txt",
        {"test_it.txt": f">>> {EVIL}".encode()},
        PYTEST,
    ),
    "a doctest in a text of a folder": (
        "download TOP/results",
        {"results/Test.txt": b"", "results/test_1.txt": f">>> {EVIL}".encode()},
        PYTEST,
    ),
    "pytest's own configuration": (
        "download TOP/sub .",
        {
            "sub/pytest.ini": b"[pytest]\npython_files = *.py\n",
            "sub/results.py": EVIL.encode(),
            "sub/conftest.py": EVIL.encode(),
        },
        PYTEST,
    ),
    "what pytest takes for our own conftest": (
        "download TOP/conftest from-sandbox/",
        {"conftest/__init__.py": EVIL.encode()},
        PYTEST,
    ),
    "our own conftest": (
        "download TOP/conftest.py --force",
        {"conftest.py": EVIL.encode()},
        PYTEST,
    ),
    "modules beside our own conftest": (
        "download TOP/from-sandbox --force",
        {"from-sandbox/helper.py": EVIL.encode(), "from-sandbox/__init__.py": EVIL.encode()},
        PYTEST,
    ),
    "Jupyter's configuration": (
        "download TOP/jupyter_nbconvert_config.py",
        {"jupyter_nbconvert_config.py": EVIL.encode()},
        [sys.executable, "-m", "nbconvert", "nothing.ipynb"],
    ),
    "Jupyter's configuration as data": (
        "download TOP/jupyter_nbconvert_config.json",
        {
            "jupyter_nbconvert_config.json": json.dumps(
                {"NbConvertApp": {"export_format": "evil.Exporter"}}
            ).encode(),
        },
        [sys.executable, "-m", "nbconvert", "nothing.ipynb"],
    ),
    "a package's settings": (
        "download TOP/setup.cfg",
        {"setup.cfg": b"[tool:pytest]\naddopts = --pyargs this\n"},
        PYTEST,
    ),
    "pytest's plugins": (
        "download TOP/x.egg-info",
        {
            "x.egg-info/entry_points.txt": b"[pytest11]\nx = this\n",
            "x.egg-info/PKG-INFO": b"Name: x",
        },
        [*PYTEST, "-s"],
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_nothing_runs_what_was_downloaded(fetch: Fetch, tmp_path: Path, kind: str) -> None:
    line, files, command = RUNS[kind]
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)

    def outcome() -> tuple[int, str]:
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    before, _ = outcome()
    with contextlib.suppress(AgentBayError):
        fetch(line.replace("{tag}", TAG or ""), files)
    after, printed = outcome()
    assert not list(tmp_path.rglob(MARK)), printed
    assert (before, "Zen of Python" in printed, "evil" in printed) == (after, False, False), printed
