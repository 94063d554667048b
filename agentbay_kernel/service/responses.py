"""The response of `run_code`, in every form that the service sends or sent.

The forms (AgentBay wire protocol, run_code) are the current document (`result`, `stdout`, `stderr`,
`executionError`), the legacy one (`logs`, `results`, `error`), a legacy list of content, and plain
text. An error is the current document in an error response (A), the current document in an
ordinary response (B), or a plain message (C). Streamed responses come in parts.
"""

from __future__ import annotations

import re
from typing import Any

from agentbay_kernel.errors import InvalidResponseError
from agentbay_kernel.service.envelope import ToolResponse, decode_json, nests_deeper
from agentbay_kernel.service.results import CodeError, CodeExecutionResult, CodeLogs, CodeOutput

# Each layer between the sandbox and here may have encoded a document or an item again.
_MOST_ENCODINGS = 3
# Values that are nested more deeply break the encoders between here and the page.
_DEEPEST_VALUE = 100
_VEGA_LITE = "application/vnd.vegalite.v5+json"
_SHORT_NAMES = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "latex": "text/latex",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "json": "application/json",
    "javascript": "application/javascript",
    "pdf": "application/pdf",
    "chart": _VEGA_LITE,
}
_MAIN_FLAGS = ("isMainResult", "is_main_result")
_ERROR_KEYS = ("executionError", "execution_error")
_NAME_KEYS = ("name", "ename", "code")
_VALUE_KEYS = ("value", "evalue", "message")
_CURRENT_KEYS = ("executionError", "stdout", "stderr")

# Starts like a document, so it is not text that a legacy sandbox printed.
_BROKEN_DOCUMENT = re.compile(r'\s*\{\s*"(?:executionError|result|results|stdout|stderr|logs)"\s*:')


def read_execution(answer: ToolResponse) -> CodeExecutionResult:
    """Read a tool's response as the result of code.

    Raises:
        InvalidResponseError: the response is a document of an unknown form, or has values of wrong
            types. It is then unknown what the code did.
    """
    reader = _Reader(answer.request_id)
    try:
        return reader.read(answer)
    except RecursionError:
        raise reader.nonsense("it is too deeply nested") from None


class StreamedResponse:
    """The result of code whose response comes in parts: chunks, results, an error, the end."""

    def __init__(self, request_id: str) -> None:
        self._reader = _Reader(request_id)
        self._logs = CodeLogs()
        self._outputs: list[CodeOutput] = []
        self._failure: object = None

    def nonsense(self, what: str) -> InvalidResponseError:
        """Return the error for a part of an unknown form.

        Arguments:
            what: the problem, in words.
        """
        return self._reader.nonsense(what)

    def add_chunk(self, name: str, text: str) -> None:
        """Add a piece of stdout or stderr."""
        (self._logs.stdout if name == "stdout" else self._logs.stderr).append(text)

    def add_result(self, item: object) -> CodeOutput:
        """Add a result, and return it.

        Raises:
            InvalidResponseError: it is not a valid result.
        """
        try:
            output = self._reader.output(item)
        except RecursionError:
            raise self.nonsense("it is too deeply nested") from None
        self._outputs.append(output)
        return output

    def add_error(self, failure: object) -> None:
        """Note how the code failed."""
        self._failure = failure or "the code failed"

    def failed(self, end: dict[str, Any]) -> bool:
        """Return whether the code is known to have failed.

        Arguments:
            end: the last part, or {} if it has not arrived.
        """
        return bool(self._failure or _first(end, *_ERROR_KEYS) or end.get("status") == "failed")

    def finish(self, end: dict[str, Any]) -> CodeExecutionResult:
        """Return the whole result, after the last part has arrived.

        Arguments:
            end: the last part.

        Raises:
            InvalidResponseError: the end has values of wrong types.
        """
        return self._reader.streamed(self._logs, self._outputs, self._failure, end)


