"""`%agentbay` and `%%agentbay LANGUAGE`: sandboxed cells in a notebook of another kernel.

Lines and cells of an IPython shell come in; the output of commands and cells is shown. Errors of a
sandbox are raised as real errors that show only the remote frames.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.display_functions import publish_display_data
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from agentbay_kernel import threads
from agentbay_kernel.config import load_settings
from agentbay_kernel.containment.messages import Containment
from agentbay_kernel.containment.text import lines
from agentbay_kernel.errors import AgentBayError, RemoteError, VerbError
from agentbay_kernel.execution.display import display_message
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.magics.background import BackgroundCell
from agentbay_kernel.magics.cell import MagicCell
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VerbContext, is_cell_verb, run_verb
from agentbay_kernel.verbs.bundles import text
from agentbay_kernel.verbs.cell_options import CellOptions, cell_parser, read_cell_line
from agentbay_kernel.verbs.completion import (
    Surroundings,
    body_language,
    cell_body,
    complete_body,
    complete_line,
    complete_word,
)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


# A front end gives up on completions sooner than a distant sandbox can respond.
_ASK_WITHIN_S = 2.0

Function = TypeVar("Function", bound=Callable[..., object])

_CELL_HELP = f"""Run the cell in the notebook's AgentBay session.

{cell_parser().help_text()}

Variables stay in the session for the next cell. Nothing of the cell runs in this notebook's own
Python. Output appears while the cell runs, input() asks, interrupting stops the code in the
sandbox. Two things need the AgentBay kernel: live widgets, and output of threads and timers after
their cell has ended. %agentbay help lists the commands.
"""


def _documented(function: Function) -> Function:
    """Set the docstring that `%%agentbay?` shows, made from the arguments' declaration."""
    function.__doc__ = _CELL_HELP
    return function


@magics_class
class AgentBayMagics(Magics):
    """The magics of one shell, over one session manager."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.manager = SessionManager(
            load_settings(shell.config), _connection_file(shell), Path(shell.starting_dir)
        )
        self._containment = Containment(lambda: self.manager.settings)
        # Not the current working directory: a cell may have changed it.
        self._folder = Path(shell.starting_dir)
        self._last: CellResult | None = None

    @line_magic("agentbay")  # type: ignore[arg-type]
    def verb(self, line: str) -> None:
        """`%agentbay status`: the sessions in use. `%agentbay help` lists all commands.

        As with IPython's own magics, `$name` and `{expression}` stand for the notebook's values:
        `%agentbay attach $session_id`.
        """
        with _short_traceback():
            self._answer(line, None)

    @no_var_expand
    @cell_magic("agentbay")  # type: ignore[arg-type]
    @_documented
    def cell(self, line: str, body: str) -> BackgroundCell | None:
        with _short_traceback():
            if is_cell_verb(line):
                self._answer(line, body)
                return None
            options = read_cell_line(line, untrusted=self.manager.settings.untrusted)
            if isinstance(options, str):
                publish_display_data(text(options))
                return None
            return self._run(options, body)

    def _answer(self, line: str, body: str | None) -> None:
        context = VerbContext(self._folder, self.manager.settings, "magics", last=self._last)
        answer = run_verb(line, self.manager, context, body)
        contain = self._containment.for_cell()
        with threads.Feed(answer, context.stopped) as feed:
            for message in feed:
                for contained in contain(message):
                    display_message(contained)

    def _run(self, options: CellOptions, body: str) -> BackgroundCell | None:
        if not body.strip():
            raise VerbError("The cell has no code below its %%agentbay line. Nothing was run.")
        assert self.shell is not None
        variables = self.shell.user_ns
        can_ask = _can_ask(self.shell) and not options.background
        cell = MagicCell(
            self.manager,
            self._containment.for_cell(_cell_id(self.shell)),
            options,
            body,
            self._folder,
            variables,
            can_ask=can_ask,
        )
        if options.background:
            cell.prepare()
            handle = BackgroundCell(cell)
            if not options.capture:
                return handle
            self.shell.push({options.capture: handle})
            return None
        try:
            cell.show(keep=bool(options.capture))
        finally:
            self._last = cell.result
        if options.capture:
            self.shell.push({options.capture: cell.result})
            if (error := cell.result.error) is not None:
                told = f"The cell failed with {error['ename']}: see {options.capture}.error."
                print(told, file=sys.stderr)
        return None

    @context_matcher(identifier="agentbay")
    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return the completions in this package's lines and cells, without those of IPython."""
        code, cursor = context.full_text, _offset(context)
        assert self.shell is not None
        names = tuple(name for name in self.shell.user_ns if not name.startswith("_"))
        untrusted = self.manager.settings.untrusted
        around = Surroundings(self._folder, self.manager, names, untrusted)
        if (ours := complete_line(code, cursor, around)) is not None:
            return _matches(ours.matches, code[ours.start : ours.end])
        if (cell := cell_body(code)) is None:
            return {"completions": []}
        magic, begin = cell
        asked = threads.start(lambda: complete_body(magic, begin, cursor, self.manager))
        try:
            reply = asked.result(_ASK_WITHIN_S)
        except (AgentBayError, NotYet):
            reply = None
        if reply is None or reply.get("status") != "ok":
            body = body_language(magic), code[begin:], cursor - begin
            reply = complete_word(*body).content(begin)
        reply = self._containment.completions(reply)
        start, end = reply["cursor_start"], reply["cursor_end"]
        return _matches(reply["matches"], code[start:end])


