"""AsyncAgentBay: the same client for programs with an event loop.

Each method runs the method of the same name of `AgentBay`, `Session`, `Code`, `Files` or `Job` on a
daemon thread. Arguments, results and errors are the same. Cancelling a call stops the waiting, not
the request.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.service.client import AgentBay, opened
from agentbay_kernel.service.code import Code, CodeChunk, CodeEvent
from agentbay_kernel.service.creation import CreateSessionParams
from agentbay_kernel.service.files import LIMIT, FileEntry, Files
from agentbay_kernel.service.jobs import KEPT, Job, JobStatus
from agentbay_kernel.service.results import (
    CodeExecutionResult,
    DeleteResult,
    LabelsResult,
    OperationResult,
    SessionListResult,
    SessionStatusResult,
    ShellResult,
    ToolResult,
)
from agentbay_kernel.service.session import Session

T = TypeVar("T")


async def _call(work: Callable[[], T]) -> T:
    return await asyncio.wrap_future(threads.start(work))


def _feed(items: Iterator[T]) -> threads.Feed[T]:
    return threads.Feed(items, threading.Event())


class AsyncAgentBay:
    """A client of the AgentBay service for `async` programs.

    Arguments:
        api_key: as for `AgentBay`.
        options: the other arguments of `AgentBay`, by their names.

    Raises:
        ConfigurationError: there is no key, or a setting is invalid.
    """

    def __init__(self, api_key: str | None = None, **options: Any) -> None:
        self._client = AgentBay(api_key, **options)

    async def __aenter__(self) -> AsyncAgentBay:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def session(
        self, params: CreateSessionParams | None = None
    ) -> AsyncIterator[AsyncSession]:
        """Create a session for an `async with` block and delete it at the block's end.

        It is also deleted if the block is cancelled, even while the session is being created.

        Arguments:
            params: as for `AgentBay.create`.

        Yields:
            The session.

        Raises:
            QuotaError: the account has no free slot.
            CommandError: the service refused or was not reached.
        """
        block = self._client.session(params)
        creating = threads.start(block.__enter__)

        def leave() -> None:
            creating.exception()
            block.__exit__(None, None, None)

        try:
            yield AsyncSession(await asyncio.wrap_future(creating))
        finally:
            # Shielded: an undeleted session costs money, so a cancelled block deletes it too.
            await asyncio.shield(_call(leave))

    async def create(self, params: CreateSessionParams | None = None) -> AsyncSession:
        """Create a session. Delete it when you no longer need it.

        Arguments:
            params: as for `AgentBay.create`.

        Returns:
            The session.

        Raises:
            QuotaError: the account has no free slot.
            CommandError: the service refused or was not reached.
        """
        return AsyncSession(await _call(lambda: opened(self._client.create(params))))

    async def get(self, session_id: str) -> AsyncSession:
        """Find a session by its id.

        Arguments:
            session_id: the session's name at the service.

        Returns:
            The session.

        Raises:
            SessionNotFoundError: there is no such session.
            CommandError: the service refused or was not reached.
        """
        return AsyncSession(await _call(lambda: opened(self._client.get(session_id))))

    async def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        page: int | None = None,
        limit: int = 10,
        status: str | None = None,
    ) -> SessionListResult:
        """See `AgentBay.list`."""
        return await _call(lambda: self._client.list(labels, page=page, limit=limit, status=status))

    def list_all(
        self, labels: Mapping[str, str] | None = None, *, status: str | None = None
    ) -> AsyncIterator[dict[str, str]]:
        """See `AgentBay.list_all`; for `async for`."""
        return aiter(_feed(self._client.list_all(labels, status=status)))

    async def delete_by_id(self, session_id: str) -> DeleteResult:
        """Delete a session by its id. Return when the service has accepted the request.

        Arguments:
            session_id: the session's name at the service.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        return await _call(lambda: self._client.delete_by_id(session_id))

    async def close(self) -> None:
        """Close the connections. Sessions stay at the service."""
        await _call(self._client.close)


