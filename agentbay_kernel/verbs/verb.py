"""A command: one row of the table of commands, and the context of its line."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.verbs.parser import LineParser

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings
    from agentbay_kernel.sessions import SessionManager

# From MIME type to content: text, or data for application/json.
MimeBundle = dict[str, Any]


@dataclass(frozen=True)
class VerbContext:
    """The context of a line with a command.

    Arguments:
        folder: the notebook's directory; no file outside of it is reached.
        settings: the settings in force in this notebook.
        front_end: `kernel`, `magics` or `command line`.
        language: the language of cells that name none.
        last: the result of the previous cell; None if there was none.
        stopped: set if the user has interrupted the command; long work checks it.
    """

    folder: Path
    settings: AgentBaySettings
    front_end: str
    language: str = "python"
    last: CellResult | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def untrusted(self) -> bool:
        """Whether cells must not touch this machine at all."""
        return self.settings.untrusted


# A bundle is shown as one display. Messages are shown as they arrive: for progress, a display_data
# with a display_id, then update_display_data of the same id.
Answer = MimeBundle | Iterator[Message]


def _no_arguments(parser: LineParser) -> None:
    pass


@dataclass(frozen=True)
class Verb:
    """One command.

    Arguments:
        name: the word after `%agentbay`.
        summary: its purpose, in one line without a full stop.
        answer: runs it. It may block: it runs on its own thread.
        add_arguments: declares its arguments, once; help and completion are made from them.
        touches_machine: whether it reads or writes this machine's files, so that it is off if cells
            are untrusted. `touching_machine` marks a single flag of that kind.
        takes_body: whether it is a cell, `%%agentbay NAME`, whose lines are `options.body`; on a
            line `%agentbay NAME`, `options.body` is None.
        passes_cells: whether a kernel runs it beside a running cell, because it may be about that
            cell.
        examples: lines as a user types them.
    """

    name: str
    summary: str
    answer: Callable[[Namespace, SessionManager, VerbContext], Answer]
    add_arguments: Callable[[LineParser], None] = _no_arguments
    touches_machine: bool = False
    takes_body: bool = False
    passes_cells: bool = False
    examples: tuple[str, ...] = ()

    @property
    def typed(self) -> str:
        """How a user starts the line."""
        return f"{'%%' if self.takes_body else '%'}agentbay {self.name}"

    @property
    def parser(self) -> LineParser:
        """The parser of its arguments."""
        parser = LineParser(self.typed, self.summary, self.examples)
        self.add_arguments(parser)
        return parser
