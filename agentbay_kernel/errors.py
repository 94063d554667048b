"""Every error that this project raises. Each message shows what failed, why, and what to do next.

AgentBayError
├── ConfigurationError            a setting, a key or an address is missing or wrong
│   ├── NoBackendError            no backend is set: neither a key nor the local runtime
│   ├── StateFileError            the list of your sessions can't be read or written
│   └── RecipeError               a setup recipe is invalid
├── VerbError                     a line of `%agentbay` is invalid; nothing was done
├── NotAllowedError               a cell asked for something that only configuration may allow
├── NotebookError                 a notebook could not be read, run or written
├── KernelspecError               a kernelspec could not be installed or removed
├── LocalRuntimeError             the local runtime could not be started
├── SessionError                  a session could not be created or used
│   ├── QuotaError                the account has no free session slot
│   │   └── SessionLimitError     the user has as many sessions as `max_sessions` allows
│   ├── AttachedSessionError      the session belongs to somebody else, so nothing was done to it
│   └── SetupError                a new session could not be set up by its recipe
├── RemoteError                   the user's code failed in the sandbox (raised by the magics)
├── ExchangeError                 a value or a file could not be transferred
│   ├── UnsupportedValueError     a value of a type that can't be transferred
│   ├── MissingNameError          no variable or file of that name
│   ├── TooLargeError             more bytes than the setting exchange_limit allows
│   ├── MalformedValueError       the sandbox sent invalid data
│   ├── UnsafePathError           an invalid path, or one outside of the allowed directory
│   ├── TargetExistsError         a file with other content exists already
│   ├── ChecksumError             the data changed during the transfer
│   └── ExchangeStoppedError      the transfer was stopped
└── CommandError                  the service could not carry out a request (Code API reference)
    ├── UnsupportedLanguageError  no such language; nothing was sent
    ├── InvalidCodeError          the code is empty or not text; nothing was sent
    ├── InvalidTimeoutError       timeout_s is not in 0 < t <= 60; nothing was sent
    ├── ToolNotFoundError         the session's image has no such tool
    ├── SessionNotFoundError      the session was released, deleted or never existed
    │   └── SessionLostError      a pool's session was lost, and its items may have run
    ├── AuthenticationError       the API key was refused
    ├── ThrottledError            too many requests (429)
    ├── ServiceUnreachableError   no connection; nothing was sent, nothing ran
    ├── ResponseLostError         sent, but no response came: whether the code ran is unknown
    ├── ServiceFaultError         the service returned an error
    ├── InvalidResponseError      the service returned an invalid response
    └── BridgeError               the bridge to the sandbox's kernel can't be installed, or broke
        ├── KernelEndedError      that kernel stopped; the next cell starts a new one
        └── SilentSessionError    the session did not respond; the cell's result is not known yet

CodeSyntaxWarning (a SyntaxWarning) is a warning only: code that may not parse.
"""

from __future__ import annotations


class AgentBayError(Exception):
    """Base of every error of this project.

    Cause: This class is never raised itself.
    Fix: `except AgentBayError` catches every error of this page. Of your own code's errors it
        catches RemoteError only.
    """


class ConfigurationError(AgentBayError):
    """A setting, a key or an address is missing or wrong.

    Cause: A variable `AGENTBAY_...`, `jupyter_agentbay_config.py`, a `.env` file or an argument
        has an invalid value, or an optional package is not installed. The message names it.
    Fix: Correct it, then restart the kernel. `%agentbay config` and `jupyter agentbay doctor` show
        where each value comes from.
    """


class NoBackendError(ConfigurationError):
    """No backend is set: there is neither an API key nor the local runtime to run code in.

    Cause: AGENTBAY_API_KEY is set neither in the kernel's environment nor in a `.env` file next to
        the notebook or above it, and AGENTBAY_BACKEND is not `local`. A variable that you set in a
        terminal reaches a kernel only if you start Jupyter from that terminal.
    Fix: Set one of the two, then restart the kernel. After a change of the environment, restart
        Jupyter.
    """


class VerbError(AgentBayError):
    """A line of `%agentbay` or `%%agentbay` is invalid. Nothing was done.

    Cause: There is no such command, flag, file or variable, an argument is missing, or this kind of
        notebook doesn't have the command.
    Fix: The message shows the usage. `%agentbay help` lists the commands, and `%agentbay COMMAND
        --help` the arguments of one.
    """


