"""Where sessions live: the AgentBay service, or the local runtime on this machine.

The settings and the environment determine the `Backend`, whose service client creates sessions.
Nothing runs on this machine unless it was requested by name: without a key and without
`AGENTBAY_BACKEND=local` there is no backend.

Your own program uses it as the kernels do, with an account or without:

    with open_backend() as place:
        session = place.client.create().session
        print(session.code.run_code("6 * 7", "python").result)
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentbay_kernel import threads
from agentbay_kernel.errors import AgentBayError, LocalRuntimeError, NoBackendError
from agentbay_kernel.local import own_runtime
from agentbay_kernel.local.own_runtime import OwnRuntime
from agentbay_kernel.service import AgentBay, Endpoint, find_credentials
from agentbay_kernel.service.endpoint import ENDPOINT_VARIABLE, KEY_VARIABLE, REGION_VARIABLE

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# Longest time that an address without a response may delay a status.
_REPORT_S = 2.0


@dataclass(frozen=True)
class Backend:
    """A location where sessions are created. Made by `open_backend`; use it in a `with` block.

    Arguments:
        client: the client to create sessions with.
        is_local: whether it is a local runtime on this machine.
        notice: a warning that the first cell must show, or empty.
        isolation: what a local runtime confines: `level` (bubblewrap or none), `summary`,
            `confined`, `not_confined`.
        runtime: the local runtime, if it is this program's own.
    """

    client: AgentBay
    is_local: bool
    notice: str
    isolation: Mapping[str, Any] = field(default_factory=dict)
    runtime: OwnRuntime | None = None

    @property
    def place(self) -> str:
        """Return the name of the location, for status."""
        return (
            f"local runtime on this machine ({self.client.endpoint.url})"
            if self.is_local
            else (self.client.endpoint.url)
        )

    def reported_isolation(self) -> Mapping[str, Any]:
        """Return what is confined there; request a report if it may be a local runtime.

        Returns:
            The fields of `isolation`; empty if that is unknown.
        """
        if self.isolation or not self.client.endpoint.is_loopback:
            return self.isolation
        # It may be a local runtime all the same; a tunnel to the service has no such call.
        with contextlib.suppress(AgentBayError, TimeoutError):
            return threads.start(self.client.local_report).result(_REPORT_S).get("isolation") or {}
        return {}

    @property
    def releases_sessions(self) -> bool:
        """Return whether sessions end by themselves if they are not used."""
        return self.runtime is None

    @property
    def alive(self) -> bool:
        """Return False if this program's own runtime is gone."""
        return self.runtime is None or self.runtime.alive

    @property
    def environment(self) -> dict[str, str]:
        """Return environment variables with which other programs, such as a kernel, use it.

        The key is among them. They are for the environment of a process that you start: never show
        them or store them.
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
        """Close the connections, and end the runtime if it is this program's own."""
        self.client.close()
        if self.runtime is not None:
            self.runtime.close()


def open_backend(settings: AgentBaySettings | None = None) -> Backend:
    """Open the backend that the settings and the environment name.

    `backend = local` wins over a key. With a loopback `AGENTBAY_ENDPOINT` and its key, the local
    runtime that listens there is used. Otherwise one is started, which ends with this program.

    Arguments:
        settings: the settings; by default those in force.

    Returns:
        The backend. Leave its `with` block, or call `close`, to end what was started.

    Raises:
        ConfigurationError: a setting is invalid.
        NoBackendError: there is no key, and the local runtime was not requested.
        LocalRuntimeError: the local runtime did not start.
        CommandError: the local runtime to use does not respond.
    """
    if settings is None:
        from agentbay_kernel.config import load_settings

        settings = load_settings()
    found, largest = find_credentials(), settings.response_limit
    if settings.backend == "local":
        if found.api_key and found.endpoint.is_loopback:
            own_runtime.end_ahead()
            return _local_backend(AgentBay(found.api_key, largest_response=largest), None)
        runtime = own_runtime.start(settings)
        told = runtime.announcement
        client = AgentBay(told["api_key"], endpoint=told["endpoint"], largest_response=largest)
        return _local_backend(client, runtime)
    own_runtime.end_ahead()
    if not found.api_key:
        raise NoBackendError(
            "There is no AgentBay API key, so there is no sandbox to run this in, and nothing was "
            "run. Set AGENTBAY_API_KEY (in the environment, or in a .env file beside the "
            "notebook) to use the AgentBay service; or set AGENTBAY_BACKEND=local to run code on "
            "this machine, in the local runtime. Then restart the kernel."
        )
    client = AgentBay(found.api_key, largest_response=largest)
    return Backend(client, is_local=False, notice=_notice_of(client.endpoint))


def expected_isolation(settings: AgentBaySettings) -> Mapping[str, Any] | None:
    """Return what a local runtime with these settings would confine; start nothing.

    It tries bubblewrap once, which takes about 0.1 s.

    Returns:
        The fields of `isolation`; None if no runtime would be started.
    """
    found = find_credentials()
    if settings.backend != "local" or (found.api_key and found.endpoint.is_loopback):
        return None
    from agentbay_kernel.local.isolation import Choice
    from agentbay_kernel.local.settings import MEGABYTE, Limits, Settings

    try:
        wanted = Settings(
            python=settings.local_python,
            isolation=settings.isolation,
            network=settings.local_network,
            limits=Limits(memory=settings.local_memory * MEGABYTE),
        )
        return Choice(wanted).result().report.as_data()
    except LocalRuntimeError as error:
        return {"summary": str(error)}


def _notice_of(endpoint: Endpoint) -> str:
    if endpoint.is_known:
        return ""
    what = "an address of THIS machine" if endpoint.is_loopback else "not an address of AgentBay's"
    return (
        f"AgentBay: this session lives at {endpoint.host}, which is {what}. "
        "The environment variable AGENTBAY_ENDPOINT names it."
    )


def _local_backend(client: AgentBay, runtime: OwnRuntime | None) -> Backend:
    told = runtime.announcement if runtime is not None else client.local_report()
    isolation = told.get("isolation") or {}
    summary = isolation.get("summary") or "it does not report what is isolated"
    # Banner and status report where isolated cells run; only missing isolation needs a warning.
    notice = (
        ""
        if isolation.get("level") == "bubblewrap"
        else f"AgentBay: this session runs on THIS machine, in the local runtime: {summary}."
    )
    return Backend(client, is_local=True, notice=notice, isolation=isolation, runtime=runtime)
