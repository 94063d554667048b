"""`%agentbay` and `%%agentbay LANGUAGE`: sandboxed cells in an existing notebook.

In: a cell of an IPython shell. Out: the sandbox's output, displayed in that cell; a remote error
is raised as a real error that shows only the remote frames.

A magic is a synchronous call inside the shell's running event loop, so the work is done on a
daemon thread while this one waits and displays - and can be interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as NotYet
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from IPython.core.display_functions import clear_output, publish_display_data
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from agentbay_kernel import threads
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import AgentBayError, RemoteError, VerbError
from agentbay_kernel.execution.cell import Cell, Stop
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VerbContext, is_cell_verb, run_verb
from agentbay_kernel.verbs.bundles import text
from agentbay_kernel.verbs.cell_options import CellOptions, cell_parser, read_cell_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# A session that starts faster than this needs no progress message.
_PATIENCE_S = 1.0


Function = TypeVar("Function", bound=Callable[..., None])

_CELL_HELP = f"""Run the cell in the notebook's AgentBay session.

{cell_parser().help_text()}

Variables stay in the session for the next cell. Nothing of the cell runs in this notebook's own
Python. Output appears while the cell runs, input() asks, interrupting stops the code in the
sandbox. Widgets need the AgentBay kernel: here they don't move.
"""


def _documented(function: Function) -> Function:
    """`%%agentbay?` shows the help that the arguments' declaration makes."""
    function.__doc__ = _CELL_HELP
    return function


@magics_class
class AgentBayMagics(Magics):
    """The magics of one shell, over one session manager."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.manager = SessionManager(load_settings(shell.config))
        # Not the working directory of now: a cell may have changed it.
        self._folder = Path(shell.starting_dir)

    @no_var_expand
    @line_magic("agentbay")  # type: ignore[arg-type]
    def verb(self, line: str) -> None:
        """`%agentbay status`: the sessions in use. `%agentbay help` lists all verbs."""
        with _told_in_short():
            self._answer(line, None)

    @no_var_expand
    @cell_magic("agentbay")  # type: ignore[arg-type]
    @_documented
    def cell(self, line: str, body: str) -> None:
        with _told_in_short():
            if is_cell_verb(line):
                self._answer(line, body)
                return
            options = read_cell_line(line, untrusted=self.manager.settings.untrusted)
            if isinstance(options, str):
                publish_display_data(text(options))
            else:
                self._run(options, body)

    def _answer(self, line: str, body: str | None) -> None:
        context = VerbContext(self._folder, self.manager.settings, "magics")
        answer = run_verb(line, self.manager, context, body)
        with threads.Feed(answer, context.stopped) as feed:
            for message in feed:
                _display(message)

    def _run(self, options: CellOptions, body: str) -> None:
        if not body.strip():
            raise VerbError("The cell is empty below its %%agentbay line: nothing to run.")
        self._open_session(options.language)
        settings = self.manager.settings
        cell = Cell(
            body,
            options.language,
            settings.timeout,
            settings.output_limit,
            settings.display_limit,
            strict_const=settings.strict_const,
            allow_stdin=_can_ask(self.shell),
        )
        failure: Message | None = None
        with threads.Feed(self.manager.execute(cell), cell.stopped) as feed:
            while True:
                # The interrupt may come at any moment, while a message is displayed too.
                try:
                    message = next(feed, None)
                    if message is None:
                        break
                    if message.type == "error":
                        failure = message
                    elif message.type == "input_request":
                        self._ask(message)
                    else:
                        _display(message)
                except KeyboardInterrupt:
                    # Where the remote code can be stopped, its own error is what is shown.
                    if self._interrupt(cell) is not Stop.ENDING:
                        raise
        if failure is not None:
            raise remote_error(failure)

    def _interrupt(self, cell: Cell) -> Stop:
        while True:
            stopping = threads.start(lambda: self.manager.interrupt(cell))
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
        if (bridge := self.manager.bridged()) is not None:
            bridge.answer_input(typed)

    def _open_session(self, language: str) -> None:
        opening = threads.start(lambda: self.manager.open(language=language))
        try:
            opening.result(_PATIENCE_S)
        except NotYet:
            print("Starting an AgentBay session ...", file=sys.stderr, flush=True)
            try:
                opening.result()
            finally:
                clear_output()


@contextlib.contextmanager
def _told_in_short() -> Iterator[None]:
    """Our own errors say what to do; where in this project they were raised helps nobody."""
    try:
        yield
    except RemoteError:
        raise
    except AgentBayError as error:
        told = [f"{type(error).__name__}: {error}"]
        error._render_traceback_ = lambda: told  # type: ignore[attr-defined]
        raise


def _display(message: Message) -> None:
    content = message.content
    if message.type == "stream":
        file = sys.stderr if content["name"] == "stderr" else sys.stdout
        file.write(content["text"])
        file.flush()
    elif message.type in ("display_data", "execute_result", "update_display_data"):
        publish_display_data(
            content["data"],
            content["metadata"],
            transient=_own(content.get("transient")),
            update=message.type == "update_display_data",
        )
    elif message.type == "clear_output":
        clear_output(wait=content.get("wait", False))


def _own(transient: dict[str, object] | None) -> dict[str, object] | None:
    # The notebook's own displays have ids too, and a sandbox may not change those.
    if not transient or "display_id" not in transient:
        return transient
    return {**transient, "display_id": f"agentbay-{transient['display_id']}"}


def _can_ask(shell: InteractiveShell | None) -> bool:
    # A kernel knows whether its front end answers; a terminal does.
    kernel = getattr(shell, "kernel", None)
    return kernel is None or bool(kernel._allow_stdin)


def remote_error(failure: Message) -> RemoteError:
    """The error to raise in the notebook for an error output of the sandbox.

    Its class bears the remote exception's name, which is what a notebook stores as `ename`.
    """
    content = failure.content
    ename: str = content["ename"]
    # The name is the sandbox's: it may be anything, a class's may not.
    kind = type(
        ename.replace("\0", "") or "Error", (_ShownRemoteError,), {"__doc__": RemoteError.__doc__}
    )
    error: RemoteError = kind(ename, content["evalue"], content["traceback"])
    return error


class _ShownRemoteError(RemoteError):
    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for its own rendering: only the remote frames are of use.
        return self.traceback


def load(shell: InteractiveShell) -> None:
    """Register the magics in a shell; its sessions are closed when it ends."""
    magics = AgentBayMagics(shell)
    shell.register_magics(magics)
    atexit.register(magics.manager.close)


def unload(shell: InteractiveShell) -> None:
    """Take the magics out of a shell and close its sessions."""
    magics = shell.magics_manager.registry.pop(AgentBayMagics.__name__, None)
    if magics is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("agentbay", None)
    atexit.unregister(magics.manager.close)
    magics.manager.close()
