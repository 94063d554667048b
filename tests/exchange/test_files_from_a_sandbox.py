"""Files that a sandbox wrote are data here: nothing on this machine runs or obeys them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import marshal
import os
import subprocess
import sys
import tempfile
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


PYTEST_AND_PLUGINS = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
# The plugins of our own environment take seconds to start, and do nothing here.
PYTEST = [*PYTEST_AND_PLUGINS, "--disable-plugin-autoload"]
# As pytest finds its plugins.
ENTRY_POINTS = [
    sys.executable,
    "-c",
    "import importlib.metadata as m\n"
    "[it.load() for it in m.entry_points(group='pytest11') if it.value == 'this']",
]
# It starts slowly: `make test` has the plugins by what finds them.
SLOW = ("pytest's plugins",)
# These show nothing without the conftest.py that a download writes.
BESIDE_OUR_CONFTEST = ("what pytest takes for our own conftest", "modules beside our own conftest")
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
    "a package's settings": (
        "download TOP/setup.cfg",
        {"setup.cfg": b"[tool:pytest]\naddopts = --pyargs this\n"},
        PYTEST,
    ),
    "a package's entry points": (
        "download TOP/x.egg-info",
        {
            "x.egg-info/entry_points.txt": b"[pytest11]\nx = this\n",
            "x.egg-info/PKG-INFO": b"Name: x",
        },
        ENTRY_POINTS,
    ),
    "pytest's plugins": (
        "download TOP/x.egg-info",
        {
            "x.egg-info/entry_points.txt": b"[pytest11]\nx = this\n",
            "x.egg-info/PKG-INFO": b"Name: x",
        },
        PYTEST_AND_PLUGINS,
    ),
}


def outcome(command: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """The status and the output of a command in a notebook's folder."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@functools.cache
def usual_status(command: tuple[str, ...]) -> int:
    """The status of a command where nothing was downloaded."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in OWN.items():
            Path(folder, name).write_text(text)
        return outcome(command, Path(folder))[0]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in RUNS],
)
def test_nothing_runs_what_was_downloaded(fetch: Fetch, tmp_path: Path, kind: str) -> None:
    line, files, command = RUNS[kind]
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    with contextlib.suppress(AgentBayError):
        fetch(line.replace("{tag}", TAG or ""), files)
    status, printed = outcome(tuple(command), tmp_path)
    assert not list(tmp_path.rglob(MARK)), printed
    assert "Zen of Python" not in printed and "evil" not in printed
    assert status == usual_status(tuple(command)), printed


def put_where_asked(line: str, files: dict[str, bytes], folder: Path) -> None:
    """Write the files where a download without any rule would have them."""
    source, *target = [word for word in line.split()[1:] if not word.startswith("--")]
    top = source.removeprefix("TOP/")
    wanted = folder / (target[0] if target else Path(top).name)
    for name, data in files.items():
        path = wanted / name.removeprefix(top).lstrip("/") if name != top else wanted
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# `make test` has one of them: they show that the test above can fail.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "a package before an own module"))
        for kind in RUNS
        if kind not in BESIDE_OUR_CONFTEST
    ],
)
def test_it_would_run_where_it_was_asked_for(tmp_path: Path, kind: str) -> None:
    line, files, command = RUNS[kind]
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    put_where_asked(line.replace("{tag}", TAG or ""), files, tmp_path)
    status, printed = outcome(tuple(command), tmp_path)
    ran = list(tmp_path.rglob(MARK)) or "Zen of Python" in printed
    assert ran or status != usual_status(tuple(command)), printed


# Other versions of Jupyter read these from the working directory, so their place is what is shown.
@pytest.mark.parametrize("kind", ["py", "json"])
def test_what_other_versions_of_jupyter_obey_is_kept_apart(
    fetch: Fetch, tmp_path: Path, kind: str
) -> None:
    name = f"jupyter_nbconvert_config.{kind}"
    fetch(f"download TOP/{name}", {name: b"{}"})
    assert listed(tmp_path) == {f"from-sandbox/{name}"}


# Other systems don't tell capital letters from small ones.
def test_byte_code_in_other_letters_is_refused(fetch: Fetch, tmp_path: Path) -> None:
    with pytest.raises(AgentBayError, match="__PyCache__"):
        fetch(f"download TOP/a.pyc __PyCache__/helper.{TAG}.pyc", {"a.pyc": byte_code()})
    assert listed(tmp_path) == set()


def listed(folder: Path) -> set[str]:
    """All files below a folder, without our own."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return found - {"from-sandbox/conftest.py"}


