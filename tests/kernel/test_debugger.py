"""The debugger by protocol: what JupyterLab's page sends, and what it gets."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ipykernel.compiler import murmur2_x86

from agentbay_kernel.service import AgentBay
from tests.execution.bench import ROUTES
from tests.kernels import ANSWER_S, Ran, RunningKernel, running_kernel
from tests.runtime import running_local_runtime

INITIALIZE = {
    "clientID": "jupyterlab",
    "clientName": "JupyterLab",
    "adapterID": "agentbay-python",
    "pathFormat": "path",
    "linesStartAt1": True,
    "columnsStartAt1": True,
    "supportsVariableType": True,
    "supportsVariablePaging": True,
    "supportsRunInTerminalRequest": True,
    "locale": "en",
}
CODE = """%agentbay status
def double(a):
    b = a * 2
    return b

ran = []
x = double(21)
ran.append(x)
print(x)
"""
# Where `b` is computed, and the line of the call.
LINE, CALL = 3, 7


class Page:
    """The debugger's panel of a page."""

    def __init__(self, kernel: RunningKernel) -> None:
        self.kernel = kernel
        self.events: list[dict[str, Any]] = []
        self._number = 0

    def send(self, command: str, **arguments: Any) -> str:
        """Send a request; returns its id."""
        self._number += 1
        content = {"type": "request", "seq": self._number, "command": command}
        session = self.kernel.client.session
        message = session.msg("debug_request", {**content, "arguments": arguments})
        self.kernel.client.control_channel.send(message)
        identity: str = message["header"]["msg_id"]
        return identity

    def reply(self, request: str) -> dict[str, Any]:
        """The content of the reply to a request."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            left = deadline - time.monotonic()
            message = self.kernel.client.get_control_msg(timeout=max(0.1, left))
            if message["parent_header"]["msg_id"] == request:
                content: dict[str, Any] = message["content"]
                return content

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request; returns the reply's content."""
        reply = self.reply(self.send(command, **arguments))
        assert (reply["type"], reply["request_seq"]) == ("response", self._number)
        assert reply["command"] == command
        return reply

    def body(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The same, of a request that succeeds; returns the reply's body."""
        reply = self.ask(command, **arguments)
        assert reply["success"], reply
        body: dict[str, Any] = reply["body"]
        return body

    def turn_on(self) -> None:
        """What a click on the bug does."""
        self.body("debugInfo")
        assert self.body("initialize", **INITIALIZE)["supportsConfigurationDoneRequest"]
        self.body("attach")

    def turn_off(self) -> None:
        """The second click."""
        self.body("disconnect", restart=False, terminateDebuggee=False)

    def set_breakpoints(self, code: str, *breakpoints: int | dict[str, Any]) -> str:
        """Click beside lines of a cell; returns the cell's path."""
        path: str = self.body("dumpCell", code=code)["sourcePath"]
        lines = [{"line": it} if isinstance(it, int) else it for it in breakpoints]
        source = {"path": path}
        found = self.body("setBreakpoints", breakpoints=lines, source=source, sourceModified=False)
        assert [it["line"] for it in found["breakpoints"]] == [it["line"] for it in lines]
        assert all(it["verified"] for it in found["breakpoints"])
        self.body("configurationDone")
        return path

    def wait_for(self, event: str, run: str = "") -> dict[str, Any]:
        """The body of the next event of that name."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            left = deadline - time.monotonic()
            message = self.kernel.client.get_iopub_msg(timeout=max(0.1, left))
            content = message["content"]
            if message["msg_type"] == "debug_event":
                self.events.append(content)
                if content["event"] == event:
                    body: dict[str, Any] = content["body"]
                    return body
            ended = message["msg_type"] == "status" and content["execution_state"] == "idle"
            assert not (ended and message["parent_header"].get("msg_id") == run), "it did not stop"

    def run_to_stop(self, code: str) -> str:
        """Run a cell until it stops; returns the request's id."""
        running = self.kernel.send(code)
        self.wait_for("stopped", running)
        return running

    def frames(self) -> list[dict[str, Any]]:
        """The call stack."""
        frames: list[dict[str, Any]] = self.body("stackTrace", threadId=1)["stackFrames"]
        return frames

    def variables(self, scope: str = "Locals") -> dict[str, dict[str, Any]]:
        """The variables of a scope of the topmost frame, by name."""
        scopes = self.body("scopes", frameId=self.frames()[0]["id"])["scopes"]
        (reference,) = (it["variablesReference"] for it in scopes if it["name"] == scope)
        listed = self.body("variables", variablesReference=reference)["variables"]
        return {it["name"]: it for it in listed}

    def evaluate(self, expression: str) -> dict[str, Any]:
        """Evaluate in the topmost frame."""
        frame = self.frames()[0]["id"]
        return self.ask("evaluate", expression=expression, context="repl", frameId=frame)

    def finish(self, running: str) -> Ran:
        """Let the cell go on to its end."""
        self.body("continue", threadId=1)
        return self.kernel.finish(running)


@dataclass
class Debugged:
    """A kernel, its page, and a client of the service that sees its sessions."""

    kernel: RunningKernel
    page: Page
    client: AgentBay

    def session_ids(self) -> list[str]:
        """The sessions at the service."""
        return [row["sessionId"] for row in self.client.list_all()]


@contextlib.contextmanager
def debugged_kernel(folder: Path, route: str) -> Iterator[Debugged]:
    """A kernel without a session, on a route to the service."""
    profile = folder / f"{route}.json"
    profile.write_text(json.dumps(ROUTES[route]))
    with running_local_runtime("--profile", str(profile)) as runtime:
        environment = {
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_STATE_DIR": str(folder / "state"),
        }
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        with client, running_kernel("agentbay-python", environment) as kernel:
            yield Debugged(kernel, Page(kernel), client)


@pytest.fixture(scope="module")
def debugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debugged]:
    """One for the tests of this module; its kernel in the sandbox was prepared ahead."""
    with debugged_kernel(tmp_path_factory.mktemp("debugged"), "websocket") as running:
        yield running


