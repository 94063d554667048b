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
    """What every answer has.

    `request_id` names the request at the service, `error_message` is empty on success.
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
    """Answer to `list`: one page of sessions.

    Each entry of `session_ids` is a dict with `sessionId`, `sessionStatus`, `appInstanceId` and
    `imageId`. `next_token` is empty on the last page.
    """

    session_ids: list[dict[str, str]] = field(default_factory=list)
    next_token: str = ""
    max_results: int = 0
    total_count: int = 0


@dataclass(frozen=True)
class DeleteResult(Refusable):
    """Answer to `delete`."""


@dataclass(frozen=True)
class OperationResult(Refusable):
    """Answer to `keep_alive` and `set_labels`."""


@dataclass(frozen=True)
class SessionStatusResult(Refusable):
    """Answer to `get_status`: RUNNING, DELETING, FINISH and others; empty when unknown."""

    status: str = ""


@dataclass(frozen=True)
class LabelsResult(Refusable):
    """Answer to `get_labels`."""

    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResult(ApiResponse):
    """Answer of a tool: its text, or the text of its error in `error_message`."""

    data: str = ""

    @property
    def text(self) -> str:
        """What the tool said, well or ill."""
        return self.data if self.success else self.error_message


@dataclass(frozen=True)
class ShellResult:
    """What a shell command printed and how it ended; `exit_code` is 124 at its timeout."""

    stdout: str
    stderr: str
    exit_code: int

    @property
    def success(self) -> bool:
        """Did it end with the exit code 0?"""
        return self.exit_code == 0


@dataclass(frozen=True)
class CodeLogs:
    """What the code printed, in chunks; newlines are inside the chunks."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CodeOutput:
    """One result: a MIME bundle as the sandbox gave it.

    `is_main_result` marks the value of the last expression; the others were displayed.
    """

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    is_main_result: bool = False


@dataclass(frozen=True)
class CodeError:
    """How the code failed. `traceback` is one text, empty when the service sent none."""

    name: str
    value: str
    traceback: str = ""


@dataclass(frozen=True)
class CodeExecutionResult(ApiResponse):
    """Result of code execution operations (Code API reference).

    What the user's code did, be it an error: then `success` is False, `error` says which, and
    `logs` and `results` hold what came before. Code stopped at its timeout has
    `error.name == "TimeoutError"`. `execution_time` is in seconds.
    """

    logs: CodeLogs = field(default_factory=CodeLogs)
    results: list[CodeOutput] = field(default_factory=list)
    error: CodeError | None = None
    execution_count: int | None = None
    execution_time: float = 0.0

    @property
    def result(self) -> str:
        """The text of the main result, else of the first result with a text, else the prints."""
        main = [output for output in self.results if output.is_main_result]
        for output in (*main, *self.results):
            text = output.data.get("text/plain")
            if isinstance(text, str):
                return text
        return "".join(self.logs.stdout)

    def shortened(self, limit: int) -> CodeExecutionResult:
        """Return the same with texts of at most `limit` characters each, and a line for the rest.

        The texts are all of stdout, all of stderr, the text of each result, and the error's value
        and traceback. The beginning and the end are kept. Other kinds of a result (pictures,
        HTML) are left out if they are longer.
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
