"""Checks of the content of a kernel's messages (Jupyter messaging protocol 5.4).

`SCHEMAS` has a check for each channel and type. It returns True if the content has the types that
the protocol defines, and corrects small deviations that would be a problem for a page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LONGEST_ID = 1_000
# Larger integers are not exact in a page.
_LARGEST_COUNT = 2**53


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < _LARGEST_COUNT)


def _is_stream(content: dict[str, Any]) -> bool:
    return content.get("name") in ("stdout", "stderr") and _is_text(content.get("text"))


def _normalize_display(content: dict[str, Any]) -> bool:
    """Return whether it is valid; add missing fields, and turn values into strings if needed."""
    data, metadata = (content.setdefault(name, {}) for name in ("data", "metadata"))
    transient = content.get("transient", {})
    if not (isinstance(data, dict) and isinstance(metadata, dict) and isinstance(transient, dict)):
        return False
    for mime, value in data.items():
        # Only JSON may have other types than strings (Jupyter's notebook format): else the notebook
        # can't be saved.
        if not isinstance(value, str) and not mime.endswith("json"):
            data[mime] = _as_text(value)
    return transient.get("display_id") is None or _is_id(transient["display_id"])


def _as_text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return str(value)


def _normalize_update(content: dict[str, Any]) -> bool:
    return _normalize_display(content) and _is_id(content.get("transient", {}).get("display_id"))


def _normalize_result(content: dict[str, Any]) -> bool:
    transient = "transient" in content
    valid = _normalize_display(content) and _is_count(content.get("execution_count"))
    if not transient:
        # A result has no `transient` unless it is shown with a display id.
        content.pop("transient", None)
    return valid


def _is_error(content: dict[str, Any]) -> bool:
    lines = content.get("traceback")
    return (
        _is_text(content.get("ename"))
        and _is_text(content.get("evalue"))
        and isinstance(lines, list)
        and all(map(_is_text, lines))
    )


def _is_clear(content: dict[str, Any]) -> bool:
    return isinstance(content.get("wait", False), bool)


def _normalize_comm(content: dict[str, Any]) -> bool:
    return _is_id(content.get("comm_id")) and isinstance(content.setdefault("data", {}), dict)


def _normalize_comm_open(content: dict[str, Any]) -> bool:
    return _normalize_comm(content) and _is_text(content.get("target_name"))


def _is_status(content: dict[str, Any]) -> bool:
    return _is_text(content.get("execution_state"))


def _is_input(content: dict[str, Any]) -> bool:
    # JavaScript's messages have the id of the process that runs the cell.
    return _is_text(content.get("code", "")) and _is_count(content.get("pid"))


def _is_question(content: dict[str, Any]) -> bool:
    return _is_text(content.get("prompt")) and isinstance(content.get("password", False), bool)


def _is_reply(content: dict[str, Any]) -> bool:
    # Some kernels' replies to subshell requests have only a status.
    if content.get("status") == "error":
        return _is_text(content.get("ename", "")) and _is_text(content.get("evalue", ""))
    return content.get("status") in ("ok", "aborted", "abort")


# The payloads that a page may get. Others (`edit_magic`, `ask_exit`) would act in the front end.
_PAYLOADS = ("page", "set_next_input")


def _normalize_execute_reply(content: dict[str, Any]) -> bool:
    payload = content.get("payload", [])
    if not _is_reply(content) or not isinstance(payload, list):
        return False
    if content["status"] == "error" and not _is_error({"traceback": [], **content}):
        return False
    if "payload" in content:
        content["payload"] = [part for part in payload if _is_payload(part)]
    return _is_table(content.get("user_expressions", {})) and _is_count(
        content.get("execution_count")
    )


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _is_payload(part: object) -> bool:
    if not isinstance(part, dict) or part.get("source") not in _PAYLOADS:
        return False
    if part["source"] == "page":
        return isinstance(part.get("data"), dict)
    return _is_text(part.get("text")) and isinstance(part.get("replace", False), bool)


def _is_complete_reply(content: dict[str, Any]) -> bool:
    if content.get("status") != "ok":
        return _is_reply(content)
    matches, metadata = content.get("matches"), content.get("metadata", {})
    places = (content.get("cursor_start"), content.get("cursor_end"))
    are_matches = isinstance(matches, list) and all(map(_is_text, matches))
    return are_matches and isinstance(metadata, dict) and all(map(_is_count, places))


def _is_inspect_reply(content: dict[str, Any]) -> bool:
    bundle = content.get("data", {}), content.get("metadata", {})
    return _is_reply(content) and all(isinstance(part, dict) for part in bundle)


def _is_history_reply(content: dict[str, Any]) -> bool:
    entries = content.get("history", [])
    are_entries = isinstance(entries, list) and all(
        isinstance(entry, list) and len(entry) == 3 for entry in entries
    )
    return _is_reply(content) and are_entries


def _is_debug_event(content: dict[str, Any]) -> bool:
    return _is_text(content.get("event")) and isinstance(content.get("body", {}), dict)


def _is_debug_reply(content: dict[str, Any]) -> bool:
    # A kernel without a debugger sends nothing.
    return isinstance(content.get("body", {}), dict)


def _is_word_reply(content: dict[str, Any]) -> bool:
    lists = content.get("matches", []), content.get("types", [])
    return all(isinstance(part, list) and all(map(_is_text, part)) for part in lists)


def _is_rows_reply(content: dict[str, Any]) -> bool:
    # A busy worker sends no rows.
    return isinstance(content.get("rows", []), list)


Schema = Callable[[dict[str, Any]], bool]
_REPLIES: dict[str, Schema] = dict.fromkeys(
    (
        "comm_info_reply",
        "create_subshell_reply",
        "delete_subshell_reply",
        "interrupt_reply",
        "is_complete_reply",
        "kernel_info_reply",
        "list_subshell_reply",
        "shutdown_reply",
    ),
    _is_reply,
)
SCHEMAS: dict[str, dict[str, Schema]] = {
    "iopub": {
        "clear_output": _is_clear,
        "comm_close": _normalize_comm,
        "comm_msg": _normalize_comm,
        "comm_open": _normalize_comm_open,
        "debug_event": _is_debug_event,
        "display_data": _normalize_display,
        "error": _is_error,
        "execute_input": _is_input,
        "execute_result": _normalize_result,
        "status": _is_status,
        "stream": _is_stream,
        "update_display_data": _normalize_update,
    },
    "stdin": {"input_request": _is_question},
    "shell": {
        "complete_reply": _is_complete_reply,
        "execute_reply": _normalize_execute_reply,
        "history_reply": _is_history_reply,
        "inspect_reply": _is_inspect_reply,
        **_REPLIES,
    },
    "control": {"debug_reply": _is_debug_reply, **_REPLIES},
    # The Node worker's messages, in the bridge's own form (sandbox/bridge.py).
    "node": {
        "complete_reply": _is_word_reply,
        "execute_reply": _normalize_execute_reply,
        "inspect_reply": _is_word_reply,
        "interrupt_reply": _is_reply,
        "start_reply": _is_reply,
        "variables_reply": _is_rows_reply,
    },
}
