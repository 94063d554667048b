"""The part of the state file that one process writes, and the sessions that it may claim.

A notebook's process records the sessions that it opens, hands over and gives up. It finds those of
the notebook's earlier kernel, and those that no kernel will reclaim. A claim is made under the
file's lock, so two processes never take the same session.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentbay_kernel.errors import SessionLimitError
from agentbay_kernel.sessions.ownership import Fate, Owner, owner_status, this_process
from agentbay_kernel.sessions.shown import ShownOutput
from agentbay_kernel.sessions.statefile import (
    CREATING,
    ENDING,
    HANDED,
    LIVE,
    Record,
    StateFile,
)

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# A session past its maximum lifetime needs no record; the margin is for differing clocks.
_EXPIRED_FOR_S = 600.0
# Precision of `used_at`: it is not written for each of many short cells.
_STAMP_EVERY_S = 15.0


# How to free a slot, at the end of each message that all slots are in use.
HOW_TO_FREE = (
    "Free one: `%agentbay delete` in its notebook, shutting that notebook's kernel down, or "
    "`jupyter agentbay sessions delete SESSION_ID`. AGENTBAY_MAX_SESSIONS allows more."
)


def described(records: Iterable[Record], here: Owner) -> str:
    """Return a line for each session: its id, name, age and owner."""
    return "\n".join(
        f"  {record.session_id or '(being created)'}  {record.name!r}, "
        f"{record.age_s / 60:.0f} min old, {whose(record, here)}"
        for record in records
    )


def whose(record: Record, here: Owner) -> str:
    """Return a description of a session's owner."""
    if record.owner == here:
        return "of this notebook"
    if record.stage == HANDED:
        return "waits for its restarted kernel"
    return {
        Fate.ALIVE: "of another notebook",
        Fate.DEAD: "its kernel has ended",
        Fate.UNKNOWN: "of a kernel on another machine or in another container",
    }[owner_status(record.owner)]


def open_state_file(settings: AgentBaySettings) -> StateFile:
    """Return the state file that the settings name, by default in Jupyter's data directory."""
    if settings.state_dir:
        return StateFile(Path(settings.state_dir).expanduser())
    from jupyter_core.paths import jupyter_data_dir

    return StateFile(Path(jupyter_data_dir(), "agentbay"))


