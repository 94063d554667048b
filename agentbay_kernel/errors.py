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
    """Base of every error of this project.

    Cause: It is never raised itself.
    Cure: `except AgentBayError` catches all of this page, and no error of your own code but
        RemoteError.
    """


class ConfigurationError(AgentBayError):
    """A setting, a key or an address is missing or wrong.

    Cause: A variable `AGENTBAY_...`, `jupyter_agentbay_config.py`, a `.env` file or an argument
        holds a value that can't be used; or an optional package is not installed. The message names
        it.
    Cure: Correct what is named, then restart the kernel. `%agentbay config` and `jupyter agentbay
        doctor` show where each value comes from.
    """


class NoBackendError(ConfigurationError):
    """Neither an API key nor the local runtime was chosen, so there is nowhere to run code.

    Cause: No AGENTBAY_API_KEY is in the environment of the kernel or in a `.env` file beside the
        notebook or above it, and AGENTBAY_BACKEND is not `local`. A variable that is set in a
        terminal reaches a kernel only if Jupyter was started from that terminal.
    Cure: Set one of the two where Jupyter is started, then restart the kernel (a new variable in
        the environment: restart Jupyter).
    """


class VerbError(AgentBayError):
    """A line of `%agentbay` or `%%agentbay` is not valid. Nothing was done.

    Cause: There is no such verb, flag, file or variable, an argument is missing, or the line can't
        be used in this kind of notebook.
    Cure: The message says how the line is used; `%agentbay help` lists the verbs, `%agentbay VERB
        --help` one's arguments.
    """


class NotAllowedError(AgentBayError):
    """A cell asked for something that only configuration or the command line may allow.

    Cause: A cell wanted to loosen a setting, to reach a file outside of the notebook's folder or
        with a name that begins with a dot, to delete a session of somebody else, or to touch this
        machine while `untrusted` is set.
    Cure: If you want it, do it yourself: set the variable or the line of
        `jupyter_agentbay_config.py` that the message names and restart the kernel; move the file
        below the notebook's folder; or use the command line.
    """


class StateFileError(ConfigurationError):
    """The file that says which sessions are yours can't be used.

    Cause: `sessions.json` in the state folder can't be written or locked, is no file, or was
        written by another version of this package. Without it a session could be left behind
        unseen, so none is created.
    Cure: Make the folder that the message names writable, free space on its disk, or name another
        one by AGENTBAY_STATE_DIR.
    """


class RecipeError(ConfigurationError):
    """A setup recipe is not valid, or asks for what the user's configuration does not allow.

    Cause: `agentbay.toml` or the cell `%%agentbay setup` is no TOML, has an unknown key, names a
        file outside of the notebook's folder, or asks for a variable that `setup_env` does not
        list.
    Cure: Correct the recipe; a variable is allowed by `setup_env` in your own configuration.
    """


class NotebookError(AgentBayError):
    """A notebook could not be read, run or written.

    Cause: `jupyter agentbay run` was given no notebook, one in a language that sandboxes don't run,
        or a place that can't be written; or the kernel ended.
    Cure: Check the path and `--language`; if the kernel ended, `jupyter agentbay doctor` says what
        is missing.
    """


class KernelspecError(AgentBayError):
    """A kernelspec could not be placed or removed.

    Cause: You may not write to the Jupyter folder that was chosen.
    Cure: Choose `--user`, or `--prefix PATH` with a folder of yours, or run the command as the user
        that owns it.
    """


class LocalRuntimeError(AgentBayError):
    """The local runtime could not be started.

    Cause: Isolation is required and bubblewrap is missing or forbidden here, `local_python` names
        no Python with ipykernel, or this machine is out of memory or processes. The message holds
        what the runtime said.
    Cure: Run `jupyter agentbay serve` in a terminal to see it by itself, and `jupyter agentbay
        doctor` for what is missing.
    """


class SessionError(AgentBayError):
    """A session could not be created or used.

    Cause: There is no session of that name here, the name is in use, a cell runs in it, or the
        local runtime ended and took its sessions along.
    Cure: `%agentbay sessions` lists what there is; the message names the verb that helps. A lost
        session is replaced by the next cell's.
    """


class QuotaError(SessionError):
    """The account has no free session slot.

    Cause: The service counts as many sessions of the account as it allows. The message lists those
        that this machine knows as yours.
    Cure: Delete one (`jupyter agentbay sessions delete ID`, or `sessions list --all` to see every
        one), wait until one is released, or ask for a higher quota in the AgentBay console.
    """


class SessionLimitError(QuotaError):
    """The user has as many sessions as `max_sessions` allows.

    Cause: Other notebooks of yours have sessions. A kernel that was killed keeps its session for
        `grace_minutes`.
    Cure: End one: shut its notebook's kernel down, or `%agentbay delete NAME`, `jupyter agentbay
        sessions delete ID`, `jupyter agentbay sessions prune`; or set AGENTBAY_MAX_SESSIONS higher.
    """


