"""What of this machine a cell may reach by verbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.local_files import (
    DATA_ENDINGS,
    open_to_write,
    path_to_read,
    path_to_write,
    placed,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A notebook's folder, with things that are out of bounds in it and around it."""
    (tmp_path / "secret.txt").write_text("outside")
    here = tmp_path / "notebooks"
    (here / "sub").mkdir(parents=True)
    (here / "data.csv").write_text("1")
    (here / "sub" / "deep.txt").write_text("2")
    (here / ".env").write_text("AGENTBAY_API_KEY=x")
    (here / ".ssh").mkdir()
    (here / ".ssh" / "id").write_text("x")
    (here / "link_out").symlink_to(tmp_path / "secret.txt")
    (here / "folder_out").symlink_to(tmp_path)
    (here / "link_dot").symlink_to(here / ".env")
    (here / "link_in").symlink_to(here / "data.csv")
    (here / "loop").symlink_to(here / "loop")
    return here


@pytest.mark.parametrize("name", ["data.csv", "sub/deep.txt", "./sub", "sub/../data.csv", "."])
def test_what_is_below_the_folder_is_read(folder: Path, name: str) -> None:
    assert path_to_read(folder, name) == (folder / name).resolve()


def test_a_full_path_and_a_link_that_stay_below_are_read(folder: Path) -> None:
    assert path_to_read(folder, str(folder / "data.csv")).read_text() == "1"
    assert path_to_read(folder, "link_in").read_text() == "1"


