"""The client of the AgentBay service: the Code API and what it needs, without Jupyter.

Programs import every public class and error from here:

    with AgentBay() as agent_bay, agent_bay.session() as session:
        print(session.code.run_code("print(1 + 1)", "python").result)
"""

from __future__ import annotations

from agentbay_kernel.errors import (
    AgentBayError,
    AuthenticationError,
    CodeSyntaxWarning,
    CommandError,
    ConfigurationError,
    InvalidCodeError,
    InvalidResponseError,
    InvalidTimeoutError,
    QuotaError,
    ResponseLostError,
    ServiceFaultError,
    ServiceUnreachableError,
    SessionError,
    SessionNotFoundError,
    ThrottledError,
    ToolNotFoundError,
    UnsupportedLanguageError,
)
from agentbay_kernel.service.asynchronous import (
    AsyncAgentBay,
    AsyncCode,
    AsyncFiles,
    AsyncJob,
    AsyncSession,
)
from agentbay_kernel.service.client import AgentBay
from agentbay_kernel.service.code import Code, CodeChunk, CodeEvent, CodeStream
from agentbay_kernel.service.creation import CREATE_LABEL, CreateSessionParams
from agentbay_kernel.service.endpoint import Credentials, Endpoint, find_credentials
from agentbay_kernel.service.files import FileEntry, Files
from agentbay_kernel.service.jobs import Job, JobStatus
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.results import (
    ApiResponse,
    CodeError,
    CodeExecutionResult,
    CodeLogs,
    CodeOutput,
    DeleteResult,
    LabelsResult,
    OperationResult,
    SessionListResult,
    SessionStatusResult,
    ShellResult,
    ToolResult,
)
from agentbay_kernel.service.session import Session, SessionResult

__all__ = [
    "CREATE_LABEL",
    "AgentBay",
    "AgentBayError",
    "ApiResponse",
    "AsyncAgentBay",
    "AsyncCode",
    "AsyncFiles",
    "AsyncJob",
    "AsyncSession",
    "AuthenticationError",
    "Code",
    "CodeChunk",
    "CodeError",
    "CodeEvent",
    "CodeExecutionResult",
    "CodeLogs",
    "CodeOutput",
    "CodeStream",
    "CodeSyntaxWarning",
    "CommandError",
    "ConfigurationError",
    "CreateSessionParams",
    "Credentials",
    "DeleteResult",
    "Endpoint",
    "FileEntry",
    "Files",
    "InvalidCodeError",
    "InvalidResponseError",
    "InvalidTimeoutError",
    "Job",
    "JobStatus",
    "LabelsResult",
    "OperationResult",
    "QuotaError",
    "ResponseLostError",
    "ServiceFaultError",
    "ServiceUnreachableError",
    "Session",
    "SessionError",
    "SessionListResult",
    "SessionNotFoundError",
    "SessionResult",
    "SessionStatusResult",
    "ShellResult",
    "ThrottledError",
    "ToolNotFoundError",
    "ToolResult",
    "UnsupportedLanguageError",
    "find_credentials",
    "get_logger",
]
