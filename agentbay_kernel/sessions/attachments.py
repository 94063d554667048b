"""Which sessions of others a notebook is attached to, for its restarted kernel.

In: attaching and leaving, the kernel's connection file, which a restarted kernel has again. Out:
what the kernel before was attached to. The file is not the one that says which sessions are this
user's own: nothing that stands here is ever swept or deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

FILE, LOCK = "attached.json", "attached.lock"
_LOCK_WITHIN_S = 5.0
# Kernels that were killed and never started again leave their lines behind.
_MOST = 200


@dataclass(frozen=True)
class Attachment:
    """A session of another that a notebook uses.

    Arguments:
        notebook: path of the kernel's connection file.
        name: the session's name in the notebook.
        place: address of the service.
        session_id: at the service.
        bridged: was a bridge asked for?
    """

    notebook: str
    name: str
    place: str
    session_id: str
    bridged: bool


class Attachments:
    """The attachments of one notebook. A comfort: where its file can't be used, nothing is kept
    and nothing fails.

    Arguments:
        folder: where the file lies.
        notebook: path of the kernel's connection file; empty when there is none: then nothing
            is kept.
    """

    def __init__(self, folder: Path, notebook: str) -> None:
        self._folder = folder
        self._notebook = notebook

    def find(self, name: str) -> Attachment | None:
        """What this notebook's kernel is, or was, attached to under that name."""
        found = [one for one in self._update(list) if self._is_mine(one, name)]
        return found[-1] if found else None

    def note(self, name: str, place: str, session_id: str, *, bridged: bool) -> None:
        """This notebook is attached to that session."""
        new = Attachment(self._notebook, name, place, session_id, bridged)
        self._update(
            lambda kept: [*(one for one in kept if not self._is_mine(one, name)), new][-_MOST:],
            makes=True,
        )

    def forget(self, name: str | None = None) -> None:
        """It is no longer attached under that name; without a name, to none at all."""
        self._update(lambda kept: [one for one in kept if not self._is_mine(one, name)])

    def _is_mine(self, one: Attachment, name: str | None) -> bool:
        return one.notebook == self._notebook and name in (None, one.name)

    def _update(
        self, change: Callable[[list[Attachment]], list[Attachment]], *, makes: bool = False
    ) -> list[Attachment]:
        """Change what is kept; returns it."""
        if not self._notebook or not (makes or (self._folder / FILE).exists()):
            return []
        with contextlib.suppress(OSError, Timeout):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._folder / LOCK, timeout=_LOCK_WITHIN_S, mode=0o600):
                before = self._load()
                after = change(before)
                if after != before:
                    self._store(after)
                return after
        return []

    def _load(self) -> list[Attachment]:
        try:
            lines = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
            read = [Attachment(**line) for line in lines]
        except (OSError, ValueError, TypeError, RecursionError):
            return []
        return [one for one in read if _is_sound(one)]

    def _store(self, kept: list[Attachment]) -> None:
        # mkstemp's files are readable by their user alone.
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".attached-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(one) for one in kept], file, indent=1)
        Path(temporary).replace(self._folder / FILE)


def _is_sound(one: Attachment) -> bool:
    texts = (one.notebook, one.name, one.place, one.session_id)
    return all(isinstance(text, str) for text in texts) and isinstance(one.bridged, bool)
