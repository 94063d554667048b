"""`jupyter agentbay doctor --probe`: what the service does, found out in one real session.

In: the settings. Out: a report without secrets, in a file that can be sent to us. It settles what
the service's documents leave open and a client can see: state of each language, the bridge, the
shapes of errors, routes, limits, sizes, interrupt, the working directory, refused tokens.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentbay_kernel import threads
from agentbay_kernel._version import __version__
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.languages import LANGUAGES
from agentbay_kernel.service import find_credentials
from agentbay_kernel.service.transport import Transport
from agentbay_kernel.sessions import LiveSession, SessionManager

_SESSION = "probe"
_INTERRUPT_WITHIN_S = 30.0
_SIZES = (10_000, 50_000, 100_000, 1_000_000, 5_000_000)
# Looks like one, and opens nothing.
_NO_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.expired"
_TOKEN_WITHIN_S = 10.0
_LONG_S = 65

Say = Callable[[str], object] | None


def probe(report: Path, say: Say, *, long: bool = False) -> dict[str, Any]:
    """Open a session, find out, delete it, write the report.

    Arguments:
        report: the file to write.
        say: gets a line for each finding; None for silence.
        long: find out, too, whether one request may take more than 60 seconds.

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
        for name, look in {**_LOOKS, **(_LONG_LOOKS if long else {})}.items():
            try:
                found[name] = look(live, manager)
            except AgentBayError as error:
                found[name] = {"failed": f"{type(error).__name__}: {error}"}
            _tell(say, name, found[name])
        hidden = _secrets(live)
    finally:
        manager.close()
    text = json.dumps(found, indent=2, ensure_ascii=False)
    for secret in hidden:
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


def _sizes(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """How much of random text, which packs badly, one request carries each way."""
    found: dict[str, Any] = {}
    for name, ask in (("sent_bytes", _send), ("answered_bytes", _answer)):
        most, failed = 0, ""
        for size in _SIZES:
            try:
                failed = ask(live, size)
            except AgentBayError as error:
                failed = f"{type(error).__name__}: {error}"[:300]
            if failed:
                break
            most = size
        found[name] = {"most_that_went": most, "then": failed or "no more was tried"}
    return found


def _send(live: LiveSession, size: int) -> str:
    text = secrets.token_hex(size // 2)
    result = live.session.code.run_code(f"print(len({text!r}))", "python")
    said = "".join(result.logs.stdout).strip()
    return "" if said == str(size) else f"arrived as {said or result.error_message[:200]}"


def _answer(live: LiveSession, size: int) -> str:
    code = f"print(__import__('secrets').token_hex({size // 2}))"
    result = live.session.code.run_code(code, "python")
    got = len("".join(result.logs.stdout).strip())
    return "" if got == size else f"{got} arrived {result.error_message[:200]}".strip()


def _token(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """How a token that is no longer good is refused, where there is an address for it."""
    link_url = live.session.link_url
    if not link_url:
        return {"offered": False}
    body = {"args": {"code": "1"}, "server": "wuying_codespace", "tool": "run_code"}
    with Transport(_TOKEN_WITHIN_S) as transport:
        answer = transport.post(
            f"{link_url}/callTool",
            json.dumps({**body, "requestId": "link-probe", "token": _NO_TOKEN}).encode(),
            {"Content-Type": "application/json", "X-Access-Token": _NO_TOKEN},
            answer_within_s=_TOKEN_WITHIN_S,
        )
    shape = _shape(answer.body.decode("utf-8", "replace"))
    return {"offered": True, "status": answer.status, "answer": shape}


def _long(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    """May one request take more than the documented 60 seconds, and which says so?"""
    session, found = live.session, {}
    code = {"code": f"import time; time.sleep({_LONG_S}); print('through')", "language": "python"}
    calls = {
        "run_code": {**code, "timeout_s": _LONG_S + 5},
        "shell": {"command": f"sleep {_LONG_S}; echo through", "timeout_ms": (_LONG_S + 5) * 1000},
    }

    def ask(tool: str) -> dict[str, Any]:
        began_at = time.monotonic()
        try:
            answer = session.call_mcp_tool(tool, calls[tool], _LONG_S + 20)
            said = "through" in answer.data
            how = "to its end" if said else re.sub(r"\s+", " ", answer.error_message)[:200]
        except AgentBayError as error:
            how = f"{type(error).__name__}: {error}"[:300]
        return {"seconds": round(time.monotonic() - began_at, 1), "went": how}

    # Side by side: they don't wait for each other.
    asked = {tool: threads.start(functools.partial(ask, tool)) for tool in calls}
    for tool, one in asked.items():
        found[f"{tool}_of_{_LONG_S}_s"] = one.result()
    return found


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
    found: dict[str, Any] = {}
    for name, code, language in (
        ("python", python, "python"),
        ("javascript", "console.log(process.cwd(), process.version)", "javascript"),
    ):
        result = live.session.code.run_code(code, language)
        found[name] = "".join(result.logs.stdout).strip() or result.error_message[:200]
    shell = live.session.call_mcp_tool("shell", {"command": "pwd", "timeout_ms": 5000}, 10)
    found["shell"] = str(shell.data or shell.error_message)[:200].strip()
    # Files and values go by whichever is there: do they see the same ones?
    name = f"/tmp/agentbay-probe-{secrets.token_hex(4)}"
    live.session.code.run_code(f"open({name!r}, 'w').write('shared')", "python")
    by_shell = live.session.call_mcp_tool("shell", {"command": f"cat {name}"}, 10)
    found["tmp_shared_with_shell"] = "shared" in by_shell.data
    if "read_file" in live.session.tools:
        by_tool = live.session.call_mcp_tool("read_file", {"path": name}, 10)
        found["tmp_shared_with_file_tools"] = by_tool.success and "shared" in by_tool.data
    live.session.call_mcp_tool("shell", {"command": f"rm -f {name}"}, 10)
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
    "sizes": _sizes,
    "token": _token,
}
_LONG_LOOKS: dict[str, Callable[[LiveSession, SessionManager], dict[str, Any]]] = {"long": _long}
