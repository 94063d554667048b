"""Jobs for the sandbox's side of an exchange, run where the user's variables are.

A job is JSON in a file of the private directory, and has a report. A small fixed piece of code runs
it, as a silent cell of the execution that the user's own cells use: the Jupyter kernel of a bridged
session, the service's own process in a direct one, Node for JavaScript. Names and values are data
in files, never source text.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from agentbay_kernel.errors import (
    ExchangeError,
    MalformedValueError,
    ResponseLostError,
)
from agentbay_kernel.exchange.reports import raised
from agentbay_kernel.exchange.transfers import ByteTransfer
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.sandbox.exchange.values import Refused, parse

_SOURCES = Path(__file__).parents[1] / "sandbox" / "exchange"
_PACKAGE = "agentbay_kernel.sandbox.exchange"
# A module comes after those that it imports.
_MODULES = (
    "values",
    "encoding",
    "decoding",
    "pieces",
    "arrays",
    "arrow",
    "columns",
    "series",
    "tables",
    "named",
    "files",
    "jobs",
)
# A list of as many files as one transfer may have.
_MOST_REPORT = 20 * 1024 * 1024
# How long to wait for a report if the response to its cell was lost (seconds).
_LATE_S = 20.0


class Execution(Protocol):
    """Runs cells: `DirectExecution`, a `BridgedExecution`, or similar."""

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell."""


class JobRunner:
    """Runs jobs in one session.

    Arguments:
        transfer: transfers files in both directions.
        execution_of: returns the execution of a language.
    """

    def __init__(self, transfer: ByteTransfer, execution_of: Callable[[str], Execution]) -> None:
        self._transfer = transfer
        self._execution_of = execution_of
        self._installed: dict[str, str] = {}

    def do(
        self,
        job: dict[str, Any],
        base: str,
        language: str = "python",
        stopped: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Run a job; return its report.

        Arguments:
            base: the common start of the paths of the job's files.

        Raises:
            ExchangeError: the sandbox refused, or did not do it.
            CommandError: the service failed.
        """
        code = self._code(language, base)
        text = json.dumps(job)
        if len(text) > self._transfer.piece:
            data = text.encode("ascii")
            self._transfer.write_stream(
                f"{base}.j",
                [(0, len(data))],
                lambda at, size: data[at : at + size],
                lambda size: None,
                stopped,
            )
            text = json.dumps({"do": "joined"})
        self._transfer.write(f"{base}.job", text)
        failure = self._run(code, language)
        try:
            report = self._report(base, late=isinstance(failure, ResponseLostError))
        except MalformedValueError:
            raise
        except ExchangeError as missing:
            if isinstance(failure, ResponseLostError):
                raise failure from None
            # A cell may have deleted the temporary files.
            self._installed.clear()
            self._transfer.forget_folder()
            raise ExchangeError(
                f"The sandbox did not do its part of the exchange: {failure or missing}. Nothing "
                "was changed; try it again."
            ) from None
        refused = report.get("refused")
        if refused is not None:
            raise raised(Refused(*[str(part)[:2000] for part in refused[:3]]))
        return report

    def _run(self, code: str, language: str) -> Exception | str | None:
        """Run a silent cell; return its error, if there is one."""
        wrong: Exception | str | None = None
        cell = Cell(code, language, silent=True, store_history=False)
        try:
            for message in self._execution_of(language).execute(cell):
                if message.type == "execute_reply" and message.content.get("status") != "ok":
                    content = message.content
                    wrong = f"{content.get('ename')}: {str(content.get('evalue'))[:500]}"
        except ResponseLostError as lost:
            # The cell may have done its job nevertheless; the report shows that.
            return lost
        return wrong

    def _report(self, base: str, late: bool) -> dict[str, Any]:
        until = time.monotonic() + (_LATE_S if late else 0)
        while True:
            try:
                text = self._transfer.read_all(f"{base}.report", _MOST_REPORT)
                break
            except MalformedValueError:
                raise
            except ExchangeError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.5)
        try:
            report = parse(text)
            refused = report.get("refused")
            if refused is not None and (type(refused) is not list or len(refused) != 3):
                raise AttributeError
        except (Refused, AttributeError):
            raise MalformedValueError(
                "The sandbox's report of the transfer is invalid; it is not used."
            ) from None
        return dict(report)

    def _code(self, language: str, base: str) -> str:
        if language not in self._installed:
            path = f"{self._transfer.folder()}/exchange.{'js' if language != 'python' else 'py'}"
            text = _script() if language != "python" else program()
            self._transfer.write(path, text)
            self._installed[language] = path
        path = json.dumps(self._installed[language])
        if language != "python":
            return f"require({path}).serve({json.dumps(base)})"
        # No name of the user is used or made, even if they redefine `open` or `globals`.
        return (
            f'(lambda b: b.__import__("runpy").run_path({path})["serve"]'
            f'(b.globals(), {json.dumps(base)}))(__import__("builtins"))'
        )


@functools.cache
def program() -> str:
    """Return the program that creates the exchange's modules in a sandbox's Python."""
    sources = {f"{_PACKAGE}.{name}": (_SOURCES / f"{name}.py").read_bytes() for name in _MODULES}
    version = hashlib.sha256(b"".join(sources.values())).hexdigest()
    packed = {
        name: base64.b64encode(zlib.compress(source, 9)).decode()
        for name, source in sources.items()
    }
    return (
        "import base64, sys, types, zlib\n"
        f"version = {version!r}\n"
        f"packed = {packed!r}\n"
        f"jobs = {_PACKAGE + '.jobs'!r}\n"
        "if getattr(sys.modules.get(jobs), 'version', None) != version:\n"
        "    for name, source in packed.items():\n"
        "        module = sys.modules[name] = types.ModuleType(name)\n"
        "        exec(zlib.decompress(base64.b64decode(source)), module.__dict__)\n"
        "    sys.modules[jobs].version = version\n"
        "serve = sys.modules[jobs].serve\n"
    )


@functools.cache
def _script() -> str:
    return (_SOURCES / "jobs.js").read_text()
