"""The file operations of a session, run inside its sandbox: they see the same files as cells.

An operation takes absolute paths and the arguments of the service's filesystem tool. It returns the
tool's text, or raises OSError.

Code in the sandbox makes the files, so each operation has a limited time and memory: only regular
files are read and written, what is too long is cut, with a note, and nothing waits for another
process (a FIFO, a device).
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import errno
import fnmatch
import heapq
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Bytes of files in one response; the rest is read with `offset` and `length`.
READ_LIMIT = 4 * 1024 * 1024
EDIT_LIMIT = 1024 * 1024
# Bytes of a file in one step of a copy.
COPIED = 256 * 1024
DIFFERENCE_LINES = 4_000
# Entries in one response, files and seconds of a search, files of all watches, changes in one
# response, paths in one call.
ENTRIES_LIMIT = 10_000
WALK_LIMIT = 1_000_000
WALK_S = 20.0
WATCHED_LIMIT = 80_000
EVENTS_LIMIT = 2_000
PATHS_LIMIT = 10_000
# Operations at a time: others must not wait for one on a slow disk.
THREADS = 3

CUT = "[cut: {}]"

# Takes a piece of a text.
Take = Callable[[bytes], None]
# Runs an operation with its arguments. The third takes a text in pieces; another value, which must
# be JSON, is returned. The fourth is a descriptor, the operation's argument `fd`.
Run = Callable[[Callable[..., Any], dict[str, Any], Take, int | None], Any]
DONE = b"True"


def create_directory(path: str) -> bytes:
    """Make a directory and its parents, unless it exists."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return DONE


def write_file(path: str, content: str, mode: str = "overwrite", encoding: str = "utf8") -> bytes:
    """Write text (or base64) to a file; make its directory if needed."""
    data = content.encode()
    if encoding == "base64":
        data = base64.b64decode(data, validate=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _write(path, data, append=mode == "append")
    return DONE


def read_file(path: str, offset: int = 0, length: int = 0, format: str = "text") -> bytes:
    """Return `length` bytes from `offset` (0: to the end), as base64 if the format is `binary`.

    Otherwise they are UTF-8. A text that is too long is cut; a last line reports that.

    Raises:
        OSError: it can't be read, or, if binary, has too many bytes for one response.
    """
    data, size = _read(path, offset, length if 0 < length <= READ_LIMIT else READ_LIMIT + 1)
    part = f"{READ_LIMIT:,} bytes from {offset:,} of {size:,}; read on with offset and length"
    if len(data) > READ_LIMIT and format == "binary":
        raise OSError(errno.EFBIG, f"At most {part}", path)
    if format == "binary":
        return base64.b64encode(data)
    if len(data) > READ_LIMIT:
        return _valid(data[:READ_LIMIT]) + f"\n{CUT.format(part)}".encode()
    return _valid(data)


def read_multiple_files(paths: list[str]) -> bytes:
    """Return each path with its text; an unreadable file's text is its error.

    All texts together have as many bytes as one response; the rest is left out.
    """
    cut = CUT.format("the answer is full; read this file alone")
    found = []
    room = READ_LIMIT
    for path in paths[:PATHS_LIMIT]:
        try:
            data, _ = _read(path, 0, room + 1)
        except OSError as failure:
            found.append(_section(path, f"Error - {failure}".encode("utf-8", "replace")))
            continue
        content = _valid(data[:room])
        if len(data) > room:
            content += f"\n{cut}".encode()
        found.append(_section(path, content))
        room -= min(room, len(data))
    if len(paths) > PATHS_LIMIT:
        left_out = CUT.format(f"{len(paths) - PATHS_LIMIT:,} more files")
        found.append(_section("", left_out.encode()))
    return b"\n---\n".join(found)


def _section(path: str, content: bytes) -> bytes:
    return b"%b: \n%b\n" % (path.encode("utf-8", "replace"), content)


def get_file_info(path: str) -> str:
    """Return a file's name, path, size in bytes, kind, modification time and permissions."""
    found = Path(path).stat()
    fields = {
        "name": Path(path).name,
        "path": path,
        "size": found.st_size,
        "isDirectory": _boolean(stat.S_ISDIR(found.st_mode)),
        "isFile": _boolean(stat.S_ISREG(found.st_mode)),
        "modified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime)),
        "permissions": stat.filemode(found.st_mode)[1:],
    }
    return "\n".join(f"{key}: {item}" for key, item in fields.items())


def _boolean(value: bool) -> str:
    return str(value).lower()


def list_directory(path: str) -> str:
    """Return a line for each entry, by name, and one with the number of those left out."""
    count = itertools.count()

    def entries() -> Iterator[list[Any]]:
        with os.scandir(path) as found:
            for entry in found:
                next(count)
                yield [entry.name, _is_directory(entry)]

    first = heapq.nsmallest(ENTRIES_LIMIT, entries())
    lines = [f"[{'DIR' if folder else 'FILE'}] {name}" for name, folder in first]
    left_out = next(count) - len(first)
    if left_out:
        lines.append(CUT.format(f"{left_out:,} more entries"))
    return "\n".join(lines)


def move_file(source: str, destination: str) -> bytes:
    """Rename a file or directory; refuse an existing destination."""
    if os.path.lexists(destination):
        raise FileExistsError(17, "destination exists", destination)
    mode = Path(source).lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EINVAL, "Only files, directories and links are moved", source)
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, destination)
    return DONE


