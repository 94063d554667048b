"""`jupyter agentbay doctor --probe`: what the service does, found out in one real session.

In: the settings. Out: a report without secrets, in a file that can be sent to us. It settles what
the service's documents leave open and a client can see: state of each language, the bridge, the
shapes of errors, routes, limits, interrupt, the working directory.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentbay_kernel import __version__, threads
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.languages import LANGUAGES
from agentbay_kernel.service import find_credentials
from agentbay_kernel.sessions import LiveSession, SessionManager

_SESSION = "probe"
_INTERRUPT_WITHIN_S = 30.0

Say = Callable[[str], object] | None


def probe(report: Path, say: Say) -> dict[str, Any]:
    """Open a session, find out, delete it, write the report.

    Arguments:
        report: the file to write.
        say: gets a line for each finding; None for silence.

    Returns:
        What was found.

    Raises:
        AgentBayError: there is no session to be had.
        OSError: the report can't be written.
    """
    manager = SessionManager(load_settings())
    found: dict[str, Any] = {"agentbay_kernel": __version__}
    try:
        began_at = time.monotonic()
        live = manager.open(_SESSION, "python")
        found["create_s"] = round(time.monotonic() - began_at, 2)
        _tell(say, "create_s", found["create_s"])
        for name, look in _LOOKS.items():
            try:
                found[name] = look(live, manager)
            except AgentBayError as error:
                found[name] = {"failed": f"{type(error).__name__}: {error}"}
            _tell(say, name, found[name])
        secrets = _secrets(live)
    finally:
        manager.close()
    text = json.dumps(found, indent=2, ensure_ascii=False)
    for secret in secrets:
        text = text.replace(secret, "(left out)")
    report.write_text(text + "\n", encoding="utf-8")
    if say is not None:
        say(f"\nThe report is in {report}. It holds no key, token or address of a session.")
    told: dict[str, Any] = json.loads(text)
    return told


def _tell(say: Say, name: str, value: object) -> None:
    if say is not None:
        say(f"probe {name}: {json.dumps(value, ensure_ascii=False)}")


def _secrets(live: LiveSession) -> list[str]:
    session = live.session
    addresses = [urlsplit(url).netloc for url in (session.link_url, session.ws_url)]
    key = find_credentials().api_key or ""
    return [it for it in (key, session.token, session.session_id, *addresses) if it]


def _routes(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    session = live.session
    return {
        "link_url": bool(session.link_url),
        "ws_url": bool(session.ws_url),
        "token": bool(session.token),
        "tools": sorted(session.tools),
    }


def _execution(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """Which execution a notebook will use, of each language, and why."""
    used = {}
    for language in LANGUAGES:
        with contextlib.suppress(AgentBayError):
            live.execution_of(language)
        execution = live.execution_in_use(language)
        why = live.unbridged.get(language, "the sandbox can run a bridge")
        used[language] = {"kind": execution.kind if execution else None, "why": why}
    return used


def _state(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """Do variables stay from one `run_code` to the next?"""
    code = live.session.code
    code.run_code("probe_state = 41", "python")
    python = code.run_code("print(probe_state + 1)", "python")
    code.run_code("var probeState = 41", "javascript")
    javascript = code.run_code("console.log(probeState + 1)", "javascript")
    code.run_code("const probeConst = 1", "javascript")
    again = code.run_code("const probeConst = 2", "javascript")
    return {
        "python": python.success and "42" in "".join(python.logs.stdout),
        "javascript": javascript.success and "42" in "".join(javascript.logs.stdout),
        "javascript_const_again": "allowed" if again.success else again.error_message[:200],
    }


def _errors(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """The shape of an error's answer: names and types, no values."""
    shapes: dict[str, Any] = {}
    codes = {
        "python": "print('before')\n1/0",
        "python_syntax": "x = ",
        "javascript": "console.log('before'); null.x",
    }
    for name, code in codes.items():
        language = name.partition("_")[0]
        arguments = {"code": code, "language": language, "timeout_s": 30}
        answer = live.session.call_mcp_tool("run_code", arguments, 60)
        shapes[name] = {
            "success": answer.success,
            "data": _shape(answer.data),
            "error_message": _shape(answer.error_message),
        }
        result = live.session.code.run_code(code, language)
        shapes[name]["read_as"] = {
            "ename": result.error.name if result.error else None,
            "traceback": bool(result.error and result.error.traceback),
            "stdout_kept": "before" in "".join(result.logs.stdout),
        }
    return shapes