@pytest.fixture
def page(debugged: Debugged) -> Iterator[Page]:
    """Its page, with the debugger on."""
    debugged.page.turn_on()
    yield debugged.page
    debugged.page.turn_off()


# First: there is no session yet.
def test_what_panels_ask_creates_no_session(debugged: Debugged) -> None:
    page, kernel = debugged.page, debugged.kernel
    for _ in range(20):
        info = page.body("debugInfo")
        assert not info["isStarted"] and info["breakpoints"] == info["stoppedThreads"] == []
        assert info["richRendering"] and info["copyToGlobals"]
        assert page.body("inspectVariables")["variables"] == []
        assert page.body("modules")["modules"] == []
        assert page.body("richInspectVariables", variableName="x")["data"] == {}
        page.body("disconnect", restart=False)
        usage = kernel.client.session.msg("usage_request", {})
        kernel.client.control_channel.send(usage)
        assert page.reply(usage["header"]["msg_id"])["kernel_memory"] == 0
    for command in ("attach", "setBreakpoints", "stackTrace", "evaluate", "copyToGlobals", "next"):
        reply = page.ask(command)
        assert not reply["success"] and "is off" in reply["message"]
    assert page.ask("setBreakpoints")["body"] == {"breakpoints": []}
    assert not page.ask("runInTerminal", args=["ls"])["success"]
    assert debugged.session_ids() == []


# Second: nothing has been debugged.
def test_debugpy_is_imported_when_it_is_needed(debugged: Debugged) -> None:
    page, kernel = debugged.page, debugged.kernel
    imported = "import sys; print('debugpy.server.api' in sys.modules)"
    assert kernel.run(imported).text() == "False\n"
    page.turn_on()
    assert kernel.run(imported).text() == "True\n"
    # What others ask ipykernel's module for is that of the real one.
    module = kernel.run("from ipykernel.debugger import Debugger; print(Debugger.__module__)")
    assert module.text() == "ipykernel.debugger\n"
    page.turn_off()


