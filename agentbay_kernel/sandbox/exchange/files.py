"""The sandbox's side of the transfer of files and folders.

In: what is to be brought where. Out: what is there already, what is missing, what went wrong.

An upload is one stream of bytes: its files one behind the other. Its pieces gather in a folder
whose name says what they are pieces of, so that an upload that broke off goes on where it was.

Runs inside a sandbox, with Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from typing import Any, Iterator

from agentbay_kernel.sandbox.exchange.pieces import Stream, found, joined
from agentbay_kernel.sandbox.exchange.values import MALFORMED, MISSING, TOO_LARGE, Refused

_READ = 1024 * 1024
MOST_FILES = 100_000
# Files of a folder that are smaller than this are fetched as one.
SMALL = 256 * 1024
EXISTS, CHECKSUM, UNSAFE = "exists", "checksum", "unsafe"


def digest_of(path: str) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            piece = file.read(_READ)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)


def begin_upload(job: dict[str, Any]) -> dict[str, Any]:
    """Look at the target: what is there with the same content, with another; what has arrived.

    In: "remote", "name", "folder" (is it one?), "files" ([path, bytes, SHA-256]), "folders",
    "id" (of the content), "force".
    """
    target = os.path.abspath(os.path.expanduser(job["remote"] or "."))
    into = job["remote"].endswith("/") or (not job["folder"] and os.path.isdir(target))
    if not job["remote"] or into:
        target = os.path.join(target, job["name"])
    above = os.path.dirname(target)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.access(above, os.W_OK):
        raise Refused(UNSAFE, "nothing can be written in %s" % above)
    same, others = [], []
    for number, (path, size, sha256) in enumerate(job["files"]):
        place = os.path.join(target, *path.split("/")) if job["folder"] else target
        if not os.path.lexists(place):
            continue
        if os.path.isfile(place) and os.path.getsize(place) == size and digest_of(place) == sha256:
            same.append(number)
        elif os.path.isdir(place):
            raise Refused(EXISTS, "there is a directory %s" % place)
        else:
            others.append(place)
    if job["folder"] and os.path.lexists(target) and not os.path.isdir(target):
        raise Refused(EXISTS, "there is a file %s" % target)
    if others and not job["force"]:
        more = "" if len(others) == 1 else " and %d more" % (len(others) - 1)
        raise Refused(EXISTS, "there is %s%s, with another content" % (others[0], more))
    stage = _stage(job["id"], same)
    arrived = [[offset, length] for offset, length, _ in found(os.path.join(stage, "s"))]
    return {"target": target, "same": same, "stage": stage, "arrived": arrived}


def _stage(identity: str, same: list[int]) -> str:
    """The folder of an upload that is under way: of this user alone.

    What is there already is not sent, so it decides too which bytes the pieces are.
    """
    identity = hashlib.sha256(json.dumps([identity, same]).encode()).hexdigest()[:32]
    path = os.path.join(tempfile.gettempdir(), "ab-upload-%d-%s" % (os.getuid(), identity))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        facts = os.lstat(path)
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise Refused(MALFORMED, "%s is not ours" % path) from None
    return path


def finish_upload(job: dict[str, Any]) -> dict[str, Any]:
    """Cut the stream into its files and put each into its place, or none.

    In: as `begin_upload`, and "target", "same".
    """
    stage, target = _stage(job["id"], job["same"]), job["target"]
    stream = Stream(joined(os.path.join(stage, "s")))
    there = set(job["same"])
    ready = []
    try:
        for number, (path, size, sha256) in enumerate(job["files"]):
            if number in there:
                continue
            waiting = os.path.join(stage, "f%d" % number)
            digest = hashlib.sha256()
            with open(waiting, "wb") as file:
                for part in stream.take(size):
                    digest.update(part)
                    file.write(part)
            if digest.hexdigest() != sha256:
                raise Refused(CHECKSUM, "what arrived of %s is not what was sent" % path)
            place = os.path.join(target, *path.split("/")) if job["folder"] else target
            ready.append((waiting, place))
    except Refused as refusal:
        # Whatever is wrong with these pieces, the next attempt begins anew.
        shutil.rmtree(stage, ignore_errors=True)
        raise Refused(CHECKSUM, refusal.text) from None
    if job["folder"]:
        for path in ["", *job["folders"]]:
            os.makedirs(os.path.join(target, *path.split("/")), exist_ok=True)
    for waiting, place in ready:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        beside = os.path.join(os.path.dirname(place), ".ab-" + job["id"][:12])
        shutil.move(waiting, beside)
        os.chmod(beside, 0o666 & ~_umask())
        if not job["force"] and os.path.lexists(place):
            os.unlink(beside)
            raise Refused(EXISTS, "there is now %s, with another content" % place)
        os.replace(beside, place)
    shutil.rmtree(stage, ignore_errors=True)
    return {}


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def list_files(job: dict[str, Any], pack: str) -> dict[str, Any]:
    """What there is to fetch: [path, bytes, SHA-256, offset in the pack or None] of each file.

    In: "remote", "limit". The pack holds the small files of a folder.
    """
    top = os.path.abspath(os.path.expanduser(job["remote"]))
    if not os.path.lexists(top):
        raise Refused(MISSING, "there is no %s" % top)
    if os.path.isfile(top):
        # A link that was named is followed: what is inside the sandbox is the sandbox's.
        size = os.path.getsize(top)
        _check(size, job["limit"])
        facts = {"folder": False, "folders": [], "left_out": 0}
        return {**facts, "path": top, "files": [["", size, digest_of(top), None]]}
    if not os.path.isdir(top):
        raise Refused(MISSING, "%s is neither a file nor a directory" % top)
    listed: list[list[Any]] = []
    folders: list[str] = []
    left_out = [0]
    total = 0
    for path, is_folder, size in _walk(top, "", left_out):
        if is_folder:
            folders.append(path)
        else:
            listed.append([path, size, "", None])
        total += size
        if len(listed) + len(folders) > MOST_FILES:
            raise Refused(TOO_LARGE, "has more than %s files" % format(MOST_FILES, ","))
        _check(total, job["limit"])
    offset = 0
    with open(pack, "wb") as packed:
        for entry in listed:
            place = os.path.join(top, *entry[0].split("/"))
            if entry[1] >= SMALL:
                entry[2] = digest_of(place)
                continue
            with open(place, "rb") as file:
                data = file.read(SMALL)
            packed.write(data)
            entry[1:] = [len(data), hashlib.sha256(data).hexdigest(), offset]
            offset += len(data)
    facts = {"folder": True, "folders": folders, "left_out": left_out[0]}
    return {**facts, "path": top, "files": listed}


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise Refused(TOO_LARGE, "has more than %s bytes" % format(limit, ","))


def _walk(top: str, below: str, left_out: list[int]) -> Iterator[tuple[str, bool, int]]:
    with os.scandir(os.path.join(top, below)) as entries:
        found_here = sorted(entries, key=lambda entry: entry.name)
    for entry in found_here:
        path = below + "/" + entry.name if below else entry.name
        hidden = entry.name.startswith(".") or entry.name.lower() == "__pycache__"
        plain = not hidden and not entry.is_symlink()
        if plain and entry.is_dir(follow_symlinks=False):
            yield path, True, 0
            for each in _walk(top, path, left_out):
                yield each
        elif plain and entry.is_file(follow_symlinks=False):
            yield path, False, entry.stat(follow_symlinks=False).st_size
        else:
            left_out[0] += 1
