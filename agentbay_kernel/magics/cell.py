"""One `%%agentbay LANGUAGE` cell of a notebook of another kernel.

In: its options and its code, the session manager, the notebook's variables. Out: the sandbox's
output, shown or kept. The way: open the session -> bring the values in -> run -> take the values
out. A magic is a synchronous call inside the shell's running event loop, so the work is done on
daemon threads while this one waits and displays - and can be interrupted at any moment.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from getpass import getpass
from pathlib import Path
from typing import Any, TypeVar

from IPython.core.display_functions import clear_output

from agentbay_kernel import threads
from agentbay_kernel.errors import AgentBayError, VerbError
from agentbay_kernel.exchange import Exchange, Reporter
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.display import display_message, remote_error
from agentbay_kernel.execution.messages import Message, notice
from agentbay_kernel.execution.result import Outcome
from agentbay_kernel.sessions import DEFAULT_SESSION, LiveSession, SessionManager
from agentbay_kernel.verbs.bundles import text
from agentbay_kernel.verbs.cell_options import CellOptions
from agentbay_kernel.verbs.hints import Here, find_hint
from agentbay_kernel.verbs.transfer import ProgressDisplay, exchange_of, watched

T = TypeVar("T")

# A session that starts faster than this needs no progress message.
_PATIENCE_S = 1.0
# Code that is not ended by so many interrupts is left to itself.
_MOST_INTERRUPTS = 3


class MagicCell:
    """The run of one cell.

    Arguments:
        manager: has the sessions.
        contain: contains what the sandbox says.
        options: of its first line.
        code: what stands below it.
        folder: the notebook's.
        variables: the notebook's; `--in` reads them, `--out` sets them.
        can_ask: does the front end answer input()?
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
        self._manager = manager
        self._contain = contain
        self._options = options
        self._folder = folder
        self._variables = variables
        self._opening: Future[LiveSession] | None = None
        self._session = options.session or DEFAULT_SESSION
        if options.ephemeral:
            self._session = f"once-{uuid.uuid4().hex[:12]}"
        settings = manager.settings
        self.cell = Cell(
            code,
            options.language,
            options.timeout or settings.timeout,
            settings.output_limit,
            settings.display_limit,
            strict_const=settings.strict_const,
            allow_stdin=can_ask,
            message_id=uuid.uuid4().hex,
        )
        self.outcome = Outcome(options.language, self._session, self.cell.message_id)

    def show(self, *, keep: bool = False) -> None:
        """Run it and show what it publishes.

        Arguments:
            keep: show nothing, also no error: all is in `outcome` afterwards.

        Raises:
            RemoteError: the code failed in the sandbox.
            AgentBayError: it could not be run.
            KeyboardInterrupt: stopped, and the sandbox's code could not be.
        """
        silent = keep or self._options.silent
        try:
            self._open()
            self._send()
            self._run(display_message if not silent else lambda message: None)
        except (AgentBayError, KeyboardInterrupt) as error:
            self.outcome.fail(error)
            raise
        finally:
            self._end()
        if self.outcome.error is not None and not keep:
            raise remote_error(**self._with_hint(self.outcome.error))
        if self.outcome.error is None:
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
        """Run it and keep what it publishes; nothing is shown and nothing raised."""
        try:
            self._start_opening().result()
            for message in self._manager.execute(self.cell, self._session):
                for contained in self._contain(message):
                    self.outcome.add(contained)
            if self.cell.stopped.is_set() and self.outcome.error is None:
                raise KeyboardInterrupt
        except (AgentBayError, KeyboardInterrupt) as error:
            self.outcome.fail(error)
        finally:
            self._end()

    def interrupt(self) -> Stop:
        """Stop the code in the sandbox; code that was not sent never will be."""
        return self._manager.interrupt(self.cell, self._session)

    def _end(self) -> None:
        self.outcome.end()
        if self._options.ephemeral:
            threads.start(self._delete_session)

    def _delete_session(self) -> None:
        # It may still be under way when the cell was interrupted.
        if self._opening is not None and self._opening.exception() is None:
            self._manager.delete(self._session)

    def _start_opening(self) -> Future[LiveSession]:
        self._opening = threads.start(lambda: self._manager.open(self._session, self.cell.language))
        return self._opening

    def _open(self) -> None:
        opening = self._start_opening()
        try:
            opening.result(_PATIENCE_S)
        except NotYet:
            display_message(notice("Starting an AgentBay session ..."))
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
        language, stopped = self.cell.language, self.cell.stopped
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
        language, stopped = self.cell.language, threading.Event()
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
        """Do it with the session's exchange; shows its progress if it takes a while."""
        live = self._start_opening().result()
        exchange = exchange_of(live, self._manager.settings.exchange_limit, self._manager.audit)
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
        messages = self._manager.execute(self.cell, self._session)
        with threads.Feed(messages, self.cell.stopped) as feed:
            while True:
                # The interrupt may come at any moment, while a message is displayed too.
                try:
                    message = next(feed, None)
                    if message is None:
                        return
                    for contained in self._contain(message):
                        self.outcome.add(contained)
                        if contained.type == "input_request":
                            self._ask(contained)
                        elif contained.type != "error":
                            show(contained)
                except KeyboardInterrupt:
                    interrupts += 1
                    # Where the remote code can be stopped, its own error is what is shown.
                    if self._interrupt_here() is not Stop.ENDING:
                        raise
                    if interrupts == _MOST_INTERRUPTS:
                        print(
                            "The code was interrupted but still runs in the sandbox. `%agentbay "
                            "restart --force` ends it; its variables are lost then.",
                            file=sys.stderr,
                        )
                        raise

    def _interrupt_here(self) -> Stop:
        while True:
            stopping = threads.start(self.interrupt)
            try:
                return stopping.result()
            except KeyboardInterrupt:
                # Pressed again before the first was through.
                continue
            except AgentBayError:
                return Stop.RUNS_ON

    def _ask(self, question: Message) -> None:
        ask = getpass if question.content.get("password") else input
        typed = ask(question.content.get("prompt", ""))
        if (bridge := self._manager.bridged(self._session)) is not None:
            bridge.answer_input(typed)

    def _with_hint(self, error: dict[str, Any]) -> dict[str, Any]:
        here = Here(self._folder, self._variables, self._manager.settings.untrusted)
        hint = find_hint(error["ename"], error["evalue"], here)
        if hint is None:
            return error
        return {**error, "traceback": [*error["traceback"], hint]}
