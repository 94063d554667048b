"""Where sessions live: the AgentBay service, or the local runtime on this machine.

In: the settings and the environment. Out: a `Backend` with a service client to create sessions
with. Nothing is ever run on this machine unless it was asked for by name: without a key and
without `AGENTBAY_BACKEND=local` there is no backend.

A program of your own uses it as the kernels do, with an account or without:

    with open_backend() as place:
        session = place.client.create().session
        print(session.code.run_code("6 * 7", "python").result)
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from agentbay_kernel.errors import LocalRuntimeError, NoBackendError
from agentbay_kernel.service import AgentBay, Endpoint, find_credentials
from agentbay_kernel.service.endpoint import ENDPOINT_VARIABLE, KEY_VARIABLE, REGION_VARIABLE

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# A cold disk can make the first import of the runtime slow.
_RUNTIME_START_S = 30.0
# What a runtime may take to remove its sessions when it is told to end.
_RUNTIME_END_S = 1.0


class ChildRuntime:
    """A local runtime of our own: a child process that ends when we do, however we end.

    Arguments:
        settings: those that begin with `local_` are its flags.

    Raises:
        LocalRuntimeError: it did not start.
    """

    def __init__(self, settings: AgentBaySettings) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as we)
        try:
            # It reads its standard input: the end of that is our end.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agentbay_kernel", "serve", *_runtime_flags(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # It has a key of its own and no use for the user's.
                env={name: v for name, v in os.environ.items() if name != KEY_VARIABLE},
                # Ctrl-C in a terminal is meant for the cell, not for the runtime.
                start_new_session=True,
            )
        except OSError as error:
            raise LocalRuntimeError(
                f"The local runtime could not be started: {error}. Nothing was run; `jupyter "
                "agentbay doctor` looks for the cause."
            ) from error
        self.announcement = self._read_announcement()
        self.endpoint: str = self.announcement["endpoint"]
        self.api_key: str = self.announcement["api_key"]

    def close(self) -> None:
        """Tell it to end, with all its sessions; waits a moment for that."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_RUNTIME_END_S)

    @property
    def alive(self) -> bool:
        """Is the process still running?"""
        return self._process.poll() is None

    def _read_announcement(self) -> dict[str, Any]:
        overdue = threading.Timer(_RUNTIME_START_S, self._process.kill)
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
            said = self._errors.read()[-2000:].decode(errors="replace").strip()
            if not said:
                said = "It said nothing: try `jupyter agentbay serve` in a terminal."
            raise LocalRuntimeError(f"The local runtime did not start. {said}") from None


@dataclass(frozen=True)
class Backend:
    """A place that sessions are created in.

    `notice` is what the first cell must warn of, or empty; `isolation` is
    what a local runtime says that it confines (`level`, which is bubblewrap or none, `summary`,
    `confined`, `not_confined`).
    """

    client: AgentBay
    is_local: bool
    notice: str
    isolation: Mapping[str, Any] = field(default_factory=dict)
    runtime: ChildRuntime | None = None

    @property
    def place(self) -> str:
        """Name of the place, for status."""
        return (
            f"local runtime on this machine ({self.client.endpoint.url})"
            if self.is_local
            else (self.client.endpoint.url)
        )

    @property
    def releases_sessions(self) -> bool:
        """Do sessions end by themselves when they are not used?"""
        return self.runtime is None

    @property
    def alive(self) -> bool:
        """False when the runtime that we started is gone."""
        return self.runtime is None or self.runtime.alive

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead other programs to this same place: kernels, magics, clients.

        The key is among them: they are for the environment of a process that you start, and for
        nothing that is shown or written down.
        """
        endpoint = self.client.endpoint
        return {
            "AGENTBAY_BACKEND": "local" if self.is_local else "cloud",
            KEY_VARIABLE: self.client.api_key,
            ENDPOINT_VARIABLE: endpoint.url,
            REGION_VARIABLE: endpoint.region_id,
        }

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections, and the runtime, with its sessions, if it is ours."""
        self.client.close()
        if self.runtime is not None:
            self.runtime.close()


def open_backend(settings: AgentBaySettings | None = None) -> Backend:
    """The place that the settings and the environment name.

    `backend = local` wins over a key. With a loopback `AGENTBAY_ENDPOINT` and its key the local
    runtime that listens there is joined, else one is started as a child process.

    Arguments:
        settings: those in force unless given.

    Raises:
        ConfigurationError: a setting is not valid.
        NoBackendError: no key was found and the local runtime was not asked for.
        LocalRuntimeError: the local runtime did not start.
        CommandError: the local runtime to join does not answer.
    """
    if settings is None:
        from agentbay_kernel.config import load_settings

        settings = load_settings()
    found, largest = find_credentials(), settings.response_limit
    if settings.backend == "local":
        if found.api_key and found.endpoint.is_loopback:
            return _local_backend(AgentBay(found.api_key, largest_answer=largest), None)
        runtime = ChildRuntime(settings)
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint, largest_answer=largest)
        return _local_backend(client, runtime)
    if not found.api_key:
        raise NoBackendError(
            "There is no AgentBay API key, so there is no sandbox to run this in, and nothing was "
            "run. Set AGENTBAY_API_KEY (in the environment, or in a .env file beside the "
            "notebook) to use the AgentBay service; or set AGENTBAY_BACKEND=local to run code on "
            "this machine, in the local runtime. Then restart the kernel."
        )
    client = AgentBay(found.api_key, largest_answer=largest)
    return Backend(client, is_local=False, notice=_notice_of(client.endpoint))


def _runtime_flags(settings: AgentBaySettings) -> list[str]:
    # Its sessions cost nothing and end with the notebook, so no idle time ends them before.
    flags = ["--die-with-parent", "--idle-seconds", "0", "--isolation", settings.local_isolation]
    flags += ["--python", settings.local_python, "--prewarm", str(settings.local_prewarm)]
    flags += ["--memory", str(settings.local_memory)]
    return [*flags, "--network"] if settings.local_network else flags


def _notice_of(endpoint: Endpoint) -> str:
    if endpoint.is_known:
        return ""
    what = "an address of THIS machine" if endpoint.is_loopback else "not an address of AgentBay's"
    return (
        f"AgentBay: this session lives at {endpoint.host}, which is {what}. "
        "The environment variable AGENTBAY_ENDPOINT says so."
    )


def _local_backend(client: AgentBay, runtime: ChildRuntime | None) -> Backend:
    told = runtime.announcement if runtime is not None else client.local_report()
    isolation = told.get("isolation") or {}
    summary = isolation.get("summary") or "it does not say what is isolated"
    # Banner and status say where isolated cells run; only what isn't isolated is warned of.
    notice = (
        ""
        if isolation.get("level") == "bubblewrap"
        else f"AgentBay: this session runs on THIS machine, in the local runtime: {summary}."
    )
    return Backend(client, is_local=True, notice=notice, isolation=isolation, runtime=runtime)
