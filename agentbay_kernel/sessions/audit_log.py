"""An optional log on this machine of what was sent to sandboxes.

Each line is JSON: the time, the session, size and SHA-256 of the code, name and size of the data.
It never has the code or the data. The log is off unless the setting `audit_log` names a file, which
a notebook's cells can't change.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from agentbay_kernel.errors import ConfigurationError


class AuditLog:
    """Adds lines to a file, which several processes may do at the same time.

    Arguments:
        path: the file; it is created, readable by its owner alone.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()

    def code(self, session_id: str, language: str, code: str) -> None:
        """Log code that is about to be sent.

        Raises:
            ConfigurationError: the line could not be written, so the code must not be sent.
        """
        data = code.encode("utf-8", "surrogatepass")
        self._add(
            session_id,
            {
                "sent": "code",
                "language": language,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            },
        )

    def data(self, session_id: str, name: str, size: int) -> None:
        """Log local data that is about to be sent: a file, a variable; `size` in bytes.

        Raises:
            ConfigurationError: the line could not be written, so the data must not be sent.
        """
        self._add(session_id, {"sent": "data", "name": name, "bytes": size})

    def _add(self, session_id: str, what: dict[str, str | int]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "session": session_id, **what}) + "\n"
        try:
            # One write at the file's end, so that lines of several notebooks don't mix.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(
                f"The audit log {self._path} can't be written ({error.strerror}), so nothing was "
                "sent. Correct that, or set audit_log (AGENTBAY_AUDIT_LOG) to another file."
            ) from error
