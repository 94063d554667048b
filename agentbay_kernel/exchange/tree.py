"""A directory of this machine into which a sandbox's files are written, and nothing else.

The sandbox names relative paths; files are written at these paths below one directory. Every step
is opened without following links, if the system supports that (POSIX); otherwise it is checked
first. A file is written under another name beside its target, and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from agentbay_kernel.errors import TargetExistsError, UnsafePathError
from agentbay_kernel.local_files import fault_of

_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_READ = 1024 * 1024


def safe_parts(path: object) -> list[str]:
    """Return the steps of a relative path that a sandbox names.

    Raises:
        UnsafePathError: it leads elsewhere, or has a name that is not allowed here.
    """
    if not isinstance(path, str) or not path or len(path) > 4000:
        raise UnsafePathError(
            f"The sandbox names the path {str(path)[:80]!r}, which is no path. Nothing was written."
        )
    parts = path.split("/")
    for part in parts:
        if fault := fault_of(part):
            raise UnsafePathError(
                f"The sandbox names the path {path[:200]!r}, of which {part[:80]!r} {fault}. "
                "Nothing was written; rename it in the sandbox."
            )
    return parts


class Folder:
    """One open directory."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._fd = descriptor

    def _at(self, name: str) -> str:
        return name if self._fd is not None else str(self.path / name)

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a name, links not followed; None if there is nothing."""
        try:
            return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_to_read(self, name: str) -> BinaryIO:
        """Open a plain file for reading."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(self._at(name), flags, dir_fd=self._fd), "rb")

    def open_to_append(self, name: str) -> BinaryIO:
        """Open a plain file for appending; create it if it is missing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._at(name), flags, 0o666, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePathError(f"{self.path / name} is no plain file. Remove it and try again.")
        return os.fdopen(descriptor, "ab")

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a plain file."""
        digest = hashlib.sha256()
        with self.open_to_read(name) as file:
            while piece := file.read(_READ):
                digest.update(piece)
        return digest.hexdigest()

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def put(self, part: str, name: str, force: bool) -> None:
        """Give a complete file its name.

        Raises:
            TargetExistsError: something of that name exists, and `force` is not set.
        """
        if force:
            os.replace(self._at(part), self._at(name), src_dir_fd=self._fd, dst_dir_fd=self._fd)
            return
        try:
            # A link is never made in place of an existing file; a rename would replace it.
            os.link(self._at(part), self._at(name), src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileExistsError:
            self.remove(part)
            raise TargetExistsError(
                f"{self.path / name} is there now, with another content. It was not overwritten; "
                "--force does that."
            ) from None
        except OSError:
            # A file system without hard links.
            if self.status(name) is not None:
                raise
            os.rename(self._at(part), self._at(name), src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            self.remove(part)


@contextlib.contextmanager
def open_folder(root: Path, parts: Sequence[str], make: bool) -> Iterator[Folder | None]:
    """Yield the directory at these steps below a root; None if it is missing and `make` is off.

    Raises:
        UnsafePathError: a step is a link.
        TargetExistsError: a step is a file.
    """
    if not _BY_DESCRIPTOR:
        yield _looked_at(root, parts, make)
        return
    path = root
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            path = path / part
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            try:
                below = os.open(part, flags, dir_fd=descriptor)
            except FileNotFoundError:
                if make:
                    raise
                yield None
                return
            except OSError as error:
                raise _not_a_folder(path, error) from None
            os.close(descriptor)
            descriptor = below
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _not_a_folder(path: Path, error: OSError) -> Exception:
    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
        return error
    if path.is_symlink():
        return UnsafePathError(f"{path} is a link, which is not followed. Nothing was written.")
    return TargetExistsError(
        f"{path} is a file, but a directory is needed there. Nothing was written."
    )


def _looked_at(root: Path, parts: Sequence[str], make: bool) -> Folder | None:
    path = root
    for part in parts:
        path = path / part
        if make:
            path.mkdir(exist_ok=True)
        try:
            facts = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(facts.st_mode) or path.is_symlink():
            raise _not_a_folder(path, NotADirectoryError(errno.ENOTDIR, "Not a directory"))
    return Folder(path, None)
