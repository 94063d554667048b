"""Which files of this machine a notebook's cells may reach through verbs.

In: the notebook's folder and a path that a cell names. Out: the path below that folder, or a
`NotAllowedError` that names the rule. A cell may be hostile, and this is the one place that says
what it may do here:

- only below the notebook's folder, with all links resolved;
- no name that begins with a dot, on the way or at its end: those hold settings and keys;
- nothing written under a name that Python would import from this folder instead of a module of
  its own, which would be a way out of the sandbox at the next start of a kernel;
- nothing overwritten unless that was asked for.

A path is checked and then opened, and what stands at it could be exchanged between the two. Verbs
can't do that: none makes a link. `open_to_write` follows no link all the same, part by part.
"""

from __future__ import annotations

import importlib.machinery
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agentbay_kernel.errors import NotAllowedError, VerbError

# Imported by Python or pytest by themselves, wherever they stand.
_IMPORTED_UNASKED = ("sitecustomize", "usercustomize", "conftest")
_IMPORTED_ENDINGS = (".py", ".pyc", ".pyw", ".so", ".pyd", ".pth")


def path_to_read(folder: Path, name: str) -> Path:
    """The file or folder of that name, below the notebook's folder.

    Arguments:
        folder: the notebook's folder.
        name: relative to it; a full path is taken if it leads there.

    Raises:
        NotAllowedError: it is elsewhere, or has a name that is left alone.
        VerbError: there is nothing of that name.
    """
    path = _below(folder, name)
    if not path.exists():
        raise VerbError(f"There is no file {name!r} in the notebook's folder, {folder}.")
    return path


def path_to_write(folder: Path, name: str, *, force: bool = False) -> Path:
    """Where a file or folder of that name would be, below the notebook's folder.

    Raises:
        NotAllowedError: it would be elsewhere, or have a name that is left alone.
        VerbError: a file is there already, and `force` was not given.
    """
    path = _below(folder, name)
    _refuse_import(path.relative_to(folder.resolve()))
    if path.is_file() and not force:
        raise VerbError(f"The file {name!r} is there already. `--force` overwrites it.")
    return path


@contextmanager
def open_to_write(folder: Path, name: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """A new file below the notebook's folder, to write bytes into; folders are made.

    Raises:
        NotAllowedError, VerbError: as for `path_to_write`.
        OSError: it can't be written.
    """
    path = path_to_write(folder, name, force=force)
    relative = path.relative_to(folder.resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    if os.open in os.supports_dir_fd:
        file = _open_part_by_part(folder.resolve(), relative, flags)
    else:
        file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(file, "wb") as stream:
        yield stream


def _below(folder: Path, name: str) -> Path:
    """The path with all links resolved; what isn't there yet resolves as far as it is."""
    if not name or "\0" in name:
        raise VerbError(f"{name!r} is not the name of a file.")
    here = folder.resolve()
    try:
        path = Path(here, name).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise NotAllowedError(f"The path {name!r} leads nowhere: {error}.") from error
    if not path.is_relative_to(here):
        raise NotAllowedError(
            f"{name!r} is outside of the notebook's folder, {folder}. Cells reach only files below "
            "it. Nothing was read or written."
        )
    for part in (*Path(name).parts, *path.relative_to(here).parts):
        if part.startswith(".") and part not in (".", ".."):
            raise NotAllowedError(
                f"{name!r} leads to {part!r}: cells reach no file or folder whose name begins "
                "with a dot. Nothing was read or written."
            )
    return path


def _refuse_import(relative: Path) -> None:
    if not relative.parts:
        return
    first = relative.parts[0]
    is_package = len(relative.parts) > 1 or "." not in first
    if not is_package and not first.endswith(_IMPORTED_ENDINGS):
        return
    module = first.partition(".")[0]
    if module in _IMPORTED_UNASKED or module in sys.stdlib_module_names or _is_installed(module):
        raise NotAllowedError(
            f"A file of the name {str(relative)!r} in this folder could be imported by Python "
            f"instead of its own module {module!r}, and so run on this machine. Choose another "
            "name."
        )


def _is_installed(module: str) -> bool:
    elsewhere = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    try:
        found = importlib.machinery.PathFinder.find_spec(module, elsewhere)
    except (ImportError, ValueError):
        return False
    # A folder without `__init__.py` is no module that anybody installed.
    return found is not None and found.origin is not None


def _open_part_by_part(folder: Path, relative: Path, flags: int) -> int:
    *parents, last = relative.parts
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parents:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        file = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotAllowedError(f"{str(relative)!r} is not a file that can be written.")
    return file
