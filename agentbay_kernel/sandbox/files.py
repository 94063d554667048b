"""The file operations of a session, run inside its sandbox so that they see what its code sees.

In: absolute paths and the arguments of the service's filesystem tools. Out: the values that the
tools' answers are written from. An OSError is the caller's to word.
"""

from __future__ import annotations

import base64
import difflib
import fnmatch
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def create_directory(path: str) -> bool:
    """Make a folder and its parents; one that exists is fine."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return True


def write_file(path: str, content: str, mode: str = "overwrite", encoding: str = "utf8") -> bool:
    """Write text (or base64) to a file; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = base64.b64decode(content) if encoding == "base64" else content.encode()
    with target.open("ab" if mode == "append" else "wb") as file:
        file.write(data)
    return True


def read_file(path: str, offset: int = 0, length: int = 0, format: str = "text") -> str:
    """`length` bytes from `offset` (0 means to the end) as text, or as base64 if `binary`."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        data = file.read(length if length > 0 else -1)
    if format == "binary":
        return base64.b64encode(data).decode()
    return data.decode("utf-8", "replace")


def read_multiple_files(paths: list[str]) -> list[list[str]]:
    """Pairs of path and content; an unreadable file's content is its error."""
    found = []
    for path in paths:
        try:
            found.append([path, read_file(path)])
        except OSError as failure:
            found.append([path, f"Error - {failure}"])
    return found


def get_file_info(path: str) -> dict[str, Any]:
    """What a file is: name, path, size in bytes, kind, modification time, permissions."""
    found = Path(path).stat()
    return {
        "name": Path(path).name,
        "path": path,
        "size": found.st_size,
        "isDirectory": stat.S_ISDIR(found.st_mode),
        "isFile": stat.S_ISREG(found.st_mode),
        "modified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime)),
        "permissions": stat.filemode(found.st_mode)[1:],
    }


def list_directory(path: str) -> list[list[Any]]:
    """Pairs of name and whether it is a folder, by name."""
    with os.scandir(path) as entries:
        return sorted([entry.name, entry.is_dir()] for entry in entries)


def move_file(source: str, destination: str) -> bool:
    """Rename; an existing destination is refused."""
    if os.path.lexists(destination):
        raise FileExistsError(17, "destination exists", destination)
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, destination)
    return True


def delete_file(path: str) -> bool:
    """Delete a file, or a folder with what it holds."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink()
    return True


def edit_file(path: str, edits: list[dict[str, str]], dryRun: bool = False) -> str:
    """Replace each `oldText` by its `newText` once and return the difference."""
    target = Path(path)
    before = target.read_text()
    after = before
    for edit in edits:
        old = edit["oldText"]
        if old not in after:
            raise ValueError(f"Could not find the text to replace in {path}: {old[:80]!r}")
        after = after.replace(old, edit["newText"], 1)
    if not dryRun:
        target.write_text(after)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), path, path
    )
    return "".join(lines)


def search_files(
    path: str, pattern: str, excludePatterns: str | list[str] | None = None
) -> list[str]:
    """Files below a folder whose name (or path below it) matches a glob, as absolute paths."""
    excluded = (
        excludePatterns.split(",") if isinstance(excludePatterns, str) else excludePatterns or []
    )
    if not Path(path).is_dir():
        raise NotADirectoryError(20, "Not a directory", path)
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _matches(name, path, folder, excluded))
        for name in sorted([*names, *folders]):
            if _matches(name, path, folder, [pattern]) and not _matches(
                name, path, folder, excluded
            ):
                found.append(str(Path(folder, name)))
    return found


def _matches(name: str, top: str, folder: str, patterns: list[str]) -> bool:
    below = os.path.relpath(Path(folder, name), top)
    return any(
        fnmatch.fnmatch(name, pattern.strip()) or fnmatch.fnmatch(below, pattern.strip())
        for pattern in patterns
        if pattern.strip()
    )


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        create_directory,
        write_file,
        read_file,
        read_multiple_files,
        get_file_info,
        list_directory,
        move_file,
        delete_file,
        edit_file,
        search_files,
    )
}


class ChangeFinder:
    """What changed below a folder since it was last asked; the first question is the baseline."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, list[Any]]] = {}

    def since_last(
        self, path: str, watcher: str, now: dict[str, list[Any]]
    ) -> list[dict[str, str]]:
        """Events in the service's form; `now` is a `snapshot` of the folder.

        A new file is a `create` and a `modify`.
        """
        before = self._seen.get((path, watcher))
        self._seen[path, watcher] = now
        if before is None:
            return []
        events = []
        for name, state in now.items():
            if name not in before:
                events.append(_event("create", name, state[0]))
            if before.get(name) != state and not state[0]:
                events.append(_event("modify", name, False))
        events += [_event("delete", name, before[name][0]) for name in before if name not in now]
        return events


def snapshot(path: str) -> dict[str, list[Any]]:
    """Whether each name below a folder is a folder, its time of change (ns) and its size."""
    if not Path(path).is_dir():
        raise NotADirectoryError(20, "Not a directory", path)
    found = {}
    for folder, folders, names in os.walk(path):
        for name in [*names, *folders]:
            full = Path(folder, name)
            try:
                info = full.lstat()
            except OSError:
                continue
            found[str(full)] = [stat.S_ISDIR(info.st_mode), info.st_mtime_ns, info.st_size]
    return found


def _event(kind: str, path: str, folder: bool) -> dict[str, str]:
    return {"eventType": kind, "path": path, "pathType": "directory" if folder else "file"}
