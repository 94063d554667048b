"""Workers: the long-lived child processes of the agent that run cells, one for each language.

Imports next to nothing: the first worker starts before anything else (see `main`). Standard library
only.
"""

from __future__ import annotations

import os

from agentbay_kernel.local.agent.identity import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

LOG_TAIL = 4096
# Of a worker that could not be started, as in a shell.
NOT_STARTED = 127


class Worker:
    """One worker, started.

    `code` is its exit code, once `wait` has returned: negative for a signal.

    Arguments:
        name: its name for the local runtime.
        argv: the program and its arguments.
        fd: of its socket; closed here.
        run: directory for its log.
        workspace: its working directory.
        identity: the user that it runs as.

    Raises:
        OSError: there can be no further process. A program that can't be executed ends with
            NOT_STARTED, and says why in its log.
    """

    def __init__(
        self, name: str, argv: list[str], fd: int, run: str, workspace: str, identity: Identity
    ) -> None:
        self.name = name
        self.code: int | None = None
        try:
            self._log = identity.as_cells(lambda: _unnamed_file(run))
            try:
                # As `subprocess` does, which takes 20 ms to import.
                self.pid = os.fork()
            except BaseException:
                self._log.close()
                raise
            if self.pid == 0:
                self._execute(argv, fd, workspace, identity)
        finally:
            os.close(fd)

    def _execute(self, argv: list[str], fd: int, workspace: str, identity: Identity) -> None:
        """Become the worker: called in the new process, and does not return."""
        try:
            nothing = os.open(os.devnull, os.O_RDONLY)
            for standard, file in enumerate((nothing, self._log.fileno(), self._log.fileno())):
                os.dup2(file, standard)
            os.setsid()
            identity.become_cells()
            os.chdir(workspace)
            os.set_inheritable(fd, True)
            os.closerange(3, fd)
            os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
            os.execvpe(argv[0], argv, {**os.environ, "AGENTBAY_WORKER_FDS": f"{fd},{fd}"})
        except BaseException as failure:
            os.write(2, f"{argv[0]}: {failure}\n".encode("utf-8", "replace"))
        finally:
            os._exit(NOT_STARTED)

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def log_tail(self) -> str:
        """Return the end of its standard output and error. It must have ended."""
        with self._log as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            return log.read(LOG_TAIL).decode("utf-8", "replace")


def _unnamed_file(folder: str) -> IO[bytes]:
    """Return a file without a name: no file of the session can take its place."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")
    except (AttributeError, OSError):
        # Neither every system nor every file system has such files.
        import tempfile

        return tempfile.TemporaryFile(dir=folder)
