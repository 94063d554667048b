"""How code failed, read from what the sandbox left of it.

In: the error text of an answer and what was printed to stderr. Out: a `CodeError` with name,
value and traceback. Sandboxes put an error as "Name: value", as a whole traceback (Python's,
IPython's, Node's), as a plain message, or leave it in stderr alone.
"""

from __future__ import annotations

import re

from agentbay_kernel.service.results import CodeError

TIMEOUT = "TimeoutError"
UNNAMED = "ExecutionError"

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_NAMED = re.compile(r"(?:[A-Za-z_$][\w$]*\.)*(?P<name>[A-Z_$][\w$]*): ?(?P<value>.*)", re.DOTALL)
# A name alone is taken for one only if it looks like an exception's: "Killed" is a message.
_NAME_ALONE = re.compile(
    r"(?:[A-Za-z_$][\w$]*\.)*"
    r"(?P<name>[A-Z][\w$]*(?:Error|Exception|Interrupt|Exit|Iteration|Warning|Timeout))"
)
_HEADER = re.compile(r"^(?:(?P<name>\w+) +)?Traceback \(most recent call last\)", re.MULTILINE)
_CHAINED = re.compile(r"(?:During handling of|was the direct cause of) the (?:above|following)")
_PLACE = re.compile(r"^ *(?:Cell In ?\[[^\n]*|File [^\n]*line \d[^\n]*|[^\s:]+:\d+)$", re.MULTILINE)
_NODE_FRAME = re.compile(r"\n {4}at ")

# The wording of a timeout at the real service is not documented, so whatever speaks of one is
# taken for one - unless it has the name of an exception of its own, as a request that the
# user's code made and that timed out. The local runtime says "TimeoutError: ...".
_TIMEOUT_WORDS = re.compile(r"time[d -]*out|time limit|deadline exceeded", re.IGNORECASE)
_TIMEOUT_NAMES = {"Timeout", "TimeoutException", "ExecutionTimeout", "ExecutionTimeoutError"}
_NAMES_OF_NOTHING = {"Error", "CommandError", "CellExecutionError", UNNAMED}


def read_failure(text: str, stderr: str = "") -> CodeError:
    """Name, value and traceback of a failure.

    Arguments:
        text: what the answer says of the error; may be empty.
        stderr: all that the code printed to stderr, where the traceback may be.
    """
    text = text.strip()
    found = _parse(text)
    if found is None and _TIMEOUT_WORDS.search(text):
        return CodeError(TIMEOUT, without_ansi(text))
    if found is None and is_traced(stderr):
        found = _parse(stderr)
    if found is None:
        return CodeError(UNNAMED, without_ansi(text) or "The sandbox did not say what failed.")
    name, value = found
    if name in _TIMEOUT_NAMES or (name in _NAMES_OF_NOTHING and _TIMEOUT_WORDS.search(value)):
        return CodeError(TIMEOUT, value)
    traceback = text if is_traced(text) else _traceback_in(stderr, name)
    return CodeError(name, value, traceback)


def named(text: str, error: CodeError) -> str:
    """The message of a failure: the service's own one-line words, else "Name: value"."""
    words = without_ansi(text).strip()
    if words and "\n" not in words:
        return words
    return f"{error.name}: {error.value}" if error.value else error.name


def without_ansi(text: str) -> str:
    """The text without colours and other terminal sequences."""
    return _ANSI.sub("", text)


def is_traced(text: str) -> bool:
    """Is there a traceback in the text?"""
    plain = without_ansi(text)
    return any(mark.search(plain) for mark in (_HEADER, _PLACE, _NODE_FRAME))


def _parse(text: str) -> tuple[str, str] | None:
    """Name and value in a text that is one line, a message of several lines, or a traceback."""
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
    """The message below the frames, which are indented or begin with a place or an arrow."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        # The rest is put together only where it begins with a name: there may be a million lines.
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
    """The last traceback printed to stderr, with those it is chained to, if it has that name."""
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
    # IPython rules a line above its tracebacks.
    if line and set(without_ansi(lines[line - 1]).strip()) == {"-"}:
        line -= 1
    return "".join(lines[line:]).strip("\n")