def _shape(value: Any) -> Any:
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            return f"text of {len(value)} characters"
        return _shape(inner) if isinstance(inner, dict | list) else "text"
    if isinstance(value, dict):
        return {str(name)[:60]: _shape(it) for name, it in list(value.items())[:40]}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


def _limits(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """What becomes of code that is longer than its `timeout_s`, and of its state."""
    code = live.session.code
    began_at = time.monotonic()
    late = code.run_code("import time\nprobe_kept = 1\ntime.sleep(10)", "python", 2)
    took = time.monotonic() - began_at
    after = code.run_code("print(probe_kept)", "python")
    return {
        "timeout_of_2_s_ended_after_s": round(took, 1),
        "timeout_success": late.success,
        "timeout_message": re.sub(r"\x1b\[[0-9;]*m", "", late.error_message)[:300],
        "state_after_timeout": after.success and "1" in "".join(after.logs.stdout),
    }


def _streaming(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """Does output come while code runs?"""
    if not live.session.can_stream:
        return {"offered": False}
    code = "import time\nprint('first', flush=True)\ntime.sleep(2)\nprint('second')"
    arrived: list[float] = []
    began_at = time.monotonic()
    with live.session.code.stream_code(code, "python", 30) as events:
        arrived.extend(time.monotonic() - began_at for _ in events)
    early = bool(arrived) and arrived[0] < arrived[-1] - 1
    return {"offered": True, "events": len(arrived), "comes_while_code_runs": early}


def _interrupt(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """How fast a running cell is stopped, and whether its variables stay."""
    cell = Cell("probe_loop = 0\nprint('go', flush=True)\nwhile True: probe_loop += 1", "python")
    begun, ended = threading.Event(), []

    def run() -> None:
        for message in _messages(manager, cell):
            # What is told about the place comes before the cell is sent.
            if message.type == "stream" and message.content["name"] == "stdout":
                begun.set()
            if message.type == "error":
                ended.append(message.content["ename"])

    if (execution := live.execution_in_use("python")) is None or execution.kind == "direct":
        return {"stops": False, "why": "cells are direct: one request each, to its end"}
    running = threads.start(run)
    begun.wait(_INTERRUPT_WITHIN_S)
    began_at = time.monotonic()
    stop = manager.interrupt(cell, _SESSION)
    with contextlib.suppress(TimeoutError):
        running.result(_INTERRUPT_WITHIN_S)
    took = time.monotonic() - began_at
    kept = Cell("print(probe_loop > 0)", "python")
    texts = [it.content["text"] for it in _messages(manager, kept) if it.type == "stream"]
    return {
        "stop": stop.name,
        "ended_as": ended,
        "after_s": round(took, 2),
        "state_kept": "True" in "".join(texts),
        "shell": "shell" in live.session.tools,
    }


def _messages(manager: SessionManager, cell: Cell) -> Iterator[Any]:
    return manager.execute(cell, _SESSION)


def _places(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """Working directories, users and versions."""
    python = (
        "import getpass, importlib.util as u, os, platform\n"
        "print(os.getcwd(), platform.python_version(), platform.system(), "
        "*(n for n in ('ipykernel', 'jupyter_client', 'pandas', 'pyarrow') if u.find_spec(n)))"
    )
    found = {}
    for name, code, language in (
        ("python", python, "python"),
        ("javascript", "console.log(process.cwd(), process.version)", "javascript"),
    ):
        result = live.session.code.run_code(code, language)
        found[name] = "".join(result.logs.stdout).strip() or result.error_message[:200]
    shell = live.session.call_mcp_tool("shell", {"command": "pwd", "timeout_ms": 5000}, 10)
    found["shell"] = str(shell.data or shell.error_message)[:200].strip()
    return found


_LOOKS: dict[str, Callable[[LiveSession, SessionManager], dict[str, Any]]] = {
    "routes": _routes,
    "execution": _execution,
    "state": _state,
    "errors": _errors,
    "limits": _limits,
    "streaming": _streaming,
    "interrupt": _interrupt,
    "places": _places,
}
