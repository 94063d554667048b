"""Upload: a file or a directory of this machine, into the sandbox.

The caller allows the path. The files are one stream. Its pieces are collected in the sandbox, under
a name that is made of their content. They are put into place when all have arrived and match what
was sent. So an interrupted upload continues, and an upload whose file changed meanwhile starts from
the beginning.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import (
    ExchangeError,
    MalformedValueError,
    MissingNameError,
    TooLargeError,
    UnsafePathError,
)
from agentbay_kernel.exchange.jobs import JobRunner
from agentbay_kernel.exchange.reports import Count, Note, Reporter, Transferred
from agentbay_kernel.exchange.transfers import ByteTransfer, Source, Stretch, open_plain

MOST_FILES = 100_000
_READ = 1024 * 1024
_STAGE = re.compile(r"/[\w./-]{1,300}")


@dataclass(frozen=True)
class _Listed:
    """The files to send: paths below the directory with '/', and the location of each."""

    is_folder: bool
    files: list[tuple[str, Path]]
    folders: list[str]
    left_out: int


def upload(
    transfer: ByteTransfer,
    jobs: JobRunner,
    local: Path,
    remote: str,
    force: bool,
    limit: int,
    progress: Reporter | None,
    stopped: threading.Event | None,
    note: Callable[[str, int], None],
) -> Transferred:
    """Copy into the sandbox; see `Exchange.upload`.

    Arguments:
        note: called with the name and the size of each file, before any of it is sent.
    """
    listed = _list(local)
    told = [(path, *_facts(place, limit)) for path, place in listed.files]
    total = sum(size for _, size, _ in told)
    if total > limit:
        raise TooLargeError(
            f"{local} has {total:,} bytes, more than {limit:,}. Nothing was sent; the setting "
            "exchange_limit sets the limit of one exchange."
        )
    facts: dict[str, Any] = {
        "name": local.name or local.resolve().name,
        "folder": listed.is_folder,
        "files": told,
        "folders": listed.folders,
    }
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    job = {**facts, "id": identity, "remote": remote, "force": force}
    begun = jobs.do({"do": "begin_upload", **job}, transfer.new_base(), stopped=stopped)
    target, stage, same = _begun(begun, len(told))
    left = [number for number in range(len(told)) if number not in set(same)]
    for number in left:
        note(str(listed.files[number][1]), told[number][1])
    source = Source([listed.files[n][1] for n in left], [told[n][1] for n in left])
    missing = list(_missing(begun.get("arrived"), source.size))
    there = source.size - sum(length for _, length in missing)
    count = Count(local.name, source.size, progress, done=there)
    if there:
        count.add(0)
    transfer.write_stream(f"{stage}/s", missing, source.read, count.add, stopped)
    job |= {"target": target, "same": same}
    jobs.do({"do": "finish_upload", **job}, transfer.new_base(), stopped=stopped)
    return Transferred(len(left), source.size, target, len(same), left_out(listed.left_out))


def left_out(number: int) -> list[Note]:
    """Return the note on what is never transferred."""
    if not number:
        return []
    return [Note("", f"{number} links, special files and names that start with a dot are left out")]


def _begun(report: dict[str, Any], files: int) -> tuple[str, str, list[int]]:
    target, stage, same = report.get("target"), report.get("stage"), report.get("same")
    if (
        not isinstance(target, str)
        or not isinstance(stage, str)
        or not _STAGE.fullmatch(stage)
        or not isinstance(same, list)
        or any(type(number) is not int or not 0 <= number < files for number in same)
    ):
        raise MalformedValueError("The sandbox did not report where files go; nothing was sent.")
    return target, stage, sorted(set(same))


def _missing(arrived: Any, size: int) -> Iterator[Stretch]:
    """Yield the parts of a stream that have not arrived."""
    after = 0
    for stretch in arrived if isinstance(arrived, list) else []:
        if not isinstance(stretch, list) or [type(part) for part in stretch] != [int, int]:
            raise MalformedValueError("The sandbox did not report what arrived; nothing was sent.")
        offset, length = stretch
        if offset < after or length < 0 or offset + length > size:
            continue
        if offset > after:
            yield after, offset - after
        after = offset + length
    if size > after:
        yield after, size - after


def _list(local: Path) -> _Listed:
    try:
        mode = local.lstat().st_mode
    except FileNotFoundError:
        raise MissingNameError(f"There is no {local}. Nothing was sent.") from None
    if stat.S_ISLNK(mode):
        raise UnsafePathError(f"{local} is a link, which is not followed. Name its target.")
    if stat.S_ISREG(mode):
        return _Listed(False, [("", local)], [], 0)
    if not stat.S_ISDIR(mode):
        raise UnsafePathError(f"{local} is neither a file nor a directory. Nothing was sent.")
    files: list[tuple[str, Path]] = []
    folders: list[str] = []
    omitted = 0
    for place, below, names in os.walk(local, followlinks=False):
        here = Path(place)
        start = "" if here == local else here.relative_to(local).as_posix() + "/"
        plain = [name for name in below if _is_plain(here / name)]
        omitted += len(below) - len(plain)
        below[:] = sorted(plain)
        folders += [start + name for name in below]
        for name in sorted(names):
            if _is_plain(here / name) and (here / name).is_file():
                files.append((start + name, here / name))
            else:
                omitted += 1
        if len(files) + len(folders) > MOST_FILES:
            raise TooLargeError(f"{local} holds more than {MOST_FILES:,} files. Pack it into one.")
    return _Listed(True, files, folders, omitted)


def _is_plain(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_symlink()


def _facts(path: Path, limit: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    try:
        with open_plain(path) as file:
            while piece := file.read(_READ):
                digest.update(piece)
                size += len(piece)
                if size > limit:
                    break
    except OSError as error:
        raise ExchangeError(f"{path} can't be read: {error.strerror}. Nothing was sent.") from error
    return size, digest.hexdigest()
