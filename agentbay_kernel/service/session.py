"""One session: running code, calling tools, and its life cycle.

A tool call goes by LinkUrl if the session offers it, else by the action route. Code that streams
goes by the WebSocket. No call is sent twice. Actions, LinkUrl and the steps of a deletion are those
of the AgentBay wire protocol.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentbay_kernel.errors import (
    AuthenticationError,
    CommandError,
    InvalidResponseError,
    InvalidTimeoutError,
    ServiceFaultError,
    ServiceUnreachableError,
    SessionNotFoundError,
    ToolNotFoundError,
)
from agentbay_kernel.service.access import Access, read_access
from agentbay_kernel.service.actions import (
    MOST_ATTEMPTS,
    USER_AGENT,
    Actions,
    is_transient_fault,
    repeat,
)
from agentbay_kernel.service.code import LONGEST_TIMEOUT_S, Code, CodeStream
from agentbay_kernel.service.endpoint import place_of
from agentbay_kernel.service.envelope import (
    Envelope,
    ToolResponse,
    decode_json,
    read_action_tool,
    read_link_tool,
)
from agentbay_kernel.service.files import Files
from agentbay_kernel.service.jobs import Job, start_job
from agentbay_kernel.service.log import get_logger
from agentbay_kernel.service.results import (
    DeleteResult,
    LabelsResult,
    OperationResult,
    Refusable,
    SessionStatusResult,
    ShellResult,
    ToolResult,
    refused,
)
from agentbay_kernel.service.tools import Capacity, read_shell
from agentbay_kernel.service.websocket import WebSocketCall, WebSocketRoute

# Seconds that the service and the network may add to a tool's own time, to start it or to stop it.
ANSWER_MARGIN_S = 6.0
LONGEST_DELETE_S = 300.0
# After a failed WebSocket connection, code goes by the other routes for this time.
_REST_S = 30.0
# The server of run_code if the session does not list it (AgentBay wire protocol).
_CODE_SERVER = "wuying_codespace"
_NOT_HERE = (404, 410)
_ENDED = ("FINISH", "DELETED")
_NO_TOOL = re.compile(r"tool by name ['\"]?([\w.-]+)['\"]? not found", re.IGNORECASE)

# Restricted, because the id becomes part of messages, labels and files.
_SESSION_ID = re.compile(r"[\w.:@-]{1,200}", re.ASCII)

_log = get_logger("session")


# A message of the action route has at most about 63 KB, envelope included (AgentBay wire protocol;
# the SDK's own pieces are 51 KB). LinkUrl has no known limit.
_BY_ACTION = Capacity(51_200, 44_000)
_BY_LINK = Capacity(2_500_000, 4_000_000)


class Session:
    """One remote sandbox. Thread-safe.

    Made by `AgentBay.create` and `AgentBay.get`, not by hand. `delete` removes everything in the
    sandbox: variables, processes, files that code wrote. Running code creates no files by itself.
    """

    def __init__(self, actions: Actions, session_id: str, access: Access) -> None:
        self._actions = actions
        self._session_id = session_id
        self._access = self._hidden(access)
        self._code = Code(self.call_tool, self.stream_code)
        self._files = Files(self)
        self._lock = threading.Lock()
        self._route: WebSocketRoute | None = None
        self._streams_again_at = 0.0

    def __repr__(self) -> str:
        return f"Session({self._session_id!r} at {self._actions.place})"

    @property
    def session_id(self) -> str:
        """Return the session's name at the service."""
        return self._session_id

    @property
    def code(self) -> Code:
        """Return the object that runs code in the session."""
        return self._code

    @property
    def files(self) -> Files:
        """Return the object that reads and writes files of the sandbox."""
        return self._files

    @property
    def tools(self) -> Mapping[str, str]:
        """Return the session's tools and the server of each, as far as the service listed them."""
        return self._access.tools

    @property
    def token(self) -> str:
        """Return the token for `link_url` and `ws_url`, a secret. Never show it."""
        return self._access.token

    @property
    def link_url(self) -> str:
        """Return the address for tool calls; empty if only the action route is offered."""
        return self._access.link_url

    @property
    def ws_url(self) -> str:
        """Return the address for streaming; empty if it is not offered."""
        return self._access.ws_url

    def call_mcp_tool(
        self, name: str, args: Mapping[str, Any], timeout_s: float = 60
    ) -> ToolResult:
        """Call a tool of the sandbox, for example `shell`. Never sent twice.

        Arguments:
            name: the tool.
            args: the tool's arguments, as JSON values.
            timeout_s: seconds that the tool may take. The tool does not get this number.

        Returns:
            The text of its response, or of its error.

        Raises:
            ToolNotFoundError: the session's image has no such tool.
            CommandError: the service did not call the tool, or the response was lost.
        """
        answer = self.call_tool(name, args, timeout_s)
        return ToolResult(
            request_id=answer.request_id,
            success=not answer.is_error,
            error_message=answer.text if answer.is_error else "",
            data="" if answer.is_error else answer.text,
        )

    def run_shell(self, command: str, timeout_s: float = 5) -> ToolResult:
        """Run a shell command in the sandbox. It does not wait for code that runs there.

        Arguments:
            command: the command, for bash.
            timeout_s: seconds after which the sandbox stops it.

        Returns:
            The tool's text as it is; `shell` returns its parts.

        Raises:
            CommandError: the service could not run it, or its response was lost.
        """
        arguments = {"command": command, "timeout_ms": int(timeout_s * 1000)}
        return self.call_mcp_tool("shell", arguments, timeout_s)

    def shell(
        self,
        command: str,
        timeout_s: float = 50,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
    ) -> ShellResult:
        """Run a shell command in the sandbox and wait for its end. Never sent twice.

        It does not wait for code that runs there. For more than 60 seconds, use `start`.

        Arguments:
            command: the command, for bash.
            timeout_s: seconds after which the sandbox stops it; its output is lost then.
            cwd: the directory to run in.
            envs: variables of its environment.

        Returns:
            What it printed, and its exit code. A failing command raises no error.

        Raises:
            InvalidTimeoutError: `timeout_s` is invalid; nothing was sent.
            CommandError: the service could not run it, or its response was lost.
        """
        if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            raise InvalidTimeoutError(
                f"timeout_s is {timeout_s!r}. Nothing was sent: a command may take at most "
                f"{LONGEST_TIMEOUT_S} seconds. Start longer ones with `session.start`."
            )
        arguments: dict[str, Any] = {"command": command, "timeout_ms": int(timeout_s * 1000)}
        if cwd is not None:
            arguments["cwd"] = cwd
        if envs:
            arguments["envs"] = dict(envs)
        return read_shell(self.call_mcp_tool("shell", arguments, timeout_s))

    def start(
        self, command: str, *, cwd: str | None = None, envs: Mapping[str, str] | None = None
    ) -> Job:
        """Start a shell command that may take long, and return at once.

        The command continues if the connection is lost or this program ends; it ends with the
        session. It is started only once, even if the network fails.

        Arguments:
            command: the command, for bash.
            cwd: the directory to run in.
            envs: variables of its environment.

        Returns:
            The job, to follow, wait for and stop.

        Raises:
            ExchangeError: the command could not be written or started.
            CommandError: the service could not start it.
        """
        return start_job(self, command, cwd=cwd, envs=envs)

    def job(self, job_id: str) -> Job:
        """Find a job that was started earlier, perhaps by another program. Nothing is sent.

        Arguments:
            job_id: `Job.id` of that job.

        Returns:
            The job.

        Raises:
            ValueError: `job_id` is not the id of a job.
        """
        return Job(self, job_id)

    def capacity(self, tool: str) -> Capacity:
        """Return how much data one call of a tool can carry on its route.

        Arguments:
            tool: the tool's name.

        Returns:
            Characters that a call may send and receive.
        """
        return _BY_LINK if self.link_url and tool in self.tools else _BY_ACTION

    def call_tool(self, name: str, args: Mapping[str, Any], timeout_s: float) -> ToolResponse:
        """Call a tool and return its own response; `call_mcp_tool` and `Code` use this.

        Arguments:
            name: the tool.
            args: the tool's arguments, as JSON values.
            timeout_s: seconds that the tool may take.

        Returns:
            The text of the response, and whether it is an error.

        Raises:
            ToolNotFoundError: the session's image has no such tool.
            CommandError: the service did not call the tool, or the response was lost.
        """
        access = self._access
        server = access.link_server(name)
        if server:
            try:
                answer = self._call_by_link(access, server, name, args, timeout_s)
            except ServiceUnreachableError as error:
                # Nothing was sent: some networks only allow connections to the endpoint.
                _log.info("LinkUrl is out of reach, the action route is used: %s", error)
                self._access = Access(access.token, "", access.ws_url, access.tools)
                answer = self._call_by_action(name, args, timeout_s)
        else:
            answer = self._call_by_action(name, args, timeout_s)
        missing = _NO_TOOL.search(answer.text[:200]) if answer.is_error else None
        if missing and missing[1] == name:
            raise ToolNotFoundError(
                f"The session's image has no tool {name!r} ({answer.text[:200]}). "
                'Create the session with image_id="code_latest".',
                request_id=answer.request_id,
            )
        return answer

    @property
    def can_stream(self) -> bool:
        """Return whether code can stream now: it is offered, and did not fail within 30 seconds."""
        access = self._access
        offered = bool(access.ws_url and access.token)
        return offered and time.monotonic() >= self._streams_again_at

    def stream_code(
        self, params: Mapping[str, Any], timeout_s: float, silence_s: float | None
    ) -> CodeStream:
        """Send a streaming `run_code`; `Code.stream_code` uses this.

        Arguments:
            params: the fields of the call.
            timeout_s: seconds that the code may take.
            silence_s: seconds without an event after which the response counts as lost.

        Returns:
            The events of the run.

        Raises:
            ServiceUnreachableError: there is no WebSocket, nothing was sent.
            CommandError: the code was refused and did not run.
        """
        try:
            try:
                call = self._send_streaming(params, timeout_s, silence_s)
            except AuthenticationError as refusal:
                self._renew_access()
                _log.info("The WebSocket was refused; its address and token are new: %s", refusal)
                # The refused connection sent no code, so the code is still sent only once.
                call = self._send_streaming(params, timeout_s, silence_s)
        except ServiceUnreachableError:
            self._streams_again_at = time.monotonic() + _REST_S
            raise
        return CodeStream(call, self._actions.quote, self._actions.transport.largest_response)

    def _send_streaming(
        self, params: Mapping[str, Any], timeout_s: float, silence_s: float | None
    ) -> WebSocketCall:
        access = self._access
        if not access.ws_url or not access.token:
            raise ServiceUnreachableError(
                "The session offers no WebSocket, so nothing was sent. Use run_code."
            )
        with self._lock:
            if self._route is None or not self._route.leads_to(access.ws_url, access.token):
                self._close_route()
                self._route = WebSocketRoute(
                    access.ws_url, access.token, self._actions.transport, self._actions.quote
                )
            route = self._route
        return route.call(
            access.tools.get("run_code") or _CODE_SERVER,
            "run_code",
            params,
            within_s=timeout_s + ANSWER_MARGIN_S,
            silence_s=silence_s,
        )

    def _close_route(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            route.close()

    def delete(self, wait: bool = True, timeout_s: float | None = None) -> DeleteResult:
        """Delete the session. Everything in its sandbox is lost, temporary files included.

        Arguments:
            wait: return when the session has ended, not when the service has accepted.
            timeout_s: seconds for all of it; 300 if it waits, unless given.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        ends_at = time.monotonic() + (timeout_s or LONGEST_DELETE_S)
        tried = 0

        def send() -> Envelope:
            nonlocal tried
            tried += 1
            return self._actions.call("DeleteSessionAsync", self._fields(), total_s=timeout_s)

        try:
            # With a time limit there is one attempt, which gets all of the time.
            attempts = 1 if timeout_s is not None else MOST_ATTEMPTS
            envelope = repeat(
                send, is_transient_fault, what="DeleteSessionAsync", attempts=attempts
            )
        except SessionNotFoundError as error:
            if tried == 1:
                return refused(DeleteResult, error)
            # An earlier attempt deleted the session, and only its response was lost.
            return DeleteResult(request_id=error.request_id)
        except CommandError as error:
            return refused(DeleteResult, error)
        with self._lock:
            self._close_route()
        if wait and not self._has_ended(ends_at):
            waited = f"{timeout_s or LONGEST_DELETE_S:g} s"
            return DeleteResult(
                request_id=envelope.request_id,
                success=False,
                error_message=f"The service accepted to delete {self._session_id}, and it had not "
                f"ended after {waited}. It will end by itself; list the sessions to see.",
            )
        return DeleteResult(request_id=envelope.request_id)

    def keep_alive(self) -> OperationResult:
        """Restart the session's idle time.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        return self._operate("RefreshSessionIdleTime", {})

    def get_status(self) -> SessionStatusResult:
        """Request the session's status.

        Returns:
            A result with the `status`: `RUNNING`, `DELETING`, `FINISH` and others.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        try:
            envelope = self._detail()
        except CommandError as error:
            return refused(SessionStatusResult, error)
        return SessionStatusResult(request_id=envelope.request_id, status=_status(envelope))

    def set_labels(self, labels: Mapping[str, str]) -> OperationResult:
        """Replace all labels of the session.

        Arguments:
            labels: values by names.

        Returns:
            A result with `success`, or with `error_message` and `failure`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        problem = label_problem(labels) or ("" if labels else "Labels cannot be empty.")
        if problem:
            return OperationResult(success=False, error_message=problem)
        return self._operate("SetLabel", {"Labels": json.dumps(dict(labels))})

    def get_labels(self) -> LabelsResult:
        """Request the labels of the session, including the one that this client added.

        Returns:
            A result with the `labels`.

        Raises:
            CommandError: the service was not reached, or returned an invalid response.
        """
        try:
            envelope = self._actions.call_repeatable("GetLabel", self._fields())
        except CommandError as error:
            return refused(LabelsResult, error)
        labels = envelope.data.get("Labels") if isinstance(envelope.data, dict) else None
        try:
            labels = decode_json(labels) if isinstance(labels, str) and labels else labels or {}
        except ValueError:
            labels = None
        if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
            raise InvalidResponseError(
                f"{self._actions.place} returned invalid labels.",
                request_id=envelope.request_id,
            )
        return LabelsResult(request_id=envelope.request_id, labels=labels)

    def _call_by_action(self, name: str, args: Mapping[str, Any], timeout_s: float) -> ToolResponse:
        # AutoGenSession would create a session if this one is gone. The service finds the server.
        fields = {
            "Args": json.dumps(dict(args), ensure_ascii=False),
            "AutoGenSession": "False",
            "Name": name,
            "Server": "",
            **self._fields(),
        }
        envelope = self._actions.call(
            "CallMcpTool", fields, answer_within_s=timeout_s + ANSWER_MARGIN_S
        )
        return read_action_tool(envelope, place=self._actions.place, quote=self._actions.quote)

    def _call_by_link(
        self, access: Access, server: str, name: str, args: Mapping[str, Any], timeout_s: float
    ) -> ToolResponse:
        request_id = f"link-{time.time_ns() // 1_000_000}-{secrets.randbelow(10**9):09d}"
        body = {
            "args": dict(args),
            "server": server,
            "requestId": request_id,
            "tool": name,
            "token": access.token,
        }
        answer = self._actions.transport.post(
            f"{access.link_url}/callTool",
            json.dumps(body).encode("ascii"),
            {
                "Content-Type": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
                "X-Access-Token": access.token,
            },
            answer_within_s=timeout_s + ANSWER_MARGIN_S,
        )
        place = place_of(access.link_url)
        answer = replace(answer, body=self._actions.quote.without_secrets(answer.body))
        try:
            return read_link_tool(answer, request_id, place=place, quote=self._actions.quote)
        except (AuthenticationError, ServiceFaultError) as error:
            if isinstance(error, ServiceFaultError) and error.status not in _NOT_HERE:
                raise
            refusal = error
        raise self._link_refused(refusal)

    def _link_refused(self, refusal: AuthenticationError | ServiceFaultError) -> CommandError:
        """Return the error for a refused address or token: the session is gone, or they are old.

        Nothing ran. If the session exists, its address and token are requested again.
        """
        try:
            self._renew_access()
        except SessionNotFoundError as error:
            return error
        return ServiceFaultError(
            f"The session {self._session_id} lives, but its address or access token was refused; "
            "they were fetched again. The code did not run: run it again.",
            request_id=refusal.request_id,
            status=getattr(refusal, "status", 401),
        )

    def _renew_access(self) -> None:
        envelope = self._actions.call_repeatable("GetSession", self._fields())
        data = envelope.data if isinstance(envelope.data, dict) else {}
        self._access = self._hidden(read_access(data, self._actions.endpoint))

    def _has_ended(self, ends_at: float) -> bool:
        wait_s = 0.1
        while True:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return False
            try:
                envelope = self._detail(left_s)
                if _status(envelope) in _ENDED:
                    return True
            except SessionNotFoundError:
                return True
            except CommandError as error:
                _log.info("Waiting for the end of %s: %s", self._session_id, error)
            wait_s = min(1.0, wait_s * 1.5)
            time.sleep(max(0.0, min(wait_s, ends_at - time.monotonic())))

    def _detail(self, total_s: float | None = None) -> Envelope:
        # This action expects its field in the query.
        return self._actions.call_repeatable(
            "GetSessionDetail", {}, query=self._fields(), total_s=total_s
        )

    def _operate(self, action: str, fields: Mapping[str, str]) -> OperationResult:
        try:
            envelope = self._actions.call_repeatable(action, {**fields, **self._fields()})
        except CommandError as error:
            return refused(OperationResult, error)
        return OperationResult(request_id=envelope.request_id)

    def _hidden(self, access: Access) -> Access:
        # The service may repeat a token in its messages.
        self._actions.quote.hide(access.token)
        return access

    def _fields(self) -> dict[str, str]:
        return {"SessionId": self._session_id}


@dataclass(frozen=True)
class SessionResult(Refusable):
    """Result of `create` and `get`.

    Arguments:
        request_id: the service's id of the request.
        success: whether the service carried out the request.
        error_message: empty on success.
        failure: the error that describes a refusal; None on success.
        session: the session, or None.
    """

    session: Session | None = None


def open_session(actions: Actions, envelope: Envelope, session_id: str = "") -> Session:
    """Return the session that a response to CreateMcpSession or GetSession describes.

    Arguments:
        session_id: the requested id, if there was one.

    Raises:
        ServiceFaultError: the response reports a failure.
        InvalidResponseError: the response describes no session.
    """
    data = envelope.data if isinstance(envelope.data, dict) else {}
    if data.get("Success") is False:
        raise ServiceFaultError(
            f"{actions.place} refused: {actions.quote(data.get('ErrMsg') or 'no reason given')}.",
            request_id=envelope.request_id,
        )
    found_id = data.get("SessionId") or session_id
    if not isinstance(found_id, str) or not _SESSION_ID.fullmatch(found_id):
        raise InvalidResponseError(
            f"{actions.place} returned no session.", request_id=envelope.request_id
        )
    return Session(actions, found_id, read_access(data, actions.endpoint))


def label_problem(labels: Mapping[str, str]) -> str:
    """Return the problem of labels, or "": they must be non-empty strings by non-empty names."""
    for key, value in labels.items():
        if not isinstance(key, str) or not key.strip():
            return "Label keys cannot be empty, and are texts."
        if not isinstance(value, str) or not value.strip():
            return f"Label values cannot be empty, and are texts; that of {key!r} is not."
    return ""


def _status(envelope: Envelope) -> str:
    status = envelope.data.get("Status") if isinstance(envelope.data, dict) else None
    return status if isinstance(status, str) else ""
