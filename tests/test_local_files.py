"""What of this machine a cell may reach by verbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.local_files import open_to_write, path_to_read, path_to_write


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


@pytest.mark.parametrize(
    "name",
    [
        "random.py",
        "json/__init__.py",
        "zmq.py",
        "ipykernel/x.txt",
        "agentbay_kernel.py",
        "sitecustomize.py",
        "conftest.py",
        "asyncio.cpython-311-x86_64-linux-gnu.so",
        "numbers.pyc",
    ],
)
def test_nothing_is_written_that_python_would_import_instead(folder: Path, name: str) -> None:
    with pytest.raises(NotAllowedError, match="could be imported"):
        path_to_write(folder, name)


@pytest.mark.parametrize("name", ["my_model.py", "random.csv", "results/random.py", "sub/json"])
def test_other_names_are_fine(folder: Path, name: str) -> None:
    assert path_to_write(folder, name) == folder / name


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_what_is_no_file_is_not_written(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises((NotAllowedError, OSError)), open_to_write(folder, "pipe", force=True):
        pass
