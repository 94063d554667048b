"""The files of this machine that a new session gets.

A recipe, which is not trusted, or the setting `session_files` names them. Both reach only files
below the notebook's directory, checked by the real path: no links, no names that start with a dot.
From a whole directory, only files with an ending of `SESSION_ENDINGS` are sent.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from agentbay_kernel.errors import RecipeError
from agentbay_kernel.local_files import SESSION_ENDINGS

MOST_BYTES = 100_000_000
MOST_FILES = 2_000
# Entries of a directory: a limit, so that a home directory is not searched completely.
_MOST_SEEN = 50_000
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")


@dataclass(frozen=True)
class LocalFile:
    """A file to send: its path below the notebook's directory with `/`, its location, its bytes."""

    name: str
    path: Path
    size: int

    def read(self, secrets: tuple[str, ...]) -> bytes:
        """Return its content.

        Arguments:
            secrets: strings that enter no sandbox.

        Raises:
            RecipeError: it was replaced or removed meanwhile, or holds a secret.
        """
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with os.fdopen(os.open(self.path, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise RecipeError(f"{self.name} is no longer a file. It was not sent.")
                data = file.read(self.size + 1)
        except OSError as error:
            raise RecipeError(
                f"{self.name} can't be read: {error.strerror or error}. It was not sent."
            ) from error
        if len(data) != self.size:
            raise RecipeError(f"{self.name} was changed while it was read. Run the cell again.")
        if _PRIVATE_KEY.search(data) or any(one.encode() in data for one in secrets):
            raise RecipeError(
                f"{self.name} holds a key, which enters no sandbox. Move it out of the directory, "
                "or name other files."
            )
        return data


@dataclass(frozen=True)
class FileList:
    """The files to send, the number of files left out of directories, and missing names."""

    files: tuple[LocalFile, ...] = ()
    left_out: int = 0
    missing: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def list_files(
    folder: Path, names: tuple[str, ...], source: str, *, skip_missing: bool = False
) -> FileList:
    """List the files that the names stand for; directories are searched.

    Arguments:
        folder: the notebook's directory.
        names: relative paths of files and directories; `.` is the notebook's directory itself.
        source: what names them, for messages.
        skip_missing: return the names of missing files, instead of failing.

    Raises:
        RecipeError: a file is out of reach or missing, or they are too many or too large.
    """
    found: dict[str, LocalFile] = {}
    left_out, missing = 0, []
    for name in names:
        path = _reach(folder, name, source)
        if not os.path.lexists(path):
            if not skip_missing:
                raise RecipeError(
                    f"{source} names the file {name!r}, which is not in {folder}. Nothing was "
                    "created."
                )
            missing.append(name)
            continue
        for number, (one, is_wanted) in enumerate(_walk(path)):
            if number >= _MOST_SEEN:
                raise _too_many(source, name)
            if not is_wanted:
                left_out += 1
                continue
            relative = one.relative_to(folder).as_posix()
            found[relative] = LocalFile(relative, one, one.stat().st_size)
            if len(found) > MOST_FILES:
                raise _too_many(source, name)
    listed = FileList(tuple(found.values()), left_out, tuple(missing))
    if listed.size > MOST_BYTES:
        raise RecipeError(
            f"{source} names {len(found):,} files with {listed.size:,} bytes, more than "
            f"{MOST_BYTES:,}. Name smaller ones, and send the others by `%agentbay upload`. "
            "Nothing was created."
        )
    return listed


def _walk(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield a file, or the contents of a directory, each with whether it must be sent."""
    if path.is_file():
        yield path, True
        return
    try:
        entries = sorted(os.scandir(path), key=lambda one: one.name)
    except OSError:
        yield path, False
        return
    for entry in entries:
        inner = path / entry.name
        if entry.name.startswith("."):
            yield inner, False
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(inner)
        else:
            ending = inner.suffix[1:].lower()
            yield inner, entry.is_file(follow_symlinks=False) and ending in SESSION_ENDINGS


def _reach(folder: Path, name: str, source: str) -> Path:
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or "\\" in name or ".." in parts:
        raise _out_of_reach(source, name, "it is not a path in the notebook's directory")
    if any(part.startswith(".") for part in parts):
        why = "files and directories that start with a dot are not sent"
        raise _out_of_reach(source, name, why)
    path = folder.joinpath(*parts)
    try:
        real = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise _out_of_reach(source, name, "it is not a path") from error
    if real != folder.resolve().joinpath(*parts):
        raise _out_of_reach(source, name, "it is a link, or lies behind one")
    if os.path.lexists(path) and not path.is_file() and not path.is_dir():
        raise _out_of_reach(source, name, "it is not a file or a directory")
    return path


def _out_of_reach(source: str, name: str, why: str) -> RecipeError:
    return RecipeError(f"{source} names the file {name!r}, which it can't have: {why}.")


def _too_many(source: str, name: str) -> RecipeError:
    return RecipeError(
        f"{source} names {name!r}, where there are more than {MOST_FILES:,} files. Name the ones "
        "that the notebook needs. Nothing was created."
    )