class AsyncSession:
    """One remote sandbox, for `async` programs; see `Session`. Not made by hand."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.code = AsyncCode(session.code)
        self.files = AsyncFiles(session.files)

    @property
    def session_id(self) -> str:
        """Return the session's name at the service."""
        return self._session.session_id

    @property
    def blocking(self) -> Session:
        """Return the same session with methods that block, for example for `Exchange`."""
        return self._session

    async def shell(
        self,
        command: str,
        timeout_s: float = 50,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
    ) -> ShellResult:
        """See `Session.shell`."""
        return await _call(lambda: self._session.shell(command, timeout_s, cwd=cwd, envs=envs))

    async def start(
        self, command: str, *, cwd: str | None = None, envs: Mapping[str, str] | None = None
    ) -> AsyncJob:
        """See `Session.start`."""
        return AsyncJob(await _call(lambda: self._session.start(command, cwd=cwd, envs=envs)))

    def job(self, job_id: str) -> AsyncJob:
        """See `Session.job`."""
        return AsyncJob(self._session.job(job_id))

    async def call_mcp_tool(
        self, name: str, args: Mapping[str, Any], timeout_s: float = 60
    ) -> ToolResult:
        """See `Session.call_mcp_tool`."""
        return await _call(lambda: self._session.call_mcp_tool(name, args, timeout_s))

    async def get_status(self) -> SessionStatusResult:
        """See `Session.get_status`."""
        return await _call(self._session.get_status)

    async def get_labels(self) -> LabelsResult:
        """See `Session.get_labels`."""
        return await _call(self._session.get_labels)

    async def set_labels(self, labels: Mapping[str, str]) -> OperationResult:
        """See `Session.set_labels`."""
        return await _call(lambda: self._session.set_labels(labels))

    async def keep_alive(self) -> OperationResult:
        """See `Session.keep_alive`."""
        return await _call(self._session.keep_alive)

    async def delete(self, wait: bool = True, timeout_s: float | None = None) -> DeleteResult:
        """See `Session.delete`."""
        return await _call(lambda: self._session.delete(wait, timeout_s))


class AsyncCode:
    """Runs code; see `Code`. Not made by hand."""

    def __init__(self, code: Code) -> None:
        self._code = code

    async def run_code(
        self,
        code: str,
        language: str,
        timeout_s: float = 60,
        *,
        check_syntax: bool = False,
        output_limit: int | None = None,
    ) -> CodeExecutionResult:
        """See `Code.run_code`."""
        return await _call(
            lambda: self._code.run_code(
                code, language, timeout_s, check_syntax=check_syntax, output_limit=output_limit
            )
        )

    async def stream_code(
        self,
        code: str,
        language: str,
        timeout_s: float = 60,
        *,
        silence_s: float | None = None,
    ) -> AsyncIterator[CodeEvent]:
        """See `Code.stream_code`; for `async for`."""
        stream = await _call(
            lambda: self._code.stream_code(code, language, timeout_s, silence_s=silence_s)
        )
        async for event in _feed(stream):
            yield event


class AsyncFiles:
    """Files of the sandbox; see `Files`. Not made by hand."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, path: str, *, limit: int = LIMIT) -> bytes:
        """See `Files.read`."""
        return await _call(lambda: self._files.read(path, limit=limit))

    async def read_text(self, path: str, *, limit: int = LIMIT) -> str:
        """See `Files.read_text`."""
        return await _call(lambda: self._files.read_text(path, limit=limit))

    async def write(self, path: str, data: bytes | str) -> None:
        """See `Files.write`."""
        await _call(lambda: self._files.write(path, data))

    async def list(self, path: str = ".") -> list[FileEntry]:
        """See `Files.list`."""
        return await _call(lambda: self._files.list(path))

    async def upload(self, local: str | Path, remote: str = "") -> builtins.list[str]:
        """See `Files.upload`."""
        return await _call(lambda: self._files.upload(local, remote))

    async def download(
        self,
        remote: str,
        local: str | Path = "",
        *,
        force: bool = False,
        endings: Collection[str] = (),
        limit: int = LIMIT,
    ) -> builtins.list[Path]:
        """See `Files.download`."""
        return await _call(
            lambda: self._files.download(remote, local, force=force, endings=endings, limit=limit)
        )


class AsyncJob:
    """A command that runs in a session; see `Job`. Not made by hand."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """Return the job's name, for `AsyncSession.job`."""
        return self._job.id

    async def status(self) -> JobStatus:
        """See `Job.status`."""
        return await _call(self._job.status)

    def follow(self) -> AsyncIterator[CodeChunk]:
        """See `Job.follow`; for `async for`."""
        return aiter(_feed(self._job.follow()))

    async def wait(
        self, timeout_s: float | None = None, *, output_limit: int = KEPT
    ) -> ShellResult:
        """See `Job.wait`."""
        return await _call(lambda: self._job.wait(timeout_s, output_limit=output_limit))

    async def stop(self) -> None:
        """See `Job.stop`."""
        await _call(self._job.stop)
