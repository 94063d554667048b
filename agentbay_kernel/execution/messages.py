"""The one thing every execution yields: Jupyter messages.

An execution's iterator ends with exactly one `execute_reply`; before it come the messages that
a kernel publishes for a cell (Jupyter messaging protocol 5.4): stream, display_data,
execute_result, error, clear_output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One Jupyter message without its envelope: type, content, metadata, binary buffers.

    `at` is where it ends in the stream of a bridge, 0 if it does not come from one.
    """

    type: str
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()
    at: int = field(default=0, compare=False)


def stream(name: str, text: str) -> Message:
    """A piece of `stdout` or `stderr`."""
    return Message("stream", {"name": name, "text": text})


def notice(text: str) -> Message:
    """Something of our own that is no error: an output of plain text, between the cell's own."""
    data = {"text/plain": text.strip("\n")}
    return Message("display_data", {"data": data, "metadata": {}, "transient": {}})


def error(ename: str, evalue: str, traceback: list[str]) -> Message:
    """An error output: the exception's name, its message, the traceback's lines."""
    return Message("error", {"ename": ename, "evalue": evalue, "traceback": traceback})


def reply_ok(execution_count: int | None = None) -> Message:
    """The reply to a cell that ended well."""
    content: dict[str, Any] = {"status": "ok", "payload": [], "user_expressions": {}}
    if execution_count is not None:
        content["execution_count"] = execution_count
    return Message("execute_reply", content)


def reply_error(failure: Message, execution_count: int | None = None) -> Message:
    """The reply to a cell that failed with the given error output."""
    content: dict[str, Any] = {"status": "error", **failure.content}
    if execution_count is not None:
        content["execution_count"] = execution_count
    return Message("execute_reply", content)
