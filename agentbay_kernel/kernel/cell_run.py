"""One cell of an AgentBay kernel, from its request to its reply.

Messages are published as they arrive. There is always a reply: if an exception left an execute
request, the front end would wait forever. A cell is a task, so that any thread can stop it at any
moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel import threads
from agentbay_kernel.containment.text import lines, visible
from agentbay_kernel.errors import AgentBayError, VerbError
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.messages import Message, error, notice, reply_error, reply_ok, stream
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.kernel.late_output import LateOutput
from agentbay_kernel.kernel.publisher import FrontEnd
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.verbs import (
    CellMagic,
    VerbCell,
    VerbContext,
    is_cell_verb,
    parse_cell,
    run_verb,
)
from agentbay_kernel.verbs.bundles import text
from agentbay_kernel.verbs.cell_options import CellOptions, read_cell_line

if TYPE_CHECKING:
    from agentbay_kernel.kernel.debugger import Debugger
    from agentbay_kernel.sessions import LiveSession, SessionManager
    from agentbay_kernel.verbs.running_cell import RunningCell

_CONTINUES_NOTE = (
    "Stopped waiting for this cell. The sandbox may run it to its end or to the limit of 60 "
    "seconds; the next cell of this language waits for that.\n"
)
# How long interrupted code may take to end before a note suggests what to do (seconds).
_STUBBORN_S = 5.0
_STUBBORN_NOTE = (
    "The code was interrupted but still runs. Interrupt it again; or run `%agentbay restart "
    "--force` in another cell: it ends the code at once, and the variables are lost.\n"
)
# How many cells are kept that came before there was a session.
_MOST_HIDDEN = 100
_CALL = re.compile(r"([^\W\d]\w*)\([^()\n]*\)")
_log = logging.getLogger(__name__)


class CellRun:
    """The run of one cell.

    Arguments:
        cell: the requested cell; its first lines may hold commands or name another language.
        front_end: publishes the messages.
        find_manager: returns the session manager; may take a while the first time.
        late_output: publishes output that arrives after the cell's end.
        folder: the notebook's directory; commands reach no file outside of it.
        last: the result of the notebook's previous cell, for `%agentbay last`.
        hidden: cells without visible output that came before there was a session. This cell joins
            them, or runs them before it.
        debugger: the notebook's debugger, if the page has ever requested it.
    """

    def __init__(
        self,
        cell: Cell,
        front_end: FrontEnd,
        find_manager: Callable[[], Awaitable[SessionManager]],
        late_output: LateOutput,
        folder: Path,
        last: CellResult | None,
        hidden: list[Cell],
        debugger: Debugger | None = None,
    ) -> None:
        self._cell = cell
        self._front_end = front_end
        self._find_manager = find_manager
        self._late_output = late_output
        self._folder = folder
        self._last = last
        self._hidden = hidden
        self._debugger = debugger
        self._options = CellOptions(cell.language)
        # The part of the cell that is sent; None until something is sent.
        self._running: RunningCell | None = None
        # A subshell has its own loop, so a run keeps the one that it started on.
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Message] | None = None
        self._stop_asked = False
        self._stopping: Future[None] | None = None

    @property
    def has_shown(self) -> bool:
        """Whether the cell has published anything."""
        return self._front_end.has_shown

    @property
    def result(self) -> CellResult | None:
        """The cell's result; None if nothing was sent."""
        return self._running.result if self._running is not None else None

    async def run(self) -> dict[str, Any]:
        """Run the cell; return the content of the execute_reply."""
        self._task = self._loop.create_task(self._run())
        if self._stop_asked:
            self._task.cancel()
        try:
            return (await self._task).content
        except asyncio.CancelledError as cancelled:
            self._note_failure(KeyboardInterrupt())
            for note in cancelled.args:
                self._front_end.publish(stream("stderr", note))
            failure = error("KeyboardInterrupt", "", ["KeyboardInterrupt"])
        except Exception as raised:
            if not isinstance(raised, AgentBayError):
                _log.exception("A cell failed in the kernel itself")
            self._note_failure(raised)
            # The service and the sandbox influence the message.
            name, message = type(raised).__name__, lines(str(raised))
            failure = error(name, message, [f"{name}: {message}"])
        finally:
            # Late messages of an interrupted cell are dropped, and unsent code is never sent.
            self._cell.stopped.set()
            self._task = None
            self._publish_debugger_notes()
        self._front_end.publish(failure)
        return reply_error(failure).content

    def _publish_debugger_notes(self) -> None:
        if self._debugger is not None and not self._cell.silent:
            for note in self._debugger.take_notes():
                self._front_end.publish(stream("stderr", visible(note)))

    def _note_failure(self, raised: BaseException) -> None:
        if self._running is not None:
            self._running.result.fail(raised)

    def stop(self) -> None:
        """Interrupt the cell. Called from any thread; the sandbox is asked on another one."""
        self._stop_asked = True
        # Set before it can have an effect: the run waits for its note.
        stopping = self._stopping = Future()

        def stop() -> None:
            try:
                self._stop()
            finally:
                stopping.set_result(None)

        threads.start(stop)

    def cancel(self, note: str | None = None) -> None:
        """End the run as it is. Called from any thread."""
        task = self._task
        if task is not None:
            self._soon(task.cancel, *([note] if note else []))

    def _soon(self, call: Callable[..., object], *args: Any) -> None:
        # A subshell's loop may have closed meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def _stop(self) -> None:
        stop = self._running.interrupt() if self._running is not None else InterruptResult.UNSENT
        if stop is InterruptResult.ENDING:
            self._soon(self._loop.call_later, _STUBBORN_S, self._note_if_running)
        else:
            self.cancel(_CONTINUES_NOTE if stop is InterruptResult.CONTINUES else None)

    def _note_if_running(self) -> None:
        if self._task is not None:
            self._front_end.publish(stream("stderr", _STUBBORN_NOTE))

    def _is_empty(self) -> bool:
        return not self._cell.code.strip() and not self._cell.user_expressions

    def _is_hidden(self) -> bool:
        if self._cell.user_expressions:
            return False
        return self._cell.silent or (not self._cell.store_history and self._calls_hidden())

    def _calls_hidden(self) -> bool:
        """Return whether the cell only calls a function that a hidden cell defined.

        This is how an inspector of variables asks repeatedly, although the user has run no cell.
        """
        called = _CALL.fullmatch(self._cell.code.strip())
        if called is None:
            return False
        defines = re.compile(rf"(?m)^def {re.escape(called[1])}\(")
        return any(defines.search(cell.code) for cell in self._hidden)

    async def _run(self) -> Message:
        if self._is_empty():
            return reply_ok()
        manager = await self._find_manager()
        await self._read_first_lines(manager)
        if self._is_empty():
            return reply_ok()
        # Imported here: the service client is not needed to answer kernel_info.
        from agentbay_kernel.sessions import DEFAULT_SESSION
        from agentbay_kernel.verbs.running_cell import RunningCell

        cell = replace(self._cell, late_output_s=manager.settings.late_output_seconds)
        running = RunningCell(manager, cell, self._options, self._folder)
        is_default = running.session == DEFAULT_SESSION
        if is_default and self._is_hidden() and manager.store.find(running.session) is None:
            # No session is created for a hidden cell. This run ends here, but the cell is kept.
            kept = replace(self._cell, stopped=threading.Event())
            self._hidden[:] = [*self._hidden, kept][-_MOST_HIDDEN:]
            return reply_ok()
        try:
            live = await self._open_session(running)
            self._late_output.follow(live, self._front_end)
            if is_default:
                await self._run_hidden(manager)
            self._running = running
            return await self._execute(running, live)
        finally:
            running.end()

    async def _read_first_lines(self, manager: SessionManager) -> None:
        """Run the commands and read the options; the rest of the cell is for the sandbox."""
        code = self._cell.code
        parsed = parse_cell(self._cell.code)
        if isinstance(parsed, VerbCell):
            for line in parsed.verbs:
                await self._answer(line, manager)
            self._cell = replace(self._cell, code=parsed.rest)
        elif isinstance(parsed, CellMagic) and is_cell_verb(parsed.line):
            await self._answer(parsed.line, manager, parsed.body)
            self._cell = replace(self._cell, code="")
        elif isinstance(parsed, CellMagic):
            options = read_cell_line(parsed.line, untrusted=manager.settings.untrusted)
            if isinstance(options, str):
                content = {"data": text(options), "metadata": {}, "transient": {}}
                self._front_end.publish(Message("display_data", content))
                self._cell = replace(self._cell, code="")
                return
            if flags := options.magics_only_flags():
                raise VerbError(
                    f"{flags} can't be used here: in an AgentBay kernel all variables are in the "
                    "sandbox already. Use it in a notebook of another kernel, after `%load_ext "
                    "agentbay_kernel`. Nothing was sent."
                )
            self._options = options
            self._cell = replace(self._cell, code=parsed.body, language=options.language)
        is_python = self._cell.language == PYTHON.name and self._cell.code
        if self._debugger is not None and self._debugger.is_on and is_python:
            # Removed lines become blank, so that breakpoints stay on their lines.
            self._cell = replace(self._cell, code=self._debugger.as_sent(code))

    async def _answer(self, line: str, manager: SessionManager, body: str | None = None) -> None:
        context = VerbContext(
            self._folder, manager.settings, "kernel", self._cell.language, self._last
        )
        # On a thread: a command may wait for the service. An interrupt sets `context.stopped`.
        answer = run_verb(line, manager, context, body)
        async for message in threads.Feed(answer, context.stopped):
            await self._front_end.pass_on(message)

    async def _open_session(self, running: RunningCell) -> LiveSession:
        from agentbay_kernel.verbs.running_cell import NOTICE_AFTER_S

        opened = running.open()
        if opened.done():
            return opened.result()
        opening = asyncio.wrap_future(opened)
        done, _ = await asyncio.wait([opening], timeout=NOTICE_AFTER_S)
        if not done:
            self._front_end.publish(notice(running.opening_notice))
            try:
                await opening
            finally:
                self._front_end.publish(Message("clear_output", {"wait": False}))
        return await opening

    async def _run_hidden(self, manager: SessionManager) -> None:
        """Run the cells that came before there was a session; their results are dropped."""
        from agentbay_kernel.verbs.running_cell import RunningCell

        while self._hidden:
            self._running = RunningCell(
                manager, self._hidden.pop(0), CellOptions(self._cell.language), self._folder
            )
            feed = threads.Feed(self._running.messages(), self._running.cell.stopped)
            with contextlib.suppress(AgentBayError):
                async for _ in feed:
                    pass
        if self._stop_asked:
            raise asyncio.CancelledError

    async def _execute(self, running: RunningCell, live: LiveSession) -> Message:
        asking: asyncio.Task[None] | None = None
        try:
            async for message in threads.Feed(running.messages(), running.cell.stopped):
                if message.type in ("execute_result", "execute_reply"):
                    message = _numbered(message, running.cell, live)
                running.result.add(message)
                if message.type == "execute_reply":
                    return await self._end(message, running, live)
                if message.type == "input_request":
                    if asking is not None:
                        # A new request means that the earlier one has ended. Other messages
                        # don't: they may be prints of threads.
                        asking.cancel()
                    asking = asyncio.create_task(self._ask(message, running))
                elif not self._options.silent:
                    await self._front_end.pass_on(message)
                    live.note_shown(message.at)
        finally:
            if asking is not None:
                asking.cancel()
        if running.cell.stopped.is_set():
            if self._stopping is not None:
                # It cancels this task, with a note on whether the code still runs.
                await asyncio.wrap_future(self._stopping)
            raise asyncio.CancelledError
        raise RuntimeError("The execution ended without a reply.")

    async def _end(self, message: Message, running: RunningCell, live: LiveSession) -> Message:
        """Return the cell's reply; publish a hint on its error, which `--silent` does not hide."""
        reply = self._front_end.reply(message)
        if (failure := running.result.error) is not None:
            if self._options.silent:
                await self._front_end.pass_on(Message("error", failure))
            finding = threads.start(lambda: running.hint(failure))
            if (hint := await asyncio.wrap_future(finding)) is not None:
                self._front_end.publish(stream("stderr", visible(f"{hint}\n")))
        await self._front_end.settle()
        live.note_shown(message.at)
        return reply

    async def _ask(self, question: Message, running: RunningCell) -> None:
        running.answer_input(await self._front_end.ask(question.content))


def _numbered(message: Message, cell: Cell, live: LiveSession) -> Message:
    """Return a result or a reply; its number is the notebook's, or is left out."""
    if cell.language == PYTHON.name and live.python_bridge is not None:
        return message
    # The sandbox counts all that it runs, from any notebook.
    content = {name: it for name, it in message.content.items() if name != "execution_count"}
    return replace(message, content=content)