@contextlib.contextmanager
def _short_traceback() -> Iterator[None]:
    """Shorten tracebacks of this package's errors: frames of its own code don't help users."""
    try:
        yield
    except RemoteError:
        raise
    except AgentBayError as error:
        # The service and the sandbox influence the message.
        told = [lines(f"{type(error).__name__}: {error}")]
        error._render_traceback_ = lambda: told  # type: ignore[attr-defined]
        raise


def _connection_file(shell: InteractiveShell) -> str:
    # A terminal has no connection file.
    app = getattr(getattr(shell, "kernel", None), "parent", None)
    return str(getattr(app, "abs_connection_file", ""))


def _cell_id(shell: Any) -> str | None:
    """Return the notebook's id of the cell that runs, if there is a notebook."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell_id = parent.get("metadata", {}).get("cellId")
    return cell_id if isinstance(cell_id, str) else None


def _can_ask(shell: InteractiveShell | None) -> bool:
    # A kernel knows whether its front end supports input(); a terminal always does.
    kernel = getattr(shell, "kernel", None)
    return kernel is None or bool(kernel._allow_stdin)


def _offset(context: CompletionContext) -> int:
    lines = context.full_text.split("\n")
    return sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position


class _NoneOfOthers(list[SimpleCompletion]):
    """No completions, not even from other matchers.

    IPython drops those of other matchers only for a list with a length.
    """

    def __len__(self) -> int:
        return 1


def _matches(texts: Iterable[str], fragment: str) -> SimpleMatcherResult:
    # The names of the notebook don't apply in a sandbox's cell.
    return {
        "completions": [SimpleCompletion(text) for text in texts] or _NoneOfOthers(),
        "matched_fragment": fragment,
        "suppress": True,
    }


def load(shell: InteractiveShell) -> None:
    """Register the magics in a shell; close its sessions when the process ends."""
    magics = AgentBayMagics(shell)
    shell.register_magics(magics)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(magics.complete)
    atexit.register(magics.manager.close)


def unload(shell: InteractiveShell) -> None:
    """Remove the magics from a shell and close its sessions."""
    magics = shell.magics_manager.registry.pop(AgentBayMagics.__name__, None)
    if magics is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("agentbay", None)
    if shell.Completer is not None:
        shell.Completer.custom_matchers[:] = [
            matcher
            for matcher in shell.Completer.custom_matchers
            if getattr(matcher, "__self__", None) is not magics
        ]
    atexit.unregister(magics.manager.close)
    magics.manager.close()