class NotAllowedError(AgentBayError):
    """A cell asked for something that only configuration or the command line may allow.

    Cause: A cell tried to loosen a setting, to reach a file outside of the notebook's directory or
        with a name that starts with a dot, to delete a session of somebody else, or to read or
        write on this machine while `untrusted` is set.
    Fix: If you want it, allow it yourself: set the variable or the line of
        `jupyter_agentbay_config.py` that the message names, and restart the kernel. Or move the
        file into the notebook's directory, or use the command line.
    """


class StateFileError(ConfigurationError):
    """The list of your sessions can't be read or written.

    Cause: `sessions.json` in the state directory can't be written or locked, is not a file, or was
        written by another version of this package. Without the list a session could be left
        running unnoticed, so no session is created.
    Fix: Make the directory that the message names writable, free space on its disk, or set
        AGENTBAY_STATE_DIR to another directory.
    """


class RecipeError(ConfigurationError):
    """A setup recipe is invalid, or asks for something that the configuration does not allow.

    Cause: `agentbay.toml` or the cell `%%agentbay setup` is not valid TOML, has an unknown key,
        names a file outside of the notebook's directory, or uses a variable that `setup_env` does
        not list. Or the files that it or the setting `session_files` names are too large or too
        many, or hold a key.
    Fix: Correct the recipe or the setting. To allow a variable, add it to `setup_env` in your
        configuration.
    """


class NotebookError(AgentBayError):
    """A notebook could not be read, run or written.

    Cause: The file is not a notebook, its language is not one that sandboxes run, the output path
        can't be written, or the kernel stopped.
    Fix: Check the path and `--language`. If the kernel stopped, run `jupyter agentbay doctor`.
    """


class KernelspecError(AgentBayError):
    """A kernelspec could not be installed or removed.

    Cause: You have no permission to write to that Jupyter directory.
    Fix: Use `--user`, or `--prefix PATH` with a directory that you can write to, or run the command
        as the user that owns the directory.
    """


class LocalRuntimeError(AgentBayError):
    """The local runtime could not be started.

    Cause: Isolation is required and bubblewrap is missing or not permitted, `local_python` is not a
        Python with ipykernel, or this machine is out of memory or processes. The message includes
        the runtime's output.
    Fix: Run `jupyter agentbay doctor` to see what is missing. `jupyter agentbay serve` in a
        terminal starts the runtime alone.
    """


class SessionError(AgentBayError):
    """A session could not be created or used.

    Cause: There is no session of that name, the name is in use, a cell runs in the session, or the
        local runtime stopped and its sessions with it.
    Fix: `%agentbay sessions` lists the sessions, and the message names the command that helps. The
        next cell replaces a lost session.
    """


class QuotaError(SessionError):
    """The account has no free session slot.

    Cause: The account has as many sessions as the service allows. The message lists yours that this
        machine knows.
    Fix: Delete one (`jupyter agentbay sessions delete ID`; `sessions list --all` shows all), wait
        until one is released, or request a higher quota in the AgentBay console.
    """


class SessionLimitError(QuotaError):
    """The user has as many sessions as `max_sessions` allows.

    Cause: Other notebooks of yours have sessions. A kernel that was killed keeps its session for
        `grace_minutes`.
    Fix: Delete one: shut down its notebook's kernel, or use `%agentbay delete NAME`, `jupyter
        agentbay sessions delete ID` or `jupyter agentbay sessions prune`. Or set
        AGENTBAY_MAX_SESSIONS to a higher number.
    """


class AttachedSessionError(SessionError):
    """The session belongs to somebody else, so nothing was done to it.

    Cause: This notebook is attached to the session. An attached session is never deleted,
        restarted, interrupted or extended.
    Fix: Detach it with `%agentbay detach`; the next cell creates a session for this notebook. To
        delete it nevertheless, use `jupyter agentbay sessions delete ID`.
    """


class SetupError(SessionError):
    """A new session could not be set up by its recipe.

    Cause: A package can't be installed, or a variable that the recipe names is not set on this
        machine. The message ends with the installer's output. The cell
        did not run.
    Fix: Correct the recipe and run the cell again. Check that the sandbox can reach the package
        index: a local session has no network unless `local_network` is set.
    """


