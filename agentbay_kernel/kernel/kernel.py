"""AgentBayKernel: a Jupyter kernel whose cells run in a sandbox.

It takes the requests of a front end (Jupyter messaging protocol), and sends the sandbox's responses
as this kernel's own messages. The path of a cell: `do_execute` -> `CellRun` ->
`SessionManager.execute` on a daemon thread -> messages, published as they arrive -> the reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from traitlets import CaselessStrEnum

from agentbay_kernel import threads
from agentbay_kernel._version import __version__
from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.errors import AgentBayError, BridgeError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import reply_ok, stream
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.kernel.banner import make_banner
from agentbay_kernel.kernel.concurrent import ConcurrentKernel
from agentbay_kernel.kernel.late_output import LateOutput
from agentbay_kernel.kernel.publisher import Comms, FrontEnd, Pace
from agentbay_kernel.languages import LANGUAGES, PYTHON, Language, find_language

if TYPE_CHECKING:
    from agentbay_kernel.containment.messages import Containment
    from agentbay_kernel.execution.bridge.python import BridgedPython
    from agentbay_kernel.kernel.cell_run import CellRun
    from agentbay_kernel.kernel.debugger import Debugger
    from agentbay_kernel.kernel.introspection import Introspection
    from agentbay_kernel.sessions import LiveSession, SessionManager

JsonObject = dict[str, Any]

# Jupyter waits 2 seconds for a kernel to end before it is killed.
SHUTDOWN_WITHIN_S = 1.7
_END_WITHIN_S = 5.0
_LATE_INTERRUPT = timedelta(seconds=1)
# Requests that are handled while a cell runs.
_PASS_CELLS = (
    "comm_close",
    "comm_msg",
    "comm_open",
    "complete_request",
    "inspect_request",
    "is_complete_request",
    "kernel_info_request",
)
# A command that follows so soon after a cell without output was not typed by a user.
_SENT_TOGETHER_S = 0.25
# The usage if there is no sandbox, or if it does not report any.
_NO_USAGE = {"hostname": "", "pid": 0, "kernel_cpu": 0.0, "kernel_memory": 0}
# These end a console in which they are typed. The sandbox can't request that, but its user can.
_LEAVING = ("exit", "exit()", "quit", "quit()")
_LEAVE = {"source": "ask_exit", "keepkernel": False}


class AgentBayKernel(ConcurrentKernel):
    """Runs each cell in an AgentBay session."""

    language = CaselessStrEnum(
        tuple(LANGUAGES), "python", help="The language of the notebook's cells."
    ).tag(config=True)

    implementation = "agentbay-kernel"
    implementation_version = __version__
    help_links = [
        {"text": "AgentBay", "url": "https://agentbay.console.aliyun.com/"},
    ]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for kind in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[kind] = self.comm_request
        self._comms = Comms()
        self._comm_turn = asyncio.Lock()
        # A stop that came before the run of the current cell; reentrant for SIGINT.
        self._stop_lock = threading.RLock()
        self._early_stop: tuple[JsonObject | None, Any] = None, None
        self._manager: SessionManager | None = None
        self._contained: Containment | None = None
        self._manager_lock = threading.Lock()
        # Hidden cells that front ends sent before there was a session.
        self._hidden: list[Cell] = []
        # Each with the times when its request was sent and when it arrived.
        self._running: dict[CellRun, tuple[Any, datetime]] = {}
        self._prepared = False
        self._pace = Pace()
        self._late_output = LateOutput(asyncio.get_event_loop())
        # Jupyter starts a kernel in its notebook's directory.
        self._folder = Path.cwd()
        self._last: CellResult | None = None
        # The number and the code of each cell, for a history that the sandbox does not keep.
        self._inputs: list[tuple[int, str]] = []

    # Kernel information

    @property
    def _language(self) -> Language:
        return find_language(self.language)

    @property
    def language_info(self) -> JsonObject:  # type: ignore[override]
        """The name, MIME type and highlighting of the notebook's language."""
        return self._language.language_info

    @cached_property
    def banner(self) -> str:  # type: ignore[override]
        """The text that a console shows first, cached because front ends request it repeatedly."""
        try:
            settings = self._settings()
        except AgentBayError as failure:
            return str(failure)
        return make_banner(self._language, settings)

    @property
    def kernel_info(self) -> JsonObject:
        """The content of a kernel_info_reply.

        The base class would import a debugger here, and promise it without having one.
        """
        from ipykernel._version import kernel_protocol_version

        return {
            "protocol_version": kernel_protocol_version,
            "implementation": self.implementation,
            "implementation_version": self.implementation_version,
            "language_info": self.language_info,
            "banner": self.banner,
            "help_links": self.help_links,
            "supported_features": ["debugger"] if self._debugs else [],
        }

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Send the reply, and only then start slow preparations."""
        await super().kernel_info_request(stream, ident, parent)
        if not self._prepared:
            self._prepared = True
            threads.start(self._prepare)

    def _prepare(self) -> None:
        # Importing a cell's modules now makes the first cell faster. A session is created now only
        # if the settings request it. If this fails, the first cell tries again and reports the
        # error.
        threads.start(self._prepare_cells)
        with contextlib.suppress(AgentBayError):
            manager = self._session_manager()
            if manager.settings.starts_on_open:
                manager.store.open_ahead(self.language)

    def _prepare_cells(self) -> None:
        import agentbay_kernel.kernel.cell_run  # noqa: F401
        from agentbay_kernel.execution.bridge.installer import MODULE, installing_code

        # While the service creates the session: a session with a bridge needs it next.
        installing_code(MODULE)
        self._containment.prepare()

    @property
    def _containment(self) -> Containment:
        # Imported here: not needed to answer kernel_info.
        from agentbay_kernel.containment.messages import Containment

        with self._manager_lock:
            if self._contained is None:
                self._contained = Containment(lambda: getattr(self._manager, "settings", None))
            return self._contained

    def _settings(self) -> AgentBaySettings:
        return load_settings(self.config)

    def _connection_file(self) -> str:
        """Return the connection file; its name stays the same after a restart or a crash."""
        return str(getattr(self.parent, "connection_file", ""))

    def _session_manager(self) -> SessionManager:
        # Imported here: the service client is not needed to answer kernel_info.
        from agentbay_kernel.sessions import SessionManager

        with self._manager_lock:
            if self._manager is None:
                self._manager = SessionManager(
                    self._settings(), self._connection_file(), self._folder
                )
            return self._manager

    async def _find_manager(self) -> SessionManager:
        """Return the session manager; make it on a thread, because its state file may be slow."""
        if self._manager is None:
            return await asyncio.wrap_future(threads.start(self._session_manager))
        return self._manager

    def _live_session(self) -> LiveSession | None:
        """Return the session of the notebook's cells, if there is one."""
        if self._manager is None:
            return None
        from agentbay_kernel.sessions import DEFAULT_SESSION

        return self._manager.store.find(DEFAULT_SESSION)

    # A cell

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: JsonObject | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: JsonObject | None = None,
        cell_id: str | None = None,
    ) -> JsonObject:
        """Run a cell; always return a reply, whatever happens to the cell."""
        front_end = FrontEnd(self, self._pace, self._comms, self._containment, silent)
        shown = self.execution_count
        if not silent and (self.is_passing or not (store_history and code.strip())):
            # As in IPython: a cell that is not stored takes no number, and the next cell gets the
            # one in its prompt. A cell that passes a running one takes none either: the running
            # cell's number is the notebook's.
            self.execution_count -= 1
        leaves = not silent and self.language == "python" and code.strip() in _LEAVING
        if leaves and not (self._manager and self._manager.sessions()):
            # No session is created only for leaving.
            return {**reply_ok(shown).content, "payload": [_LEAVE]}
        cell = Cell(
            code,
            self.language,
            silent=silent,
            store_history=store_history,
            user_expressions=user_expressions or {},
            allow_stdin=allow_stdin,
            message_id=front_end.request_id,
            cell_id=cell_id,
            count=None if silent else shown,
        )
        if store_history and not silent:
            self._inputs.append((shown, code))
        from agentbay_kernel.kernel.cell_run import CellRun

        run = CellRun(
            cell,
            front_end,
            self._find_manager,
            self._late_output,
            self._folder,
            self._last,
            self._hidden,
            self._debugging,
        )
        sent_at = self.get_parent("shell").get("header", {}).get("date")
        with self._stop_lock:
            self._running[run] = sent_at, datetime.now(UTC)
            of_cell, asked_at = self._early_stop
            if of_cell is not None and of_cell is self._cell and not self.is_passing:
                self._early_stop = None, None
                if not _is_earlier(asked_at, *self._running[run]):
                    run.stop()
        try:
            content = await run.run()
        finally:
            del self._running[run]
            if not silent:
                self._last = run.result or self._last
        count = content.get("execution_count", self.execution_count)
        if not self.is_passing:
            # Code may have changed the count of the kernel in the sandbox; the prompt follows it.
            self.execution_count = count
            if self._debugging is not None:
                self._debugging.note_cell_end()
        if leaves:
            content["payload"] = [_LEAVE]
        return {**content, "execution_count": count}

    # Widgets

    async def comm_request(self, reply_to: Any, ident: Any, parent: Any) -> None:
        """Send a widget's message to the sandbox's kernel, and publish what it causes."""
        kind, content = parent["header"]["msg_type"], parent["content"]
        self._comms.note(kind, content)
        self._comms.last_message_at = time.monotonic()
        self._containment.note_from_page(kind, content)
        live = self._live_session()
        bridge = live.python_bridge if live is not None else None
        if live is None or bridge is None:
            return
        front_end = FrontEnd(self, self._pace, self._comms, self._containment)
        self._late_output.follow(live, front_end)
        # Sent before the first await, which keeps their order, also relative to cells.
        caused = bridge.comm(
            kind,
            content,
            parent["metadata"],
            tuple(bytes(part) for part in parent["buffers"]),
            front_end.request_id,
            self._session_manager().settings.late_output_seconds,
        )
        # The sandbox's kernel handles them one after the other, so they are shown in that order.
        async with self._comm_turn:
            try:
                async for message in threads.Feed(caused, threading.Event()):
                    await front_end.pass_on(message)
                    live.note_shown(message.at)
            except AgentBayError as failure:
                await front_end.pass_on(stream("stderr", f"{failure}\n"))

    async def comm_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Send the open comms, of one target or of all."""
        if self.session is not None:
            comms = self._comms.of_target(parent["content"].get("target_name"))
            content = {"status": "ok", "comms": comms}
            self.session.send(stream, "comm_info_reply", content, parent, ident)

    # Control

    @property
    def _debugs(self) -> bool:
        return bool(self.language == PYTHON.name)

    @cached_property
    def _debugger(self) -> Debugger:
        # Imported here: not needed to answer kernel_info.
        from agentbay_kernel.kernel.debugger import Debugger

        return Debugger(
            self._find_debug_bridge,
            self._open_debug_bridge,
            lambda: self._containment.policy,
            self._publish_debug_event,
        )

    def _find_debug_bridge(self) -> BridgedPython | None:
        live = self._live_session()
        return live.python_bridge if live is not None else None

    def _open_debug_bridge(self) -> BridgedPython:
        from agentbay_kernel.sessions import DEFAULT_SESSION

        live = self._session_manager().open(DEFAULT_SESSION, PYTHON.name)
        live.execution_of(PYTHON.name)
        if (bridge := live.python_bridge) is None:
            raise BridgeError(
                "It needs bridged execution, and this session runs cells directly: "
                f"{live.why(PYTHON.name)}."
            )
        return bridge

    async def answer_debugger(self, request: JsonObject, arrived_at: float) -> JsonObject:
        """Return the content of the debug_reply; the sandbox's kernel debugs, see `debugger`."""
        if self._debugs:
            return await self._debugger.answer(request, arrived_at)
        # As in the Debug Adapter Protocol. The base class would not reply.
        return {
            "type": "response",
            "request_seq": request.get("seq", 0),
            "success": False,
            "command": request.get("command", ""),
            "message": "AgentBay kernels have a debugger for Python only.",
        }

    @property
    def _debugging(self) -> Debugger | None:
        """The debugger, if the page has ever requested it."""
        debugger: Debugger | None = self.__dict__.get("_debugger")
        return debugger

    @property
    def is_debugged(self) -> bool:
        """Whether the page has turned the debugger on."""
        return self._debugging is not None and self._debugging.is_on

    @property
    def is_halted(self) -> bool:
        """Whether a debugger halts the running cell."""
        return self._debugging is not None and self._debugging.is_stopped

    async def usage_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Send the usage of the sandbox, not of this machine.

        It is from the sandbox's latest response, which is at most 5 seconds old while a cell runs.
        No request is made for it, so an idle session stays idle.
        """
        live = self._live_session()
        usage = live.usage if live is not None else {}
        if self.session is not None:
            content = {**_NO_USAGE, **usage}
            self.session.send(stream, "usage_reply", content, parent, ident)

    # Interrupt and shutdown

    def _stop_cells(self, asked_at: Any = None) -> None:
        with self._stop_lock:
            if not self._running:
                # The input of a cell is published before its run is in this list.
                self._early_stop = self._cell, asked_at
            for run, (sent_at, arrived_at) in list(self._running.items()):
                if not _is_earlier(asked_at, sent_at, arrived_at):
                    run.stop()

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Stop the running cells; the base class would send a signal, which needs POSIX."""
        self._stop_cells(parent["header"].get("date"))
        if self.session is not None:
            self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    def pre_handler_hook(self) -> None:
        """Let a stray SIGINT (a terminal's Ctrl-C) stop cells; it must not end the kernel."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_sigint)

    def post_handler_hook(self) -> None:
        """Keep the SIGINT handler: between requests the default one would end the event loop."""

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._stop_cells()

    async def do_shutdown(self, restart: bool) -> JsonObject:
        """Send the requests to delete the sessions, within the time that Jupyter allows."""
        for run in list(self._running):
            run.cancel()
        self._late_output.close()
        if self._debugging is not None:
            self._debugging.close()
        if (manager := self._manager) is not None:
            close = manager.store.hand_over if restart else manager.close
            await asyncio.wait(
                [asyncio.wrap_future(threads.start(close))], timeout=SHUTDOWN_WITHIN_S
            )
        # ipykernel flushes once more, maybe after the end of the thread that does so. It would then
        # wait for 10 seconds and log an error in the server's terminal. Cells don't print here.
        for output in (sys.stdout, sys.stderr):
            output.flush = lambda: None  # type: ignore[method-assign]
        # All sessions are handled. If ipykernel's own shutdown hangs, this ends the process.
        last = threading.Timer(_END_WITHIN_S, os._exit, (0,))
        last.daemon = True
        last.start()
        return {"status": "ok", "restart": restart}

    def end_without_notice(self) -> None:
        """Close the session manager if no front end is left to request a shutdown."""
        if self._manager is not None:
            self._manager.close()

    # Requests that never create a session

    def passes_cells(self, request: JsonObject) -> bool:
        """Return whether a request is handled at once, beside a running cell.

        These are requests that need no turn, and commands about the running cell that were typed
        while nothing else waited.
        """
        if request["header"]["msg_type"] != "execute_request":
            return request["header"]["msg_type"] in _PASS_CELLS
        if self._cell is None or self._waiting:
            return False
        # Otherwise it was sent together with the cell, and keeps its position.
        shown = any(run.has_shown for run in self._running)
        if not shown and time.monotonic() - self._cell_began < _SENT_TOGETHER_S:
            return False
        from agentbay_kernel.verbs import passes_cells

        return passes_cells(str(request["content"].get("code", "")))

    async def do_complete(self, code: str, cursor_pos: int) -> JsonObject:
        """Complete command lines here, others in the sandbox's kernel, if there is one already."""
        return await self._introspection.complete(code, cursor_pos)

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> JsonObject:
        """Return what the sandbox's kernel reports of a name, if there is a sandbox already."""
        return await self._introspection.inspect(code, cursor_pos, detail_level)

    async def do_history(
        self,
        hist_access_type: str,
        output: bool,
        raw: bool,
        session: int | None = None,
        start: int | None = None,
        stop: int | None = None,
        n: int | None = None,
        pattern: str | None = None,
        unique: bool = False,
    ) -> JsonObject:
        """Return the history of the sandbox's kernel; else of the cells that this kernel ran."""
        wanted: JsonObject = {
            "output": output,
            "session": session,
            "start": start,
            "stop": stop,
            "n": n,
            "pattern": pattern,
            "unique": unique,
        }
        reply = await self._introspection.history(
            {"hist_access_type": hist_access_type, "raw": raw, **wanted}
        )
        if reply is not None:
            return reply
        from agentbay_kernel.kernel.introspection import find_inputs

        return find_inputs(self._inputs, hist_access_type, **wanted)

    @property
    def _introspection(self) -> Introspection:
        # Imported here: not needed to answer kernel_info.
        from agentbay_kernel.kernel.introspection import Introspection

        return Introspection(self.language, self._folder, self._manager, self._containment)

    async def do_is_complete(self, code: str) -> JsonObject:
        """Return whether the cell is ready to run, without a request to the sandbox."""
        from agentbay_kernel.verbs import parse_cell

        language = PYTHON if parse_cell(code) else self._language
        try:
            return dict(language.completeness(code))
        except Exception:
            self.log.exception("is_complete failed")
            return {"status": "unknown"}


def _is_earlier(asked_at: Any, sent_at: Any, arrived_at: datetime) -> bool:
    """Return whether an interrupt was sent before the cell, and so is for the cell before.

    The two come over different sockets, so the interrupt may arrive last. Clocks may differ, so a
    longer difference in time is ignored.
    """
    if not (isinstance(asked_at, datetime) and isinstance(sent_at, datetime)):
        return False
    return asked_at < sent_at and timedelta() < arrived_at - asked_at < _LATE_INTERRUPT