class AttachedSessionError(SessionError):
    """The session belongs to somebody else, so what was asked was not done to it.

    Cause: A session that was attached is never deleted, restarted, interrupted or extended from
        here.
    Cure: `%agentbay detach` leaves it, and the next cell gets a session of the notebook's own. To
        delete it all the same: `jupyter agentbay sessions delete ID`.
    """


class SetupError(SessionError):
    """A new session could not be set up as its recipe says.

    Cause: A package can't be installed, a file of the recipe is too large, or a variable that it
        names is not set here. The message ends with what the installer said. The cell did not run.
    Cure: Correct the recipe and run the cell again; does the sandbox reach the package index at
        all? A local session has no network unless `local_network` is set.
    """


class RemoteError(AgentBayError):
    """The user's code failed in the sandbox.

    Arguments:
        ename: name of the remote exception, for example `ZeroDivisionError`.
        evalue: its message.
        traceback: the remote traceback's lines, ANSI colours included.

    Cause: The code itself. A notebook shows it under its own name (`ZeroDivisionError`); what the
        magics and `result()` of a background cell raise is caught as a RemoteError.
    Cure: As for any error of Python or JavaScript: the traceback is the sandbox's.
    """

    def __init__(self, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback


class ExchangeError(AgentBayError):
    """A value or a file could not be brought to the other side.

    Cause: A local file can't be read, a disk is full, or a file tool of the sandbox failed.
        Variables and files are as they were.
    Cure: Mend what the message names and run it again; a transfer of files goes on where it was.
    """


class UnsupportedValueError(ExchangeError):
    """A value of a kind that can't travel, or that the other side has no library for.

    Cause: Functions, classes, open files, models and other live objects don't travel, nor do
        expressions in place of names; a DataFrame needs pandas on both sides, and pyarrow if it
        has more than 1 MB. The message says where in the value it is, and which side lacks what.
    Cure: Send what it is made of (numbers, texts, lists, dicts, arrays, tables), or install the
        library: `%pip install` in a cell of the sandbox or, if your side lacks it, of the notebook.
    """


class MissingNameError(ExchangeError):
    """There is no variable or file of that name.

    Cause: A name is misspelt, its cell has not run, or the session was replaced and its variables
        are gone.
    Cure: Look what there is: `%agentbay top` shows the sandbox's variables and files.
    """


class TooLargeError(ExchangeError):
    """More bytes than the setting `exchange_limit` allows.

    Cause: The value or the files are larger than the limit, or JSON is larger than 256 MB, or a
        folder has too many files.
    Cure: Send less, numbers as an array and tables as a DataFrame, many files as one archive; or
        set AGENTBAY_EXCHANGE_LIMIT higher.
    """


class MalformedValueError(ExchangeError):
    """What the sandbox sent is not what it claims to be. None of it is used.

    Cause: Code in the sandbox changed what it sends, a library there is broken, or the session was
        lost halfway.
    Cure: `%agentbay restart`, run the cells again, then fetch again. If it goes on with code that
        you trust, please report it.
    """


class UnsafePathError(ExchangeError):
    """A path that leads out of where it may lead, or is none.

    Cause: A file of the sandbox has a name that would be written elsewhere, begins with a dot or is
        not allowed on every system; or a link stands in the way.
    Cure: Rename it in the sandbox, or name the file that the link leads to.
    """


class TargetExistsError(ExchangeError):
    """A file is there already, with another content; it was not overwritten.

    Cause: An earlier upload or download, or a file of your own.
    Cure: `--force` overwrites; or name another target.
    """


class ChecksumError(ExchangeError):
    """What arrived is not what was sent; it is not used.

    Cause: The file was changed while it travelled.
    Cure: Run it again when nothing writes to the file.
    """


class ExchangeStoppedError(ExchangeError):
    """The exchange was stopped on its way.

    Cause: Stop was pressed, or the kernel was shut down.
    Cure: Ask again: files go on where they were.
    """


class CommandError(AgentBayError):
    """The service could not do what was asked.

    `request_id` names the request at the service where one was answered, else it is empty.

    Cause: Each kind below has its own; this one stands for all of them.
    Cure: `except CommandError` catches what may fail at the service.
    """

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class UnsupportedLanguageError(CommandError, ValueError):
    """The language is not one the service runs. Nothing was sent.

    Cause: A language other than Python and JavaScript was named, or a name is misspelt.
    Cure: `python` (`py`) or `javascript` (`js`, `node`).
    """


class InvalidCodeError(CommandError, ValueError):
    """The code is empty or not text. Nothing was sent.

    Cause: `run_code` was given nothing, bytes, or a text with half of a surrogate pair.
    Cure: Give a str with something to run.
    """


class InvalidTimeoutError(CommandError, ValueError):
    """`timeout_s` is not a number of seconds in 0 < t <= 60. Nothing was sent.

    Cause: One request to the service is cut at 60 seconds, so `run_code` takes no more.
    Cure: Give at most 60; code that runs longer belongs into a notebook's cell in bridged
        execution, which has no such limit.
    """


class ToolNotFoundError(CommandError):
    """The session's image does not have the tool.

    Cause: The session was made from an image without code execution, or of an older version.
    Cure: Use the image `code_latest` (setting `image`, or `image_id` in Python).
    """


class SessionNotFoundError(CommandError):
    """The session was released, was deleted or never existed.

    Cause: It was not used for `idle_minutes`, reached `max_minutes`, was deleted from elsewhere, or
        belongs to another account or region. The message says which, where that can be told. Its
        variables and files are gone; the cell did not run unless the message says otherwise.
    Cure: Run the cell again: it gets a new session. `%agentbay rerun` runs the lost session's
        cells again first; `idle_minutes` and `%agentbay extend` make sessions last.
    """


class AuthenticationError(CommandError):
    """The API key was refused.

    Cause: The key is wrong, was revoked, or belongs to another region; keys are bound to one.
    Cure: Copy the key again from the AgentBay console, set AGENTBAY_REGION_ID to its region,
        restart the kernel.
    """


class ThrottledError(CommandError):
    """The service asked to slow down (HTTP 429). What was asked was not done.

    `retry_after_s` is how many seconds the service asked to wait, 0 when it did not say.

    Cause: Many requests in a short time, as by a class that begins at once.
    Cure: Wait a moment and run the cell again; nothing ran.
    """

    def __init__(self, message: str, *, request_id: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class ServiceUnreachableError(CommandError):
    """No connection to the service. The request was never sent, so nothing ran.

    Cause: No network, a proxy in between, a wrong region or endpoint, a certificate that is not
        trusted, or a local runtime that has ended. The message says which.
    Cure: Check HTTPS_PROXY, SSL_CERT_FILE, AGENTBAY_REGION_ID and AGENTBAY_ENDPOINT; `jupyter
        agentbay doctor` tries each of them. Then run the cell again.
    """


class AnswerLostError(CommandError):
    """The request was sent and no answer came: whether the code ran is unknown.

    `status` is the HTTP status where a gateway said so (502, 504), else 0.

    Cause: The connection broke, a gateway gave up after 60 seconds, or output came faster than it
        could be taken. A cell is never sent a second time.
    Cure: Look what became of it (a file, a variable, `%agentbay top`) before you run the cell
        again, if running it twice does harm. Bridged execution finds out by itself.
    """

    def __init__(self, message: str, *, request_id: str = "", status: int = 0) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status


class ServiceFaultError(CommandError):
    """The service answered with an error of its own.

    `code` is the service's error code (for example `InternalError`), `status` the HTTP status.

    Cause: A fault at the service, or a request that it does not take. The message quotes it,
        `request_id` names it.
    Cure: Run the cell again after a while. If it goes on, give the request's id to AgentBay's
        support.
    """

    def __init__(
        self, message: str, *, request_id: str = "", code: str = "", status: int = 0
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        self.status = status


class InvalidAnswerError(CommandError):
    """The service answered something that is not an answer of its protocol.

    Cause: A proxy or a login page answers in its place, AGENTBAY_ENDPOINT leads elsewhere, or an
        answer is larger than `response_limit`.
    Cure: Check AGENTBAY_ENDPOINT and the proxy; print less or write to a file. Whether the code ran
        is unknown unless the message says it.
    """


# What failed so may go well the next time - where asking twice does no harm.
PASSING_FAILURES = (
    AnswerLostError,
    InvalidAnswerError,
    ServiceFaultError,
    ServiceUnreachableError,
    ThrottledError,
)


class CodeSyntaxWarning(SyntaxWarning):
    """The code does not parse here. It is sent all the same: the sandbox decides.

    Cause: `run_code` was given Python that this Python can't parse: an error, or syntax of another
        version or of IPython.
    Cure: Correct the code, or ignore the warning. Only users of `agentbay_kernel.service` see it.
    """


class BridgeError(CommandError):
    """The bridge to the kernel in the sandbox can't be had, or it broke.

    Cause: `execution` is `bridged` and the sandbox has no ipykernel, no Node or no lasting Python
        process; its code ended the bridge; or one message was larger than a bridge takes. With
        `execution = auto` a sandbox without a bridge is used directly instead.
    Cure: Run the cell again, which installs a new bridge. If it can't be had, `%agentbay status`
        says why; AGENTBAY_EXECUTION=auto does without.
    """


class KernelEndedError(BridgeError):
    """The kernel in the sandbox ended: killed, out of memory, or by its own code.

    Cause: Most often memory; also `os._exit`, a crash in a library, or `%agentbay restart` while a
        cell ran. Variables are lost, files stay.
    Cure: Run the notebook's cells again: the next one starts a new kernel. Load less at once if it
        was memory; `%agentbay top` shows how much there is.
    """


class SilentSessionError(BridgeError):
    """The session did not answer for long. What became of the cell is not known yet.

    Cause: The network was down or the service failed for a minute while the cell ran, or the cell
        ran longer than `keep_alive_minutes`. The cell is not stopped by that and never sent again.
    Cure: Run another cell: it first says what became of this one and shows what it printed.
        `%agentbay top` shows what runs.
    """
