"""A local runtime as a child process, which ends when this process does.

A kernel starts its runtime before anything else: a first cell waits for that longest.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from agentbay_kernel.errors import AgentBayError, LocalRuntimeError

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# As in `service/endpoint.py`, which takes long to import.
_KEY_VARIABLE, _ENDPOINT_VARIABLE = "AGENTBAY_API_KEY", "AGENTBAY_ENDPOINT"
# A cold disk can make the first import of the runtime slow.
_START_S = 30.0
# How long a runtime may take to remove its sessions when it ends.
_END_S = 1.0


class ChildRuntime:
    """A local runtime: a child process that ends when this one does, however that ends.

    Arguments:
        flags: of `serve`.

    Raises:
        LocalRuntimeError: it could not be started.
    """

    def __init__(self, flags: list[str]) -> None:
        self.flags = flags
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as we)
        try:
            # The end of its standard input shows it that this process has ended.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agentbay_kernel", "serve", *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # It makes its own key and does not need the user's.
                env={name: v for name, v in os.environ.items() if name != _KEY_VARIABLE},
                # Ctrl-C in a terminal is meant for the cell, not for the runtime.
                start_new_session=True,
            )
        except OSError as error:
            raise LocalRuntimeError(
                f"The local runtime could not be started: {error}. Nothing was run; `jupyter "
                "agentbay doctor` looks for the cause."
            ) from error

    def close(self) -> None:
        """End it with all its sessions, and wait a moment for that."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)

    @property
    def alive(self) -> bool:
        """Return whether the process still runs."""
        return self._process.poll() is None

    @cached_property
    def announcement(self) -> dict[str, Any]:
        """Wait for the runtime's first line: `endpoint`, `api_key`, `isolation` and more.

        Raises:
            LocalRuntimeError: it did not start.
        """
        overdue = threading.Timer(_START_S, self._process.kill)
        overdue.daemon = True
        overdue.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        overdue.cancel()
        try:
            announcement: dict[str, Any] = json.loads(line)
            return announcement
        except ValueError:
            self.close()
            self._errors.seek(0)
            output = self._errors.read()[-2000:].decode(errors="replace").strip()
            if not output:
                output = "It printed nothing: try `jupyter agentbay serve` in a terminal."
            raise LocalRuntimeError(f"The local runtime did not start. {output}") from None


# Started before it is known whether it is needed.
_ahead: list[ChildRuntime] = []


def start_ahead() -> None:
    """Start the runtime of this process now, if the settings need one at the start."""
    from agentbay_kernel.config import load_settings

    if os.environ.get(_ENDPOINT_VARIABLE):
        return
    # The first cell reports what is wrong.
    with contextlib.suppress(AgentBayError):
        settings = load_settings()
        if settings.backend == "local" and settings.starts_on_open:
            _ahead.append(ChildRuntime(_flags(settings)))


def start_child(settings: AgentBaySettings) -> ChildRuntime:
    """Return a runtime for these settings: the one that was started ahead, or a new one.

    Raises:
        LocalRuntimeError: it did not start.
    """
    flags = _flags(settings)
    while _ahead:
        runtime = _ahead.pop()
        if runtime.flags == flags and runtime.alive:
            break
        runtime.close()
    else:
        runtime = ChildRuntime(flags)
    # Raises if it did not start.
    _ = runtime.announcement
    return runtime


def end_ahead() -> None:
    """End what was started ahead: it is not needed."""
    while _ahead:
        _ahead.pop().close()


def _flags(settings: AgentBaySettings) -> list[str]:
    # Its sessions cost nothing and end with the notebook, so they need no idle time.
    flags = ["--die-with-parent", "--idle-seconds", "0", "--isolation", settings.isolation]
    flags += ["--python", settings.local_python, "--prewarm", str(settings.local_prewarm)]
    flags += ["--memory", str(settings.local_memory)]
    if settings.starts_on_open:
        # The first session starts while this process still imports what a cell needs.
        flags.append("--first-ahead")
    if settings.execution == "direct":
        flags.append("--no-kernels")
    return [*flags, "--network"] if settings.local_network else flags
