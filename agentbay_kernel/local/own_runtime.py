"""A program's own local runtime, in a process that the programs of a user share: the daemon.

Each notebook has a runtime of its own, with its own address, key and sessions. One process serves
them all, which takes much less memory than one for each. A program connects to the daemon's Unix
socket, and starts the daemon (`daemon.py`) if there is none. The runtime ends with the connection,
however the program ends, and the daemon with the last runtime.

Only the user can open the socket's directory, and sandboxes don't have it. Programs share a daemon
if they have the same Python, package and environment variables: its sessions depend on those.

A kernel does this before anything else, because a first cell waits for it longest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agentbay_kernel._version import __version__
from agentbay_kernel.errors import AgentBayError, LocalRuntimeError
from agentbay_kernel.local.settings import temporary_directory

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# As in `service/endpoint.py`, which takes long to import.
_KEY_VARIABLE, _ENDPOINT_VARIABLE = "AGENTBAY_API_KEY", "AGENTBAY_ENDPOINT"
# So begin the variables that Jupyter sets to a different value for each kernel.
_OF_ONE_KERNEL = "JPY_"
# A cold disk can make the first import of the runtime slow.
_START_S = 30.0
# How long a runtime may take to remove its sessions when it ends.
_END_S = 1.0
# The lock is held for milliseconds, unless the process that holds it hangs.
LOCK_WITHIN_S, _LOCK_INTERVAL_S = 10.0, 0.005


class OwnRuntime:
    """This program's local runtime.

    Arguments:
        settings: fields of `local/settings.py`, and of its limits.

    Raises:
        LocalRuntimeError: its process could not be started.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        if os.name != "posix":
            raise LocalRuntimeError(
                "The local runtime needs Linux or macOS; on Windows, run it in WSL."
            )
        self.settings = settings
        self._connect()

    def _connect(self) -> None:
        self._errors: IO[bytes] | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self._connection.settimeout(_START_S)
            folder = _folder()
            with locked(folder, LOCK_WITHIN_S):
                address = folder / f"{_identity()}.sock"
                try:
                    self._connection.connect(str(address))
                except (FileNotFoundError, ConnectionRefusedError):
                    # A daemon that was killed leaves its socket.
                    address.unlink(missing_ok=True)
                    self._start_daemon(address)
            # If the daemon is being ended just now, `announcement` notices it.
            with contextlib.suppress(ConnectionError):
                self._connection.sendall(json.dumps(self.settings).encode() + b"\n")
        except OSError as error:
            raise LocalRuntimeError(
                f"The local runtime could not be started: {error}. Nothing was run; `jupyter "
                "agentbay doctor` looks for the cause."
            ) from error

    def _start_daemon(self, address: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as we)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen(128)
            # Before the daemon looks for connections: without any it ends.
            self._connection.connect(str(address))
            command = [sys.executable, "-P", "-m", "agentbay_kernel.local.daemon"]
            process = subprocess.Popen(
                [*command, str(listener.fileno()), str(address)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[listener.fileno()],
                # A runtime makes its own key and does not need the user's.
                env={name: v for name, v in os.environ.items() if name != _KEY_VARIABLE},
                # It may outlive this process, and Ctrl-C in a terminal is meant for the cell.
                start_new_session=True,
            )
        _started.append(process)

    def close(self) -> None:
        """End it with all its sessions, and wait a moment for that."""
        with self._connection, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.settimeout(_END_S)
            while self._connection.recv(4096):
                pass
        _started[:] = [process for process in _started if process.poll() is None]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        if self._connection.fileno() < 0:
            return False
        # `recv` would wait for the connection's timeout.
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        try:
            return not poll.poll(0) or self._connection.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    @cached_property
    def announcement(self) -> dict[str, Any]:
        """Wait for the runtime's facts: `endpoint`, `api_key`, `isolation` and more.

        Raises:
            LocalRuntimeError: it did not start.
        """
        while True:
            try:
                with self._connection.makefile("rb") as lines:
                    line = lines.readline()
            except TimeoutError:
                self.close()
                raise LocalRuntimeError(
                    f"The local runtime did not start: no response within {_START_S:.0f} s. {_TRY}"
                ) from None
            except OSError:
                line = b""
            if line.endswith(b"\n"):
                break
            self.close()
            if self._errors is not None:
                self._errors.seek(0)
                output = self._errors.read()[-2000:].decode(errors="replace").strip()
                raise LocalRuntimeError(f"The local runtime did not start. {output or _TRY}")
            # The daemon has just been ended by a signal. If that happens to one that is started
            # here, it is an error.
            self._connect()
        announcement: dict[str, Any] = json.loads(line)
        if error := announcement.get("error"):
            self.close()
            raise LocalRuntimeError(f"The local runtime did not start. {error}")
        return announcement


_TRY = "Try `jupyter agentbay serve` in a terminal."
# The daemon that this process has started, so that it is waited for when it ends.
_started: list[subprocess.Popen[bytes]] = []
# Started before it is known whether it is needed.
_ahead: list[OwnRuntime] = []


def start_ahead() -> None:
    """Start the runtime of this process now, if the settings need one at the start."""
    from agentbay_kernel.config import load_settings

    if os.environ.get(_ENDPOINT_VARIABLE):
        return
    # The first cell reports what is wrong.
    with contextlib.suppress(AgentBayError):
        settings = load_settings()
        if settings.backend == "local" and settings.starts_on_open:
            _ahead.append(OwnRuntime(_fields(settings)))


def start(settings: AgentBaySettings) -> OwnRuntime:
    """Return a runtime for these settings: the one that was started ahead, or a new one.

    Raises:
        LocalRuntimeError: it did not start.
    """
    fields = _fields(settings)
    while _ahead:
        runtime = _ahead.pop()
        if runtime.settings == fields and runtime.alive:
            break
        runtime.close()
    else:
        runtime = OwnRuntime(fields)
    # Raises if it did not start.
    _ = runtime.announcement
    return runtime


def end_ahead() -> None:
    """End what was started ahead: it is not needed."""
    while _ahead:
        _ahead.pop().close()


def _fields(settings: AgentBaySettings) -> dict[str, Any]:
    python = settings.local_python
    return {
        # The daemon may have another working directory.
        "python": os.path.abspath(python) if os.sep in python else python,  # noqa: PTH100
        "isolation": settings.isolation,
        "network": settings.local_network,
        "prewarm": settings.local_prewarm,
        # The first session starts while this process still imports what a cell needs.
        "first_ahead": settings.starts_on_open,
        "kernels": settings.execution != "direct",
        # Its sessions cost nothing and end with the notebook, so they need no idle time.
        "idle_s": None,
        "memory_mb": settings.local_memory,
    }


def _identity() -> str:
    """Return what programs have in common that may share a daemon, as a short name."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name != _KEY_VARIABLE and not name.startswith(_OF_ONE_KERNEL)
    }
    what = [__version__, __file__, sys.executable, sorted(variables.items())]
    # hashlib takes long to import.
    return f"{zlib.crc32(json.dumps(what).encode()):08x}"


def _folder() -> Path:
    """Return the directory of this user's sockets."""
    parent = temporary_directory()
    folder = parent / f"agentbay-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if _is_private(folder.lstat()):
        return folder
    # Another user may have made it: this program gets a daemon of its own.
    return Path(tempfile.mkdtemp(prefix="agentbay-", dir=parent))


def _is_private(found: os.stat_result) -> bool:
    """Return whether this is a directory that only this user can open."""
    others = stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not others


@contextlib.contextmanager
def locked(folder: Path, within_s: float) -> Iterator[None]:
    """Hold the lock of a directory of sockets, while a socket in it is looked for, made or removed.

    The directory is made again if a daemon has removed it.

    Arguments:
        folder: the directory.
        within_s: how many seconds to wait for another process.

    Raises:
        OSError: other users can open it, or another process keeps the lock.
    """
    # Not on Windows, where this module is imported, too.
    import fcntl

    until = time.monotonic() + within_s
    while (descriptor := _try_lock(folder)) is None:
        if time.monotonic() > until:
            raise TimeoutError(f"another process keeps the lock of {folder}")
        time.sleep(_LOCK_INTERVAL_S)
    try:
        yield
    finally:
        # A child process that was forked meanwhile has the descriptor, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try_lock(folder: Path) -> int | None:
    """Lock a directory; return its descriptor, or None if that must be tried again."""
    import fcntl

    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        found = os.fstat(descriptor)
        if not _is_private(found):
            raise PermissionError(f"other users can open {folder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(found, folder.stat()):
            kept, descriptor = descriptor, None
            return kept
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return None
