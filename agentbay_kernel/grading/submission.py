"""Submission: what a check sees of a student's code, which runs in a sandbox.

Every value that a check gets has come as data. That the sandbox's side of the transfer runs in the
submission's own interpreter does not matter: whatever is done to it, what arrives is plain data,
and only the right data gives points.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentbay_kernel.errors import (
    AgentBayError,
    CommandError,
    ExchangeError,
    InvalidCodeError,
    MissingNameError,
    TooLargeError,
    UnsupportedValueError,
)
from agentbay_kernel.exchange import Exchange
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import CodeExecutionResult, Session

T = TypeVar("T")

# Bytes that one value of a submission may have.
VALUE_LIMIT = 16_000_000
# Characters of each text of a cell's output that are kept, as long as all of them together have no
# more than the second number; then the third.
OUTPUT_LIMIT, _ALL_OUTPUT, _LITTLE = 20_000, 1_000_000, 200
_TIMEOUT, _DIED = "TimeoutError", "KernelDied"
# What a session may take for its first transfer.
_PREPARE_S = 60.0
# Beyond so many cells and calls that did not end in time, nothing more is run.
_MOST_TIMEOUTS = 3

# `{0}` are names that nothing of the submission has.
_CALL = "{0}_value = {1}(*{0}_args[0], **{0}_args[1])"
_MAP = """\
{0}_value = []
for {0}_one in {0}_args:
    try:
        {0}_value.append((True, {1}({0}_one)))
    except Exception as {0}_error:
        {0}_value.append((False, type({0}_error).__name__ + ": " + str({0}_error)[:300]))
