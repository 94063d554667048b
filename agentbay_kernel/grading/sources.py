"""Submissions as files: which there are, and the code of each.

A link is never followed: what a student hands in could name a file of the teacher's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.errors import NotebookError

_ENDINGS = (".ipynb", ".py")
_MAIN = ("submission", "main", "solution")
# What Windows leaves in a directory.
_LITTER = ("thumbs.db", "desktop.ini")
_LARGEST = 20_000_000
_MOST_FILES = _MOST_CELLS = 1000


@dataclass(frozen=True)
class Source:
    """One submission: its name in the table, and the file or directory that it is."""

    name: str
    path: Path

    def cells(self) -> list[str]:
        """The code of its notebook, cell by cell, or of its Python file.

        Raises:
            NotebookError: it can't be read.
        """
        file = self._main()
        if file.suffix == ".ipynb":
            return _cells_of(file)
        # Editors of Windows begin a file with a mark, which Python allows.
        return [_text(file).decode("utf-8-sig", "replace")]

    def files(self) -> list[tuple[Path, str]]:
        """The other files of a submission that is a directory, and their paths in it.

        Raises:
            NotebookError: there are too many, or too much of them.
        """
        if not self.path.is_dir():
            return []
        found, size = [], 0
        for folder, names, files in os.walk(self.path):
            names[:] = sorted(name for name in names if not name.startswith((".", "__pycache__")))
            for name in sorted(files):
                path = Path(folder, name)
                if name.startswith(".") or path.is_symlink() or not path.is_file():
                    continue
                found.append((path, path.relative_to(self.path).as_posix()))
                size += path.stat().st_size
                if len(found) > _MOST_FILES or size > _LARGEST:
                    raise NotebookError(
                        f"{self.name} has more than {_MOST_FILES} files or {_LARGEST:,} bytes."
                    )
        return found

    def _main(self) -> Path:
        if self.path.is_symlink():
            raise NotebookError(f"{self.name} is a link. It was not followed.")
        if not self.path.is_dir():
            if self.path.suffix not in _ENDINGS:
                raise NotebookError(f"{self.name} does not end with {' or '.join(_ENDINGS)}.")
            return self.path
        for ending in _ENDINGS:
            found = [it for it in sorted(self.path.iterdir()) if it.suffix == ending]
            named = [it for it in found if it.stem in _MAIN]
            if len(named or found) == 1:
                return (named or found)[0]
            if found:
                raise NotebookError(
                    f"{self.name} has {len(found)} files that end with {ending}. Name the one to "
                    f"grade submission{ending}."
                )
        raise NotebookError(f"{self.name} has neither a notebook nor a Python file.")


def find_submissions(given: Sequence[Path], besides: Sequence[Path] = ()) -> list[Source]:
    """The submissions that are named, and those in the directories that are.

    A directory that is given holds submissions: each is a notebook, a Python file, or a directory
    with one of them and the files that it uses. A file of another kind is found too, and can't be
    read: whoever handed it in must have a row. Names that start with a dot or with `__` are left
    out.

    Arguments:
        given: files and directories.
        besides: what is none, although it is in one of the directories.
    """
    found: dict[Path, None] = {}
    others = {path.absolute() for path in besides}
    for path in given:
        if not path.is_dir():
            found[path.absolute()] = None
            continue
        for entry in sorted(path.absolute().iterdir()):
            if entry.name.startswith((".", "__")) or entry.name.lower() in _LITTER:
                continue
            if entry not in others:
                found[entry] = None
    if not found:
        return []
    root = Path(os.path.commonpath([path.parent for path in found]))
    # A name that is no text, as an archive of another system may leave it, is shown with its bytes.
    return [
        Source(path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode(), path)
        for path in found
    ]


def _text(file: Path) -> bytes:
    try:
        if file.is_symlink() or not file.is_file():
            raise NotebookError(f"{file.name} is not a plain file.")
        if file.stat().st_size > _LARGEST:
            raise NotebookError(f"{file.name} has more than {_LARGEST:,} bytes.")
        return file.read_bytes()
    except OSError as error:
        raise NotebookError(f"{file.name} can't be read: {error.strerror or error}.") from error


def _cells_of(file: Path) -> list[str]:
    import nbformat

    try:
        content = json.loads(_text(file).decode("utf-8"))
        # Their outputs are not looked at: checking thousands takes long.
        for sheet in [content, *content.get("worksheets", [])]:
            for cell in sheet.get("cells", []):
                if cell.get("cell_type") == "code":
                    cell["outputs"] = []
        notebook = nbformat.reads(json.dumps(content), as_version=4)
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    except NotebookError:
        raise
    except Exception as error:
        raise NotebookError(
            f"{file.name} is not a notebook: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if len(cells) > _MOST_CELLS:
        raise NotebookError(f"{file.name} has more than {_MOST_CELLS:,} cells of code.")
    return [str(cell) for cell in cells if str(cell).strip()]