def delete_file(path: str) -> bytes:
    """Delete a file, or a directory with its contents."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink()
    return DONE


def edit_file(path: str, edits: list[dict[str, str]], dryRun: bool = False) -> str:
    """Replace each `oldText` by its `newText` once; return the difference."""
    if _size(path) > EDIT_LIMIT:
        raise OSError(errno.EFBIG, f"At most {EDIT_LIMIT:,} bytes are edited", path)
    with os.fdopen(_open_regular(path, os.O_RDONLY), "rb") as file:
        before = file.read(EDIT_LIMIT).decode()
    after = before
    for edit in edits:
        old = edit["oldText"]
        if old not in after:
            raise ValueError(f"Could not find the text to replace in {path}: {old[:80]!r}")
        after = after.replace(old, edit["newText"], 1)
    if not dryRun:
        _write(path, after.encode())
    lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if max(map(len, lines)) > DIFFERENCE_LINES:
        return CUT.format(f"{len(edits)} edits; the difference of so many lines is not shown")
    return "".join(difflib.unified_diff(*lines, path, path))


def search_files(path: str, pattern: str, excludePatterns: str | list[str] | None = None) -> str:
    """Return absolute paths of files below a directory whose name or relative path matches a glob.

    If some are missing, the last line reports that.
    """
    excluded = _globs(
        excludePatterns.split(",") if isinstance(excludePatterns, str) else excludePatterns or []
    )
    wanted = _globs([pattern])
    if not Path(path).is_dir():
        raise NotADirectoryError(20, "Not a directory", path)
    deadline = time.monotonic() + WALK_S
    found: list[str] = []
    left_out = seen = 0
    cut = ""
    # Each with its path below the first, which is the prefix of its names.
    folders = [(path, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in _scan(folder):
            seen += 1
            if seen > WALK_LIMIT or time.monotonic() > deadline:
                cut = f"the search stopped after {seen - 1:,} files"
                folders = []
                break
            below = prefix + entry.name
            if _matches(entry.name, below, excluded):
                continue
            if _is_directory(entry, follow=False):
                folders.append((entry.path, f"{below}/"))
            if _matches(entry.name, below, wanted):
                if len(found) < ENTRIES_LIMIT:
                    found.append(entry.path)
                else:
                    left_out += 1
    if left_out:
        cut = f"{left_out:,} more matches" + (f"; {cut}" if cut else "")
    found.sort()
    if cut:
        found.append(CUT.format(cut))
    return "\n".join(found) or "No matches found"


def _globs(patterns: list[str]) -> list[re.Pattern[str]]:
    return [re.compile(fnmatch.translate(glob)) for it in patterns if (glob := it.strip())]


def _matches(name: str, below: str, globs: list[re.Pattern[str]]) -> bool:
    return any(glob.match(name) or glob.match(below) for glob in globs)


def _scan(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a directory; none if it can't be read."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _is_directory(entry: os.DirEntry[str], follow: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # links in a circle
        return False


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file, without waiting.

    Raises:
        OSError: it is not a regular file, or can't be opened.
    """
    # Checked before, because opening a device can have an effect, and again when it is open.
    if not flags & os.O_CREAT or Path(path).exists():
        _must_be_regular(Path(path).stat().st_mode, path)
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        _must_be_regular(os.fstat(fd).st_mode, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _must_be_regular(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def _read(path: str, offset: int, length: int) -> tuple[bytes, int]:
    """Return at most that many bytes of a regular file, and the file's size."""
    fd = _open_regular(path, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    if data is None:
        raise OSError(errno.EAGAIN, "Nothing can be read now", path)
    return data, Path(path).stat().st_size


def _valid(data: bytes) -> bytes:
    """Replace what is not UTF-8."""
    return data.decode("utf-8", "replace").encode()


def _write(path: str, data: bytes, append: bool = False) -> None:
    fd = _open_regular(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0))
    with os.fdopen(fd, "wb") as file:
        if not append:
            file.truncate(0)
        file.write(data)


def receive_file(path: str, fd: int) -> bytes:
    """Copy a descriptor, to its end, to a file; make the file's directory if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    target = _open_regular(path, os.O_WRONLY | os.O_CREAT)
    with os.fdopen(target, "wb") as file, os.fdopen(fd, "rb", closefd=False) as source:
        file.truncate(0)
        shutil.copyfileobj(source, file, COPIED)
    return DONE


def send_file(path: str, fd: int) -> bytes:
    """Copy a file to a descriptor."""
    source = _open_regular(path, os.O_RDONLY)
    with os.fdopen(source, "rb") as file, os.fdopen(fd, "wb", closefd=False) as target:
        shutil.copyfileobj(file, target, COPIED)
    return DONE


def _size(path: str) -> int:
    return Path(path).stat().st_size


class ChangeFinder:
    """Finds what has changed below a directory since the call before.

    Arguments:
        run: runs an operation.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[tuple[str, str], dict[str, int]] = {}

    def since_last(self, path: str, watcher: str) -> list[dict[str, str]]:
        """Return events in the service's form: a new file is a `create` and a `modify`.

        The first call returns none. Events that are too many for one response come with the next.

        Raises:
            OSError: it is not a directory, or there are too many files to watch.
        """
        key = (path, watcher)
        before = self._seen.get(key)
        others = sum(len(seen) for other, seen in self._seen.items() if other != key)
        arguments = {"path": path, "limit": WATCHED_LIMIT - others}
        now = self._run(snapshot, arguments, lambda piece: None, None)
        if before is None:
            self._seen[key] = now
            return []
        events: list[dict[str, str]] = []
        for name in [*now, *(name for name in before if name not in now)]:
            if len(events) >= EVENTS_LIMIT:
                break
            state, older = now.get(name), before.get(name)
            if state == older:
                continue
            if state is None:
                events.append(_event("delete", name, before.pop(name)))
                continue
            if older is None:
                events.append(_event("create", name, state))
            if not state & 1:
                events.append(_event("modify", name, state))
            before[name] = state
        return events

    def forget(self, path: str, watcher: str) -> None:
        """Forget a watcher: it does not call again."""
        self._seen.pop((path, watcher), None)


def snapshot(path: str, limit: int) -> dict[str, int]:
    """Return a number for each name below a directory, which changes with the file.

    Raises:
        OSError: it is not a directory, or there are more than `limit` names.
    """
    if not Path(path).is_dir():
        raise NotADirectoryError(20, "Not a directory", path)
    found = {}
    folders = [path]
    while folders:
        for entry in _scan(folders.pop()):
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            folder = stat.S_ISDIR(info.st_mode)
            if folder:
                folders.append(entry.path)
            # One integer, because there may be many: size, time, and whether it is a directory.
            found[entry.path] = (info.st_size << 64 | info.st_mtime_ns) << 1 | folder
            if len(found) > limit:
                raise OSError(
                    errno.ENOSPC, f"More than {WATCHED_LIMIT:,} files can't be watched", path
                )
    return found


def _event(kind: str, path: str, state: int) -> dict[str, str]:
    return {"eventType": kind, "path": path, "pathType": "directory" if state & 1 else "file"}


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
        receive_file,
        send_file,
    )
}