def test_data_is_where_it_was_asked_for_and_the_rest_is_not(fetch: Fetch, tmp_path: Path) -> None:
    files = dict.fromkeys(
        (
            *("results/a.csv", "results/sub/plot.PNG", "results/run.py", "results/Makefile"),
            *("results/sub/page.html", "results/out.parquet/part-0.parquet", "results/model.pkl"),
            "results/.hidden/x.csv",
        ),
        b"x",
    )
    files["results/__pycache__/run.pyc"] = b"x"
    (tmp_path / "results/sub").mkdir(parents=True)
    shown = fetch("download TOP/results", files)
    data = {"results/a.csv", "results/sub/plot.PNG", "results/out.parquet/part-0.parquet"}
    rest = {f"from-sandbox/results/{name}" for name in ("run.py", "Makefile", "sub/page.html")}
    assert listed(tmp_path) == data | rest | {"results/model.pkl"}
    assert "Downloaded 7 files, 7 bytes, to results" in shown
    assert "3 files are not data: they are below from-sandbox/: Makefile, run.py, page" in shown
    assert "model.pkl: loading it can run code" in shown
    assert "2 links, special files" in shown and "__pycache__" in shown


def test_what_was_moved_is_found_again(fetch: Fetch, tmp_path: Path) -> None:
    files = {"code/run.py": b"x", "code/a.csv": b"x"}
    fetch("download TOP/code", files)
    shown = fetch("download TOP/code", files)
    assert "2 files are there already" in shown
    with pytest.raises(AgentBayError, match=r"from-sandbox/code/run\.py is here already"):
        fetch("download TOP/code", {**files, "code/run.py": b"y"})
    fetch("download TOP/code --force", {**files, "code/run.py": b"y"})
    assert (tmp_path / "from-sandbox/code/run.py").read_bytes() == b"y"
    assert listed(tmp_path) == {"code/a.csv", "from-sandbox/code/run.py"}


def test_one_file_that_is_not_data(fetch: Fetch, tmp_path: Path) -> None:
    shown = fetch("download TOP/run.py scripts/", {"run.py": b"x"})
    assert "to from-sandbox/scripts/run.py" in shown and "run.py is not data" in shown
    shown = fetch("download TOP/run.py from-sandbox/mine.py", {"run.py": b"x"})
    assert "to from-sandbox/mine.py" in shown
    assert listed(tmp_path) == {"from-sandbox/scripts/run.py", "from-sandbox/mine.py"}


def test_configuration_allows_more_but_never_byte_code(fetch: Fetch, tmp_path: Path) -> None:
    files = {"a.svg": b"x", "a.pyc": byte_code(), "conftest.py": b"x", "own.py": b"x"}
    allowed = {"download_endings": ["svg", "PY", "pyc"]}
    fetch("download TOP/a.svg", files, **allowed)
    fetch("download TOP/own.py", files, **allowed)
    fetch("download TOP/own.py random.py", files, **allowed)
    for name in (f"__pycache__/own.{TAG}.pyc", "conftest.py", ".own.py"):
        with pytest.raises(AgentBayError, match=r"Nothing was (read or )?written"):
            fetch(f"download TOP/a.pyc {name}", files, **allowed)
    assert listed(tmp_path) == {"a.svg", "own.py", "from-sandbox/random.py"}


def test_a_cell_can_not_allow_more(manager: SessionManager, tmp_path: Path) -> None:
    context = VerbContext(tmp_path, load_settings(), "kernel")
    with pytest.raises(AgentBayError, match="download_endings"):
        list(run_verb("config download_endings=py", manager, context))


@pytest.mark.parametrize("kind", ["a link", "a file", "another conftest"])
def test_what_stands_in_the_way_is_left_alone(fetch: Fetch, tmp_path: Path, kind: str) -> None:
    outside = tmp_path.parent / f"outside of {tmp_path.name}"
    outside.mkdir()
    top = tmp_path / "from-sandbox"
    if kind == "a link":
        top.symlink_to(outside)
    elif kind == "a file":
        top.write_text("mine")
    else:
        top.mkdir()
        (top / "conftest.py").write_text("mine")
    before = listed(tmp_path)
    with pytest.raises(AgentBayError, match="from-sandbox"):
        fetch("download TOP/run.py", {"run.py": b"x"})
    assert listed(tmp_path) == before and not list(outside.iterdir())
