"""One `%%agentbay LANGUAGE` cell of a notebook of another kernel.

The sandbox's output is shown or kept. The steps: open the session -> send the values -> run ->
fetch the values. A magic is a synchronous call inside the shell's running event loop. So daemon
threads do the work, while this thread waits and displays, and can be interrupted at any moment.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, MutableMapping
from concurrent.futures import TimeoutError as NotYet
from getpass import getpass
from pathlib import Path
from typing import Any, TypeVar

from IPython.core.display_functions import clear_output
from IPython.core.getipython import get_ipython
from IPython.core.page import page

from agentbay_kernel import threads
from agentbay_kernel.errors import AgentBayError, VerbError
from agentbay_kernel.exchange import Exchange, Reporter
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.display import display_message, remote_error
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs.bundles import text
from agentbay_kernel.verbs.cell_options import CellOptions
from agentbay_kernel.verbs.running_cell import NOTICE_AFTER_S, RunningCell
from agentbay_kernel.verbs.transfer import ProgressDisplay, exchange_of, watched

T = TypeVar("T")

# The messages that IPython publishes after the error that ended a cell.
_FLUSHED = ("display_data", "update_display_data")
# Code that continues after so many interrupts is left running.
_MOST_INTERRUPTS = 3


class MagicCell:
    """The run of one cell.

    Arguments:
        manager: the session manager.
        contain: contains the sandbox's messages.
        options: the options of its first line.
        code: the code below that line.
        folder: the notebook's directory.
        variables: the notebook's variables; `--in` reads them, `--out` sets them.
        can_ask: whether the front end supports input().
    """

    def __init__(
        self,
        manager: SessionManager,
        contain: Callable[[Message], list[Message]],
        options: CellOptions,
        code: str,
        folder: Path,
        variables: MutableMapping[str, Any],
        *,
        can_ask: bool = False,
    ) -> None:
        self._contain = contain
        self._options = options
        self._variables = variables
        shell = get_ipython()
        # Tracebacks name the cell of the notebook. IPython 9 counts a cell when it starts, earlier
        # versions when it ends.
        count = shell.displayhook.prompt_count if shell else None
        cell = Cell(code, options.language, allow_stdin=can_ask, count=count)
        self._running = RunningCell(manager, cell, options, folder, variables)
        #: The cell's result.
        self.result = self._running.result

    def show(self, *, keep: bool = False) -> None:
        """Run it and show its output.

        Arguments:
            keep: show nothing, not even an error: all is in `result` afterwards.

        Raises:
            RemoteError: the code failed in the sandbox.
            AgentBayError: it could not be run.
            KeyboardInterrupt: it was stopped, but the sandbox's code could not be.
        """
        silent = keep or self._options.silent
        try:
            self._open()
            self._send()
            self._run(display_message if not silent else lambda message: None)
            if not self.result.replied:
                raise KeyboardInterrupt
        except (AgentBayError, KeyboardInterrupt) as error:
            self.result.fail(error)
            raise
        finally:
            self._running.end()
        if self.result.error is not None and not keep:
            raise remote_error(**self._with_hint(self.result.error))
        if self.result.error is None:
            self._bring()

    def prepare(self) -> None:
        """Open the session and send the values as they are now.

        Raises:
            AgentBayError: it can't be done. Nothing was run.
        """
        if self._options.sends:
            self._open()
            self._send()

    def collect(self) -> None:
        """Run it and keep its output; show nothing and raise nothing."""
        try:
            self._running.open().result()
            for message in self._running.messages():
                for contained in self._contain(message):
                    self.result.add(contained)
            if not self.result.replied:
                raise KeyboardInterrupt
        except (AgentBayError, KeyboardInterrupt) as error:
            self.result.fail(error)
        finally:
            self._running.end()

    def interrupt(self) -> InterruptResult:
        """Stop the code in the sandbox; code that has not been sent is never sent."""
        return self._running.interrupt()

    def _open(self) -> None:
        opening = self._running.open()
        try:
            opening.result(NOTICE_AFTER_S)
        except NotYet:
            display_message(notice(self._running.opening_notice))
            try:
                opening.result()
            finally:
                clear_output()

    def _send(self) -> None:
        if not (names := self._options.sends):
            return
        missing = [name for name in names if name not in self._variables]
        if missing:
            raise VerbError(
                f"This notebook has no variable {', '.join(missing)}, which --in names. Nothing "
                "was sent or run."
            )
        values = {name: self._variables[name] for name in names}
        language, stopped = self._options.language, self._running.cell.stopped
        for note in self._exchanged(
            lambda exchange, report: exchange.send(
                values, language, progress=report, stopped=stopped
            ),
            stopped,
            f"Sent: {', '.join(names)}",
        ):
            display_message(notice(str(note)))

    def _bring(self) -> None:
        if not (names := self._options.brings):
            return
        language, stopped = self._options.language, threading.Event()
        fetched = self._exchanged(
            lambda exchange, report: exchange.fetch(
                names, language, progress=report, stopped=stopped
            ),
            stopped,
            f"Fetched: {', '.join(names)}",
        )
        self._variables.update(fetched.values)
        for note in fetched.notes:
            display_message(notice(str(note)))

    def _exchanged(
        self, work: Callable[[Exchange, Reporter], T], stopped: threading.Event, done_line: str
    ) -> T:
        """Do the work with the session's exchange; show its progress if it takes a while."""
        live, manager = self._running.open().result(), self._running.manager
        exchange = exchange_of(live, manager.settings.exchange_limit, manager.store.audit)
        display = ProgressDisplay()
        doing = watched(lambda report: work(exchange, report), display, stopped)
        with contextlib.closing(doing):
            while True:
                try:
                    display_message(next(doing))
                except StopIteration as end:
                    if display.is_shown:
                        display_message(display.say(text(done_line)))
                    done: T = end.value
                    return done

    def _run(self, show: Callable[[Message], None]) -> None:
        interrupts = 0
        # An error output that may be the cell's own error: that one is raised, not shown.
        held: Message | None = None
        with threads.Feed(self._running.messages(), self._running.cell.stopped) as feed:
            while True:
                # The interrupt may come at any moment, even while a message is displayed.
                try:
                    message = next(feed, None)
                    if message is None:
                        return
                    for contained in self._contain(message):
                        self.result.add(contained)
                        if contained.type == "input_request":
                            self._ask(contained)
                            continue
                        # A figure is flushed after the error that ends its cell.
                        if held is not None and contained.type not in _FLUSHED:
                            if not self._raises(held):
                                show(held)
                            held = None
                        if contained.type == "error":
                            held = contained
                        elif contained.type != "execute_reply":
                            show(contained)
                        else:
                            _show_pages(contained)
                except KeyboardInterrupt:
                    interrupts += 1
                    # If the remote code can be stopped, its own error is shown.
                    if self._interrupt_here() is not InterruptResult.ENDING:
                        raise
                    if interrupts == _MOST_INTERRUPTS:
                        print(
                            "The code was interrupted but still runs in the sandbox. `%agentbay "
                            "restart --force` ends it; its variables are lost then.",
                            file=sys.stderr,
                        )
                        raise

    def _raises(self, shown: Message) -> bool:
        """Return whether an error output shows the error that ended the cell."""
        ended = self.result.error
        return ended is not None and all(
            shown.content[part] == ended[part] for part in ("ename", "evalue")
        )

    def _interrupt_here(self) -> InterruptResult:
        while True:
            stopping = threads.start(self.interrupt)
            try:
                return stopping.result()
            except KeyboardInterrupt:
                # Pressed again before the first interrupt was handled.
                continue

    def _ask(self, question: Message) -> None:
        ask = getpass if question.content.get("password") else input
        self._running.answer_input(ask(question.content.get("prompt", "")))

    def _with_hint(self, error: dict[str, Any]) -> dict[str, Any]:
        hint = self._running.hint(error)
        return error if hint is None else {**error, "traceback": [*error["traceback"], hint]}


def _show_pages(reply: Message) -> None:
    """Show the pages of a reply in the pager, for example help."""
    for payload in reply.content.get("payload", ()):
        if payload.get("source") == "page":
            page(payload["data"], payload.get("start", 0))
