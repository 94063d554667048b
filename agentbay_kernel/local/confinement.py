"""The base of both kinds of confinement: a session's directories, environment and agent.

`bubblewrap` and `plain` are the two kinds; `isolation` chooses between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.errors import LocalRuntimeError
from agentbay_kernel.local.agent_client import AgentClient
from agentbay_kernel.local.completion_cache import cache_of
from agentbay_kernel.local.settings import Settings
from agentbay_kernel.sandbox.completion_cache import CACHE_VARIABLE

PACKAGE = Path(__file__).resolve().parent.parent
MARK = "AGENTBAY_LOCAL_SANDBOX"
END_GRACE_S = 2.0
# The service's directory for transferred files; its clients rely on this path.
TRANSFER_FOLDER = "/tmp/file-transfer"

START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from agentbay_kernel.local.agent.main import main; main()"
)


@dataclass(frozen=True)
class Interpreter:
    """The Python that cells run in: its path and the two directories that it needs."""

    path: str
    prefix: str
    base_prefix: str


@dataclass(frozen=True)
class Folders:
    """A session's directories as paths inside; `run_outside` is `run` as a path outside."""

    workspace: str
    temporary: str
    run: str
    run_outside: str
    library: str


def inspect_interpreter(python: str) -> Interpreter:
    """Return an interpreter's path and directories.

    Raises:
        LocalRuntimeError: it does not run.
    """
    if python == sys.executable:
        return Interpreter(python, sys.prefix, sys.base_prefix)
    ask = "import json, sys; print(json.dumps([sys.executable, sys.prefix, sys.base_prefix]))"
    try:
        answer = subprocess.run(
            [python, "-c", ask], capture_output=True, text=True, timeout=30, check=True
        )
        return Interpreter(*json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as failure:
        raise LocalRuntimeError(
            f"--python {python} does not run: {failure}. Give the path of a Python that has "
            "ipython installed, and ipykernel for bridged execution."
        ) from failure


@dataclass(frozen=True)
class Launch:
    """A worker that is to be started: its name, its command, and its end of its socket."""

    name: str
    argv: list[str]
    socket: socket.socket


class Confinement:
    """The environment of one session: started, then ended with all its processes."""

    def __init__(self, settings: Settings, interpreter: Interpreter) -> None:
        self._settings = settings
        self._interpreter = interpreter
        self._process: asyncio.subprocess.Process | None = None
        self.name = secrets.token_hex(8)
        self.agent = AgentClient()
        self.folders: Folders
        self._passed_fds: list[int] = []

    async def start(self, first: Launch) -> None:
        """Start the agent with the first worker, and wait for its first response."""
        self.agent.open()
        theirs = self.agent.far
        try:
            argv = self._command(theirs.fileno(), first)
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                env=self._environment(),
                pass_fds=(theirs.fileno(), first.socket.fileno(), *self._passed_fds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=self._before_exec,
            )
        finally:
            theirs.close()
            first.socket.close()
            for fd in self._passed_fds:
                os.close(fd)
        try:
            await self._started()
            await asyncio.wait_for(self.agent.connect(), 20)
            self._watch()
        except asyncio.CancelledError:
            self.agent.close()
            self._kill()
            raise
        except Exception as failure:
            self.agent.close()
            errors = await self._error_output()
            await self.end()
            raise LocalRuntimeError(f"The session's sandbox did not start: {errors}") from failure

    def _command(self, fd: int, first: Launch) -> list[str]:
        """Return the command that starts the agent on an inherited socket, with the first worker;
        may add to `_passed_fds`."""
        raise NotImplementedError

    def _before_exec(self) -> None:
        """Prepare the process that becomes the sandbox, in that process."""

    @property
    def proc(self) -> Path:
        """The /proc of the session's processes, as a path outside."""
        return Path("/proc")

    async def _started(self) -> None:
        """Read what is known only when the process runs."""

    def _watch(self) -> None:
        """Watch what the session uses, if that is done from outside."""

    async def _error_output(self) -> str:
        assert self._process is not None and self._process.stderr is not None
        with contextlib.suppress(TimeoutError):
            text = await asyncio.wait_for(self._process.stderr.read(4096), 2)
            return text.decode("utf-8", "replace").strip() or "it ended and printed nothing"
        return "it did not respond"

    def python_argv(self) -> list[str]:
        """Return the command of the interpreter that runs cells."""
        return [self._interpreter.path]

    def node_flags(self, node: str) -> list[str]:
        """Return the flags that Node is started with."""
        return []

    def _completion_cache(self) -> Path | None:
        """Return the directory of parsed files for completion, as a path inside."""
        cache = cache_of(self._interpreter.path, self._interpreter.prefix)
        return cache if cache is not None and cache.is_dir() else None

    def _environment(self) -> dict[str, str]:
        """Return the session's environment variables: none of the user's."""
        folders = self.folders
        cache = self._completion_cache()
        return {
            **({CACHE_VARIABLE: str(cache)} if cache is not None else {}),
            MARK: self.name,
            "HOME": folders.workspace,
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(self._path()),
            "TMPDIR": folders.temporary,
            "IPYTHONDIR": f"{folders.run}/ipython",
            "MPLCONFIGDIR": f"{folders.run}/matplotlib",
            "PYTHONDONTWRITEBYTECODE": "1",
            "USER": "sandbox",
        }

    def _path(self) -> list[str]:
        return [f"{self._interpreter.prefix}/bin", *self._system_path()]

    def _system_path(self) -> list[str]:
        raise NotImplementedError

    def agent_arguments(
        self, fd: int, first: Launch, owner: bool, uids: tuple[int, int] | None
    ) -> list[str]:
        """Return the arguments of the agent's process, after those of its interpreter.

        Arguments:
            fd: of the agent's socket.
            first: the worker that it starts with.
            owner: whether it must end the session's processes, as no PID namespace does.
            uids: of the agent and of cells, if they differ; that needs root.
        """
        limits = self._settings.limits
        agent_uid, cells_uid = uids or ("", "")
        options = {
            "socket": fd,
            "worker_socket": first.socket.fileno(),
            "run": self.folders.run,
            "workspace": self.folders.workspace,
            "owner": "yes" if owner else "",
            "agent_uid": agent_uid,
            "cells_uid": cells_uid,
            "data": limits.data,
            "memory": limits.memory,
            # Without a separate user id, all of the user's processes would count.
            "processes": "" if owner else limits.processes,
            "file_size": limits.file_size,
            "cpu_s": limits.cpu_s,
        }
        words = (f"{name}={value}" for name, value in options.items())
        return [*words, "--", first.name, *first.argv]

    async def end(self) -> None:
        """Kill every process of the session and remove its files."""
        self.agent.close()
        process = self._process
        if process is not None and process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), END_GRACE_S)
            except TimeoutError:
                self._kill()
                await process.wait()
        await self._clean()

    def _kill(self) -> None:
        # The whole group: bubblewrap is two processes until it has become the sandbox.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _clean(self) -> None:
        """Remove what is left when the process has ended."""
