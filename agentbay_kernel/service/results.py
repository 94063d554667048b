"""What the service's answers become: frozen values, each an `ApiResponse`.

In: nothing, these are plain values. Out: what `create`, `run_code` and the others return. The
service's refusals are values too (`success=False`); what is raised instead is in `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agentbay_kernel.errors import (
    AgentBayError,
    AuthenticationError,
    CommandError,
    ServiceFaultError,
    SessionError,
    SessionNotFoundError,
    ThrottledError,
)


@dataclass(frozen=True)
class ApiResponse:
    """What every response has.

    Arguments:
        request_id: name of the request at the service.
        success: what was requested was done.
        error_message: empty on success.
    """

    request_id: str = ""
    success: bool = True
    error_message: str = ""


@dataclass(frozen=True)
class Refusable(ApiResponse):
    """An answer that may be a refusal; `failure` then is the error it would be if raised."""

    failure: AgentBayError | None = None


R = TypeVar("R", bound=Refusable)
_REFUSALS = (
    AuthenticationError,
    ServiceFaultError,
    SessionError,
    SessionNotFoundError,
    ThrottledError,
)


def refused(result: type[R], error: CommandError | SessionError) -> R:
    """The result that an answered refusal is; an error that the service did not answer is raised.

    Raises:
        CommandError: the service was not reached, or answered nonsense.
    """
    if not isinstance(error, _REFUSALS):
        raise error
    request_id = error.request_id if isinstance(error, CommandError) else ""
    return result(request_id=request_id, success=False, error_message=str(error), failure=error)


@dataclass(frozen=True)
class SessionListResult(Refusable):
    """One page of sessions, from `AgentBay.list`.

    Arguments:
        request_id: name of the request at the service.
        success: the service did it.
        error_message: empty on success.
        failure: the error that a refusal would be if raised.
        session_ids: dicts with `sessionId`, `sessionStatus`, `appInstanceId` and `imageId`.
        next_token: empty on the last page.
        max_results: most entries of a page.
        total_count: how many sessions there are.
    """

    session_ids: list[dict[str, str]] = field(default_factory=list)
    next_token: str = ""
    max_results: int = 0
    total_count: int = 0


@dataclass(frozen=True)
class DeleteResult(Refusable):
    """Result of `delete`.

    Arguments:
        request_id: name of the request at the service.
        success: the service did it.
        error_message: empty on success.
        failure: the error that a refusal would be if raised.
    """


@dataclass(frozen=True)
class OperationResult(Refusable):
    """Result of `keep_alive` and `set_labels`.

    Arguments:
        request_id: name of the request at the service.
        success: the service did it.
        error_message: empty on success.
        failure: the error that a refusal would be if raised.
    """


@dataclass(frozen=True)
class SessionStatusResult(Refusable):
    """Result of `get_status`.

    Arguments:
        request_id: name of the request at the service.
        success: the service did it.
        error_message: empty on success.
        failure: the error that a refusal would be if raised.
        status: `RUNNING`, `DELETING`, `FINISH` and others; empty if unknown.
    """

    status: str = ""


@dataclass(frozen=True)
class LabelsResult(Refusable):
    """Result of `get_labels`.

    Arguments:
        request_id: name of the request at the service.
        success: the service did it.
        error_message: empty on success.
        failure: the error that a refusal would be if raised.
        labels: values by names.
    """

    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResult(ApiResponse):
    """Result of a tool.

    Arguments:
        request_id: name of the request at the service.
        success: the tool reported no error.
        error_message: the text of its error; empty on success.
        data: the text of its response.
    """

    data: str = ""

    @property
    def text(self) -> str:
        """Return what the tool reported, on success or not."""
        return self.data if self.success else self.error_message


@dataclass(frozen=True)
class ShellResult:
    """What a shell command printed and how it ended.

    Arguments:
        stdout: its output.
        stderr: its output to stderr.
        exit_code: 0 on success, 124 at its timeout.
    """

    stdout: str
    stderr: str
    exit_code: int

    @property
    def success(self) -> bool:
        """Return whether it ended with the exit code 0."""
        return self.exit_code == 0


@dataclass(frozen=True)
class CodeLogs:
    """What code printed, in chunks; newlines are inside the chunks.

    Arguments:
        stdout: chunks of stdout, in their order.
        stderr: chunks of stderr, in their order.
    """

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CodeOutput:
    """One result: a MIME bundle as the sandbox sent it. Hostile code may have chosen it.

    Arguments:
        data: content by MIME type.
        metadata: what the sandbox adds to the types.
        is_main_result: it is the value of the last expression; others were displayed.
    """

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    is_main_result: bool = False


@dataclass(frozen=True)
class CodeError:
    """How code failed.

    Arguments:
        name: name of the exception.
        value: its message.
        traceback: one string, empty if the service sent none.
    """

    name: str
    value: str
    traceback: str = ""


@dataclass(frozen=True)
class CodeExecutionResult(ApiResponse):
    """What code did (Code API reference), be it an error.

    Arguments:
        request_id: name of the request at the service.
        success: False if the code failed.
        error_message: empty on success.
        logs: what it printed.
        results: what it displayed, and its value.
        error: how it failed, or None. At its timeout, `error.name` is "TimeoutError".
        execution_count: number of the execution in the interpreter, if the service sent one.
        execution_time: seconds.
    """

    logs: CodeLogs = field(default_factory=CodeLogs)
    results: list[CodeOutput] = field(default_factory=list)
    error: CodeError | None = None
    execution_count: int | None = None
    execution_time: float = 0.0

    @property
    def result(self) -> str:
        """Return the text of the main result, or of the first that has one, or what was printed."""
        main = [output for output in self.results if output.is_main_result]
        for output in (*main, *self.results):
            text = output.data.get("text/plain")
            if isinstance(text, str):
                return text
        return "".join(self.logs.stdout)

    def shortened(self, limit: int) -> CodeExecutionResult:
        """Return the same with texts of at most `limit` characters each, and a line for the rest.

        The texts are all of stdout, all of stderr, the text of each result, and the error's value
        and traceback. The beginning and the end are kept. Other types of a result (pictures, HTML)
        are left out if they are longer.

        Arguments:
            limit: characters of each text.

        Returns:
            A copy.
        """
        logs = CodeLogs(
            *(
                [shortened(text, limit)] if (text := "".join(chunks)) else []
                for chunks in (self.logs.stdout, self.logs.stderr)
            )
        )
        results = [
            replace(
                output,
                data={
                    mime: shortened(value, limit) if mime == "text/plain" else value
                    for mime, value in output.data.items()
                    if mime == "text/plain" or len(str(value)) <= limit
                },
            )
            for output in self.results
        ]
        error = self.error and replace(
            self.error,
            value=shortened(self.error.value, limit),
            traceback=shortened(self.error.traceback, limit),
        )
        message = shortened(self.error_message, limit)
        return replace(self, logs=logs, results=results, error=error, error_message=message)


def shortened(text: Any, limit: int) -> Any:
    """Return the beginning and the end of a string that is longer than `limit` characters."""
    if not isinstance(text, str) or len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    middle = f"\n[... {len(text) - limit:,} characters left out ...]\n"
    return text[:head] + middle + text[len(text) - tail :]
