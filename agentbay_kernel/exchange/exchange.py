"""Exchange: values and files of one session.

In: values by name, paths. Out: the same on the other side. Bytes travel as files in a private
folder of the sandbox, by the session's file tools; a small fixed piece of code, run as a silent
cell by the execution that the user's cells use, takes them into the user's names and out of them.
So one way serves every execution, and nothing passes through a cell's output.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from agentbay_kernel.exchange.reports import Fetched, Note, Reporter, Transferred
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import Session

LIMIT = 2_000_000_000


class Execution(Protocol):
    """What runs cells: `DirectExecution`, `BridgedExecution`, or alike."""

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell."""


class Exchange:
    """Brings values and files into one session's sandbox and out of it.

    One a session; it may be used by one thread at a time. All methods block: call them off the
    event loop. What is running in the session is waited for, as by any cell.

    Arguments:
        session: the session.
        execution_of: gives the execution of a language, as `LiveSession.execution_of` does.
        limit: bytes that one exchange may have (the setting `exchange_limit`).
    """

    def __init__(
        self, session: Session, execution_of: Callable[[str], Execution], limit: int = LIMIT
    ) -> None:
        self._session = session
        self._execution_of = execution_of
        self._limit = limit

    def send(
        self,
        values: Mapping[str, Any],
        language: str = "python",
        *,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> list[Note]:
        """Set variables of the sandbox to these values.

        Arguments:
            values: by the names that they get there.
            language: whose variables: python or javascript.
            progress: called as bytes arrive.
            stopped: set it to end the exchange early; no variable is set then.

        Returns:
            What is not the same there, a line each.

        Raises:
            ExchangeError: a value can't travel; says which and why. No variable was set.
            CommandError: the service failed.
        """
        raise NotImplementedError

    def fetch(
        self,
        names: Sequence[str],
        language: str = "python",
        *,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Fetched:
        """The values of variables of the sandbox.

        Arguments:
            names: the variables. Names, not expressions.

        Raises:
            MissingNameError: there is no such variable.
            ExchangeError: a value can't travel, is too large, or is not what it claims to be.
            CommandError: the service failed.
        """
        raise NotImplementedError

    def upload(
        self,
        local: Path,
        remote: str = "",
        *,
        force: bool = False,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Transferred:
        """Copy a file or a folder into the sandbox. After an interruption it goes on where it was.

        Links and names that begin with a dot are left out, with a note.

        Arguments:
            local: a path that the caller allows.
            remote: where to; relative to the working directory of the sandbox's Python, which is
                also the default. An existing folder, or a path that ends with `/`, gets the
                file or folder into it.
            force: overwrite files that are there with another content.

        Raises:
            TargetExistsError: files are there, with another content. Nothing was changed.
            ExchangeError: it can't be done; says why.
            CommandError: the service failed.
        """
        raise NotImplementedError

    def download(
        self,
        remote: str,
        local: Path,
        *,
        force: bool = False,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Transferred:
        """Copy a file or a folder out of the sandbox; goes on after an interruption.

        Nothing is written outside `local`, whatever the sandbox says. Links and names that begin
        with a dot are left out, with a note.

        Arguments:
            remote: what; relative to the working directory of the sandbox's Python.
            local: where to, a path that the caller allows. An existing folder gets the file or
                folder into it.
            force: overwrite files that are here with another content.

        Raises:
            TargetExistsError: files are here, with another content. Nothing was changed.
            ExchangeError: it can't be done; says why.
            CommandError: the service failed.
        """
        raise NotImplementedError
