"""The file operations of a session, run inside its sandbox so that they see what its code sees.

In: absolute paths and the arguments of the service's filesystem tools. Out: the tools' texts, as
the service words them. An OSError is the caller's to word.

Code in the sandbox makes the files, so each operation costs a bounded time and memory: only
regular files are read and written, what is too much is cut and said to be, and nothing waits for
another process (a FIFO, a device).
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

# Bytes of files in one answer; the rest is read with `offset` and `length`.
READ_LIMIT = 4 * 1024 * 1024
EDIT_LIMIT = 1024 * 1024
# Bytes of a file that are copied at once.
COPIED = 256 * 1024
DIFFERENCE_LINES = 4_000
# Entries in one answer, files that are looked at for one, and changes that are told at once.
ENTRIES_LIMIT = 10_000
WALK_LIMIT = 1_000_000
WALK_S = 20.0
WATCHED_LIMIT = 80_000
EVENTS_LIMIT = 2_000
PATHS_LIMIT = 10_000
# Operations at a time; one that waits for a slow disk leaves places for others.
THREADS = 3

CUT = "[cut: {}]"

# Takes a piece of a text.
Take = Callable[[bytes], None]
# Runs an operation with its arguments. A text goes to the third in pieces; another value, which is
# JSON, is returned. The fourth is a descriptor that the operation takes as its argument `fd`.
Run = Callable[[Callable[..., Any], dict[str, Any], Take, int | None], Any]
DONE = b"True"


def create_directory(path: str) -> bytes:
    """Make a folder and its parents; one that exists is fine."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return DONE