def test_stop_look_step_change_continue(page: Page) -> None:
    path = page.set_breakpoints(CODE, LINE)
    # Before there was a session, this is what the page computed it from.
    info = page.body("debugInfo")
    digest = murmur2_x86(CODE, info["hashSeed"])  # type: ignore[no-untyped-call]
    assert path == f"{info['tmpFilePrefix']}{digest}{info['tmpFileSuffix']}"
    assert info["breakpoints"] == [{"source": path, "breakpoints": [{"line": LINE}]}]
    running = page.run_to_stop(CODE)
    assert page.body("debugInfo")["stoppedThreads"] == [1]
    # The user's frames alone, in the page's cell, on its lines.
    frames = [(it["name"], it["source"]["path"], it["line"]) for it in page.frames()]
    assert frames == [("double", path, LINE), ("<module>", path, CALL)]
    source = page.body("source", source={"path": path}, sourceReference=0)["content"]
    assert source == CODE.replace("%agentbay status", "")
    assert page.variables()["a"]["value"] == "21"
    page.body("next", threadId=1)
    page.wait_for("stopped", running)
    assert page.frames()[0]["line"] == LINE + 1 and page.variables()["b"]["value"] == "42"
    assert page.evaluate("b = 43")["success"]
    assert page.variables()["b"]["value"] == "43"
    frame = page.frames()[0]["id"]
    assert page.body("setExpression", expression="b", value="44", frameId=frame)["value"] == "44"
    page.body("copyToGlobals", srcVariableName="b", dstVariableName="kept", srcFrameId=frame)
    assert page.variables("Globals")["kept"]["value"] == "44"
    rich = page.body("richInspectVariables", variableName="b", frameId=frame)
    assert rich["data"] == {"text/plain": "44"}
    ran = page.finish(running)
    assert (ran.reply["status"], ran.text()) == ("ok", "44\n")
    listed = page.body("inspectVariables")["variables"]
    assert {it["name"]: it["value"] for it in listed}["x"] == "44"
    assert any(it["name"] == "json" for it in page.body("modules")["modules"])
    # Tracebacks count as without a debugger.
    ran = page.kernel.run("%agentbay status\n\n1 / 0")
    assert "line 3" in str(ran.reply["traceback"]) and ran.reply["ename"] == "ZeroDivisionError"


def test_a_condition_and_an_exception(page: Page) -> None:
    code = "seen = []\nfor i in range(5):\n    seen.append(i)\nraise ValueError('ours')"
    page.set_breakpoints(code, {"line": 3, "condition": "i == 3"})
    page.body("setExceptionBreakpoints", filters=["raised"])
    running = page.run_to_stop(code)
    assert page.variables("Globals")["i"]["value"] == "3"
    page.body("continue", threadId=1)
    assert page.wait_for("stopped", running)["reason"] == "exception"
    found = page.body("exceptionInfo", threadId=1)
    assert "ValueError" in found["exceptionId"] and found["description"] == "ours"
    page.body("setExceptionBreakpoints", filters=[])
    assert page.finish(running).reply["ename"] == "ValueError"


# `make test` has the magic's line, which is not the cell's code.
@pytest.mark.parametrize(
    "head",
    ["%%agentbay python --timeout 300\n", pytest.param("\n\n", marks=pytest.mark.slow)],
    ids=["a magic", "empty lines"],
)
def test_lines_hold_below_what_begins_a_cell(page: Page, head: str) -> None:
    code = f"{head}first = 1\nsecond = 2\nthird = 3"
    line = 1 + head.count("\n") + 1
    page.set_breakpoints(code, line)
    running = page.run_to_stop(code)
    assert page.frames()[0]["line"] == line
    assert page.finish(running).reply["status"] == "ok"
    # A magic of IPython's own stands in the first line.
    assert page.kernel.run("%agentbay help\n%%time\nx = 1").reply["status"] == "ok"
    assert page.kernel.run("%%agentbay js\n[1, 2].length").reply["status"] == "ok"