class _Reader:
    """Reads one response; `nonsense` makes the error for an invalid one."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def nonsense(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(
            f"The sandbox returned something that is not the result of code: {what}. The code "
            "may have run; its output is lost.",
            request_id=self._request_id,
        )

    def read(self, answer: ToolResponse) -> CodeExecutionResult:
        document = _document(answer.text)
        if document is None:
            if _BROKEN_DOCUMENT.match(answer.text):
                raise self.nonsense("its document is cut off or broken")
            return self._plain(answer.text, answer.is_error)
        if isinstance(document.get("result"), list) or any(k in document for k in _CURRENT_KEYS):
            return self._current(document, answer.is_error)
        if isinstance(document.get("logs"), dict) or isinstance(document.get("results"), list):
            return self._legacy(document, answer.is_error)
        content = document.get("content")
        if isinstance(content, list):
            first = content[0] if content else ""
            text = first.get("text", "") if isinstance(first, dict) else first
            if not isinstance(text, str):
                raise self.nonsense("its content is not text")
            return self._plain(text, answer.is_error or document.get("isError") is True)
        if answer.is_error:
            return self._plain(answer.text, is_error=True)
        raise self.nonsense(f"a document with the keys {sorted(document)[:10]}")

    def _plain(self, text: str, is_error: bool) -> CodeExecutionResult:
        if is_error:
            return self._result(CodeLogs(), [], error=read_failure(text), said=text)
        # Only as stdout: with a result too, a notebook would show the same text twice.
        return self._result(CodeLogs(stdout=[text] if text else []), [])

    def _current(self, document: dict[str, Any], is_error: bool) -> CodeExecutionResult:
        logs = self._logs(document)
        items = document.get("result")
        failure = document.get("executionError")
        error = self._error(failure, logs)
        if error is None and is_error:
            error = read_failure("", "".join(logs.stderr))
        return self._result(
            logs,
            self._outputs(items),
            error=error,
            said=failure if isinstance(failure, str) else "",
            document=document,
        )

    def _legacy(self, document: dict[str, Any], is_error: bool) -> CodeExecutionResult:
        logs = self._logs(document.get("logs") or {})
        failure = document.get("error")
        error = self._error(failure, logs)
        if error is None and (is_error or document.get("isError") is True):
            error = read_failure("", "".join(logs.stderr))
        return self._result(
            logs, self._outputs(document.get("results")), error=error, document=document
        )

    def streamed(
        self, logs: CodeLogs, outputs: list[CodeOutput], failure: object, end: dict[str, Any]
    ) -> CodeExecutionResult:
        said = _first(end, *_ERROR_KEYS)
        error = None
        if isinstance(failure, dict):
            # Read as a string, like any other error, which finds its traceback in stderr.
            name, value = (str(_first(failure, *keys) or "") for keys in (_NAME_KEYS, _VALUE_KEYS))
            error = read_failure(f"{name}: {value}" if name else value, "".join(logs.stderr))
            if error.name == UNNAMED and name:
                error = CodeError(name, value)
        elif failure or said:
            error = self._error(failure or said, logs)
        elif end.get("status") == "failed":
            error = read_failure("", "".join(logs.stderr))
        words = said if isinstance(said, str) else ""
        return self._result(logs, outputs, error=error, said=words, document=end)

    def _result(
        self,
        logs: CodeLogs,
        outputs: list[CodeOutput],
        *,
        error: CodeError | None = None,
        said: str = "",
        document: dict[str, Any] | None = None,
    ) -> CodeExecutionResult:
        document = document or {}
        count = _first(document, "execution_count", "executionCount")
        seconds = _first(document, "execution_time", "executionTime")
        return CodeExecutionResult(
            request_id=self._request_id,
            success=error is None,
            error_message="" if error is None else named(said, error),
            logs=logs,
            results=outputs,
            error=error,
            execution_count=count if type(count) is int else None,
            execution_time=_seconds(seconds),
        )

    def _error(self, failure: object, logs: CodeLogs) -> CodeError | None:
        if isinstance(failure, str):
            document = _document(failure)
            failure = failure if document is None else document
        if failure is None or failure == "":
            return None
        stderr = "".join(logs.stderr)
        if isinstance(failure, str):
            return read_failure(failure, stderr)
        if not isinstance(failure, dict):
            raise self.nonsense(f"its error is of the type {type(failure).__name__}")
        traceback = failure.get("traceback")
        if isinstance(traceback, list):
            traceback = "\n".join(map(str, traceback))
        name = _first(failure, *_NAME_KEYS)
        value = _first(failure, *_VALUE_KEYS)
        if not name:
            return read_failure(str(value or traceback or ""), stderr)
        return CodeError(str(name), str(value or ""), str(traceback or ""))

    def _logs(self, document: object) -> CodeLogs:
        if not isinstance(document, dict):
            raise self.nonsense("its logs are no object")
        return CodeLogs(
            stdout=self._chunks(document, "stdout"), stderr=self._chunks(document, "stderr")
        )

    def _chunks(self, document: dict[str, Any], name: str) -> list[str]:
        chunks = document.get(name)
        if chunks is None:
            return []
        if isinstance(chunks, str):
            return [chunks] if chunks else []
        if not isinstance(chunks, list) or not all(isinstance(chunk, str) for chunk in chunks):
            raise self.nonsense(f"its {name} is not a list of texts")
        return chunks

    def _outputs(self, items: object) -> list[CodeOutput]:
        if items is None:
            return []
        if isinstance(items, str):
            items = [items] if items else []
        if not isinstance(items, list):
            raise self.nonsense(f"its results are of the type {type(items).__name__}")
        return [self.output(item) for item in items if item is not None]

    def output(self, item: object) -> CodeOutput:
        if isinstance(item, str):
            document = _document(item)
            if document is None or not _is_item(document):
                return CodeOutput({"text/plain": item})
            item = document
        if not isinstance(item, dict):
            raise self.nonsense(f"a result is of the type {type(item).__name__}")
        main = any(item.get(flag) in (True, "true") for flag in _MAIN_FLAGS)
        metadata = item.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise self.nonsense("a result's metadata is not an object")
        bundle = _first(item, "mime", "data")
        bundle = bundle if isinstance(bundle, dict) else item
        data: dict[str, Any] = {}
        for key, value in bundle.items():
            mime = key if "/" in key else _SHORT_NAMES.get(key)
            if mime is not None and value is not None:
                data[mime] = self._value(mime, value)
        return CodeOutput(data, metadata or {}, main)

    def _value(self, mime: str, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if mime == "application/json" or mime.endswith("+json"):
            if nests_deeper(value, _DEEPEST_VALUE):
                raise self.nonsense(f"a result of type {mime[:100]} is too deeply nested")
            return value
        # As in a notebook file, in which a string may be a list of lines.
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "".join(value)
        raise self.nonsense(f"a result of type {mime[:100]} is not text")


def _document(text: str) -> dict[str, Any] | None:
    """Return the object that a string encodes, once or several times, or None."""
    value: Any = text
    for _ in range(_MOST_ENCODINGS):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", '"'):
            break
        try:
            value = decode_json(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _seconds(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0


def _is_item(document: dict[str, Any]) -> bool:
    """Return whether it is a result, and not a result's text that happens to be JSON."""
    marks = {*_SHORT_NAMES, *_MAIN_FLAGS, "mime"}
    return any("/" in key or key in marks for key in document)