"""
_FORGET = (
    "for {0}_name in [it for it in globals() if it.startswith('{0}_')]: del globals()[{0}_name]"
)


class SubmissionError(AgentBayError):
    """A submission's function failed, did not end in time, or returned what can't be transferred.

    Cause: The submission. A check that lets it pass gives no points.
    Fix: See the evidence. Catch it in a check if the failure is what you ask for.
    """

    def __bool__(self) -> bool:
        """False: `all(submission.map(...))` must not take a failure for a right answer."""
        return False


@dataclass(frozen=True)
class CellOutput:
    """One cell of a submission, and what it printed, showed and failed with."""

    source: str
    stdout: str = ""
    stderr: str = ""
    value: str = ""
    error: str = ""


class Submission:
    """A submission in its session. Made by the grader.

    Arguments:
        name: its name in the table.
        session: its own session.
        timeout_s: seconds that each cell and each call may take.
        seed: what its random inputs are drawn from.
    """

    def __init__(self, name: str, session: Session, timeout_s: float, seed: str) -> None:
        self.name = name
        #: Draws the inputs of one check: others for each run and each submission.
        self.random = random.Random(seed)
        #: Its cells and what they gave, in their order.
        self.cells: list[CellOutput] = []
        #: What the running check asked and got, in words: the evidence.
        self.asked: list[str] = []
        self.timeouts = 0
        self.has_died = False
        self._seed, self._kept = seed, 0
        self._session, self._timeout_s = session, timeout_s
        self._transfers = _InTime(session)
        self._exchange = Exchange(session, lambda language: self._transfers, VALUE_LIMIT)

    @property
    def stdout(self) -> str:
        """What its cells printed. Text that the submission chose, nothing more."""
        return "".join(cell.stdout for cell in self.cells)

    @property
    def source(self) -> str:
        """Its code."""
        return "\n\n".join(cell.source for cell in self.cells)

    @property
    def errors(self) -> list[str]:
        """The errors of its cells."""
        return [cell.error for cell in self.cells if cell.error]

    def call(self, function: str, /, *arguments: Any, **named: Any) -> Any:
        """Call a function of the submission; returns what it returned, as data.

        Raises:
            SubmissionError: it failed, did not end in time, or returned what can't be transferred.
            CommandError: the session is lost.
        """
        self.asked.append(f"{function}({_arguments(arguments, named)})")
        return self._noted(self._ask(_CALL, function, (arguments, named)))

    def map(self, function: str, inputs: Iterable[Any]) -> list[Any]:
        """Call a function of the submission for each input, all within one timeout.

        Returns:
            What it returned, in order. Where the function raised, a SubmissionError stands in its
            place, which is the same as no value.

        Raises:
            SubmissionError, CommandError: as for `call`.
        """
        asked = list(inputs)
        self.asked.append(f"{function} of each of {_short(asked)}")
        pairs = self._ask(_MAP, function, asked)
        if not isinstance(pairs, list) or len(pairs) != len(asked):
            raise SubmissionError("It returned another number of values than was asked for.")
        values: list[Any] = []
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise SubmissionError("It returned something else than was asked for.")
            values.append(pair[1] if pair[0] is True else SubmissionError(str(pair[1])[:300]))
        self._noted(values)
        return values

    def value(self, name: str) -> Any:
        """Return the value of a variable of the submission, as data.

        Raises:
            SubmissionError: there is none, or it can't be transferred.
            CommandError: the session is lost.
        """
        self.asked.append(f"the value of {name}")
        return self._noted(self._fetch(name, name))

    def prepare(self) -> None:
        """Make a transfer while the session has no code of the submission yet.

        What fails now is not its doing; and the transfers to come need less of their time.

        Raises:
            ExchangeError, CommandError: the session can't be used.
        """
        name = f"_{secrets.token_hex(8)}"
        self._exchange.send({name: [0]})
        self._exchange.fetch([name])
        self._run(f"del {name}", 1000)
        self._transfers.timeout_s = self._timeout_s

    def run_cells(self, sources: Sequence[str]) -> None:
        """Run its cells in their order; one that fails does not stop the others.

        Raises:
            CommandError: the session is lost.
        """
        for number, source in enumerate(sources):
            if self.timeouts >= _MOST_TIMEOUTS:
                self.cells += [CellOutput(it, error="It was not run.") for it in sources[number:]]
                return
            self.cells.append(self._cell(source))

    def begin_check(self, name: str) -> None:
        """A check begins: its random inputs don't depend on the checks before it."""
        self.asked = []
        self.random = random.Random(f"{self._seed}\n{name}")

    def _cell(self, source: str) -> CellOutput:
        limit = OUTPUT_LIMIT if self._kept < _ALL_OUTPUT else _LITTLE
        try:
            ran = self._run(source, limit)
        except InvalidCodeError as invalid:
            return CellOutput(source, error=str(invalid))
        error = f"{ran.error.name}: {ran.error.value}" if ran.error is not None else ""
        printed = ("".join(ran.logs.stdout), "".join(ran.logs.stderr))
        value = ran.result if ran.results else ""
        self._kept += sum(map(len, (*printed, value, error)))
        return CellOutput(source, *printed, value, error)

    def _ask(self, code: str, function: str, arguments: Any) -> Any:
        if not function.isidentifier():
            raise ValueError(f"{function!r} is not the name of a function.")
        if self.timeouts >= _MOST_TIMEOUTS:
            raise SubmissionError("It was not asked: it did not end in time too often.")
        name = f"_{secrets.token_hex(8)}"
        try:
            self._transfer(lambda: self._exchange.send({f"{name}_args": arguments}))
        except (TooLargeError, UnsupportedValueError):
            # The check's own inputs.
            raise
        except ExchangeError as error:
            raise SubmissionError(f"It takes no inputs: {error}") from None
        ran = self._run(code.format(name, function), 1000)
        if ran.error is not None:
            raise SubmissionError(f"{ran.error.name}: {ran.error.value}")
        value = self._fetch(f"{name}_value", "its value")
        self._run(_FORGET.format(name), 1000)
        return value

    def _fetch(self, name: str, shown: str) -> Any:
        if self.timeouts >= _MOST_TIMEOUTS:
            raise SubmissionError("It was not asked: it did not end in time too often.")
        try:
            return self._transfer(lambda: self._exchange.fetch([name])).values[name]
        except ExchangeError as error:
            if isinstance(error, MissingNameError) and name != shown:
                raise SubmissionError("It was called and left no value.") from None
            raise SubmissionError(str(error).replace(name, shown)) from None

    def _run(self, code: str, output_limit: int) -> CodeExecutionResult:
        started = time.monotonic()
        ran = self._session.code.run_code(
            code, "python", self._timeout_s, output_limit=output_limit
        )
        if ran.error is not None:
            took = time.monotonic() - started
            # Its code may raise an error of that name, too.
            self.timeouts += ran.error.name == _TIMEOUT and took >= self._timeout_s
            self.has_died = self.has_died or ran.error.name == _DIED
        return ran

    def _transfer(self, work: Callable[[], T]) -> T:
        """Do a transfer, and again if it failed for no reason that its data gives."""
        timeouts = self._transfers.timeouts
        try:
            return work()
        except ExchangeError as error:
            self._refuse_if_lost()
            if self._transfers.timeouts > timeouts:
                self.timeouts += 1
                raise
            if type(error) is not ExchangeError:
                raise
        return work()

    def _refuse_if_lost(self) -> None:
        """Is a transfer that failed the submission's doing?

        Raises:
            CommandError: no, its session is gone.
        """
        told = self._session.get_status()
        if not told.success:
            raise told.failure or CommandError(told.error_message)

    def _noted(self, value: Any) -> Any:
        self.asked.append(f"    gave {_short(value)}")
        return value


class _InTime(DirectExecution):
    """Runs the sandbox's part of a transfer, which the submission may have made endless."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.timeout_s = _PREPARE_S
        self.timeouts = 0

    def execute(self, cell: Cell) -> Iterator[Message]:
        """Run one cell within the timeout."""
        for message in super().execute(replace(cell, timeout=self.timeout_s, output_limit=1000)):
            if message.type == "execute_reply" and message.content.get("ename") == _TIMEOUT:
                self.timeouts += 1
            yield message


def _arguments(arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    return ", ".join([*map(_short, arguments), *(f"{k}={_short(v)}" for k, v in named.items())])


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"a value that has no text ({type(error).__name__})"
    return text if len(text) <= 500 else f"{text[:400]} ... ({len(text):,} characters)"