# `make test` has it once.
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_stop_while_stopped_runs_nothing_more(page: Page, times: int) -> None:
    page.set_breakpoints(CODE, LINE)
    for _ in range(times):
        running = page.run_to_stop(CODE)
        page.kernel.manager.interrupt_kernel()
        page.wait_for("continued", running)
        ran = page.kernel.finish(running)
        assert ran.reply["ename"] == "KeyboardInterrupt" and not ran.text()
        assert page.body("debugInfo")["stoppedThreads"] == []
        assert page.kernel.run("print(ran)").text() == "[]\n"
    # In the midst of what the debugger evaluates there, too.
    running = page.run_to_stop(CODE)
    frame = page.frames()[0]["id"]
    loop = "print('evaluating', flush=True)\nwhile True: pass"
    asked = page.send("evaluate", expression=loop, context="repl", frameId=frame)
    page.wait_for("output", running)
    page.kernel.manager.interrupt_kernel()
    page.reply(asked)
    assert page.kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    running = page.run_to_stop(CODE)
    assert page.finish(running).text() == "42\n"


CROSSED = """
import time
class Slow:
    def __init__(self, seconds): self.seconds = seconds
    def __repr__(self):
        print("shown", flush=True)
        time.sleep(self.seconds)
        return "Slow"
many = {f"name {number}": "x" * 300 for number in range(1500)}
def stops(*those):
    here = 1
    return here
"""


# What runs in the sandbox when the interrupt comes: a look at variables, or its reply.
@pytest.mark.parametrize(
    "pauses", [(0.0, 0.12), pytest.param((0.04, 0.08, 0.16, 0.2), marks=pytest.mark.slow)]
)
def test_a_request_that_a_stop_crosses_is_answered(page: Page, pauses: tuple[float, ...]) -> None:
    line = 1 + CROSSED.splitlines().index("    here = 1")
    short, endless = (CROSSED + f"stops(Slow({seconds}), many)" for seconds in (0.05, 1000))
    page.set_breakpoints(short, line)
    page.set_breakpoints(endless, line)
    for pause_s in pauses:
        running = page.run_to_stop(short)
        frame = page.frames()[0]["id"]
        scopes = page.body("scopes", frameId=frame)["scopes"]
        asked = [
            page.send("variables", variablesReference=scope["variablesReference"])
            for scope in scopes * 2
        ]
        asked.append(page.send("evaluate", expression="many", context="repl", frameId=frame))
        time.sleep(pause_s)
        page.kernel.manager.interrupt_kernel()
        assert [page.reply(request)["type"] for request in asked] == ["response"] * len(asked)
        assert page.kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    # Code of the user's that does not end.
    for command in ("variables", "evaluate"):
        running = page.run_to_stop(endless)
        frame = page.frames()[0]["id"]
        (scope, *_) = page.body("scopes", frameId=frame)["scopes"]
        request = (
            page.send("variables", variablesReference=scope["variablesReference"])
            if command == "variables"
            else page.send("evaluate", expression="those[0]", context="repl", frameId=frame)
        )
        while "shown" not in str(page.kernel.client.get_iopub_msg(timeout=ANSWER_S)["content"]):
            pass
        page.kernel.manager.interrupt_kernel()
        assert page.reply(request)["type"] == "response"
        assert page.kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
        assert page.body("debugInfo")["stoppedThreads"] == []


# The fault of debugpy's: sometimes it does not say that an interrupt has ended a stop.
MUTE = """
debugger = get_ipython().kernel.debugger
told = debugger.event_callback
debugger.event_callback = lambda event: event["event"] == "continued" or told(event)
"""


def test_a_stop_ends_with_its_cell(page: Page) -> None:
    page.kernel.run(MUTE)
    page.set_breakpoints(CODE, LINE)
    running = page.run_to_stop(CODE)
    page.kernel.manager.interrupt_kernel()
    assert page.kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    # Asked at once, and told.
    assert page.body("debugInfo")["stoppedThreads"] == []
    assert page.wait_for("continued")["threadId"] == 1
    # What was on its way when the code went on.
    assert page.body("stackTrace", threadId=1)["stackFrames"] == []
    assert page.ask("variables", variablesReference=3)["body"] == {"variables": []}
    # A request beside a cell ends no stop.
    running = page.run_to_stop(CODE)
    assert page.kernel.client.complete("ra", 2)
    assert page.body("debugInfo")["stoppedThreads"] == [1] and page.frames()
    page.finish(running)
    page.kernel.run("debugger.event_callback = told")