class RemoteError(AgentBayError):
    """The user's code failed in the sandbox.

    Arguments:
        ename: name of the remote exception, for example `ZeroDivisionError`.
        evalue: its message.
        traceback: the remote traceback's lines, ANSI colours included.

    Cause: The code itself. A notebook shows the error under its own name (`ZeroDivisionError`). The
        magics and `result()` of a background cell raise a RemoteError.
    Fix: Read the traceback, which is the sandbox's, and correct the code.
    """

    def __init__(self, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback


class ExchangeError(AgentBayError):
    """A value or a file could not be transferred.

    Cause: A local file can't be read, a disk is full, or a file tool of the sandbox failed.
        Variables and files are unchanged.
    Fix: Correct the cause that the message names and run the command again. A transfer of files
        continues where it stopped.
    """


class UnsupportedValueError(ExchangeError):
    """A value of a type that can't be transferred, or that the other side has no library for.

    Cause: Functions, classes, open files, models and other live objects can't be transferred, nor
        can expressions in place of names. A DataFrame needs pandas on both sides, and pyarrow if it
        has more than 1 MB. The message shows where in the value the problem is, and which side
        lacks what.
    Fix: Send the data that the value consists of (numbers, strings, lists, dicts, arrays, tables),
        or install the library: `%pip install` in a cell of the sandbox or, if your side lacks it,
        of the notebook.
    """


class MissingNameError(ExchangeError):
    """There is no variable or file of that name.

    Cause: A name is misspelled, its cell has not run, or the session was replaced and its variables
        are lost.
    Fix: `%agentbay top` shows the sandbox's variables and files.
    """


class TooLargeError(ExchangeError):
    """More bytes than the setting `exchange_limit` allows.

    Cause: The value or the files are larger than the limit, or JSON is larger than 256 MB, or a
        directory has too many files.
    Fix: Send less: numbers as an array, tables as a DataFrame, many files as one archive. Or set
        AGENTBAY_EXCHANGE_LIMIT to a higher number.
    """


class MalformedValueError(ExchangeError):
    """The sandbox sent invalid data. None of it is used.

    Cause: Code in the sandbox changed the data, a library there is broken, or the session was lost
        during the transfer.
    Fix: Run `%agentbay restart` and the cells, then fetch again. If it still fails with code that
        you trust, please report it.
    """


class UnsafePathError(ExchangeError):
    """An invalid path, or one outside of the allowed directory.

    Cause: The name of a file in the sandbox leads out of the directory, starts with a dot or is not
        allowed on every system, or a part of the path is a link.
    Fix: Rename the file in the sandbox, or use the path that the link points to.
    """


class TargetExistsError(ExchangeError):
    """A file with other content exists already. It was not overwritten.

    Cause: An earlier upload or download, or a file of your own.
    Fix: Use `--force` to overwrite it, or choose another target.
    """


class ChecksumError(ExchangeError):
    """The data changed during the transfer. It is not used.

    Cause: Something wrote to the file while it was transferred.
    Fix: Run the command again when nothing writes to the file.
    """


class ExchangeStoppedError(ExchangeError):
    """The transfer was stopped.

    Cause: You pressed Stop, or the kernel was shut down.
    Fix: Run the command again. A transfer of files continues where it stopped.
    """


class CommandError(AgentBayError):
    """The service could not carry out a request.

    `request_id` is the service's id of the request; empty if there was no response.

    Cause: See the errors below; this is their base.
    Fix: `except CommandError` catches every failure of the service.
    """

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class UnsupportedLanguageError(CommandError, ValueError):
    """The service does not run this language. Nothing was sent.

    Cause: The language is neither Python nor JavaScript, or its name is misspelled.
    Fix: Use `python` (`py`) or `javascript` (`js`, `node`).
    """


class InvalidCodeError(CommandError, ValueError):
    """The code is empty or not a string. Nothing was sent.

    Cause: `run_code` was called without code, with bytes, or with a string that has half of a
        surrogate pair.
    Fix: Pass a non-empty str.
    """


class InvalidTimeoutError(CommandError, ValueError):
    """`timeout_s` is not a number of seconds in 0 < t <= 60. Nothing was sent.

    Cause: The service ends a request after 60 seconds, so `run_code` accepts no more.
    Fix: Pass at most 60. Run longer code in a notebook's cell: bridged execution has no such
        limit.
    """


class ToolNotFoundError(CommandError):
    """The session's image does not have the tool.

    Cause: The session was created from an image without code execution, or from an older image.
    Fix: Use the image `code_latest` (setting `image`, or `image_id` in Python).
    """


class SessionNotFoundError(CommandError):
    """The session was released, was deleted or never existed.

    Cause: The session was not used for `idle_minutes`, reached `max_minutes`, was deleted, or
        belongs to another account or region. The message names the cause, if known. Variables and
        files are lost. The cell did not run unless the message reports otherwise.
    Fix: Run the cell again, which creates a new session. `%agentbay rerun` runs the lost session's
        cells first. `idle_minutes` and `%agentbay extend` make sessions last longer.
    """


class SessionLostError(SessionNotFoundError):
    """A session of a SandboxExecutor was lost, and the items in it may have run.

    Cause: The session was deleted, reached its maximum lifetime or ran out of memory, or the
        connection was lost for more than a minute. Items that were not sent continue in other
        sessions.
    Fix: Submit the item again if it may run twice. `SandboxExecutor(retry=True)` does that by
        itself.
    """


class AuthenticationError(CommandError):
    """The API key was refused.

    Cause: The key is wrong or revoked, or belongs to another region. A key is valid in one region.
    Fix: Copy the key again from the AgentBay console, set AGENTBAY_REGION_ID to its region, and
        restart the kernel.
    """


class ThrottledError(CommandError):
    """There were too many requests (HTTP 429). The request was not carried out.

    `retry_after_s` is the number of seconds that the service asked to wait; 0 if it gave none.

    Cause: Many requests in a short time, for example when a class starts.
    Fix: Wait a moment and run the cell again; nothing ran.
    """

    def __init__(self, message: str, *, request_id: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class ServiceUnreachableError(CommandError):
    """No connection to the service. The request was not sent, so nothing ran.

    Cause: There is no network, a proxy blocks the connection, the region or endpoint is wrong, the
        certificate is not trusted, or the local runtime has stopped. The message names it.
    Fix: Check HTTPS_PROXY, SSL_CERT_FILE, AGENTBAY_REGION_ID and AGENTBAY_ENDPOINT. `jupyter
        agentbay doctor` tries each of them. Then run the cell again.
    """


class ResponseLostError(CommandError):
    """The request was sent, but no response came: whether the code ran is unknown.

    `status` is the HTTP status if a gateway returned one (502, 504), else 0.

    Cause: The connection broke, a gateway stopped waiting after 60 seconds, or output came faster
        than it could be read. A cell is never sent a second time.
    Fix: If running the cell twice does harm, first check what it did (a file, a variable,
        `%agentbay top`). Bridged execution checks this by itself.
    """

    def __init__(self, message: str, *, request_id: str = "", status: int = 0) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status


class ServiceFaultError(CommandError):
    """The service returned an error.

    `code` is the service's error code (for example `InternalError`), `status` the HTTP status.

    Cause: The service has a fault, or it does not accept the request. The message quotes the
        error, and `request_id` identifies the request.
    Fix: Run the cell again after a while. If it still fails, send the request's id to AgentBay's
        support.
    """

    def __init__(
        self, message: str, *, request_id: str = "", code: str = "", status: int = 0
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        self.status = status


class InvalidResponseError(CommandError):
    """The service returned an invalid response.

    Cause: A proxy or a login page responds in its place, AGENTBAY_ENDPOINT is wrong, or a response
        is larger than `response_limit`.
    Fix: Check AGENTBAY_ENDPOINT and the proxy. Print less, or write to a file. Whether the code ran
        is unknown unless the message reports it.
    """


# A request that failed with one of these may succeed if it is made again. Only requests that do no
# harm when made twice are.
TRANSIENT_FAILURES = (
    ResponseLostError,
    InvalidResponseError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)


class CodeSyntaxWarning(SyntaxWarning):
    """This Python can't parse the code. It is sent nevertheless, because the sandbox decides.

    Cause: The code has a syntax error, or syntax of another Python version or of IPython.
    Fix: Correct the code, or ignore the warning. Only users of `agentbay_kernel.service` see it.
    """


class BridgeError(CommandError):
    """The bridge to the kernel in the sandbox can't be installed, or it broke.

    Cause: `execution` is `bridged` and the sandbox has no ipykernel, no Node or no persistent
        Python process; code in the sandbox stopped the bridge; or one message was larger than the
        bridge accepts. With `execution = auto`, a sandbox without a bridge is used directly.
    Fix: Run the cell again, which installs a new bridge. If that fails, `%agentbay status` shows
        why. AGENTBAY_EXECUTION=auto works without a bridge.
    """


class KernelEndedError(BridgeError):
    """The kernel in the sandbox stopped: it was killed, ran out of memory, or exited.

    Cause: Memory in most cases; also `os._exit`, a crash in a library, or `%agentbay restart` while
        a cell ran. Variables are lost, files are kept.
    Fix: Run the notebook's cells again; the next one starts a new kernel. If memory was the cause,
        load less at once: `%agentbay top` shows how much there is.
    """


class SilentSessionError(BridgeError):
    """The session did not respond for a long time. The cell's result is not known yet.

    Cause: The network was down or the service failed for a minute while the cell ran, or the cell
        ran longer than `keep_alive_minutes`. The cell may still be running. It is never sent again.
    Fix: Run another cell. It first reports the result of this one and shows what it printed.
        `%agentbay top` shows what is running.
    """
