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
from types import FrameType
from typing import TYPE_CHECKING, Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel
from traitlets import CaselessStrEnum

from agentbay_kernel import __version__, threads
from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message, error, reply_error, reply_ok, stream
from agentbay_kernel.languages import LANGUAGES, Language, find_language

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager

JsonObject = dict[str, Any]

# A session that starts faster than this needs no progress message.
_PATIENCE_S = 1.0
# Jupyter waits 2 seconds for a kernel to end before it is killed.
_SHUTDOWN_WITHIN_S = 1.7
_STOPPED_NOTE = (
    "Stopped waiting for this cell. The sandbox may run it to its end or to the limit of 60 "
    "seconds; the next cell of this language waits for that.\n"
)


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
        self._manager: SessionManager | None = None
        self._manager_lock = threading.Lock()
        # Each running cell, with the loop it runs on: a subshell has its own.
        self._running: dict[asyncio.Task[JsonObject], asyncio.AbstractEventLoop] = {}
        self._prepared = False

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
        text = f"AgentBay {self._spoken.display_name}: cells run in a sandbox"
        with contextlib.suppress(AgentBayError):
            if self._settings().backend == "local":
                return f"{text}, which runs on THIS machine, in the local runtime"
        return f"{text} of the AgentBay service"

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
                manager.open()

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
        publish = self._publisher(silent)
        stopped = threading.Event()
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run_cell(code, publish, stopped))
        self._running[task] = loop
        try:
            return await task
        except asyncio.CancelledError:
            publish(stream("stderr", _STOPPED_NOTE))
            return self._failed(publish, error("KeyboardInterrupt", "", ["KeyboardInterrupt"]))
        except Exception as raised:
            if not isinstance(raised, AgentBayError):
                self.log.exception("A cell failed in the kernel itself")
            name, message = type(raised).__name__, str(raised)
            return self._failed(publish, error(name, message, [f"{name}: {message}"]))
        finally:
            # An interrupted cell's late messages are dropped, unsent code is never sent.
            stopped.set()
            del self._running[task]

    async def _run_cell(
        self, code: str, publish: Callable[[Message], None], stopped: threading.Event
    ) -> JsonObject:
        from agentbay_kernel.verbs import LanguageCell, VerbCell, parse_cell, run_verb

        language = self._spoken
        parsed = parse_cell(code)
        if not code.strip():
            return self._reply(reply_ok())
        manager = await asyncio.wrap_future(threads.start(self._session_manager))
        if isinstance(parsed, LanguageCell):
            language, code = find_language(parsed.language), parsed.code
        elif isinstance(parsed, VerbCell):
            for verb in parsed.verbs:
                bundle = run_verb(verb, manager)
                publish(Message("display_data", {"data": bundle, "metadata": {}, "transient": {}}))
            code = parsed.rest
        if not code.strip():
            return self._reply(reply_ok())
        await self._open_session(manager, publish)
        cell = Cell(code, language.name, manager.settings.timeout, stopped)
        async for message in threads.Feed(manager.execute(cell), stopped):
            if message.type == "execute_reply":
                return self._reply(message)
            publish(message)
        raise RuntimeError("The execution ended without a reply.")

    async def _open_session(
        self, manager: SessionManager, publish: Callable[[Message], None]
    ) -> None:
        opening = asyncio.wrap_future(threads.start(manager.open))
        done, _ = await asyncio.wait([opening], timeout=_PATIENCE_S)
        if not done:
            publish(stream("stderr", "Starting an AgentBay session ...\n"))
            try:
                await opening
            finally:
                publish(Message("clear_output", {"wait": False}))
        await opening

    def _publisher(self, silent: bool) -> Callable[[Message], None]:
        # The parent is taken now: in a subshell, "the current parent" can be another cell's.
        parent = self.get_parent("shell")

        def publish(message: Message) -> None:
            if silent or self.session is None:
                return
            content = message.content
            if message.type == "execute_result":
                content = {**content, "execution_count": self.execution_count}
            self.session.send(
                self.iopub_socket,
                message.type,
                content,
                parent=parent,
                ident=self._topic(message.type),
                metadata=message.metadata,
                buffers=list(message.buffers),
            )

        return publish

    def _reply(self, reply: Message) -> JsonObject:
        # The sandbox counts its own cells; the notebook's prompt shows this kernel's count.
        return {**reply.content, "execution_count": self.execution_count}

    def _failed(self, publish: Callable[[Message], None], failure: Message) -> JsonObject:
        publish(failure)
        return self._reply(reply_error(failure))

    # Stop, and the end

    def _cancel_cells(self) -> None:
        for task, loop in list(self._running.items()):
            # A subshell's loop may have closed meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Stop the running cells. The base class would send a signal, POSIX only."""
        self._cancel_cells()
        if self.session is not None:
            self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    def pre_handler_hook(self) -> None:
        """A stray SIGINT (a terminal's Ctrl-C) stops cells; it must not end the kernel."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_sigint)

    def post_handler_hook(self) -> None:
        """Keep the handler: between two requests the default one would end the event loop."""

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._cancel_cells()

    async def do_shutdown(self, restart: bool) -> JsonObject:
        """Send the sessions' deletes within the time that Jupyter allows."""
        self._cancel_cells()
        if self._manager is not None:
            closing = asyncio.wrap_future(threads.start(self._manager.close))
            await asyncio.wait([closing], timeout=_SHUTDOWN_WITHIN_S)
        return {"status": "ok", "restart": restart}

    # What needs no session, and never creates one

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


def main(argv: list[str] | None = None) -> None:
    """Run the kernel: `python -m agentbay_kernel -f CONNECTION_FILE`."""
    IPKernelApp.launch_instance(argv=argv, kernel_class=AgentBayKernel)
