"""Download: a file or a directory of the sandbox, onto this machine.

The caller allows the local path. The sandbox's list of files is not trusted: paths are checked step
by step, sizes are counted, contents are compared with the checksums of the list. `local_files`
decides where each file is written. An interrupted file is kept beside its target, under a name made
of its content, and the next download continues from there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agentbay_kernel.errors import (
    ChecksumError,
    ExchangeError,
    MalformedValueError,
    TargetExistsError,
    TooLargeError,
    UnsafePathError,
)
from agentbay_kernel.exchange.jobs import JobRunner
from agentbay_kernel.exchange.reports import Count, Note, Reporter, Transferred, raised
from agentbay_kernel.exchange.transfers import ByteTransfer
from agentbay_kernel.exchange.tree import Folder, open_folder, safe_parts
from agentbay_kernel.exchange.upload import MOST_FILES, left_out
from agentbay_kernel.local_files import (
    FROM_SANDBOX,
    keep_tools_out,
    placed,
    runs_when_loaded,
)
from agentbay_kernel.sandbox.exchange.pieces import Stream
from agentbay_kernel.sandbox.exchange.values import Refused

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _File:
    """One file of the sandbox's list: its path here, its bytes, its path there.

    `parts` are the steps from the notebook's directory; `is_moved` is whether they differ from the
    requested ones.
    """

    parts: list[str]
    is_moved: bool
    size: int
    sha256: str
    remote: str
    packed: bool


@dataclass(frozen=True)
class _Listing:
    files: list[_File]
    folders: list[list[str]]
    left_out: int

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def places(self) -> Iterator[list[str]]:
        """Yield all paths that are written."""
        yield from (file.parts for file in self.files)
        yield from self.folders


@dataclass(frozen=True)
class Target:
    """The requested target of a download; see `Exchange.download`."""

    local: Path
    into: bool
    force: bool
    folder: Path | None = None
    endings: Collection[str] = ()

    def path(self, remote: str, is_folder: bool) -> Path:
        """Return the path of the file or directory itself.

        Raises:
            UnsafePathError: it needs its own name, and has none that is allowed here.
        """
        if not self.into and (is_folder or not self.local.is_dir()):
            return self.local
        name = PurePosixPath(remote).name
        if not name or name in (".", "..", "~"):
            raise UnsafePathError(
                f"{remote!r} has no name of its own. Nothing was fetched: name the file that it "
                "becomes."
            )
        return self.local / safe_parts(name)[0]


def download(
    transfer: ByteTransfer,
    jobs: JobRunner,
    remote: str,
    asked: Target,
    limit: int,
    progress: Reporter | None,
    stopped: threading.Event | None,
) -> Transferred:
    """Copy out of the sandbox; see `Exchange.download`."""
    base = transfer.new_base()
    report = jobs.do({"do": "list_files", "remote": remote, "limit": limit}, base, stopped=stopped)
    try:
        target = asked.path(remote, report.get("folder") is True)
        root = asked.folder or target.parent
        listing = _read(report, list(target.relative_to(root).parts), asked.endings, limit)
        root.mkdir(parents=True, exist_ok=True)
        left = _still_wanted(root, listing, asked.force)
        free = shutil.disk_usage(root).free
        wanted = sum(file.size for file in left)
        if wanted > free:
            raise ExchangeError(
                f"{remote} has {wanted:,} bytes, and {root} has room for {free:,}. Nothing was "
                "written."
            )
        if any(parts[0] == FROM_SANDBOX for parts in listing.places()):
            keep_tools_out(root)
        for parts in listing.folders:
            with open_folder(root, parts, make=True):
                pass
        count = Count(remote, wanted, progress)
        _fetch_packed(transfer, f"{base}.pack", root, listing, left, asked.force, count, stopped)
        for file in left:
            if not file.packed:
                _fetch(transfer, root, file, asked.force, count, stopped)
    finally:
        transfer.remove(base)
    unchanged = len(listing.files) - len(left)
    moved = [file for file in listing.files if file.is_moved]
    if moved and len(moved) == len(listing.files):
        target = root / FROM_SANDBOX / target.relative_to(root)
    notes = _left_out(listing.left_out) + _moved(moved) + _run_when_loaded(listing)
    return Transferred(len(left), wanted, str(target), unchanged, notes)


def _left_out(number: int) -> list[Note]:
    notes = left_out(number)
    return [Note("", f"{notes[0].text}; so is __pycache__")] if notes else []


def _moved(moved: list[_File]) -> list[Note]:
    """Return a note on the location of files that are not data."""
    if not moved:
        return []
    names = [file.parts[-1] for file in moved]
    if len(names) == 1:
        return [Note("", f"{names[0]} is not data: it is below {FROM_SANDBOX}/")]
    told = f"{len(moved):,} files are not data: they are below {FROM_SANDBOX}/: {_some(names)}"
    return [Note("", told)]


def _run_when_loaded(listing: _Listing) -> list[Note]:
    names = [file.parts[-1] for file in listing.files if runs_when_loaded(file.parts[-1])]
    if not names:
        return []
    return [Note("", f"{_some(names)}: loading it can run code that the sandbox put in it")]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _read(report: dict[str, Any], top: list[str], endings: Collection[str], limit: int) -> _Listing:
    """Return the sandbox's list of files, checked; `top` is the requested location."""
    path, is_folder = report.get("path"), report.get("folder") is True
    files, folders = report.get("files"), report.get("folders")
    if not isinstance(path, str) or not isinstance(files, list) or not isinstance(folders, list):
        raise MalformedValueError("The sandbox's list of files is invalid; nothing was written.")
    if len(files) + len(folders) > MOST_FILES or (not is_folder and len(files) != 1):
        raise MalformedValueError(f"The sandbox lists {len(files):,} files; nothing was written.")
    listed = []
    packed = 0
    holding: set[tuple[str, ...]] = set()
    for entry in files:
        if not isinstance(entry, list) or len(entry) != 4:
            raise MalformedValueError(
                "The sandbox's list of files is invalid; nothing was written."
            )
        below, size, sha256, offset = entry
        if (
            type(size) is not int
            or size < 0
            or not isinstance(sha256, str)
            or not _DIGEST.fullmatch(sha256)
            or (offset is not None and offset != packed)
        ):
            raise MalformedValueError(
                "The sandbox's list of files is invalid; nothing was written."
            )
        if offset is not None:
            packed += size
        wanted = [*top, *safe_parts(below)] if is_folder else top
        parts = list(placed(wanted, endings))
        holding.update(tuple(wanted[:end]) for end in range(1, len(wanted)))
        place = f"{path}/{below}" if is_folder else path
        listed.append(_File(parts, parts != wanted, size, sha256, place, offset is not None))
    made = [top, *([*top, *safe_parts(below)] for below in folders)] if is_folder else []
    # Directories that hold files are made for these files.
    empty = [_folder_placed(parts, endings) for parts in made if tuple(parts) not in holding]
    _refuse_duplicates([*(file.parts for file in listed), *made])
    listing = _Listing(listed, empty, _whole(report.get("left_out")))
    if listing.size > limit:
        raise TooLargeError(
            f"The sandbox claims to have {listing.size:,} bytes, more than {limit:,}. Nothing was "
            "written; the setting exchange_limit sets the limit of one exchange."
        )
    return listing


