"""Running code: the `run_code` tool of a session, with output at the end or while the code runs.

A `CodeExecutionResult` describes everything that the code did, its own errors and its timeout
included. A `CommandError` reports what the service could not do. With streaming, pieces of output
and results come first, as events in the order in which they happened. Sources: Code API reference;
AgentBay wire protocol (streaming run_code, whose names are read in camelCase and in snake_case).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import (
    CodeSyntaxWarning,
    InvalidCodeError,
    InvalidResponseError,
    InvalidTimeoutError,
    ResponseLostError,
    ServiceFaultError,
    ToolNotFoundError,
)
from agentbay_kernel.languages import find_language
from agentbay_kernel.service.envelope import Quote, ToolResponse
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.responses import TIMEOUT, StreamedResponse, is_traced, read_execution
from agentbay_kernel.service.results import CodeError, CodeExecutionResult, CodeOutput
from agentbay_kernel.service.syntax import syntax_problem
from agentbay_kernel.service.websocket import WebSocketCall

# The gateway ends each request after 60 seconds (Code API reference, run_code).
LONGEST_TIMEOUT_S = 60
_GATEWAY_TIMEOUT = 504
# A traceback on stderr belongs to a failure if the failure follows within this time.
_HOLD_S = 0.3

_log = get_logger("code")


@dataclass(frozen=True)
class CodeChunk:
    """A piece of what code printed. Newlines are inside the text.

    Arguments:
        name: `stdout` or `stderr`.
        text: the piece.
    """

    name: str
    text: str


CodeEvent = CodeChunk | CodeOutput | CodeExecutionResult


class Code:
    """Runs code in a session: `session.code`, not made by hand. Thread-safe.

    The sandbox runs one piece of code of a language at a time.
    """

    def __init__(
        self,
        call_tool: Callable[[str, dict[str, Any], float], ToolResponse],
        stream: Callable[[dict[str, Any], float, float | None], CodeStream],
    ) -> None:
        self._call_tool = call_tool
        self._stream = stream

    def run_code(
        self,
        code: str,
        language: str,
        timeout_s: float = 60,
        *,
        check_syntax: bool = False,
        output_limit: int | None = None,
    ) -> CodeExecutionResult:
        """Run code in the session's sandbox and wait for its end.

        Arguments:
            code: the code. It is sent unchanged, once. Running it creates no files by itself.
            language: `python` or `javascript`, or an alias of them.
            timeout_s: seconds after which the sandbox stops the code, at most 60.
            check_syntax: first check whether the code parses, and warn if it does not.
            output_limit: characters to keep of each string of the result (stdout, stderr, a value,
                an error), from its start and its end; all unless given.

        Returns:
            What the code did. An error of the code is not raised: `success` is False and
            `error` has its name and value. At the timeout, `error.name` is "TimeoutError", and
            `logs` and `results` hold what came before.

        Raises:
            UnsupportedLanguageError, InvalidCodeError, InvalidTimeoutError: nothing was sent.
            ServiceUnreachableError: no connection, nothing was sent.
            ResponseLostError: the code was sent, but it is unknown whether it ran. It is never
                sent twice.
            SessionNotFoundError, ToolNotFoundError, AuthenticationError, ThrottledError: the code
                was refused and did not run.
            ServiceFaultError, InvalidResponseError: the service failed, or its response is
                invalid.
        """
        name = find_language(language).name
        _check_code(code)
        seconds = _checked_timeout(timeout_s)
        if check_syntax:
            self._warn(code, name)
        arguments: dict[str, Any] = {"code": code, "language": name, "timeout_s": seconds}
        started = time.monotonic()
        try:
            answer = self._call_tool("run_code", arguments, seconds)
        except ResponseLostError as error:
            waited_s = time.monotonic() - started
            # The gateway reached its own limit before the sandbox's response came through. An
            # earlier 504 has another cause: the response is lost.
            if error.status != _GATEWAY_TIMEOUT or waited_s < seconds:
                raise
            return _stopped_by_gateway(error, seconds, waited_s)
        result = read_execution(answer)
        if output_limit is not None:
            result = result.shortened(output_limit)
        _log.debug("run_code %s: %s in %.3f s", result.request_id, name, time.monotonic() - started)
        return result

    def stream_code(
        self,
        code: str,
        language: str,
        timeout_s: float = 60,
        *,
        silence_s: float | None = None,
    ) -> CodeStream:
        """Run code and return its output while it runs, if `Session.can_stream` is true.

        Arguments:
            code: the code, sent once.
            language: `python` or `javascript`, or an alias of them.
            timeout_s: seconds after which the sandbox stops the code, at most 60.
            silence_s: seconds without an event after which the response counts as lost; for code
                that is known to print.

        Returns:
            An iterator of events in the order in which they happened: `CodeChunk`, `CodeOutput`,
            and last the `CodeExecutionResult`. Only this last one has the traceback of a failure.
            Reading raises `ResponseLostError` if the connection breaks or no end comes in time;
            code is never sent twice.

        Raises:
            UnsupportedLanguageError, InvalidCodeError, InvalidTimeoutError: nothing was sent.
            ServiceUnreachableError: there is no WebSocket, nothing was sent. `run_code` may work.
            SessionNotFoundError, AuthenticationError: the code was refused and did not run.
        """
        name = find_language(language).name
        _check_code(code)
        seconds = _checked_timeout(timeout_s)
        return self._stream(
            {"code": code, "language": name, "timeoutS": seconds}, seconds, silence_s
        )

    def check_syntax(self, code: str, language: str) -> bool:
        """Check whether code parses, and warn with a `CodeSyntaxWarning` if not. Nothing is sent.

        The sandbox decides. IPython's syntax, and syntax that only the sandbox's version of the
        language has, are not checked here.

        Arguments:
            code: the code.
            language: `python` or `javascript`, or an alias of them.

        Returns:
            False if the code does not parse.

        Raises:
            UnsupportedLanguageError: the service does not run that language.
        """
        return self._warn(code, find_language(language).name)

    def _warn(self, code: str, language: str) -> bool:
        problem = syntax_problem(code, language)
        if problem is not None:
            warnings.warn(
                f"The {language} code may not run: {problem}. The sandbox decides.",
                CodeSyntaxWarning,
                stacklevel=3,
            )
        return problem is None


def _check_code(code: object) -> None:
    if not isinstance(code, str):
        raise InvalidCodeError(
            f"The code is of the type {type(code).__name__}, not a text. Nothing was sent: pass "
            "the code as a str."
        )
    if not code.strip():
        raise InvalidCodeError("The code is empty. Nothing was sent: there is nothing to run.")
    try:
        code.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidCodeError(
            f"The code is not text: at position {error.start} it holds half of a surrogate pair, "
            "which has no encoding. Nothing was sent: remove that character."
        ) from None


def _checked_timeout(timeout_s: object) -> float:
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not is_number or not 0 < timeout_s <= LONGEST_TIMEOUT_S:  # type: ignore[operator]
        raise InvalidTimeoutError(
            f"timeout_s is {timeout_s!r}. Nothing was sent: it must be a number of seconds above 0 "
            f"and at most {LONGEST_TIMEOUT_S}, where the service's gateway ends each request."
        )
    seconds = float(timeout_s)  # type: ignore[arg-type]
    # The service documents whole seconds, so whole numbers are sent as integers.
    return int(seconds) if seconds.is_integer() else seconds


def _stopped_by_gateway(
    error: ResponseLostError, seconds: float, waited_s: float
) -> CodeExecutionResult:
    value = (
        f"The code ran longer than {seconds:g} s, and the service's gateway gave up waiting after "
        f"{waited_s:.0f} s. Its output is lost, and it may still be running."
    )
    return CodeExecutionResult(
        request_id=error.request_id,
        success=False,
        error_message=f"{TIMEOUT}: {value}",
        error=CodeError(TIMEOUT, value),
    )


class CodeStream:
    """An iterator over the events of one run; the last one is the `CodeExecutionResult`.

    Made by `Code.stream_code`, not by hand. It can be closed early, also by leaving a `with` block.
    The code then continues in the sandbox.

    Raises:
        ResponseLostError: the connection broke, or the end did not come in time.
        ServiceFaultError, InvalidResponseError: the service failed, or its response is invalid.
    """

    def __init__(self, call: WebSocketCall, quote: Quote, largest_response: int) -> None:
        self._call = call
        self._quote = quote
        self._answer = StreamedResponse(call.id)
        self._largest_response = largest_response
        self._size = 0
        self._look_after_s: float | None = None
        self._events = self._read()

    def __enter__(self) -> CodeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[CodeEvent]:
        return self

    def __next__(self) -> CodeEvent:
        event = self.next_within(None)
        assert event is not None
        return event

    def next_within(self, seconds: float | None) -> CodeEvent | None:
        """Wait for the next event.

        Arguments:
            seconds: how long to wait; None waits as long as the code may run.

        Returns:
            The event, or None if none came in that time.

        Raises:
            StopIteration: there are no more events.
        """
        self._look_after_s = seconds
        try:
            return next(self._events)
        except BaseException:
            self._call.close()
            raise

    def close(self) -> None:
        """Stop reading events."""
        self._events.close()
        self._call.close()

    def _read(self) -> Generator[CodeEvent | None]:
        held: list[CodeChunk] = []
        while True:
            data = self._call.receive(_HOLD_S if held else self._look_after_s)
            if data is None:
                if not held:
                    yield None
                yield from held
                held = []
                continue
            phase = data["phase"]
            if phase == "end":
                if not self._answer.failed(data):
                    yield from held
                yield self._answer.finish(data)
                return
            if phase == "error":
                raise self._fault(data.get("error"))
            if phase != "event":
                raise self._answer.nonsense(f"a frame with the phase {self._quote(phase)!r}")
            event = self._event(data)
            if isinstance(event, CodeChunk) and event.name == "stderr":
                # The result contains the failure too, and a reader must see it only once.
                if held or is_traced(event.text):
                    held.append(event)
                    continue
            elif not self._answer.failed({}):
                yield from held
                held = []
            if event is not None:
                yield event

    def _event(self, data: dict[str, Any]) -> CodeChunk | CodeOutput | None:
        kind = data.get("eventType", data.get("event_type"))
        if kind in ("stdout", "stderr"):
            text = data.get("chunk")
            if not isinstance(text, str):
                raise self._answer.nonsense(f"its {kind} is not text")
            self._weigh(len(text))
            self._answer.add_chunk(kind, text)
            return CodeChunk(kind, text)
        if kind == "result":
            output = self._answer.add_result(data.get("result"))
            self._weigh(sum(len(str(value)) for value in output.data.values()))
            return output
        if kind == "error":
            self._answer.add_error(data.get("error"))
        # Unknown kinds of events are ignored: a newer service may send them.
        return None

    def _weigh(self, size: int) -> None:
        self._size += size
        if self._size > self._largest_response:
            raise InvalidResponseError(
                f"{self._call.place} sent more than {self._largest_response // 2**20} MB, which is "
                "not taken. The code may be running on: print less, or write to a file. The "
                "setting response_limit changes that.",
                request_id=self._call.id,
            )

    def _fault(self, error: object) -> ServiceFaultError | ToolNotFoundError:
        code, message = "", str(error or "no reason given")
        if isinstance(error, dict):
            code, message = str(error.get("code") or ""), str(error.get("message") or "")
        said = self._quote(f"[{code}] {message}" if code else message)
        if "run_code not found" in message:
            return ToolNotFoundError(
                f"The session's image has no tool 'run_code' ({said}). "
                'Create the session with image_id="code_latest".',
                request_id=self._call.id,
            )
        return ServiceFaultError(
            f"{self._call.place} could not run the code: {said}. Whether it ran is unknown.",
            request_id=self._call.id,
            code=code,
        )