def _first(document: dict[str, Any], *keys: str) -> Any:
    return next((document[key] for key in keys if document.get(key) is not None), None)


TIMEOUT = "TimeoutError"
UNNAMED = "ExecutionError"

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_NAMED = re.compile(r"(?:[A-Za-z_$][\w$]*\.)*(?P<name>[A-Z_$][\w$]*): ?(?P<value>.*)", re.DOTALL)
# A word alone is a name only if it looks like an exception's: "Killed" is a message.
_NAME_ALONE = re.compile(
    r"(?:[A-Za-z_$][\w$]*\.)*"
    r"(?P<name>[A-Z][\w$]*(?:Error|Exception|Interrupt|Exit|Iteration|Warning|Timeout))"
)
_HEADER = re.compile(r"^(?:(?P<name>\w+) +)?Traceback \(most recent call last\)", re.MULTILINE)
_CHAINED = re.compile(r"(?:During handling of|was the direct cause of) the (?:above|following)")
_PLACE = re.compile(r"^ *(?:Cell In ?\[[^\n]*|File [^\n]*line \d[^\n]*|[^\s:]+:\d+)$", re.MULTILINE)
_NODE_FRAME = re.compile(r"\n {4}at ")

# The service's words for a timeout are not documented, so every message that mentions one counts.
# An error with an exception's name does not: it may be a request of the user's code that timed
# out. The local runtime sends "TimeoutError: ...".
_TIMEOUT_WORDS = re.compile(r"time[d -]*out|time limit|deadline exceeded", re.IGNORECASE)
_TIMEOUT_NAMES = {"Timeout", "TimeoutException", "ExecutionTimeout", "ExecutionTimeoutError"}
_NAMES_OF_NOTHING = {"Error", "CommandError", "CellExecutionError", UNNAMED}


