"""Every error this project raises on purpose. Each message says what happened and what to do next.

AgentBayError
├── ConfigurationError            a setting, a key or an address is missing or wrong
│   ├── NoBackendError            neither a key nor the local runtime was chosen
│   ├── StateFileError            the file that says which sessions are yours can't be used
│   └── RecipeError               a setup recipe is not valid
├── VerbError                     a line of `%agentbay` is not valid; nothing was done
├── NotAllowedError               a cell asked for what only configuration may allow
├── NotebookError                 a notebook could not be read, run or written
├── KernelspecError               a kernelspec could not be placed or removed
├── LocalRuntimeError             the local runtime could not be started
├── SessionError                  a session could not be created or used
│   ├── QuotaError                the account has no free session slot
│   │   └── SessionLimitError     the user has as many sessions as `max_sessions` allows
│   ├── AttachedSessionError      it is another's session, so that was not done to it
│   └── SetupError                a new session could not be set up as its recipe says
├── RemoteError                   the user's code failed in the sandbox (raised by the magics)
├── ExchangeError                 a value or a file could not be brought to the other side
│   ├── UnsupportedValueError     a value of a kind that can't travel
│   ├── MissingNameError          no variable or file of that name
│   ├── TooLargeError             more bytes than the setting exchange_limit allows
│   ├── MalformedValueError       what the sandbox sent is not what it claims to be
│   ├── UnsafePathError           a path that leads elsewhere, or is none
│   ├── TargetExistsError         a file is there already, with another content
│   ├── ChecksumError             what arrived is not what was sent
│   └── ExchangeStoppedError      it was stopped on its way
└── CommandError                  the service could not do what was asked (Code API reference)
    ├── UnsupportedLanguageError  no such language; nothing was sent
    ├── InvalidCodeError          the code is empty or not text; nothing was sent
    ├── InvalidTimeoutError       timeout_s is not in 0 < t <= 60; nothing was sent
    ├── ToolNotFoundError         the session's image has no such tool
    ├── SessionNotFoundError      the session was released, deleted or never existed
    ├── AuthenticationError       the API key was refused
    ├── ThrottledError            too many requests (429)
    ├── ServiceUnreachableError   no connection; nothing was sent, nothing ran
    ├── AnswerLostError           sent, but no answer came: whether the code ran is unknown
    ├── ServiceFaultError         the service answered with an error of its own
    ├── InvalidAnswerError        the service answered something that is not an answer
    └── BridgeError               the bridge to the sandbox's kernel can't be had, or broke
        ├── KernelEndedError      that kernel ended; the bridge can be had again
        └── SilentSessionError    the session did not answer; the cell's fate is not known yet

CodeSyntaxWarning (a SyntaxWarning) is only ever warned with: code that may not parse.
"""

from __future__ import annotations


class AgentBayError(Exception):
    """Base of every error of this project."""


class ConfigurationError(AgentBayError):
    """A setting, a key or an address is missing or wrong."""


class NoBackendError(ConfigurationError):
    """Neither an API key nor the local runtime was chosen, so there is nowhere to run code."""


class VerbError(AgentBayError):
    """A line of `%agentbay` or `%%agentbay` is not valid. Nothing was done."""


class NotAllowedError(AgentBayError):
    """A cell asked for something that only configuration or the command line may allow."""


class StateFileError(ConfigurationError):
    """The file that says which sessions are yours can't be used."""


class RecipeError(ConfigurationError):
    """A setup recipe is not valid, or asks for what the user's configuration does not allow."""


class NotebookError(AgentBayError):
    """A notebook could not be read, run or written."""


class KernelspecError(AgentBayError):
    """A kernelspec could not be placed or removed."""


class LocalRuntimeError(AgentBayError):
    """The local runtime could not be started."""


class SessionError(AgentBayError):
    """A session could not be created or used."""


class QuotaError(SessionError):
    """The account has no free session slot."""


class SessionLimitError(QuotaError):
    """The user has as many sessions as `max_sessions` allows."""


class AttachedSessionError(SessionError):
    """The session belongs to somebody else, so what was asked was not done to it."""


class SetupError(SessionError):
    """A new session could not be set up as its recipe says."""


class RemoteError(AgentBayError):
    """The user's code failed in the sandbox.

    Arguments:
        ename: name of the remote exception, for example `ZeroDivisionError`.
        evalue: its message.
        traceback: the remote traceback's lines, ANSI colours included.
    """

    def __init__(self, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback


class ExchangeError(AgentBayError):
    """A value or a file could not be brought to the other side."""


class UnsupportedValueError(ExchangeError):
    """A value of a kind that can't travel, or that the other side has no library for."""


class MissingNameError(ExchangeError):
    """There is no variable or file of that name."""


class TooLargeError(ExchangeError):
    """More bytes than the setting `exchange_limit` allows."""


class MalformedValueError(ExchangeError):
    """What the sandbox sent is not what it claims to be. None of it is used."""


class UnsafePathError(ExchangeError):
    """A path that leads out of where it may lead, or is none."""


class TargetExistsError(ExchangeError):
    """A file is there already, with another content; it was not overwritten."""


class ChecksumError(ExchangeError):
    """What arrived is not what was sent; it is not used."""


class ExchangeStoppedError(ExchangeError):
    """The exchange was stopped on its way."""


class CommandError(AgentBayError):
    """The service could not do what was asked.

    `request_id` names the request at the service where one was answered, else it is empty.
    """

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class UnsupportedLanguageError(CommandError, ValueError):
    """The language is not one the service runs. Nothing was sent."""


class InvalidCodeError(CommandError, ValueError):
    """The code is empty or not text. Nothing was sent."""


class InvalidTimeoutError(CommandError, ValueError):
    """`timeout_s` is not a number of seconds in 0 < t <= 60. Nothing was sent."""


class ToolNotFoundError(CommandError):
    """The session's image does not have the tool."""


class SessionNotFoundError(CommandError):
    """The session was released, was deleted or never existed."""


class AuthenticationError(CommandError):
    """The API key was refused."""


class ThrottledError(CommandError):
    """The service asked to slow down (HTTP 429). What was asked was not done.

    `retry_after_s` is how many seconds the service asked to wait, 0 when it did not say.
    """

    def __init__(self, message: str, *, request_id: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class ServiceUnreachableError(CommandError):
    """No connection to the service. The request was never sent, so nothing ran."""


class AnswerLostError(CommandError):
    """The request was sent and no answer came: whether the code ran is unknown.

    `status` is the HTTP status where a gateway said so (502, 504), else 0.
    """

    def __init__(self, message: str, *, request_id: str = "", status: int = 0) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status


class ServiceFaultError(CommandError):
    """The service answered with an error of its own.

    `code` is the service's error code (for example `InternalError`), `status` the HTTP status.
    """

    def __init__(
        self, message: str, *, request_id: str = "", code: str = "", status: int = 0
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        self.status = status


class InvalidAnswerError(CommandError):
    """The service answered something that is not an answer of its protocol."""


# What failed so may go well the next time - where asking twice does no harm.
PASSING_FAILURES = (
    AnswerLostError,
    InvalidAnswerError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)


class CodeSyntaxWarning(SyntaxWarning):
    """The code does not parse here. It is sent all the same: the sandbox decides."""


class BridgeError(CommandError):
    """The bridge to the kernel in the sandbox can't be had, or it broke."""


class KernelEndedError(BridgeError):
    """The kernel in the sandbox ended: killed, out of memory, or by its own code."""


class SilentSessionError(BridgeError):
    """The session did not answer for long. What became of the cell is not known yet."""