def _folder_placed(parts: list[str], endings: Collection[str]) -> list[str]:
    """Return the path of an empty directory: the one that a table in it would have."""
    return list(placed([*parts, "table.csv"], endings)[:-1])


def _refuse_duplicates(paths: list[list[str]]) -> None:
    # Some systems treat two names as one file if only case or the form of an accent differs.
    seen: set[str] = set()
    for parts in paths:
        key = unicodedata.normalize("NFC", "/".join(parts).casefold())
        if key in seen:
            raise UnsafePathError(
                f"The sandbox names {'/'.join(parts)[:200]!r} twice, or in two spellings. Nothing "
                "was written."
            )
        seen.add(key)


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 < value < 10**9 else 0


def _still_wanted(root: Path, listing: _Listing, force: bool) -> list[_File]:
    """Return the files that are not here yet.

    Raises:
        TargetExistsError: one exists here, with another content.
    """
    left, others = [], []
    for file in listing.files:
        *above, name = file.parts
        with open_folder(root, above, make=False) as folder:
            found = folder.status(name) if folder is not None else None
            if folder is None or found is None:
                left.append(file)
                continue
            place = folder.path / name
            if not place.is_file() or place.is_symlink():
                raise TargetExistsError(
                    f"{place} is no plain file, and one is wanted there. Nothing was written."
                )
            if found.st_size == file.size and folder.digest(name) == file.sha256:
                continue
            others.append(place)
            left.append(file)
    if others and not force:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise TargetExistsError(
            f"{others[0]}{more} is here already, with another content. Nothing was written; "
            "--force overwrites."
        )
    return left