HOSTILE = [
    "../secret.txt",
    "sub/../../secret.txt",
    "/etc/passwd",
    "link_out",
    "folder_out/secret.txt",
    "folder_out",
    ".env",
    "./.env",
    "sub/../.env",
    ".ssh/id",
    "link_dot",
    "loop",
    "..",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_elsewhere_or_hidden_is_not(folder: Path, name: str) -> None:
    with pytest.raises((NotAllowedError, VerbError)):
        path_to_read(folder, name)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises((NotAllowedError, VerbError)), open_to_write(folder, name, force=True):
        pass
    assert sorted(folder.parent.rglob("*")) == before
    assert (folder.parent / "secret.txt").read_text() == "outside"


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_is_no_name_is_told(folder: Path, name: str) -> None:
    with pytest.raises(VerbError, match="not the name of a file"):
        path_to_read(folder, name)


def test_a_missing_file_is_told(folder: Path) -> None:
    with pytest.raises(VerbError, match=r"no file 'nope.csv'"):
        path_to_read(folder, "nope.csv")


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    with pytest.raises(VerbError, match="--force"), open_to_write(folder, "data.csv"):
        pass
    assert (folder / "data.csv").read_text() == "1"
    with open_to_write(folder, "data.csv", force=True) as file:
        file.write(b"new")
    assert (folder / "data.csv").read_text() == "new"


def test_folders_are_made(folder: Path) -> None:
    with open_to_write(folder, "new/deeper/file.bin") as file:
        file.write(b"\x00")
    assert (folder / "new" / "deeper" / "file.bin").read_bytes() == b"\x00"


DATA = [
    *(
        "a.csv",
        "A.CSV",
        "sub/data.json",
        "random.csv",
        "é ü.png",
        "v1.2/out.parquet/part-0.parquet",
    ),
    *(
        "archive.tar.gz",
        "model.pkl",
        "notes.md",
        "results.2024.json",
        "clock.json",
        "json/data.csv",
    ),
    *("numpy/a.npy", "blocks.json", "tests/a.csv", "bin/x.bin", "head/1.png"),
]
# Run, obeyed or imported by Python, pytest, a shell, make, git, npm, an editor, a desktop, a site.
NOT_DATA = [
    *("random.py", "json/__init__.py", "zmq.pyc", "my.PY", "numpy.cpython-311-x86_64-linux-gnu.so"),
    *(
        "sitecustomize.py",
        "usercustomize/__init__.py",
        "a.pth",
        "sub/conftest.py",
        "a.pyi",
        "a.pyx",
    ),
    *("Makefile", "sub/GNUmakefile", "Dockerfile", "run", "run.sh", "a.bat", "a.command", "a.ps1"),
    *("pytest.ini", "setup.cfg", "tox.ini", "pyproject.toml", "noxfile.py", "environment.yml"),
    *("package.json", "sub/tsconfig.base.json", "eslint.config.js", "pyrightconfig.json", "a.node"),
    *("jupyter_server_config.py", "jupyter_config.json", "ipython_config.py", "kernel.json"),
    *("profile_default/startup/a.py", "custom/custom.css", "a.ipynb", "a.html", "a.svg", "a.xml"),
    *("a.desktop", "a.lnk", "desktop.ini", "a.url", "a.app/x.txt", "a.csv.exe", "a.docm", "a.xlsm"),
    *("requirements.txt", "sub/dev-requirements.txt", "CMakeLists.txt", "CMakePresets.json"),
    *("test_a.txt", "Testing.TXT", "x.egg-info/a.txt", "x-1.0.dist-info/entry_points.txt"),
    *("AGENTS.md", "CLAUDE.md", "x.prompt.md", "main.tf.json", "a.code-workspace", "config"),
    *("a.c\u017fv", "a.\uff43sv", "a.csv.", "x.\uff44ist-info/a.txt", "package.ﾠjson"),
]


@pytest.mark.parametrize("name", DATA)
def test_data_is_written_where_it_is_wanted(folder: Path, name: str) -> None:
    assert path_to_write(folder, name) == folder / name
    assert path_to_write(folder, f"from-sandbox/{name}") == folder / "from-sandbox" / name


@pytest.mark.parametrize("name", NOT_DATA)
def test_what_is_not_data_is_written_elsewhere_or_not_at_all(folder: Path, name: str) -> None:
    for asked in (name, f"from-sandbox/{name}"):
        try:
            path = path_to_write(folder, asked)
        except NotAllowedError:
            assert name.endswith(".") or "\uffa0" in name or not name.isascii()
        else:
            assert path == folder / "from-sandbox" / name


NEVER = [
    *("__pycache__/a.csv", "sub/__PyCache__/a.csv", "__pycache__", "__pyca\u200dche__/a.csv"),
    *(
        "__pycache_\ufe0f_/a.csv",
        "\uff3f_pycache__/a.csv",
        "__pycache__./a.csv",
        "__pycache__ /a.csv",
    ),
    *("__PYCA~1/a.csv", "GIT~1/a.csv", "\u2024git/a.csv", "\uff0egit/hooks", "\ufeff.git/a.csv"),
    *("a.py::$DATA", "a.csv:b.py", "CON", "con.csv", "sub/lpt1.txt", "a\\b.csv", "a|b.csv"),
    *(".a.csv", "sub/.ipynb_checkpoints/a.csv", " .git/a.csv", "a.csv ", "a\n.csv", "repo/HEAD"),
    *(
        ".",
        "./.",
        "from-sandbox",
        "repo/head",
        "from-sandbox/conftest.py",
        "from-sandbox/conftest/__init__.py",
        "conftest.py",
    ),
    *("from-sandbox/conftest.cpython-311-x86_64-linux-gnu.so", "Conftest.py", "conftest.pyc"),
]


@pytest.mark.parametrize("name", NEVER)
def test_nothing_is_ever_written_under_some_names(folder: Path, name: str) -> None:
    before = sorted(folder.rglob("*"))
    every = ("py", "pyc", "so", "csv")
    with (
        pytest.raises((NotAllowedError, VerbError)),
        open_to_write(folder, name, endings=every, force=True),
    ):
        pass
    assert sorted(folder.rglob("*")) == before


PARTS = st.text(
    st.sampled_from("aA.~_-1 :\u0130\u017f\uff0e\ufe0f\u200b\u2024pyc"), min_size=1, max_size=9
)


@given(st.lists(PARTS, min_size=1, max_size=3), st.sampled_from(["", ".csv", ".PY", ".py", ".pyc"]))
def test_every_place_is_data_or_below_our_own_folder(parts: list[str], ending: str) -> None:
    parts[-1] += ending
    try:
        place = placed(parts)
    except NotAllowedError:
        return
    assert not any(part.startswith(".") or part.endswith((".", " ")) for part in place)
    if place[0] != "from-sandbox":
        assert place == tuple(parts) and place[-1].lower().rpartition(".")[2] in DATA_ENDINGS
    else:
        assert place[1:] == tuple(parts)


def test_what_pytest_reads_first_in_our_own_folder_is_ours(folder: Path) -> None:
    with open_to_write(folder, "run.py") as file:
        file.write(b"x")
    assert (folder / "from-sandbox/run.py").read_bytes() == b"x"
    assert 'collect_ignore_glob = ["*"]' in (folder / "from-sandbox/conftest.py").read_text()
    with pytest.raises(VerbError, match=r"from-sandbox/run\.py"), open_to_write(folder, "run.py"):
        pass


def test_a_link_below_our_own_folder_is_not_followed(folder: Path) -> None:
    (folder / "from-sandbox").mkdir()
    (folder / "from-sandbox/sub").symlink_to(folder.parent)
    with pytest.raises(NotAllowedError, match="link"), open_to_write(folder, "sub/run.py"):
        pass
    assert not (folder.parent / "run.py").exists()


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_what_is_no_file_is_not_written(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises((NotAllowedError, OSError)), open_to_write(folder, "pipe.csv", force=True):
        pass
