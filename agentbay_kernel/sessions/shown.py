"""A record of how much of a session's output was shown, in a file that outlives a killed kernel.

The notebook's next kernel reclaims the session, and shows only the rest.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO


class ShownOutput:
    """The file of one session.

    Arguments:
        path: path of the file; created when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._noted = ("", 0)

    def note(self, bridge: str, offset: int) -> None:
        """Note that the output before that offset of a bridge's stream has been shown."""
        if self._noted[0] == bridge and self._noted[1] >= offset:
            return
        self._noted = bridge, offset
        # Without the file, output is shown twice, which is no reason to fail.
        with contextlib.suppress(OSError):
            if self._file is None:
                self._path.touch(0o600)
                self._file = self._path.open("r+b", buffering=0)
            self._file.seek(0)
            self._file.write(f"{offset:020d} {bridge}\n".encode())

    def of(self, bridge: str) -> int:
        """Return the offset noted last for that bridge; 0 if there is none."""
        with contextlib.suppress(OSError, ValueError):
            offset, _, name = self._path.read_text().partition("\n")[0].partition(" ")
            if name == bridge:
                return int(offset)
        return 0
