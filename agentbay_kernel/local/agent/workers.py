"""Workers: the long-lived child processes of the agent that run cells, one for each language.

A small module, so that the first worker starts before the agent imports the rest. Standard library
only.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from typing import IO, Any, NamedTuple

from agentbay_kernel.local.agent.identity import Identity

LOG_TAIL = 4096


class Worker:
    """One worker, started.

    Arguments:
        name: its name for the local runtime.
        argv: the program and its arguments.
        fd: of its socket; closed here.
        run: directory for its log.
        workspace: its working directory.
        identity: the user that it runs as.

    Raises:
        OSError: it could not be started.
    """

    def __init__(
        self, name: str, argv: list[str], fd: int, run: str, workspace: str, identity: Identity
    ) -> None:
        self.name = name
        try:
            with identity.as_cells_user():
                self._log = _unnamed_file(run)
            try:
                self.process = subprocess.Popen(
                    argv,
                    env={**os.environ, "AGENTBAY_WORKER_FDS": f"{fd},{fd}"},
                    cwd=workspace,
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(fd,),
                    start_new_session=True,
                    **identity.popen_arguments,
                )
            except BaseException:
                self._log.close()
                raise
        finally:
            os.close(fd)

    def log_tail(self) -> str:
        """Return the end of its standard output and error. Its process must have ended."""
        with self._log as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            return log.read(LOG_TAIL).decode("utf-8", "replace")


class FirstCall(NamedTuple):
    """The first frame, the descriptors that came with it, and the worker that it asks for, or why
    that did not start; None if it asks for something else."""

    frame: dict[str, Any]
    fds: deque[int]
    worker: Worker | OSError | None = None


def _unnamed_file(folder: str) -> IO[bytes]:
    """Return a file without a name: no file of the session can take its place."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")
    except (AttributeError, OSError):
        # Neither every system nor every file system has such files.
        import tempfile

        return tempfile.TemporaryFile(dir=folder)
