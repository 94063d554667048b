"""Files of a session: read, write, list, upload and download, with the session's own tools.

A sandbox's files are untrusted data: `local_files` decides where a download is written, as it does
for the exchange. For large files and directories with many files, use `Exchange`: it continues
after an interruption, and this module does not.
"""

from __future__ import annotations

import base64
import binascii
import builtins
import contextlib
import hashlib
import os
import posixpath
import re
import secrets
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agentbay_kernel.errors import (
    ChecksumError,
    ExchangeError,
    MalformedValueError,
    NotAllowedError,
    TargetExistsError,
    TooLargeError,
)
from agentbay_kernel.local_files import open_to_write, path_to_write
from agentbay_kernel.service.tools import Tools, patiently

# Most bytes of one file or directory, unless the caller sets another limit.
LIMIT = 2_000_000_000
# Larger pieces are not faster (benchmarks/README.md); a multiple of 3, so that base64 has no
# padding between them.
_LARGEST_PIECE = 999_999
_MOST_FILES, _DEEPEST = 10_000, 32
_ENTRY = re.compile(r"\[(DIR|FILE)\] (.+)")
_SIZE = re.compile(r"^size: (\d{1,18})$", re.MULTILINE)
_LEFT_OUT = ("__pycache__",)


@dataclass(frozen=True)
class FileEntry:
    """One entry of a directory of the sandbox.

    Arguments:
        name: the name, as the sandbox reports it.
        is_directory: whether it is a directory, and not a file.
    """

    name: str
    is_directory: bool