# `make test` has it once.
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_breakpoint_that_was_set_before_a_cell_holds(page: Page, times: int) -> None:
    for number in range(times):
        code = f"first = {number}\nsecond = 2"
        path: str = page.body("dumpCell", code=code)["sourcePath"]
        # JupyterLab asks much at a time, and the cell does not wait for it.
        asked = [page.send("modules") for _ in range(5)]
        source = {"path": path}
        asked += [
            page.send("setBreakpoints", breakpoints=lines, source=source)
            for lines in ([{"line": 1}], [], [{"line": 2}], [{"line": 2}])
        ]
        running = page.run_to_stop(code)
        replies = [page.reply(request) for request in asked]
        assert replies[-1] == {
            **replies[-2],
            "seq": replies[-1]["seq"],
            "request_seq": replies[-1]["request_seq"],
        }
        assert page.frames()[0]["line"] == 2
        assert page.finish(running).reply["status"] == "ok"


def test_a_cell_that_is_stopped_has_no_timeout(page: Page) -> None:
    code = "%%agentbay python --timeout 1\nx = 1\ny = 2"
    page.set_breakpoints(code, 3)
    running = page.run_to_stop(code)
    # In the sandbox, and while the code is stopped.
    assert page.evaluate("__import__('time').sleep(1.5)")["success"]
    ran = page.finish(running)
    assert ran.reply["status"] == "ok" and not ran.text("stderr")
    loop = page.kernel.run("%%agentbay python --timeout 0.3\nwhile True: pass")
    assert loop.reply["ename"] == "KeyboardInterrupt"


def test_many_outputs_are_one_look_at_the_variables(page: Page) -> None:
    count = """
debugger, asked = get_ipython().kernel.debugger, []
inspect = debugger.static_debug_handlers["inspectVariables"]
debugger.static_debug_handlers["inspectVariables"] = lambda m: asked.append(1) or inspect(m)
"""
    page.kernel.run(count)
    requests = [page.send("inspectVariables") for _ in range(200)]
    for request in requests:
        names = [it["name"] for it in page.reply(request)["body"]["variables"]]
        assert "asked" in names
    done = int(page.kernel.run("print(len(asked))").text())
    assert 1 <= done <= 20
    page.kernel.run("debugger.static_debug_handlers['inspectVariables'] = inspect")


HOSTILE = """
class Html:
    def _repr_html_(self):
        return "<img src=x onerror=alert(1)><script>alert(2)</script>"
    def _repr_javascript_(self):
        return "alert(3)"
    def __repr__(self):
        return "\\x1b]0;title\\x07\\u202e<script>alert(4)</script>" + "R" * 100_000
class Raises:
    def __repr__(self):
        raise ValueError
html, raises, large = Html(), Raises(), "L" * 50_000_000
globals()["\\u202e<img src=x onerror=alert(5)>"] = 1
def stops():
    html_inside = html
    return 1
stops()
"""


def test_replies_and_events_are_contained(page: Page) -> None:
    line = HOSTILE.splitlines().index("    return 1") + 1
    page.set_breakpoints(HOSTILE, line)
    running = page.run_to_stop(HOSTILE)
    found = {**page.variables(), **page.variables("Globals")}
    texts = [str(part) for one in found.values() for part in one.values()]
    assert not any(sign in text for text in texts for sign in ("\u202e", "\x1b", "\x07"))
    assert max(map(len, texts)) < 5_000 and "large" in found and "raises" in found
    frame = page.frames()[0]["id"]
    stopped = page.body("richInspectVariables", variableName="html_inside", frameId=frame)
    page.finish(running)
    for rich in (stopped, page.body("richInspectVariables", variableName="html")):
        assert "application/javascript" not in rich["data"]
        assert "sandbox=" in rich["data"]["text/html"]
        assert "<script>alert(2)" not in rich["data"]["text/html"]
        assert "\u202e" not in rich["data"]["text/plain"]


