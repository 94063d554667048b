"""The results of calls to the service, as frozen values.

`create`, `run_code` and the other methods return them. A refusal of the service is a result too
(`success=False`). The errors that are raised instead are in `errors`.
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
    """The fields that every response has.

    Arguments:
        request_id: the service's id of the request.
        success: whether the request was carried out.
        error_message: empty on success.
    """

    request_id: str = ""
    success: bool = True
    error_message: str = ""


@dataclass(frozen=True)
class Refusable(ApiResponse):
    """A response that may be a refusal; `failure` is then the matching error."""

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
    """Return a refusal of the service as a result; raise every other error.

    Raises:
        CommandError: the service was not reached, or returned an invalid response.
    """
    if not isinstance(error, _REFUSALS):
        raise error
    request_id = error.request_id if isinstance(error, CommandError) else ""
    return result(request_id=request_id, success=False, error_message=str(error), failure=error)


@dataclass(frozen=True)
class SessionListResult(Refusable):
    """One page of sessions, from `AgentBay.list`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
        session_ids: dicts with `sessionId`, `sessionStatus`, `appInstanceId` and `imageId`.
        next_token: empty on the last page.
        max_results: most entries of a page.
        total_count: number of sessions on all pages.
    """

    session_ids: list[dict[str, str]] = field(default_factory=list)
    next_token: str = ""
    max_results: int = 0
    total_count: int = 0


@dataclass(frozen=True)
class DeleteResult(Refusable):
    """Result of `delete`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
    """


@dataclass(frozen=True)
class OperationResult(Refusable):
    """Result of `keep_alive` and `set_labels`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
    """


@dataclass(frozen=True)
class SessionStatusResult(Refusable):
    """Result of `get_status`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
        status: `RUNNING`, `DELETING`, `FINISH` and others; empty if unknown.
    """

    status: str = ""


@dataclass(frozen=True)
class LabelsResult(Refusable):
    """Result of `get_labels`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
        labels: values by names.
    """

    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResult(ApiResponse):
    """Result of a tool.

    Arguments:
        request_id: the service's id of the request.
        success: whether the tool reported no error.
        error_message: the text of its error; empty on success.
        data: the text of its response.
    """

    data: str = ""

    @property
    def text(self) -> str:
        """Return the tool's text: its response, or its error."""
        return self.data if self.success else self.error_message


@dataclass(frozen=True)
class ShellResult:
    """The output and the exit code of a shell command.

    Arguments:
        stdout: its output to stdout.
        stderr: its output to stderr.
        exit_code: 0 on success, 124 at its timeout.
    """

    stdout: str
    stderr: str
    exit_code: int

    @property
    def success(self) -> bool:
        """Return whether the exit code is 0."""
        return self.exit_code == 0


@dataclass(frozen=True)
class CodeLogs:
    """The output that code printed, in chunks; newlines are inside the chunks.

    Arguments:
        stdout: chunks of stdout, in their order.
        stderr: chunks of stderr, in their order.
    """

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CodeOutput:
    """One result: a MIME bundle as the sandbox sent it. Hostile code may have made it.

    Arguments:
        data: content by MIME type.
        metadata: the sandbox's metadata about the types.
        is_main_result: whether it is the value of the last expression; others were displayed.
    """

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    is_main_result: bool = False


@dataclass(frozen=True)
class CodeError:
    """The error with which code failed.

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
    """The result of code, errors of the code included (Code API reference).

    Arguments:
        request_id: the service's id of the request.
        success: False if the code failed.
        error_message: empty on success.
        logs: what the code printed.
        results: what it displayed, and the value of its last expression.
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
        """Return the text of the main result, else of the first with a text, else stdout."""
        main = [output for output in self.results if output.is_main_result]
        for output in (*main, *self.results):
            text = output.data.get("text/plain")
            if isinstance(text, str):
                return text
        return "".join(self.logs.stdout)

    def shortened(self, limit: int) -> CodeExecutionResult:
        """Return a copy with at most `limit` characters of each string, and a note of the rest.

        The strings are all of stdout, all of stderr, the text of each result, the error's value and
        traceback, and the error message. The start and the end are kept. Other types of a result
        (pictures, HTML) are left out if they are longer.

        Arguments:
            limit: characters to keep of each string.

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
    """Return the start and the end of a string that is longer than `limit` characters."""
    if not isinstance(text, str) or len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    middle = f"\n[... {len(text) - limit:,} characters left out ...]\n"
    return text[:head] + middle + text[len(text) - tail :]
