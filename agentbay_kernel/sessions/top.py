"""The activity in a session: processes, files, metrics, variables.

All but the variables come by `shell` and `get_metrics`, which don't wait for running code. If the
interpreter is busy, the report has the reason in place of the variables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import CommandError, SessionError
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.service import Session
from agentbay_kernel.sessions.session import LiveSession
from agentbay_kernel.sessions.variables import Variable, read_variables

_SHELL_S = 10
_ANSWER_S = 3.0
_PROCESSES = "ps -eo pid,stat,etime,pcpu,rss,args --sort=-pcpu | head -n 40"
_FILES = "pwd; ls -lA --time-style=long-iso | head -n 100"


@dataclass(frozen=True)
class TopReport:
    """The activity in a session; each part that could not be read has a reason instead.

    `processes` and `files` are text as `ps` and `ls` print it, `metrics` the service's numbers
    (bytes, percent), `problems` the reasons by part.
    """

    session_id: str
    processes: str
    files: str
    metrics: dict[str, Any]
    variables: tuple[Variable, ...]
    problems: dict[str, str]


def read_top(live: LiveSession) -> TopReport:
    """Read the activity in a session, without waiting for code that runs in it."""
    session, problems = live.session, {}
    processes, files, metrics = "", "", {}
    variables: tuple[Variable, ...] = ()
    try:
        processes = _shell(session, _PROCESSES)
    except CommandError as error:
        problems["processes"] = str(error)
    try:
        files = _shell(session, _FILES)
    except CommandError as error:
        problems["files"] = str(error)
    try:
        metrics = _metrics(session)
    except (CommandError, ValueError) as error:
        problems["metrics"] = str(error)
    try:
        variables = read_variables(live, PYTHON.name, _ANSWER_S).variables
    except (CommandError, SessionError) as error:
        problems["variables"] = str(error)
    return TopReport(session.session_id, processes, files, metrics, variables, problems)


def _shell(session: Session, command: str) -> str:
    answer = session.run_shell(command, _SHELL_S)
    text = answer.data or answer.error_message
    try:
        told = json.loads(text)
        return str(told["stdout"] or told["stderr"])
    except (ValueError, KeyError, TypeError):
        # Older images respond with the bare output.
        return text


def _metrics(session: Session) -> dict[str, Any]:
    answer = session.call_mcp_tool("get_metrics", {}, _SHELL_S)
    told = json.loads(answer.data)
    return told if isinstance(told, dict) else {}