FORGED = """
kernel = get_ipython().kernel
def say(kind, content):
    kernel.session.send(kernel.iopub_socket, kind, content, ident=b"x")
say("debug_event", {"type": "event", "event": "evil", "seq": 1, "body": {"html": "<b>"}})
say("debug_event", {"type": "event", "event": 5})
say("debug_event", {"type": "event", "event": "stopped", "body": 5})
say("debug_event", {"type": "event", "event": "module", "seq": "x", "extra": 1, "body":
    {"reason": "new\\u202e", "module": {"id": {}, "name": ["x"], "path": "p" * 100_000, "y": 1}}})
debugger = kernel.debugger
async def lies(message):
    return {"success": True, "command": "<b>", "seq": "x", "body": {"variables": [
        {"name": 5, "value": {"text/html": "<b>"}, "variablesReference": "x", "extra": "y"},
        "x", {"name": "a", "value": "v" * 5_000, "type": "t"}] * 2000}}
debugger.static_debug_handlers["inspectVariables"] = lies
"""
TRUE = "debugger.static_debug_handlers['inspectVariables'] = debugger.inspectVariables"


def test_what_code_forges_is_rebuilt(page: Page) -> None:
    before = len(page.events)
    running = page.kernel.send(FORGED)
    module = page.wait_for("module")
    page.kernel.finish(running)
    assert module["reason"] == "new[U+202E]" and set(module["module"]) == {"path"}
    assert len(module["module"]["path"]) <= 1_000
    assert not {"evil", "stopped"} & {it["event"] for it in page.events[before:]}
    listed = page.body("inspectVariables")["variables"]
    assert len(listed) <= 2_001 and set(listed[0]) == set()
    assert set(listed[1]) == {"name", "value", "type"} and len(listed[1]["value"]) <= 2_001
    page.kernel.run(TRUE)


# That a new session can be debugged, most tests above show: each begins with turning it on.
@pytest.mark.parametrize(
    "again", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ended", "ended, on again"]
)
def test_a_session_that_is_lost_ends_debugging(debugged: Debugged, again: bool) -> None:
    page, kernel = debugged.page, debugged.kernel
    page.turn_on()
    page.set_breakpoints(CODE, LINE)
    running = page.run_to_stop(CODE)
    asked = page.send(
        "evaluate",
        expression="__import__('os')._exit(3)",
        context="repl",
        frameId=page.frames()[0]["id"],
    )
    assert not page.reply(asked)["success"]
    assert page.wait_for("continued")["threadId"] == 1
    page.wait_for("terminated")
    ran = kernel.finish(running)
    assert ran.reply["ename"] == "KernelEndedError"
    said = ran.text("stderr") + kernel.run("1").text("stderr")
    assert said.count("the debugger was turned off") == 1
    info = page.body("debugInfo")
    assert not info["isStarted"] and info["stoppedThreads"] == info["breakpoints"] == []
    # The page does not know yet.
    assert page.body("dumpCell", code=CODE)["sourcePath"]
    page.turn_off()
    if again:
        page.turn_on()
        page.set_breakpoints(CODE, LINE)
        running = page.run_to_stop(CODE)
        assert page.finish(running).text() == "42\n"
        page.turn_off()


def test_without_debugpy_one_line_says_so(debugged: Debugged) -> None:
    page, kernel = debugged.page, debugged.kernel
    # What ipykernel finds if debugpy can't be imported.
    kernel.run("from ipykernel import debugger\ndebugger._is_debugpy_available = False")
    reply = page.ask("initialize", **INITIALIZE)
    assert not reply["success"] and "debugpy is missing in the sandbox" in reply["message"]
    (line,) = kernel.run("1").text("stderr").splitlines()
    assert "debugpy is missing" in line and not kernel.run("1").text("stderr")
    assert not page.body("debugInfo")["isStarted"]


# Slow: a debugger of its own. The action route itself is in `make test`, by `test_routes.py`.
@pytest.mark.slow
def test_a_kernel_started_by_a_command_on_a_route_without_streams(tmp_path: Path) -> None:
    with debugged_kernel(tmp_path, "action") as debugged:
        page = debugged.page
        page.turn_on()
        path = page.set_breakpoints(CODE, LINE)
        running = page.run_to_stop(CODE)
        frames = [(it["name"], it["source"]["path"], it["line"]) for it in page.frames()]
        assert frames == [("double", path, LINE), ("<module>", path, CALL)]
        debugged.kernel.manager.interrupt_kernel()
        assert debugged.kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
        running = page.run_to_stop(CODE)
        ran = page.finish(running)
        assert ran.text() == "42\n" and not ran.text("stderr")
        page.turn_off()
