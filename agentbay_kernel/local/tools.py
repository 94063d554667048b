"""The tools of a session: `run_code`, `shell`, files, metrics, environment (AgentBay wire
protocol, run_code and other tools)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from agentbay_kernel.errors import UnsupportedLanguageError
from agentbay_kernel.languages import find_language
from agentbay_kernel.local import file_tools
from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.answers import RunResult, ToolResult, tool_result
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.events import COLLECTED_LIMIT, HEAD_LIMIT, EngineError, Event, limited
from agentbay_kernel.local.priority import runs
from agentbay_kernel.local.profile import FaultPlan
from agentbay_kernel.local.sessions import Session

DEFAULT_TIMEOUT_S = 60.0
# The languages that have an engine; others that the package knows are refused.
_ENGINES = ("python", "javascript")
DEFAULT_SHELL_MS = 50_000


class ToolError(Exception):
    """A tool failed; the message is its result's text."""


class Tools:
    """Runs the tools of all sessions.

    Arguments:
        behaviour: the shapes of results, the longest time of a call, the journal of calls.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._table: dict[str, tuple[str, Callable[..., Awaitable[str | ToolResult]]]] = {
            "run_code": ("wuying_codespace", self._run_code),
            "shell": ("wuying_shell", self._shell),
            **{name: (file_tools.SERVER, self._file_tool(name)) for name in file_tools.NAMES},
            "get_metrics": ("wuying_system", self._get_metrics),
            "set_env": ("wuying_system", self._set_env),
            "get_env": ("wuying_system", self._get_env),
        }

    def listed(self) -> list[dict[str, str]]:
        """Return names and servers, as a session's ToolList."""
        return [{"name": name, "server": server} for name, (server, _) in self._table.items()]

    async def serve(
        self,
        session: Session,
        name: str,
        arguments: dict[str, Any],
        call_id: str,
        fault: FaultPlan | None = None,
    ) -> ToolResult:
        """Run one tool for a request, to its end even if the client has gone."""
        if session.status != "RUNNING":
            message = f"The session is {session.status}: resume it first. Nothing was run."
            return ToolResult(message, is_error=True)
        with (
            session.in_use(),
            self._behaviour.recorded(session.id, call_id, name, arguments, fault),
        ):
            return await asyncio.shield(asyncio.ensure_future(self._call(session, name, arguments)))

    async def _call(self, session: Session, name: str, arguments: dict[str, Any]) -> ToolResult:
        if name not in self._table:
            return ToolResult(f"tool by name {name} not found", is_error=True)
        try:
            result = await self._table[name][1](session, **arguments)
            return result if isinstance(result, ToolResult) else ToolResult(result)
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as failure:
            return ToolResult(f"Invalid arguments of tool {name}: {failure}", is_error=True)
        except AgentError as failure:
            code = failure.errno
            return ToolResult(
                f"Execution failed. Error code:{code} Error message: {failure}", is_error=True
            )
        except (ToolError, EngineError) as failure:
            return ToolResult(str(failure), is_error=True)
        except OSError as failure:
            # The disk is full.
            message = f"The result of {name} could not be stored: {failure}"
            return ToolResult(message, is_error=True)

    def run(
        self, session: Session, code: Any, language: Any, timeout_s: Any, streams: bool = True
    ) -> AsyncGenerator[Event]:
        """Return a run's events; `streams` is False if they are collected for one result.

        Raises:
            ToolError: the arguments are invalid.
            EngineError: (while iterating) the code was not run.
        """
        try:
            known = find_language(language).name if isinstance(language, str) else ""
        except UnsupportedLanguageError:
            known = ""
        if known not in _ENGINES:
            raise ToolError(
                f"Unsupported language: {language}. Supported languages are 'python', 'javascript'"
            )
        if not isinstance(code, str):
            raise ToolError("code must be a string")
        try:
            timeout = DEFAULT_TIMEOUT_S if timeout_s is None else float(timeout_s)
        except (TypeError, ValueError):
            raise ToolError("timeout_s must be a number of seconds") from None
        if not 0 < timeout < float("inf"):
            raise ToolError("timeout_s must be greater than 0")
        profile = self._behaviour.profile
        sandbox = session.sandbox
        timeout = min(timeout, profile.gateway_s)
        head = HEAD_LIMIT if streams else COLLECTED_LIMIT
        if known == "javascript":
            sandbox.javascript.stateless = profile.js_state == "stateless"
            return limited(sandbox.javascript.execute(code, timeout, head), head)
        sandbox.python.bridgeable = profile.bridgeable
        sandbox.python.prepared_kernel = profile.prepared_kernel
        return limited(sandbox.python.execute(code, timeout, head), head)

    async def _run_code(
        self, session: Session, code: Any, language: Any = "python", timeout_s: Any = None
    ) -> ToolResult:
        events = self.run(session, code, language, timeout_s, streams=False)
        profile = self._behaviour.profile
        run = RunResult(profile.result_shape)
        try:
            async with aclosing(events) as running:
                async for event in running:
                    await run.add(event)
        except BaseException:
            run.close()
            raise
        return tool_result(run, profile.error_shape)

    async def _shell(
        self,
        session: Session,
        command: str,
        timeout_ms: Any = DEFAULT_SHELL_MS,
        cwd: str | None = None,
        envs: dict[str, str] | None = None,
    ) -> ToolResult:
        timeout_s = min(float(timeout_ms) / 1000, self._behaviour.profile.gateway_s)
        sandbox = session.sandbox
        # The agent reads all that the command prints, which is work too.
        with (
            runs.command(sandbox.agent, sandbox.confinement.proc) as name,
            runs.working(sandbox.priority),
        ):
            done = await sandbox.agent.call(
                "shell", name=name, command=command, timeout_s=timeout_s, cwd=cwd, envs=envs or {}
            )
        code = 124 if done["timed_out"] else done["exit_code"]
        if code == 0:
            document = {"exit_code": 0, "stdout": done["stdout"], "stderr": done["stderr"]}
            return ToolResult(json.dumps(document, ensure_ascii=False))
        code = code if code > 0 else 128 - code
        document = {
            "exit_code": code,
            "errorCode": code,
            # The service drops the output of a command that timed out.
            "stdout": "" if done["timed_out"] else done["stdout"],
            "stderr": "" if done["timed_out"] else done["stderr"],
            "traceId": uuid.uuid4().hex,
        }
        return ToolResult(json.dumps(document, ensure_ascii=False), is_error=True)

    def _file_tool(self, name: str) -> Callable[..., Awaitable[ToolResult]]:
        return lambda session, **arguments: file_tools.call(session, name, arguments)

    async def _get_metrics(self, session: Session) -> str:
        return json.dumps(await session.sandbox.agent.call("metrics"))

    async def _set_env(self, session: Session, envs: list[dict[str, str]]) -> str:
        pairs = {entry["key"]: entry["value"] for entry in envs}
        await session.sandbox.agent.call("set_env", envs=pairs)
        return json.dumps({"success": True})

    async def _get_env(self, session: Session, keys: list[str] | None = None) -> str:
        return json.dumps(await session.sandbox.agent.call("get_env", keys=keys))