def write_file(path: str, content: str, mode: str = "overwrite", encoding: str = "utf8") -> bytes:
    """Write text (or base64) to a file; its folder is made."""
    data = content.encode()
    if encoding == "base64":
        data = base64.b64decode(data, validate=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _write(path, data, append=mode == "append")
    return DONE


def read_file(path: str, offset: int = 0, length: int = 0, format: str = "text") -> bytes:
    """`length` bytes from `offset` (0 means to the end); as base64 if the format is `binary`.

    Otherwise they are text in UTF-8, and what is too long is cut, with a last line that says so.

    Raises:
        OSError: it can't be read, or, if binary, has too many bytes for one answer.
    """
    data, size = _read(path, offset, length if 0 < length <= READ_LIMIT else READ_LIMIT + 1)
    how = f"{READ_LIMIT:,} bytes from {offset:,} of {size:,}; read on with offset and length"
    if len(data) > READ_LIMIT and format == "binary":
        raise OSError(errno.EFBIG, f"At most {how}", path)
    if format == "binary":
        return base64.b64encode(data)
    if len(data) > READ_LIMIT:
        return _valid(data[:READ_LIMIT]) + f"\n{CUT.format(how)}".encode()
    return _valid(data)


def read_multiple_files(paths: list[str]) -> bytes:
    """Each path with its text; an unreadable file's text is its error.

    Together they have as many bytes as one answer; what comes after is left out.
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
    """What a file is: name, path, size in bytes, kind, modification time, permissions."""
    found = Path(path).stat()
    told = {
        "name": Path(path).name,
        "path": path,
        "size": found.st_size,
        "isDirectory": _word(stat.S_ISDIR(found.st_mode)),
        "isFile": _word(stat.S_ISREG(found.st_mode)),
        "modified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime)),
        "permissions": stat.filemode(found.st_mode)[1:],
    }
    return "\n".join(f"{key}: {item}" for key, item in told.items())


def _word(value: bool) -> str:
    return str(value).lower()


def list_directory(path: str) -> str:
    """A line for each entry, by name, and one for how many are left out."""
    count = itertools.count()

    def entries() -> Iterator[list[Any]]:
        with os.scandir(path) as found:
            for entry in found:
                next(count)
                yield [entry.name, _is_folder(entry)]

    first = heapq.nsmallest(ENTRIES_LIMIT, entries())
    lines = [f"[{'DIR' if folder else 'FILE'}] {name}" for name, folder in first]
    left_out = next(count) - len(first)
    if left_out:
        lines.append(CUT.format(f"{left_out:,} more entries"))
    return "\n".join(lines)


def move_file(source: str, destination: str) -> bytes:
    """Rename; an existing destination is refused."""
    if os.path.lexists(destination):
        raise FileExistsError(17, "destination exists", destination)
    mode = Path(source).lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EINVAL, "Only files, directories and links are moved", source)
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, destination)
    return DONE


def delete_file(path: str) -> bytes:
    """Delete a file, or a folder with what it holds."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink()
    return DONE


def edit_file(path: str, edits: list[dict[str, str]], dryRun: bool = False) -> str:
    """Replace each `oldText` by its `newText` once and return the difference."""
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
    """Absolute paths of files below a folder whose name (or path below it) matches a glob.

    The last line says what is missing from them, if anything.
    """
    excluded = _globs(
        excludePatterns.split(",") if isinstance(excludePatterns, str) else excludePatterns or []
    )
    wanted = _globs([pattern])
    if not Path(path).is_dir():
        raise NotADirectoryError(20, "Not a directory", path)
    gives_up_at = time.monotonic() + WALK_S
    found: list[str] = []
    left_out = seen = 0
    cut = ""
    # Each with what comes before its names in a path below the first.
    folders = [(path, "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in _scan(folder):
            seen += 1
            if seen > WALK_LIMIT or time.monotonic() > gives_up_at:
                cut = f"the search stopped after {seen - 1:,} files"
                folders = []
                break
            below = prefix + entry.name
            if _matches(entry.name, below, excluded):
                continue
            if _is_folder(entry, follow=False):
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
    """The entries of a folder; none of one that can't be read."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _is_folder(entry: os.DirEntry[str], follow: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # links in a circle
        return False


def _open_regular(path: str, flags: int) -> int:
    """Open a file, and no FIFO, device, socket or folder; nothing is waited for.

    Raises:
        OSError: it is not a regular file, or can't be opened.
    """
    # A device could act on being opened: it is looked at before, and again once it is open.
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
    """At most so many bytes of a regular file, and the file's size."""
    fd = _open_regular(path, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    if data is None:
        raise OSError(errno.EAGAIN, "Nothing can be read now", path)
    return data, Path(path).stat().st_size


def _valid(data: bytes) -> bytes:
    """The same, as far as it is UTF-8."""
    return data.decode("utf-8", "replace").encode()


def _write(path: str, data: bytes, append: bool = False) -> None:
    fd = _open_regular(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0))
    with os.fdopen(fd, "wb") as file:
        if not append:
            file.truncate(0)
        file.write(data)


def receive_file(path: str, fd: int) -> bytes:
    """Write what comes from a descriptor to a file, to its end; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    target = _open_regular(path, os.O_WRONLY | os.O_CREAT)
    with os.fdopen(target, "wb") as file, os.fdopen(fd, "rb", closefd=False) as source:
        file.truncate(0)
        shutil.copyfileobj(source, file, COPIED)
    return DONE


def send_file(path: str, fd: int) -> bytes:
    """Write all of a file to a descriptor."""
    source = _open_regular(path, os.O_RDONLY)
    with os.fdopen(source, "rb") as file, os.fdopen(fd, "wb", closefd=False) as target:
        shutil.copyfileobj(file, target, COPIED)
    return DONE


def _size(path: str) -> int:
    return Path(path).stat().st_size


class ChangeFinder:
    """What changed below a folder since it was last asked; the first question is the baseline.

    Arguments:
        run: runs what looks at the files.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[tuple[str, str], dict[str, int]] = {}

    def since_last(self, path: str, watcher: str) -> list[dict[str, str]]:
        """Events in the service's form: a new file is a `create` and a `modify`.

        Events that are too many for one answer come with the next.

        Raises:
            OSError: it is no folder, or there are too many files to watch.
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
        """This watcher does not ask again."""
        self._seen.pop((path, watcher), None)


def snapshot(path: str, limit: int) -> dict[str, int]:
    """A number for each name below a folder, which changes with the file.

    Raises:
        OSError: it is no folder, or there are more than `limit` names.
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
            # One integer, for there may be many: size, time, and whether it is a folder.
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
    """Carries out file operations beside the event loop, a bounded number at a time.

    Arguments:
        workspace: the folder that relative paths start from.
        run: runs an operation with its arguments, as the user that cells are.
    """

    def __init__(self, workspace: str, run: Run) -> None:
        self._workspace = workspace
        self._run = run
        self._threads = ThreadPoolExecutor(THREADS, "files")
        changes = ChangeFinder(run)
        # One thread, and so one after the other: they share what was seen.
        self._watch = ThreadPoolExecutor(1, "watch")
        self._changes = {"changes": changes.since_last, "forget": changes.forget}

    async def do(
        self, name: str, arguments: dict[str, Any], take: Take, fd: int | None = None
    ) -> Any:
        """One operation; its text, if it has one, goes to `take` in a thread.

        Arguments:
            name: of the operation.
            arguments: what it takes.
            take: called with pieces of a text.
            fd: the descriptor that it reads from or writes to; stays open.

        Raises:
            OSError: the operating system refused, or there is too much.
            TypeError: the arguments are not the operation's.
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