class Files:
    """The files of one session: `session.files`, not made by hand. Thread-safe.

    Paths are those of the sandbox. A relative path starts at the directory in which `shell` runs.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._here = ""

    def read(self, path: str, *, limit: int = LIMIT) -> bytes:
        """Read a file.

        Arguments:
            path: the file in the sandbox.
            limit: most bytes to accept.

        Returns:
            Its bytes.

        Raises:
            ExchangeError: it can't be read.
            TooLargeError: it has more than `limit` bytes.
            CommandError: the service failed.
        """
        return b"".join(self._pieces(self._absolute(path), limit))

    def read_text(self, path: str, *, limit: int = LIMIT) -> str:
        """Read a file as UTF-8; invalid bytes are replaced.

        Arguments:
            path: the file in the sandbox.
            limit: most bytes to accept.

        Returns:
            Its text.

        Raises:
            ExchangeError: it can't be read.
            TooLargeError: it has more than `limit` bytes.
            CommandError: the service failed.
        """
        return self.read(path, limit=limit).decode("utf-8", "replace")

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file, whole or not at all, and create its directory.

        Arguments:
            path: the file in the sandbox.
            data: its content. A string is written in UTF-8.

        Raises:
            ChecksumError: the sandbox has other bytes than were sent; the file is unchanged.
            ExchangeError: it can't be written.
            CommandError: the service failed.
        """
        content = data.encode() if isinstance(data, str) else data
        target = self._absolute(path)
        # Without the file's name, which may already have the greatest possible length.
        beside = posixpath.join(posixpath.dirname(target), f".ab-{secrets.token_hex(6)}")
        size = self._piece("write_file", sent=True)
        self._tool("create_directory", {"path": posixpath.dirname(target)})
        try:
            parts = []
            for offset in range(0, len(content) or 1, size):
                part = f"{beside}.{offset:015d}"
                text = base64.b64encode(content[offset : offset + size]).decode()
                self._tool("write_file", {"path": part, "content": text, "mode": "overwrite"})
                parts.append(part)
            self._join(beside, target, content)
        finally:
            # Also after an error. If the parts can't be removed, they do no harm.
            with contextlib.suppress(Exception):
                self._tools.shell(f"rm -f -- {shlex.quote(beside)}*")

    def list(self, path: str = ".") -> list[FileEntry]:
        """List a directory.

        Arguments:
            path: the directory in the sandbox.

        Returns:
            Its entries, in the order of the sandbox's list.

        Raises:
            ExchangeError: it can't be read, or has too many entries.
            CommandError: the service failed.
        """
        text = self._tool("list_directory", {"path": self._absolute(path)})
        entries = []
        for line in text.splitlines():
            found = _ENTRY.fullmatch(line)
            if not found:
                raise ExchangeError(
                    f"The sandbox's list of {path!r} is invalid or has too many entries: "
                    f"{line[:200]!r}."
                )
            entries.append(FileEntry(found[2], found[1] == "DIR"))
        return entries

    def upload(self, local: str | Path, remote: str = "") -> builtins.list[str]:
        """Copy a file, or a directory with its files, into the sandbox; overwrite existing files.

        In a directory, links and names that start with a dot are left out.

        Arguments:
            local: a path on this machine.
            remote: the path of the new file or directory itself; the name of `local` unless given.

        Returns:
            The paths that were written.

        Raises:
            ExchangeError: a file can't be read or written.
            CommandError: the service failed.
        """
        source = Path(local)
        target = remote or source.resolve().name
        written = []
        try:
            for path, below in _local_files(source):
                place = posixpath.join(target, below) if below else target
                self.write(place, path.read_bytes())
                written.append(place)
        except OSError as error:
            raise ExchangeError(f"{local} can't be read: {error.strerror or error}.") from error
        return written

    def download(
        self,
        remote: str,
        local: str | Path = "",
        *,
        force: bool = False,
        endings: Collection[str] = (),
        limit: int = LIMIT,
    ) -> builtins.list[Path]:
        """Copy a file, or a directory with its files, out of the sandbox.

        Data is written at `local`. Every other file (code, notebooks, HTML, configuration) is
        written below `from-sandbox` beside it, under the same path. Names that start with a dot
        and `__pycache__` are left out of a directory.

        Arguments:
            remote: a path in the sandbox.
            local: the path of the new file or directory itself; the name of `remote` unless given.
            force: overwrite existing files.
            endings: endings of names that are data too, besides `local_files.DATA_ENDINGS`.
            limit: most bytes of all files together.

        Returns:
            The paths that were written, those below `from-sandbox` included.

        Raises:
            TargetExistsError: a file exists already. Nothing was written.
            NotAllowedError: one of the names is not allowed. Nothing was written.
            ExchangeError: it can't be read or written.
            CommandError: the service failed.
        """
        source = self._absolute(remote)
        wanted = Path(local or PurePosixPath(source).name)
        root = wanted.absolute().parent
        files = dict(self._below(source))
        places = {}
        for below in files:
            name = posixpath.join(wanted.name, below) if below else wanted.name
            place = path_to_write(root, name, endings=endings, force=True)
            if os.path.lexists(place) and not force:
                raise TargetExistsError(
                    f"{place} is here already. Nothing was written; force=True overwrites."
                )
            if place in places:
                raise MalformedValueError(f"The sandbox names {name[:200]!r} twice.")
            places[place] = name
        if sum(files.values()) > limit:
            raise TooLargeError(f"{remote} has {sum(files.values()):,} bytes, more than {limit:,}.")
        for (place, name), (below, size) in zip(places.items(), files.items(), strict=True):
            path = posixpath.join(source, below) if below else source
            pieces = self._pieces(path, size)
            try:
                with open_to_write(root, name, endings=endings, force=force) as file:
                    for piece in pieces:
                        file.write(piece)
            except FileExistsError as error:
                raise TargetExistsError(f"{place} is here already; it was kept.") from error
            except OSError as error:
                raise ExchangeError(f"{place} can't be written: {error}.") from error
            except Exception:
                # A partial file is not left behind.
                place.unlink(missing_ok=True)
                raise
        return list(places)

    def _below(self, path: str, below: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
        """Yield the files at a path, by their relative paths, with the sizes that are reported."""
        at = posixpath.join(path, below) if below else path
        told = self._tool("get_file_info", {"path": at})
        if "\nisDirectory: true" not in told:
            size = _SIZE.search(told)
            if size is None:
                raise MalformedValueError(f"The sandbox reported no size of {at[:200]!r}.")
            yield below, int(size[1])
            return
        if depth > _DEEPEST:
            raise NotAllowedError(f"{at[:200]!r} has too many directories in each other.")
        count = 0
        for entry in self.list(at):
            if entry.name.startswith(".") or entry.name in _LEFT_OUT:
                continue
            for found in self._below(path, posixpath.join(below, entry.name), depth + 1):
                count += 1
                if count > _MOST_FILES:
                    raise TooLargeError(f"{path!r} has more than {_MOST_FILES:,} files.")
                yield found

    def _pieces(self, path: str, limit: int) -> Iterator[bytes]:
        size = self._piece("read_file", sent=False)
        offset = 0
        while True:
            data = self._read(path, offset, size)
            offset += len(data)
            if offset > limit or len(data) > size:
                raise TooLargeError(f"{path} has more than {limit:,} bytes.")
            yield data
            if len(data) < size:
                return

    def _read(self, path: str, offset: int, length: int) -> bytes:
        asked = {"path": path, "offset": offset, "length": length, "format": "binary"}
        try:
            return base64.b64decode(self._tool("read_file", asked), validate=True)
        except (binascii.Error, ValueError):
            raise MalformedValueError(f"The sandbox sent invalid base64 for {path}.") from None

    def _join(self, beside: str, target: str, content: bytes) -> None:
        """Make the sandbox join the parts, compare checksums and move the file to its path."""
        whole, place = shlex.quote(f"{beside}.whole"), shlex.quote(target)
        digest = hashlib.sha256(content).hexdigest()
        # The parts' names sort like their offsets. A repeated request finds the file in its place.
        done = patiently(
            lambda: self._tools.shell(
                f"cat {shlex.quote(beside)}.0* | base64 -d > {whole} && "
                f'[ "$(sha256sum < {whole} | cut -d" " -f1)" = {digest} ] && '
                f"mv -fT -- {whole} {place} || "
                f'{{ [ "$(sha256sum < {place} | cut -d" " -f1)" = {digest} ]; }}'
            )
        )
        if not done.success:
            kind = ExchangeError if done.stderr else ChecksumError
            raise kind(f"{target} was not written: {done.stderr[:300] or 'the bytes differ'}.")

    def _piece(self, tool: str, *, sent: bool) -> int:
        capacity = self._tools.capacity(tool)
        room = (capacity.sent if sent else capacity.received) * 3 // 4
        return min(_LARGEST_PIECE, room) // 3 * 3

    def _tool(self, name: str, arguments: dict[str, object]) -> str:
        done = patiently(lambda: self._tools.call_mcp_tool(name, arguments))
        if not done.success:
            raise ExchangeError(
                f"The sandbox's tool {name} failed for {arguments['path']}: "
                f"{done.error_message[:300]}"
            )
        return done.data

    def _absolute(self, path: str) -> str:
        if not path or "\0" in path:
            raise ExchangeError(f"{path!r} is not the path of a file.")
        if not self._here and not path.startswith("/"):
            here = patiently(lambda: self._tools.shell("pwd")).stdout.strip()
            if not here.startswith("/"):
                raise ExchangeError("The sandbox has no working directory; give a full path.")
            self._here = here
        return posixpath.normpath(posixpath.join(self._here, path))


def _local_files(source: Path, below: str = "") -> Iterator[tuple[Path, str]]:
    if not source.is_dir():
        yield source, below
        return
    for path in sorted(source.iterdir()):
        if not path.name.startswith(".") and not path.is_symlink():
            if not path.is_dir() and not path.is_file():
                continue
            yield from _local_files(path, posixpath.join(below, path.name))
