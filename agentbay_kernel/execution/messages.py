"""The Jupyter messages that every execution yields.

An execution's iterator ends with exactly one `execute_reply`. Before it come the messages that a
kernel publishes for a cell (Jupyter messaging protocol 5.4), for example stream, display_data,
execute_result, error and clear_output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One Jupyter message without its envelope: type, content, metadata, binary buffers.

    `at` is the offset behind it in a bridge's outward stream, in bytes; 0 without a bridge.
    """

    type: str
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()
    at: int = field(default=0, compare=False)


def stream(name: str, text: str) -> Message:
    """Return a piece of `stdout` or `stderr`."""
    return Message("stream", {"name": name, "text": text})


def notice(text: str) -> Message:
    """Return a notice of this package, which is not an error, as an output of plain text."""
    data = {"text/plain": text.strip("\n")}
    return Message("display_data", {"data": data, "metadata": {}, "transient": {}})


def error(ename: str, evalue: str, traceback: list[str]) -> Message:
    """Return an error output: the exception's name, its message, the traceback's lines."""
    return Message("error", {"ename": ename, "evalue": evalue, "traceback": traceback})


def reply_ok(execution_count: int | None = None) -> Message:
    """Return the reply to a cell that succeeded."""
    content: dict[str, Any] = {"status": "ok", "payload": [], "user_expressions": {}}
    if execution_count is not None:
        content["execution_count"] = execution_count
    return Message("execute_reply", content)


def reply_error(failure: Message, execution_count: int | None = None) -> Message:
    """Return the reply to a cell that failed with the given error output."""
    content: dict[str, Any] = {"status": "error", **failure.content}
    if execution_count is not None:
        content["execution_count"] = execution_count
    return Message("execute_reply", content)
