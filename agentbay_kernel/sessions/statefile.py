"""The state file: which process of this machine created which session.

All kernels of a user change it, one change at a time. Its `Record` values are frozen. The file is
JSON, readable by its user alone (0600), and is replaced as a whole under a lock. Entries that are
not understood are set aside: they are never deleted, and nothing acts on them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agentbay_kernel.errors import StateFileError
from agentbay_kernel.sessions.ownership import Owner

FORMAT = 1
FILE, LOCK = "sessions.json", "sessions.lock"
# A change takes milliseconds; a process that holds the lock for this long hangs.
_LOCK_WITHIN_S = 10.0
_LARGEST = 4 * 1024 * 1024
CREATING, LIVE, HANDED, ENDING = "creating", "live", "handed", "ending"
_STAGES = (CREATING, LIVE, HANDED, ENDING)


@dataclass(frozen=True)
class Record:
    """One session, or one create that was about to be sent.

    Arguments:
        create_label: label of this one create at the service; identifies the record.
        owner: the process that has it now.
        place: address of the service.
        notebook: path of the kernel's connection file; a restarted kernel has the same path.
        name: the session's name in its notebook.
        stage: `creating` before the service has responded, `live`, `handed` to the notebook's
            next kernel, `ending` if it must be deleted.
        session_id: empty until it is known.
        created_at, used_at, expires_at: seconds since the epoch; `used_at` is the last time at
            which its owner was known to be alive, `expires_at` the time by which the service has
            ended it in any case.
    """

    create_label: str
    owner: Owner
    place: str
    notebook: str
    name: str
    stage: str
    created_at: float
    used_at: float
    expires_at: float
    session_id: str = ""

    @property
    def age_s(self) -> float:
        """Seconds since it was created."""
        return max(0.0, time.time() - self.created_at)


class StateFile:
    """The state file of one user.

    Arguments:
        folder: its directory; created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE

    def read(self) -> dict[str, Record]:
        """Return the current records, by create_label.

        Raises:
            StateFileError: the file can't be read.
        """
        if not self.path.exists():
            return {}
        with self.changing() as records:
            return dict(records)

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Record]]:
        """Yield the records, to be changed in place; write them if the block raises nothing.

        Raises:
            StateFileError: the file can't be read, locked or written; nothing was changed.
        """
        with self._locked():
            records = self._load()
            before = dict(records)
            yield records
            if records != before:
                self._store(records)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK, timeout=_LOCK_WITHIN_S, mode=0o600)
            lock.acquire()
        except Timeout:
            raise self._error(
                f"another process has held its lock for {_LOCK_WITHIN_S:.0f} s"
            ) from None
        except OSError as failure:
            raise self._error(failure.strerror or str(failure)) from failure
        try:
            yield
        finally:
            lock.release()

    def _load(self) -> dict[str, Record]:
        try:
            facts = self.path.lstat()
        except FileNotFoundError:
            return {}
        except OSError as failure:
            raise self._error(failure.strerror or str(failure)) from failure
        if not stat.S_ISREG(facts.st_mode):
            raise self._error("it is not a file")
        try:
            if facts.st_size > _LARGEST:
                raise ValueError("it is too large")
            document = json.loads(self.path.read_text(encoding="utf-8"))
            version, entries = document["format"], document["sessions"]
            if not isinstance(entries, list):
                raise ValueError("it holds no list of sessions")
        except OSError as failure:
            raise self._error(failure.strerror or str(failure)) from failure
        except (ValueError, KeyError, TypeError, RecursionError):
            self._set_aside()
            return {}
        if version != FORMAT:
            raise self._error(f"it was written by another version of agentbay-kernel ({version!r})")
        records = [_read_record(entry) for entry in entries]
        if None in records:
            self._set_aside(keep=True)
        return {record.create_label: record for record in records if record is not None}

    def _set_aside(self, keep: bool = False) -> None:
        """Keep a copy of an unreadable file; a person may want to look at it."""
        aside = self.path.with_name(f"{FILE}.unreadable-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            if keep:
                self._write(aside, self.path.read_text(encoding="utf-8"))
            else:
                self.path.replace(aside)
        except OSError as failure:
            raise self._error(failure.strerror or str(failure)) from failure

    def _store(self, records: dict[str, Record]) -> None:
        document = {"format": FORMAT, "sessions": [asdict(one) for one in records.values()]}
        try:
            self._write(self.path, json.dumps(document, indent=1) + "\n")
        except OSError as failure:
            raise self._error(failure.strerror or str(failure)) from failure

    def _write(self, path: Path, text: str) -> None:
        # Files of mkstemp are readable by their user alone.
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".sessions-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise

    def _error(self, why: str) -> StateFileError:
        return StateFileError(
            f"The state file {self.path} can't be used: {why}. It lists your sessions, "
            "so without it no session is created. Correct it, or name another directory by "
            "AGENTBAY_STATE_DIR."
        )


def _read_record(entry: Any) -> Record | None:
    """Return a record, or None if the entry is not a valid one."""
    try:
        record = Record(**{**entry, "owner": Owner(**entry["owner"])})
    except (TypeError, KeyError):
        return None
    owner = record.owner
    texts = (
        *(record.create_label, record.place, record.notebook, record.name, record.session_id),
        *(owner.id, owner.host, owner.boot, owner.space, owner.started),
    )
    numbers = (record.created_at, record.used_at, record.expires_at)
    sound = (
        all(isinstance(text, str) for text in texts)
        and all(type(number) in (int, float) for number in numbers)
        and type(owner.pid) is int
        and record.stage in _STAGES
        and record.create_label
    )
    return record if sound else None


# Nothing in this file is ever pruned or deleted: the sessions belong to others.
_ATTACHED, _ATTACHED_LOCK = "attached.json", "attached.lock"
_ATTACHED_WITHIN_S = 5.0
# Kernels that were killed and not started again leave their entries behind.
_MOST = 200


@dataclass(frozen=True)
class Attachment:
    """A session of another owner that a notebook uses.

    Arguments:
        notebook: path of the kernel's connection file.
        name: the session's name in the notebook.
        place: address of the service.
        session_id: id at the service.
        bridged: whether a bridge was requested.
    """

    notebook: str
    name: str
    place: str
    session_id: str
    bridged: bool


class Attachments:
    """The attachments of one notebook.

    They are a convenience: if their file can't be used, nothing is stored and nothing fails.

    Arguments:
        folder: directory of the file.
        notebook: path of the kernel's connection file; empty if there is none, and then nothing
            is stored.
    """

    def __init__(self, folder: Path, notebook: str) -> None:
        self._folder = folder
        self._notebook = notebook

    def find(self, name: str) -> Attachment | None:
        """Return the latest attachment of this notebook under that name."""
        found = [one for one in self._update(list) if self._is_mine(one, name)]
        return found[-1] if found else None

    def note(self, name: str, place: str, session_id: str, *, bridged: bool) -> None:
        """Note that this notebook is attached to that session."""
        new = Attachment(self._notebook, name, place, session_id, bridged)
        self._update(
            lambda kept: [*(one for one in kept if not self._is_mine(one, name)), new][-_MOST:],
            makes=True,
        )

    def forget(self, name: str | None = None) -> None:
        """Forget the attachment under that name; without a name, all attachments."""
        self._update(lambda kept: [one for one in kept if not self._is_mine(one, name)])

    def _is_mine(self, one: Attachment, name: str | None) -> bool:
        return one.notebook == self._notebook and name in (None, one.name)

    def _update(
        self, change: Callable[[list[Attachment]], list[Attachment]], *, makes: bool = False
    ) -> list[Attachment]:
        """Change the stored attachments, and return them."""
        if not self._notebook or not (makes or (self._folder / _ATTACHED).exists()):
            return []
        with contextlib.suppress(OSError, Timeout):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._folder / _ATTACHED_LOCK, timeout=_ATTACHED_WITHIN_S, mode=0o600):
                before = self._load()
                after = change(before)
                if after != before:
                    self._store(after)
                return after
        return []

    def _load(self) -> list[Attachment]:
        try:
            lines = json.loads((self._folder / _ATTACHED).read_text(encoding="utf-8"))
            read = [Attachment(**line) for line in lines]
        except (OSError, ValueError, TypeError, RecursionError):
            return []
        return [one for one in read if _is_sound(one)]

    def _store(self, kept: list[Attachment]) -> None:
        # Files of mkstemp are readable by their user alone.
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".attached-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(one) for one in kept], file, indent=1)
        Path(temporary).replace(self._folder / _ATTACHED)


def _is_sound(one: Attachment) -> bool:
    texts = (one.notebook, one.name, one.place, one.session_id)
    return all(isinstance(text, str) for text in texts) and isinstance(one.bridged, bool)