class Registry:
    """The records of one process, and those that it may claim. Thread-safe.

    Arguments:
        file: the state file.
        notebook: path of the kernel's connection file; a restarted kernel has the same path.
            Empty if there is none, and then nothing can be reclaimed.
        max_sessions: the largest number of sessions of the user at one backend.
    """

    def __init__(self, file: StateFile, notebook: str, max_sessions: int) -> None:
        self.owner: Owner = this_process()
        self._file = file
        self._notebook = notebook
        self._max_sessions = max_sessions
        self._stamped: dict[str, float] = {}

    @property
    def folder(self) -> Path:
        """The directory of the state file."""
        return self._file.folder

    def shown(self, create_label: str) -> ShownOutput:
        """Return the record of how much of that session's output was shown."""
        return ShownOutput(self._shown_path(create_label))

    def _shown_path(self, create_label: str) -> Path:
        return self.folder / f"shown-{create_label}"

    def records(self) -> list[Record]:
        """Return all records of the user, oldest first."""
        return sorted(self._file.read().values(), key=lambda record: record.created_at)

    def mine(self) -> list[Record]:
        """Return the records of this process."""
        return [record for record in self.records() if record.owner == self.owner]

    def reserve(self, name: str, place: str, lives_s: float, ended: Container[str] = ()) -> Record:
        """Record a session before its create is sent.

        Arguments:
            lives_s: seconds after which the service ends it in any case.
            ended: ids of sessions that are known to have ended and don't count.

        Raises:
            SessionLimitError: the user has as many sessions as are allowed.
            StateFileError: it could not be written; then nothing may be created.
        """
        now = time.time()
        record = Record(
            create_label=uuid.uuid4().hex,
            owner=self.owner,
            place=place,
            notebook=self._notebook,
            name=name,
            stage=CREATING,
            created_at=now,
            used_at=now,
            expires_at=now + lives_s,
        )
        with self._file.changing() as records:
            for create_label, one in list(records.items()):
                if now > one.expires_at + _EXPIRED_FOR_S:
                    del records[create_label]
                    self._shown_path(create_label).unlink(missing_ok=True)
            taken = [
                one
                for one in records.values()
                if one.place == place and one.stage != ENDING and one.session_id not in ended
            ]
            if len(taken) < self._max_sessions:
                records[record.create_label] = record
                return record
        raise SessionLimitError(
            f"You have {len(taken)} sessions, as many as max_sessions allows, so no further one "
            f"was created and nothing ran:\n{described(taken, self.owner)}\n{HOW_TO_FREE}"
        )

    def confirm(self, create_label: str, session_id: str) -> None:
        """Note that the session exists, under this id."""
        with self._file.changing() as records:
            if create_label in records:
                records[create_label] = replace(
                    records[create_label], session_id=session_id, stage=LIVE, used_at=time.time()
                )

    def stamp(self, create_label: str) -> None:
        """Note that its owner is alive and uses it; written at most every 15 s."""
        now = time.monotonic()
        if now - self._stamped.get(create_label, -_STAMP_EVERY_S) < _STAMP_EVERY_S:
            return
        self._stamped[create_label] = now
        with self._file.changing() as records:
            if create_label in records:
                records[create_label] = replace(records[create_label], used_at=time.time())

    def is_ours(self, create_label: str) -> bool:
        """Return whether this process still owns that record."""
        record = self._file.read().get(create_label)
        return record is not None and record.owner == self.owner

    def forget(self, create_labels: Iterable[str]) -> None:
        """Remove the records of sessions that have ended."""
        with self._file.changing() as records:
            for create_label in create_labels:
                records.pop(create_label, None)
                self._shown_path(create_label).unlink(missing_ok=True)

    def give_up(self, create_labels: Iterable[str]) -> list[Record]:
        """Mark these sessions for deletion by any process; return their records."""
        return self._take(create_labels, ENDING)

    def take_over(self, create_labels: Iterable[str]) -> list[Record]:
        """Claim sessions that their owner has given up, to end them in its place."""
        wanted = set(create_labels)
        return self._claim(
            lambda record: record.create_label in wanted and record.stage == ENDING, stage=ENDING
        )

    def hand_over(self, create_labels: Iterable[str]) -> None:
        """Leave these sessions for the notebook's next kernel."""
        self._take(create_labels, HANDED)

    def claim(self) -> list[Record]:
        """Claim the sessions of this notebook's earlier kernel, which is dead or handed them over.

        Returns:
            The records as they were, so that `handed` ones can be recognized.
        """
        if not self._notebook:
            return []
        return self._claim(
            lambda record: (
                record.notebook == self._notebook
                and record.owner != self.owner
                and record.stage != ENDING
                and (record.stage == HANDED or owner_status(record.owner) is Fate.DEAD)
            ),
            stage=None,
        )

    def abandoned(self, place: str, grace_s: float) -> list[Record]:
        """Return the sessions at a backend that no kernel will reclaim.

        Their owner is provably dead, and the last sign of its life is older than the grace time.
        """
        now = time.time()
        return [
            record
            for record in self.records()
            if record.place == place
            and owner_status(record.owner) is Fate.DEAD
            and (record.stage == ENDING or now - record.used_at >= grace_s)
        ]

    def claim_abandoned(self, found: Iterable[Record]) -> list[Record]:
        """Claim those of the found records that have not changed since, to delete them."""
        wanted = list(found)
        return self._claim(lambda record: record in wanted, stage=ENDING)

    def _claim(self, is_free: Callable[[Record], bool], stage: str | None) -> list[Record]:
        claimed = []
        with self._file.changing() as records:
            for record in list(records.values()):
                if is_free(record):
                    claimed.append(record)
                    records[record.create_label] = replace(
                        record,
                        owner=self.owner,
                        stage=stage or record.stage,
                        used_at=time.time(),
                    )
        return claimed

    def _take(self, create_labels: Iterable[str], stage: str) -> list[Record]:
        now, taken = time.time(), []
        with self._file.changing() as records:
            for create_label in create_labels:
                if create_label in records and records[create_label].owner == self.owner:
                    records[create_label] = replace(records[create_label], stage=stage, used_at=now)
                    taken.append(records[create_label])
        return taken