def _fetch(
    transfer: ByteTransfer,
    root: Path,
    file: _File,
    force: bool,
    count: Count,
    stopped: threading.Event | None,
) -> None:
    """Fetch one file; continue where an earlier attempt ended."""
    *above, name = file.parts
    part = _part_name(name, file.sha256)
    with open_folder(root, above, make=True) as folder:
        assert folder is not None
        digest = hashlib.sha256()
        start = _resumed(folder, part, file, digest)
        count.add(start)
        with folder.open_to_append(part) as out:
            for piece in transfer.read_stream(file.remote, start, file.size, stopped):
                digest.update(piece)
                out.write(piece)
                count.add(len(piece))
        _put(folder, part, name, file, digest.hexdigest(), force)


def _part_name(name: str, sha256: str) -> str:
    return f".{name}.{sha256[:12]}.ab-part"


def _resumed(folder: Folder, part: str, file: _File, digest: Any) -> int:
    """Return the number of bytes that are here already; add them to the digest."""
    found = folder.status(part)
    if found is None:
        return 0
    if found.st_size > file.size:
        folder.remove(part)
        return 0
    with folder.open_to_read(part) as earlier:
        while piece := earlier.read(1024 * 1024):
            digest.update(piece)
    return found.st_size


def _put(folder: Folder, part: str, name: str, file: _File, sha256: str, force: bool) -> None:
    if sha256 != file.sha256:
        folder.remove(part)
        raise ChecksumError(
            f"{file.remote} is not what the sandbox listed: it changed while it was "
            "fetched, or broke on its way. It was not written; run it again."
        )
    folder.put(part, name, force)


def _fetch_packed(
    transfer: ByteTransfer,
    pack: str,
    root: Path,
    listing: _Listing,
    left: list[_File],
    force: bool,
    count: Count,
    stopped: threading.Event | None,
) -> None:
    """Fetch the small files of a directory, which come as one stream."""
    packed = [file for file in listing.files if file.packed]
    wanted = {id(file) for file in left}
    if not any(id(file) in wanted for file in packed):
        return
    stream = Stream(transfer.read_stream(pack, 0, sum(file.size for file in packed), stopped))
    for file in packed:
        try:
            data = b"".join(stream.take(file.size))
        except Refused as refusal:
            raise raised(refusal) from None
        if id(file) not in wanted:
            continue
        *above, name = file.parts
        part = _part_name(name, file.sha256)
        with open_folder(root, above, make=True) as folder:
            assert folder is not None
            folder.remove(part)
            with folder.open_to_append(part) as out:
                out.write(data)
            _put(folder, part, name, file, hashlib.sha256(data).hexdigest(), force)
        count.add(file.size)
