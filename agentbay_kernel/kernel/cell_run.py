"""One cell of an AgentBay kernel, from its request to its reply.

In: the cell, the front end it came from, the session manager. Out: messages, published as they
come, and always a reply: an exception that left an execute request would leave the front end
waiting for ever. A cell is a task, so that it can be stopped from any thread at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel import threads
from agentbay_kernel.containment.text import lines, visible
from agentbay_kernel.errors import AgentBayError, VerbError
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.messages import Message, error, notice, reply_error, reply_ok, stream
from agentbay_kernel.execution.result import Outcome
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
from agentbay_kernel.verbs.hints import Here, find_hint

if TYPE_CHECKING:
    from agentbay_kernel.sessions import LiveSession, SessionManager

# A session that starts faster than this needs no progress message.
_PATIENCE_S = 1.0
_STARTING_NOTE = "Starting an AgentBay session ...\n"
_AGAIN_NOTE = "Connecting to the AgentBay session again ...\n"
_RUNS_ON_NOTE = (
    "Stopped waiting for this cell. The sandbox may run it to its end or to the limit of 60 "
    "seconds; the next cell of this language waits for that.\n"
)
# How long interrupted code may take to end before a way out is named.
_STUBBORN_S = 5.0
_STUBBORN_NOTE = (
    "The code was interrupted but still runs. Interrupt it again; or run `%agentbay restart "
    "--force` in another cell: it ends the code at once, and the variables are lost.\n"
)
_log = logging.getLogger(__name__)


class CellRun:
    """The run of one cell.

    Arguments:
        cell: as it was requested; its first lines may hold verbs or name another language.
        front_end: gets what is published.
        find_manager: gives the session manager; may take a while the first time.
        late_output: publishes what comes after the cell's end.
        folder: the notebook's; verbs reach no file outside of it.
        last: what became of the notebook's cell before, for `%agentbay last`.
    """

    def __init__(
        self,
        cell: Cell,
        front_end: FrontEnd,
        find_manager: Callable[[], SessionManager],
        late_output: LateOutput,
        folder: Path,
        last: Outcome | None,
    ) -> None:
        self._cell = cell
        self._front_end = front_end
        self._find_manager = find_manager
        self._late_output = late_output
        self._folder = folder
        self._last = last
        self._options = CellOptions(cell.language)
        self._session = ""
        self._opening: Future[LiveSession] | None = None
        # What becomes of it; None as long as nothing is sent.
        self.outcome: Outcome | None = None
        # Known when the cell is the session manager's: from then on it is asked to stop it.
        self._manager: SessionManager | None = None
        # A subshell has a loop of its own, so a run keeps the one it began on.
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Message] | None = None

    async def to_its_end(self) -> dict[str, Any]:
        """Run; returns the content of the execute_reply."""
        self._task = self._loop.create_task(self._run())
        try:
            return (await self._task).content
        except asyncio.CancelledError as cancelled:
            for note in cancelled.args:
                self._front_end.publish(stream("stderr", note))
            failure = error("KeyboardInterrupt", "", ["KeyboardInterrupt"])
        except Exception as raised:
            if not isinstance(raised, AgentBayError):
                _log.exception("A cell failed in the kernel itself")
            # The service and the sandbox have a say in what the message is.
            name, message = type(raised).__name__, lines(str(raised))
            failure = error(name, message, [f"{name}: {message}"])
        finally:
            # An interrupted cell's late messages are dropped, unsent code is never sent.
            self._cell.stopped.set()
            self._task = None
        self._front_end.publish(failure)
        return reply_error(failure).content

    def stop(self) -> None:
        """Interrupt the cell. Called from any thread; the sandbox is asked on another one."""
        threads.start(self._stop)

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
        stop = Stop.UNSENT
        if self._manager is not None:
            try:
                stop = self._manager.interrupt(self._cell, self._session)
            except AgentBayError:
                stop = Stop.RUNS_ON
        if stop is Stop.ENDING:
            self._soon(self._loop.call_later, _STUBBORN_S, self._tell_if_running)
        else:
            self.cancel(_RUNS_ON_NOTE if stop is Stop.RUNS_ON else None)

    def _tell_if_running(self) -> None:
        if self._task is not None:
            self._front_end.publish(stream("stderr", _STUBBORN_NOTE))

    def _is_empty(self) -> bool:
        return not self._cell.code.strip() and not self._cell.user_expressions

    async def _run(self) -> Message:
        if self._is_empty():
            return reply_ok()
        manager = await asyncio.wrap_future(threads.start(self._find_manager))
        await self._read_first_lines(manager)
        if self._is_empty():
            return reply_ok()
        # Imported here: the service client is not needed to answer kernel_info.
        from agentbay_kernel.sessions import DEFAULT_SESSION

        self._session = self._options.session or DEFAULT_SESSION
        if self._options.ephemeral:
            self._session = f"once-{uuid.uuid4().hex[:12]}"
        try:
            await self._open_session(manager)
            self._late_output.follow(manager, self._front_end, self._session)
            settings = manager.settings
            self._cell = replace(
                self._cell,
                timeout=self._options.timeout or settings.timeout,
                output_limit=settings.output_limit,
                display_limit=settings.display_limit,
                listen_s=settings.late_output_seconds,
                strict_const=settings.strict_const,
            )
            self._manager = manager
            self.outcome = Outcome(self._cell.language, self._session, self._cell.message_id)
            return await self._execute(manager)
        finally:
            if self.outcome is not None:
                self.outcome.end()
            if self._options.ephemeral:
                threads.start(lambda: self._delete_session(manager))

    def _delete_session(self, manager: SessionManager) -> None:
        # It may still be under way when the cell was interrupted.
        if self._opening is not None and self._opening.exception() is None:
            manager.delete(self._session)

    async def _read_first_lines(self, manager: SessionManager) -> None:
        """Answer the verbs, take the options; what is left is the sandbox's."""
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

    async def _answer(self, line: str, manager: SessionManager, body: str | None = None) -> None:
        context = VerbContext(
            self._folder, manager.settings, "kernel", self._cell.language, self._last
        )
        # On a thread: a verb may wait for the service. An interrupt sets `context.stopped`.
        answer = run_verb(line, manager, context, body)
        async for message in threads.Feed(answer, context.stopped):
            await self._front_end.pass_on(message)

    async def _open_session(self, manager: SessionManager) -> None:
        is_there = any(live.name == self._session for live in manager.sessions())
        self._opening = threads.start(lambda: manager.open(self._session, self._cell.language))
        opening = asyncio.wrap_future(self._opening)
        done, _ = await asyncio.wait([opening], timeout=_PATIENCE_S)
        if not done:
            self._front_end.publish(notice(_AGAIN_NOTE if is_there else _STARTING_NOTE))
            try:
                await opening
            finally:
                self._front_end.publish(Message("clear_output", {"wait": False}))
        await opening

    async def _execute(self, manager: SessionManager) -> Message:
        asking: asyncio.Task[None] | None = None
        messages = manager.execute(self._cell, self._session)
        try:
            async for message in threads.Feed(messages, self._cell.stopped):
                if message.type in ("execute_result", "execute_reply"):
                    message = self._numbered(message, manager)
                self._record(message)
                if message.type == "execute_reply":
                    return self._front_end.reply(message)
                if message.type == "input_request":
                    if asking is not None:
                        # No longer asked. Other messages don't say so: threads may print.
                        asking.cancel()
                    asking = asyncio.create_task(self._ask(message, manager))
                elif message.type == "error":
                    await self._front_end.pass_on(message)
                    self._show_hint(message, manager)
                elif not self._options.silent:
                    await self._front_end.pass_on(message)
        finally:
            if asking is not None:
                asking.cancel()
        if self._cell.stopped.is_set():
            raise asyncio.CancelledError
        raise RuntimeError("The execution ended without a reply.")

    def _record(self, message: Message) -> None:
        if self.outcome is not None:
            self.outcome.add(message)

    def _show_hint(self, failure: Message, manager: SessionManager) -> None:
        here = Here(self._folder, untrusted=manager.settings.untrusted)
        hint = find_hint(failure.content["ename"], failure.content["evalue"], here)
        if hint is not None:
            self._front_end.publish(stream("stderr", visible(f"{hint}\n")))

    def _numbered(self, message: Message, manager: SessionManager) -> Message:
        """A result or a reply; its number is the notebook's, or is left out."""
        if self._cell.language == PYTHON.name and manager.bridged(self._session) is not None:
            return message
        # The sandbox counts what it runs, of whatever notebook.
        content = {name: it for name, it in message.content.items() if name != "execution_count"}
        return replace(message, content=content)

    async def _ask(self, question: Message, manager: SessionManager) -> None:
        typed = await self._front_end.ask(question.content)
        if (bridge := manager.bridged(self._session)) is not None:
            bridge.answer_input(typed)