class FileOperations:
    """Carries out file operations in threads, a limited number at a time.

    Arguments:
        workspace: the directory of relative paths.
        run: runs an operation with its arguments, as the cells' user.
    """

    def __init__(self, workspace: str, run: Run) -> None:
        self._workspace = workspace
        self._run = run
        self._threads = ThreadPoolExecutor(THREADS, "files")
        changes = ChangeFinder(run)
        # One thread, so that one runs after the other: they share state.
        self._watch = ThreadPoolExecutor(1, "watch")
        self._changes = {"changes": changes.since_last, "forget": changes.forget}

    async def do(
        self, name: str, arguments: dict[str, Any], take: Take, fd: int | None = None
    ) -> Any:
        """Run an operation; return its value, unless that is a text, which goes to `take`.

        Arguments:
            name: of the operation.
            arguments: of the operation.
            take: called in a thread with pieces of a text.
            fd: the descriptor that it reads from or writes to; stays open.

        Raises:
            OSError: the operating system refused, or a limit is reached.
            TypeError: the arguments are invalid.
        """
        for key in ("path", "source", "destination"):
            if key in arguments:
                arguments[key] = self._absolute(arguments[key])
        if "paths" in arguments:
            paths = arguments["paths"]
            if not isinstance(paths, list):
                raise TypeError("paths must be a list")
            arguments["paths"] = [self._absolute(path) for path in paths]
        loop = asyncio.get_running_loop()
        if (change := self._changes.get(name)) is not None:
            return await loop.run_in_executor(self._watch, lambda: change(**arguments))
        operation = OPERATIONS[name]
        return await loop.run_in_executor(self._threads, self._run, operation, arguments, take, fd)

    def _absolute(self, path: str) -> str:
        return str(Path(self._workspace, path).expanduser())