def read_failure(text: str, stderr: str = "") -> CodeError:
    """Return the name, value and traceback of a failure.

    Arguments:
        text: the error in the response; may be empty.
        stderr: all that the code printed to stderr, which may contain the traceback.
    """
    text = text.strip()
    found = _parse(text)
    if found is None and _TIMEOUT_WORDS.search(text):
        return CodeError(TIMEOUT, without_ansi(text))
    if found is None and is_traced(stderr):
        found = _parse(stderr)
    if found is None:
        return CodeError(UNNAMED, without_ansi(text) or "The sandbox did not report what failed.")
    name, value = found
    if name in _TIMEOUT_NAMES or (name in _NAMES_OF_NOTHING and _TIMEOUT_WORDS.search(value)):
        return CodeError(TIMEOUT, value)
    traceback = text if is_traced(text) else _traceback_in(stderr, name)
    return CodeError(name, value, traceback)


def named(text: str, error: CodeError) -> str:
    """Return the message of a failure: the service's own if it has one line, else "Name: value"."""
    words = without_ansi(text).strip()
    if words and "\n" not in words:
        return words
    return f"{error.name}: {error.value}" if error.value else error.name


def without_ansi(text: str) -> str:
    """Return the text without colours and other terminal sequences."""
    return _ANSI.sub("", text)


def is_traced(text: str) -> bool:
    """Return whether the text contains a traceback."""
    plain = without_ansi(text)
    return any(mark.search(plain) for mark in (_HEADER, _PLACE, _NODE_FRAME))


def _parse(text: str) -> tuple[str, str] | None:
    """Return name and value from one line, a message of several lines, or a traceback."""
    text = without_ansi(text).strip()
    headers = list(_HEADER.finditer(text))
    if headers:
        return _after_frames(text[headers[-1].end() :], headers[-1]["name"])
    head = _NODE_FRAME.split(text, maxsplit=1)[0]
    if _PLACE.search(head):
        # A SyntaxError has no header: a place, the code, a caret, then the message.
        return _after_frames(head, None)
    return _named(head)


def _after_frames(text: str, name: str | None) -> tuple[str, str] | None:
    """Return name and value from the message below the frames of a traceback.

    Frames are indented, or start with a file position or an arrow.
    """
    lines = text.splitlines()
    for index, line in enumerate(lines):
        # The rest is joined only if it starts with a name: there may be a million lines.
        if not _NAMED.match(line) and index + 1 < len(lines):
            continue
        found = _named("\n".join(lines[index:]))
        if found is not None and (name is None or found[0] == name):
            return found
    return (name, "") if name else None


def _named(text: str) -> tuple[str, str] | None:
    match = _NAMED.fullmatch(text)
    if match:
        return match["name"], match["value"].strip()
    match = _NAME_ALONE.fullmatch(text)
    return (match["name"], "") if match else None


def _traceback_in(stderr: str, name: str) -> str:
    """Return the last traceback in stderr, with those it is chained to, if it has that name."""
    plain = without_ansi(stderr)
    found = _parse(plain)
    if found is None or found[0] != name:
        return ""
    starts = [match.start() for match in _HEADER.finditer(plain)]
    if not starts:
        places = [match.start() for match in _PLACE.finditer(plain)]
        starts = places[-1:] or [0 if _NODE_FRAME.search(plain) else len(plain)]
    start = starts.pop()
    while starts and _CHAINED.search(plain[starts[-1] : start]):
        start = starts.pop()
    line = plain[:start].count("\n")
    lines = stderr.splitlines(keepends=True)
    # IPython prints a line of dashes above its tracebacks.
    if line and set(without_ansi(lines[line - 1]).strip()) == {"-"}:
        line -= 1
    return "".join(lines[line:]).strip("\n")
