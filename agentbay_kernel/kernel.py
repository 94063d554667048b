"""AgentBayKernel: a Jupyter kernel whose cells run in a sandbox.

In: the requests of a front end (Jupyter messaging protocol). Out: what the sandbox answered, as
this kernel's own messages. A cell's way: `do_execute` -> `SessionManager.execute` on a daemon
thread -> messages, published here as they come -> the reply.

The base class answers a request only when its handler returns, and an exception that leaves a
handler leaves the front end waiting for ever. So every cell is a task that an interrupt
cancels, and whatever goes wrong in it becomes an error output and an error reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel
from traitlets import CaselessStrEnum

from agentbay_kernel import __version__, threads
from agentbay_kernel.banner import make_banner
from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.messages import Message, error, reply_error, reply_ok, stream
from agentbay_kernel.frontend import Comms, FrontEnd
from agentbay_kernel.languages import LANGUAGES, Language, find_language
from agentbay_kernel.pacing import Pace

if TYPE_CHECKING:
    from agentbay_kernel.execution.bridged import BridgedExecution
    from agentbay_kernel.sessions import SessionManager

JsonObject = dict[str, Any]

# A session that starts faster than this needs no progress message.
_PATIENCE_S = 1.0
# Jupyter waits 2 seconds for a kernel to end before it is killed.
_SHUTDOWN_WITHIN_S = 1.7
# A front end gives up on completions sooner than a sandbox that is far away can answer.
_ASK_WITHIN_S = 5.0
_RUNS_ON_NOTE = (
    "Stopped waiting for this cell. The sandbox may run it to its end or to the limit of 60 "
    "seconds; the next cell of this language waits for that.\n"
)
# How long interrupted code may take to end before a way out is named.
_STUBBORN_S = 5.0
_STUBBORN_NOTE = (
    "The code was interrupted but runs on. Interrupt it again, or restart the kernel to end it; "
    "its variables are lost then.\n"
)


@dataclass
class _Running:
    """A cell in progress: the loop it runs on (a subshell has its own), its front end, and the
    cell itself once the session manager has it."""

    loop: asyncio.AbstractEventLoop
    front_end: FrontEnd
    cell: Cell | None = None

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call something on the cell's loop, if that is still there."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(call, *args)


class AgentBayKernel(Kernel):
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
        # The base class registers a handler that raises, which would leave the request without
        # a reply.
        self.control_handlers.pop("debug_request", None)
        for kind in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[kind] = self.comm_request
        self._comms = Comms()
        self._manager: SessionManager | None = None
        self._manager_lock = threading.Lock()
        self._running: dict[asyncio.Task[JsonObject], _Running] = {}
        self._prepared = False
        self._pace = Pace()

    # What the kernel is

    @property
    def _spoken(self) -> Language:
        return find_language(self.language)

    @property
    def language_info(self) -> JsonObject:  # type: ignore[override]
        """Name, MIME type and highlighting of the notebook's language."""
        return self._spoken.language_info

    @property
    def banner(self) -> str:  # type: ignore[override]
        """What a console shows at its start."""
        try:
            settings = self._settings()
        except AgentBayError as failure:
            return str(failure)
        return make_banner(self._spoken, settings)

    @property
    def kernel_info(self) -> JsonObject:
        """The base class would import a debugger here, and promise it without having one."""
        from ipykernel._version import kernel_protocol_version

        features = ["kernel subshells"] if self._supports_kernel_subshells else []
        return {
            "protocol_version": kernel_protocol_version,
            "implementation": self.implementation,
            "implementation_version": self.implementation_version,
            "language_info": self.language_info,
            "banner": self.banner,
            "help_links": self.help_links,
            "supported_features": features,
        }

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Answer, and only then begin with what takes time."""
        await super().kernel_info_request(stream, ident, parent)
        if not self._prepared:
            self._prepared = True
            threads.start(self._prepare)

    def _prepare(self) -> None:
        # Importing what a cell needs now makes the first cell faster; a session is created now
        # only if the settings say so. What fails here is told by the first cell, which tries
        # again.
        with contextlib.suppress(AgentBayError):
            manager = self._session_manager()
            if manager.settings.starts_on_open:
                manager.open(language=self.language)

    def _settings(self) -> AgentBaySettings:
        return load_settings(self.config)

    def _session_manager(self) -> SessionManager:
        # Imported here: the service client is not needed to answer kernel_info.
        from agentbay_kernel.sessions import SessionManager

        with self._manager_lock:
            if self._manager is None:
                self._manager = SessionManager(self._settings())
            return self._manager

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
        """Run a cell; always returns a reply, whatever happens to the cell."""
        front_end = FrontEnd(self, self._pace, self._comms, silent)
        cell = Cell(
            code,
            self.language,
            silent=silent,
            store_history=store_history,
            user_expressions=user_expressions or {},
            allow_stdin=allow_stdin,
            message_id=front_end.request_id,
        )
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run_cell(cell, front_end))
        self._running[task] = _Running(loop, front_end)
        try:
            return await task
        except asyncio.CancelledError as cancelled:
            for note in cancelled.args:
                front_end.publish(stream("stderr", note))
            return self._failed(front_end, error("KeyboardInterrupt", "", ["KeyboardInterrupt"]))
        except Exception as raised:
            if not isinstance(raised, AgentBayError):
                self.log.exception("A cell failed in the kernel itself")
            name, message = type(raised).__name__, str(raised)
            return self._failed(front_end, error(name, message, [f"{name}: {message}"]))
        finally:
            # An interrupted cell's late messages are dropped, unsent code is never sent.
            cell.stopped.set()
            del self._running[task]

    async def _run_cell(self, cell: Cell, front_end: FrontEnd) -> JsonObject:
        from agentbay_kernel.verbs import LanguageCell, VerbCell, parse_cell, run_verb

        if not cell.code.strip():
            return self._reply(reply_ok())
        manager = await asyncio.wrap_future(threads.start(self._session_manager))
        parsed = parse_cell(cell.code)
        if isinstance(parsed, LanguageCell):
            language = find_language(parsed.language).name
            cell = replace(cell, code=parsed.code, language=language)
        elif isinstance(parsed, VerbCell):
            for verb in parsed.verbs:
                bundle = run_verb(verb, manager)
                content = {"data": bundle, "metadata": {}, "transient": {}}
                front_end.publish(Message("display_data", content))
            cell = replace(cell, code=parsed.rest)
        if not cell.code.strip():
            return self._reply(reply_ok())
        await self._open_session(manager, cell.language, front_end)
        settings = manager.settings
        cell = replace(cell, timeout=settings.timeout, output_limit=settings.output_limit)
        task = asyncio.current_task()
        assert task is not None
        self._running[task].cell = cell
        asking: asyncio.Task[None] | None = None
        try:
            async for message in threads.Feed(manager.execute(cell), cell.stopped):
                if asking is not None:
                    asking.cancel()
                if message.type == "execute_reply":
                    return self._reply(message)
                if message.type == "input_request":
                    asking = asyncio.create_task(_ask(front_end, message, manager))
                else:
                    await front_end.pass_on(message)
        finally:
            if asking is not None:
                asking.cancel()
        if cell.stopped.is_set():
            raise asyncio.CancelledError
        raise RuntimeError("The execution ended without a reply.")

    async def _open_session(
        self, manager: SessionManager, language: str, front_end: FrontEnd
    ) -> None:
        opening = asyncio.wrap_future(threads.start(lambda: manager.open(language=language)))
        done, _ = await asyncio.wait([opening], timeout=_PATIENCE_S)
        if not done:
            front_end.publish(stream("stderr", "Starting an AgentBay session ...\n"))
            try:
                await opening
            finally:
                front_end.publish(Message("clear_output", {"wait": False}))
        await opening

    def _reply(self, reply: Message) -> JsonObject:
        # The sandbox counts its own cells; the notebook's prompt shows this kernel's count.
        return {**reply.content, "execution_count": self.execution_count}

    def _failed(self, front_end: FrontEnd, failure: Message) -> JsonObject:
        front_end.publish(failure)
        return self._reply(reply_error(failure))

    # Widgets

    async def comm_request(self, reply_to: Any, ident: Any, parent: Any) -> None:
        """A widget's message goes to the sandbox's kernel, what it causes is published."""
        kind, content = parent["header"]["msg_type"], parent["content"]
        self._comms.note(kind, content)
        bridge = self._manager.bridged() if self._manager is not None else None
        if bridge is None:
            return
        front_end = FrontEnd(self, self._pace, self._comms)
        buffers = tuple(bytes(part) for part in parent["buffers"])
        caused = bridge.comm(kind, content, parent["metadata"], buffers, front_end.request_id)
        try:
            async for message in threads.Feed(caused, threading.Event()):
                await front_end.pass_on(message)
        except AgentBayError as failure:
            front_end.publish(stream("stderr", f"{failure}\n"))

    async def comm_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """The comms that are open, of one target or of all."""
        if self.session is not None:
            comms = self._comms.of_target(parent["content"].get("target_name"))
            content = {"status": "ok", "comms": comms}
            self.session.send(stream, "comm_info_reply", content, parent, ident)

    # Stop, and the end

    def _stop_cells(self) -> None:
        for task, running in list(self._running.items()):
            threads.start(partial(self._stop_cell, task, running))

    def _stop_cell(self, task: asyncio.Task[JsonObject], running: _Running) -> None:
        # On a thread of its own: the sandbox may have to be asked.
        stop = Stop.UNSENT
        if running.cell is not None and self._manager is not None:
            try:
                stop = self._manager.interrupt(running.cell)
            except AgentBayError:
                stop = Stop.RUNS_ON
        if stop is Stop.UNSENT:
            running.soon(task.cancel)
        elif stop is Stop.RUNS_ON:
            running.soon(task.cancel, _RUNS_ON_NOTE)
        else:
            running.soon(running.loop.call_later, _STUBBORN_S, self._tell_if_running, task)

    def _tell_if_running(self, task: asyncio.Task[JsonObject]) -> None:
        if (running := self._running.get(task)) is not None:
            running.front_end.publish(stream("stderr", _STUBBORN_NOTE))

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Stop the running cells. The base class would send a signal, POSIX only."""
        self._stop_cells()
        if self.session is not None:
            self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    def pre_handler_hook(self) -> None:
        """A stray SIGINT (a terminal's Ctrl-C) stops cells; it must not end the kernel."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_sigint)

    def post_handler_hook(self) -> None:
        """Keep the handler: between two requests the default one would end the event loop."""

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._stop_cells()

    async def do_shutdown(self, restart: bool) -> JsonObject:
        """Send the sessions' deletes within the time that Jupyter allows."""
        for task, running in list(self._running.items()):
            running.soon(task.cancel)
        if self._manager is not None:
            closing = asyncio.wrap_future(threads.start(self._manager.close))
            await asyncio.wait([closing], timeout=_SHUTDOWN_WITHIN_S)
        return {"status": "ok", "restart": restart}

    # What never creates a session

    async def do_complete(self, code: str, cursor_pos: int) -> JsonObject:
        """Completions by the sandbox's kernel, if there is one already."""
        reply = await self._ask_bridge(lambda bridge: bridge.complete(code, cursor_pos))
        return reply or await super().do_complete(code, cursor_pos)

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> JsonObject:
        """What the sandbox's kernel knows of a name, if there is one already."""
        reply = await self._ask_bridge(
            lambda bridge: bridge.inspect(code, cursor_pos, detail_level)
        )
        return reply or await super().do_inspect(code, cursor_pos, detail_level, omit_sections)

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
        """The history of the sandbox's kernel, if there is one already."""
        wanted = {
            "hist_access_type": hist_access_type,
            "output": output,
            "raw": raw,
            "session": session,
            "start": start,
            "stop": stop,
            "n": n,
            "pattern": pattern,
            "unique": unique,
        }
        reply = await self._ask_bridge(
            lambda bridge: bridge.history({k: v for k, v in wanted.items() if v is not None})
        )
        if reply is None:
            return {"status": "ok", "history": []}
        if hist_access_type == "range" and session and session > 0:
            # IPython answers 0 for the current session, also when it was named by its number.
            reply["history"] = [[session, *entry[1:]] for entry in reply.get("history", [])]
        return reply

    async def _ask_bridge(self, ask: Callable[[BridgedExecution], JsonObject]) -> JsonObject | None:
        bridge = self._manager.bridged() if self._manager is not None else None
        if bridge is None or self.language != "python":
            return None
        asked = asyncio.wrap_future(threads.start(lambda: ask(bridge)))
        done, _ = await asyncio.wait([asked], timeout=_ASK_WITHIN_S)
        return asked.result() if done and asked.exception() is None else None

    async def do_is_complete(self, code: str) -> JsonObject:
        """Is the cell ready to run? Answered here, without asking the sandbox."""
        from agentbay_kernel.languages import PYTHON
        from agentbay_kernel.verbs import parse_cell

        language = PYTHON if parse_cell(code) else self._spoken
        try:
            return dict(language.completeness(code))
        except Exception:
            self.log.exception("is_complete failed")
            return {"status": "unknown"}


async def _ask(front_end: FrontEnd, request: Message, manager: SessionManager) -> None:
    typed = await front_end.ask(request.content)
    if (bridge := manager.bridged()) is not None:
        bridge.answer_input(typed)


class AgentBayKernelApp(IPKernelApp):
    """The process around the kernel."""

    kernel_class = AgentBayKernel

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        """By default the socket drops messages in silence, the idle status too, when its reader
        is slow for a moment."""
        context.sndhwm = 0
        super().init_iopub(context)


def main(argv: list[str] | None = None) -> None:
    """Run the kernel: `python -m agentbay_kernel -f CONNECTION_FILE`."""
    AgentBayKernelApp.launch_instance(argv=argv)
