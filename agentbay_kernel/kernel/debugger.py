"""The debugger of a notebook's page, relayed to the kernel in the sandbox.

It takes the contents of debug_request messages (Debug Adapter Protocol) and returns the contents of
the replies. Replies and events are contained. The page computes a cell's path from the reply to
`debugInfo`, before there is a session. So paths are translated, with a map that `dumpCell` fills.
Only turning the debugger on creates a session. Nothing has a timeout: code may stay stopped.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from ipykernel import compiler

from agentbay_kernel import threads
from agentbay_kernel.containment.debugging import (
    REPLIES,
    contain_event,
    contain_reply,
    no_body,
)
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.errors import AgentBayError, BridgeError, InvalidResponseError
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.verbs import CellMagic, VerbCell, parse_cell
from agentbay_kernel.verbs.cell_options import read_cell_line

JsonObject = dict[str, Any]

_SUFFIX = ".py"
# Any seed works: the page reads it from `debugInfo`.
_SEED = 0xC70F6907
# Commands that the sandbox's kernel handles also while the debugger is off.
_ALWAYS = frozenset(("inspectVariables", "richInspectVariables", "modules"))
# The thread that cells run on.
_CELLS = "MainThread"
# Commands after which the code continues.
_RESUMING = frozenset(("continue", "disconnect", "next", "stepIn", "stepOut"))
# How many cells keep their paths.
_MOST_CELLS = 10_000
_NO_DEBUGGER = (
    "debugpy is missing in the sandbox. Run `%pip install debugpy`, then `%agentbay restart`."
)
_OFF = "The debugger is off. Turn it on again."
_LOST = (
    "AgentBay: the debugger was turned off, because the connection to its kernel in the sandbox "
    "ended. Turn it on again to debug.\n"
)


class Debugger:
    """The debugger of one kernel. Its coroutines run on one event loop.

    Arguments:
        find_bridge: returns the bridge to the notebook's Python, None if there is none.
        open_bridge: the same, but creates a session and a bridge if there is none. May be slow.
        policy: returns the containment policy in force.
        publish: sends the content of a debug_event to the page.
    """

    def __init__(
        self,
        find_bridge: Callable[[], BridgedPython | None],
        open_bridge: Callable[[], BridgedPython],
        policy: Callable[[], Policy],
        publish: Callable[[JsonObject], None],
    ) -> None:
        self._find_bridge, self._open_bridge = find_bridge, open_bridge
        self._policy, self._publish = policy, publish
        self._numbers = itertools.count(1)
        # Unique to a kernel: a new prefix makes the page dump the cells again. JupyterLab shows
        # "Cell [1]" for a path with "ipykernel_" in it.
        self._prefix = f"/agentbay/ipykernel_{uuid.uuid4().hex[:12]}/"
        # The code that is sent for each cell, by the cell's path in the page.
        self._codes: dict[str, str] = {}
        # Paths in the sandbox by paths in the page, and the reverse.
        self._remote: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self._remote_prefix = ""
        self._breakpoints: dict[str, list[JsonObject]] = {}
        # The latest request to set breakpoints and its reply, by path in the sandbox.
        self._set: dict[str, tuple[JsonObject, JsonObject]] = {}
        self._stopped: set[int] = set()
        # Number of stops so far.
        self._stops = 0
        # The bridge over which debugging is on.
        self._bridge: BridgedPython | None = None
        self._events: threads.Feed[JsonObject] | None = None
        self._following: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The work that the latest cell's end causes for a stop; later requests wait for it.
        self._ending: concurrent.futures.Future[None] | None = None
        self._notes: list[str] = []
        # The latest list of variables, and the time of the request for it.
        self._variables: tuple[float, JsonObject] | None = None

    @property
    def is_on(self) -> bool:
        """Whether the page has turned the debugger on."""
        return self._bridge is not None

    @property
    def is_stopped(self) -> bool:
        """Whether code is stopped."""
        return bool(self._stopped)

    def take_notes(self) -> list[str]:
        """Return why debugging ended or did not start, for a cell's output; each note only once."""
        notes, self._notes = self._notes, []
        return notes

    def as_sent(self, code: str) -> str:
        """Return a cell's code as it is sent while the debugger is on.

        Lines that the kernel handles are blank, so that the others keep their numbers. Called from
        any thread.
        """
        sent = _with_blank_lines(code)
        if sent != code and self._remote_prefix:
            # With this, frames of the cell lead to it even if it has no breakpoints.
            self._map(self._path(code), f"{self._remote_prefix}{_digest(sent)}{_SUFFIX}")
        return sent

    async def answer(self, request: JsonObject, arrived_at: float) -> JsonObject:
        """Return the content of the debug_reply.

        Arguments:
            arrived_at: when the request arrived (monotonic clock, seconds).
        """
        command = request.get("command")
        command = command if isinstance(command, str) else ""
        arguments = request.get("arguments")
        arguments = arguments if isinstance(arguments, dict) else {}
        if command != "inspectVariables":
            self._variables = None
        try:
            if (ending := self._ending) is not None and not ending.done():
                # Not awaited itself: its failure must not fail this request, nor is it to be
                # cancelled with this request.
                await asyncio.wait([asyncio.wrap_future(ending)])
            reply = await self._answer(command, arguments, arrived_at)
        except AgentBayError as failure:
            reply = _refused(command, str(failure))
        return {
            "type": "response",
            "seq": next(self._numbers),
            "request_seq": request.get("seq", 0),
            "command": command,
            **reply,
        }

    def close(self) -> None:
        """Stop publishing, because the kernel ends."""
        self._bridge = None
        self._follow_no_more()

    async def _answer(self, command: str, arguments: JsonObject, arrived_at: float) -> JsonObject:
        if command == "debugInfo":
            return _success(self._info())
        if command == "initialize":
            return await self._initialize(arguments)
        if command == "disconnect" and self._bridge is None:
            return _success({})
        if command == "dumpCell":
            return await self._dump_cell(arguments)
        if command == "inspectVariables":
            return await self._inspect(arrived_at)
        if command not in REPLIES and command != "richInspectVariables":
            return _refused(command, f"AgentBay does not relay {command[:100]!r} to a debugger.")
        if self._bridge is None and command not in _ALWAYS:
            return _refused(command, _OFF)
        if command == "setBreakpoints":
            return await self._set_breakpoints(arguments)
        if command in _RESUMING:
            return await self._resume(command, arguments)
        return await self._relay(command, arguments)

    def _info(self) -> JsonObject:
        return {
            "isStarted": self.is_on,
            "hashMethod": "Murmur2",
            "hashSeed": _SEED,
            "tmpFilePrefix": self._prefix,
            "tmpFileSuffix": _SUFFIX,
            "breakpoints": [
                {"source": path, "breakpoints": list(lines)}
                for path, lines in self._breakpoints.items()
            ],
            "stoppedThreads": sorted(self._stopped),
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    async def _initialize(self, arguments: JsonObject) -> JsonObject:
        self._forget()
        try:
            bridge = await _on_thread(self._open_bridge)
            info = await _on_thread(lambda: bridge.debug(self._request("debugInfo", {})))
            if not info:
                raise BridgeError(_NO_DEBUGGER)
            body = info.get("body")
            body = body if isinstance(body, dict) else {}
            if body.get("isStarted") is True:
                # An earlier kernel of this notebook turned it on, or the connection was lost.
                await self._ask(bridge, "disconnect", {"restart": False})
            events = threads.Feed(bridge.debug_events(), threading.Event())
            reply = await self._ask(bridge, "initialize", arguments)
        except AgentBayError as failure:
            self._notes = [f"AgentBay: the debugger is not on. {failure}\n"]
            raise
        if reply["success"]:
            prefix = body.get("tmpFilePrefix")
            self._remote_prefix = prefix if isinstance(prefix, str) else ""
            self._bridge, self._events = bridge, events
            self._loop = asyncio.get_running_loop()
            self._following = asyncio.create_task(self._follow(bridge, events))
        return reply

    async def _dump_cell(self, arguments: JsonObject) -> JsonObject:
        code = arguments.get("code")
        if not isinstance(code, str):
            return _refused("dumpCell", "It has no code.")
        path = self._path(code)
        self._codes.pop(path, None)
        self._codes[path] = _with_blank_lines(code)
        while len(self._codes) > _MOST_CELLS:
            self._forget_cell(next(iter(self._codes)))
        if self._bridge is not None:
            await self._place(self._bridge, path)
        return _success({"sourcePath": path})

    async def _place(self, bridge: BridgedPython, path: str) -> None:
        """Make the sandbox write a cell to a file, and store the file's path."""
        reply = await self._ask(bridge, "dumpCell", {"code": self._codes[path]})
        remote = reply["body"].get("sourcePath")
        if isinstance(remote, str):
            self._map(path, remote)

    async def _set_breakpoints(self, arguments: JsonObject) -> JsonObject:
        assert self._bridge is not None
        source = arguments.get("source")
        path = source.get("path") if isinstance(source, dict) else None
        if not isinstance(path, str):
            return _refused("setBreakpoints", "It names no source.")
        if path in self._codes and path not in self._remote:
            await self._place(self._bridge, path)
        remote = self._to_sandbox(path)
        asked, reply = self._set.get(remote, ({}, {}))
        if asked == arguments:
            # JupyterLab sets the same breakpoints repeatedly. Setting removes them for a moment,
            # and a cell that runs meanwhile would not stop.
            return reply
        self._set.pop(remote, None)
        reply = await self._relay("setBreakpoints", arguments)
        if reply["success"]:
            self._set[remote] = arguments, reply
            # The debugger may have moved them to other lines.
            found = reply["body"]["breakpoints"]
            lines = [{"line": one["line"]} for one in found if "line" in one]
            self._breakpoints.pop(path, None)
            if lines:
                self._breakpoints[path] = lines
        return reply

    async def _inspect(self, arrived_at: float) -> JsonObject:
        # A page asks at each output. A list that was requested after this request arrived is new
        # enough for it.
        if self._variables is None or self._variables[0] < arrived_at:
            self._variables = time.monotonic(), await self._relay("inspectVariables", {})
        return self._variables[1]

    async def _resume(self, command: str, arguments: JsonObject) -> JsonObject:
        # Cleared first: the next stop may come before the reply.
        before = set(self._stopped)
        self._note_stopped(set())
        reply = await self._relay(command, arguments)
        if not reply["success"]:
            self._note_stopped(self._stopped or before)
        if command == "disconnect":
            self._forget()
        return reply

    async def _relay(self, command: str, arguments: JsonObject) -> JsonObject:
        bridge = self._bridge or self._find_bridge()
        if bridge is None:
            # There is no session, or it runs cells directly.
            return _success(
                {"data": {}, "metadata": {}}
                if command == "richInspectVariables"
                else no_body(command)
            )
        source = arguments.get("source")
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            path = self._to_sandbox(source["path"])
            arguments = {**arguments, "source": {**source, "path": path}}
        reply = await self._ask(bridge, command, arguments)
        if command == "stackTrace" and not self._stopped:
            # The code has continued. JupyterLab would show these frames until the next stop.
            return _success(no_body(command))
        return {**reply, "body": self._to_page(reply["body"])} if _has_paths(command) else reply

    async def _ask(self, bridge: BridgedPython, command: str, arguments: JsonObject) -> JsonObject:
        request = self._request(command, arguments)

        def ask() -> JsonObject:
            reply = bridge.debug(request)
            if not reply:
                raise InvalidResponseError("The sandbox's debugger did not reply.")
            return contain_reply(reply, command, self._policy())

        reply: JsonObject = await _on_thread(ask)
        return reply

    def _request(self, command: str, arguments: JsonObject) -> JsonObject:
        number = next(self._numbers)
        return {"type": "request", "seq": number, "command": command, "arguments": arguments}

    # Events

    async def _follow(self, bridge: BridgedPython, events: threads.Feed[JsonObject]) -> None:
        async for event in events:
            if (contained := contain_event(event)) is not None:
                self._note_event(contained)
                self._publish({**contained, "body": self._to_page(contained["body"])})
        if self._bridge is bridge:
            self._lose()

    def _note_event(self, event: JsonObject) -> None:
        thread, body = event["body"].get("threadId"), event["body"]
        if event["event"] == "stopped" and thread is not None:
            self._stops += 1
            self._note_stopped(self._stopped | {thread})
        elif event["event"] == "continued":
            every = body.get("allThreadsContinued", False) or thread is None
            self._note_stopped(set() if every else self._stopped - {thread})

    def _note_stopped(self, stopped: set[int]) -> None:
        self._stopped = stopped
        if self._bridge is not None:
            self._bridge.note_halt(bool(stopped))

    def note_cell_end(self) -> None:
        """Note that a cell ended, so its thread is not stopped. Called from any thread."""
        loop = self._loop
        if loop is not None and self._stopped:
            # The loop may have closed meanwhile.
            with contextlib.suppress(RuntimeError):
                end = self._end_stop(self._stops)
                self._ending = asyncio.run_coroutine_threadsafe(end, loop)

    async def _end_stop(self, stops: int) -> None:
        """Report to the page that the cells' thread continues.

        An interrupt may have ended the stop without an event (debugpy 1.8, about one time in ten).
        """
        if (bridge := self._bridge) is None:
            return
        with contextlib.suppress(AgentBayError):
            reply = await self._ask(bridge, "threads", {})
            cells = {it.get("id") for it in reply["body"]["threads"] if it.get("name") == _CELLS}
            if stops == self._stops:
                self._continue(self._stopped & cells)

    def _continue(self, gone_on: set[int]) -> None:
        """Report to the page that these threads are not stopped any more."""
        self._note_stopped(self._stopped - gone_on)
        for thread in sorted(gone_on):
            body = {"threadId": thread, "allThreadsContinued": not self._stopped}
            self._publish(self._event("continued", body))

    def _lose(self) -> None:
        self._notes = [_LOST]
        self._continue(self._stopped)
        self._forget()
        self._publish(self._event("terminated", {}))

    def _event(self, name: str, body: JsonObject) -> JsonObject:
        return {"type": "event", "seq": next(self._numbers), "event": name, "body": body}

    def _forget(self) -> None:
        """Note that debugging is off; cells and their paths in the page are kept."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.note_halt(False)
        self._follow_no_more()
        self._remote.clear()
        self._local.clear()
        self._remote_prefix = ""
        self._breakpoints.clear()
        self._set.clear()
        self._stopped = set()

    def _follow_no_more(self) -> None:
        following, self._following = self._following, None
        if self._events is not None:
            self._events.close()
            self._events = None
        if following is not None and following is not asyncio.current_task():
            following.cancel()

    # Paths

    def _path(self, code: str) -> str:
        """Return a cell's path, as the page computes it."""
        return f"{self._prefix}{_digest(code)}{_SUFFIX}"

    def _map(self, path: str, remote: str) -> None:
        self._remote[path] = remote
        self._local[remote] = path

    def _forget_cell(self, path: str) -> None:
        del self._codes[path]
        self._local.pop(self._remote.pop(path, ""), None)

    def _to_sandbox(self, path: str) -> str:
        if (known := self._remote.get(path)) is not None:
            return known
        if self._remote_prefix and path.startswith(self._prefix):
            return self._remote_prefix + path.removeprefix(self._prefix)
        return path

    def _of_page(self, path: str) -> str:
        if (known := self._local.get(path)) is not None:
            return known
        # A cell that is sent unchanged has the same name on both sides.
        if self._remote_prefix and path.startswith(self._remote_prefix):
            return self._prefix + path.removeprefix(self._remote_prefix)
        return path

    def _to_page(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._to_page(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            name: self._of_page(item)
            if name == "path" and isinstance(item, str)
            else self._to_page(item)
            for name, item in value.items()
        }


def _has_paths(command: str) -> bool:
    return command not in ("evaluate", "inspectVariables", "richInspectVariables", "variables")


def _digest(code: str) -> int:
    digest: int = compiler.murmur2_x86(code, _SEED)  # type: ignore[no-untyped-call]
    return digest


def _with_blank_lines(code: str) -> str:
    """Return a cell as the sandbox runs it: lines at its head that the kernel handles are blank."""
    parsed = parse_cell(code)
    if isinstance(parsed, CellMagic):
        options = read_cell_line(parsed.line, untrusted=False)
        if isinstance(options, str) or options.language != PYTHON.name:
            return code
        rest = parsed.body
    elif isinstance(parsed, VerbCell):
        rest = parsed.rest
    else:
        return code
    if rest.lstrip().startswith("%%"):
        # A cell magic must be in the first line.
        return rest
    head = code[: len(code) - len(rest)]
    return "".join(character for character in head if character in "\r\n") + rest


def _success(body: JsonObject) -> JsonObject:
    return {"success": True, "body": body}


def _refused(command: str, why: str) -> JsonObject:
    return {"success": False, "message": why, "body": no_body(command)}


def _on_thread(work: Callable[[], Any]) -> Awaitable[Any]:
    return asyncio.wrap_future(threads.start(work))
