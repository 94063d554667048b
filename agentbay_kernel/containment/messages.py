"""Contains the messages of a sandbox on their way to a front end.

Each message of an execution is replaced by the messages to publish. Everything remote that a page
could render passes here: outputs, updates, results, errors, streams, input requests, comms,
payloads, inspections, completions. A message that is not understood is not passed on.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentbay_kernel.containment.bundle import PLAIN, Contained, Refusal, contain_bundle
from agentbay_kernel.containment.chart_frames import CellCharts, ChartBudget
from agentbay_kernel.containment.markup import judge
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.containment.text import (
    MOST_TEXT,
    StreamText,
    all_visible,
    as_text,
    excess,
    one_line,
    prompt,
    shortened,
    shortened_lines,
    visible,
)
from agentbay_kernel.containment.widgets import Widgets
from agentbay_kernel.execution.messages import (
    Message,
    error,
    notice,
    reply_error,
    reply_ok,
    stream,
)

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

JsonObject = dict[str, Any]

_SHOWN = frozenset(("display_data", "execute_result", "update_display_data"))
_COMMS = frozenset(("comm_open", "comm_msg", "comm_close"))
_log = logging.getLogger(__name__)


class Containment:
    """Contains all messages that one kernel's sandboxes send to its front ends.

    Arguments:
        find_settings: returns the settings in force; None before they are read, and then the policy
            is the strict default.
    """

    def __init__(self, find_settings: Callable[[], AgentBaySettings | None]) -> None:
        self._find_settings = find_settings
        self._told: set[str] = set()
        self._widgets = Widgets(lambda: self.policy)
        self._charts = ChartBudget()

    @property
    def policy(self) -> Policy:
        """The policy in force; a cell may have made it stricter since the last message."""
        settings = self._find_settings()
        return Policy() if settings is None else Policy.of(settings)

    def for_cell(self, cell: str | None = None) -> CellContainment:
        """Return the containment of one request's messages.

        Arguments:
            cell: the notebook's id of the cell, if it has one.
        """
        return CellContainment(self, self._charts.for_cell(cell))

    def prepare(self) -> None:
        """Import the modules that the first HTML needs."""
        judge("")

    def note_from_page(self, kind: str, content: JsonObject) -> None:
        """Note a comm message that the page sends."""
        self._widgets.note_from_page(kind, content)

    def contain(self, message: Message, streams: StreamText, charts: CellCharts) -> list[Message]:
        """Return the messages that replace a remote one; notes on what is not shown come last."""
        if self.policy.trusts:
            return [message]
        try:
            return self._contain(message, streams, charts)
        except Exception:
            # Showing nothing is the safe choice. The error is in the log, not in the page. It is an
            # error of the kernel itself, so the note goes to stderr.
            _log.exception("A %s could not be contained", message.type)
            told = stream("stderr", f"[AgentBay: a {message.type} could not be shown.]\n")
            return [told, *_substitute(message)]

    def inspection(self, reply: JsonObject) -> JsonObject:
        """Return an inspect_reply's content with its plain text only."""
        if self.policy.trusts:
            return reply
        data = reply.get("data")
        found = reply.get("found") is True and isinstance(data, dict) and PLAIN in data
        text = as_text(data[PLAIN]) if found and isinstance(data, dict) else ""
        shown = {PLAIN: visible(shortened(text, _LONGEST_INSPECTION))} if found else {}
        return {**_status(reply), "found": found, "data": shown, "metadata": {}}

    def completions(self, reply: JsonObject) -> JsonObject:
        """Return a complete_reply's content, only with matches that look like what they are."""
        if self.policy.trusts:
            return reply
        if excess(reply, _MOST_COMPLETIONS_BYTES):
            # More than anyone reads, and each character of it would be checked.
            reply = {**reply, "matches": [], "metadata": {}}
        matches = [it for it in _list(reply.get("matches")) if _is_readable(it)]
        metadata = reply.get("metadata")
        types = metadata.get(_TYPES) if isinstance(metadata, dict) else None
        return {
            **_status(reply),
            "matches": matches,
            "cursor_start": _whole(reply.get("cursor_start")),
            "cursor_end": _whole(reply.get("cursor_end")),
            "metadata": {
                _TYPES: [
                    _typed(it)
                    for it in types
                    if isinstance(it, dict) and _is_readable(it.get("text"))
                ]
            }
            if isinstance(types, list)
            else {},
        }

    def history(self, reply: JsonObject) -> JsonObject:
        """Return a history_reply's content with all characters of its lines visible."""
        if self.policy.trusts:
            return reply
        history = _list(reply.get("history"))
        if excess(history, MOST_TEXT):
            history = []
        entries = [it for it in history if isinstance(it, list | tuple)]
        return {**_status(reply), "history": [all_visible(list(entry)) for entry in entries]}

    def _contain(self, message: Message, streams: StreamText, charts: CellCharts) -> list[Message]:
        content = message.content
        if message.type == "stream":
            name = "stderr" if content.get("name") == "stderr" else "stdout"
            text = streams.visible(name, as_text(content.get("text")))
            return [stream(name, text)] if text else []
        if message.type in _SHOWN:
            return self._displayed(message, charts)
        if message.type == "error":
            return [Message("error", _error(content))]
        if message.type in _COMMS:
            contained = self._widgets.contain(message)
            if isinstance(contained, Refusal):
                return self._notes((contained,))
            return [contained] if contained is not None else []
        if message.type == "clear_output":
            charts.clear()
            return [Message("clear_output", {"wait": content.get("wait") is True})]
        if message.type == "input_request":
            text = prompt(as_text(content.get("prompt"))[:_LONGEST_PROMPT])
            asked = {"prompt": text, "password": content.get("password") is True}
            return [Message("input_request", asked)]
        if message.type == "execute_reply":
            reply, notes = self._reply(content)
            known = message.metadata.get("request_id")
            metadata = {"request_id": one_line(known)} if isinstance(known, str) else {}
            return [*notes, replace(message, content=reply, metadata=metadata, buffers=())]
        return []

    def _displayed(self, message: Message, charts: CellCharts) -> list[Message]:
        content = message.content
        transient = _transient(content.get("transient"))
        shown = contain_bundle(
            content.get("data"),
            content.get("metadata"),
            self.policy,
            charts,
            transient.get("display_id"),
            message.type == "update_display_data",
        )
        kept: JsonObject = {"data": shown.data, "metadata": shown.metadata}
        if message.type == "execute_result" and "execution_count" in content:
            kept["execution_count"] = _count(content["execution_count"])
        if message.type != "execute_result" or "transient" in content:
            kept["transient"] = transient
        return [Message(message.type, kept), *self._notes(shown.refused)]

    def _reply(self, content: JsonObject) -> tuple[JsonObject, list[Message]]:
        reply = _status(content)
        refused: list[Refusal] = []
        if "execution_count" in content:
            reply["execution_count"] = _count(content["execution_count"])
        if reply["status"] == "error":
            reply |= _error(content)
        if isinstance(engine := content.get("engine_info"), dict):
            # It identifies the kernel: IPython shows it for a cell that failed.
            reply["engine_info"] = {
                name: one_line(value) if isinstance(value, str) else _count(value)
                for name in _ENGINE
                if (value := engine.get(name)) is not None
            }
        if "user_expressions" in content:
            values = content["user_expressions"]
            reply["user_expressions"] = {
                one_line(str(name)): self._expression(value, refused)
                for name, value in itertools.islice(
                    values.items() if isinstance(values, dict) else (), _MOST_PARTS
                )
            }
        if "payload" in content:
            asked = _list(content["payload"])[:_MOST_PARTS]
            payloads = [self._payload(it, refused) for it in asked]
            reply["payload"] = [payload for payload in payloads if payload is not None]
        return reply, self._notes(tuple(refused))

    def _expression(self, value: Any, refused: list[Refusal]) -> JsonObject:
        value = value if isinstance(value, dict) else {}
        if value.get("status") == "error":
            return {"status": "error", **_error(value)}
        shown: Contained = contain_bundle(value.get("data"), value.get("metadata"), self.policy)
        refused.extend(shown.refused)
        return {"status": "ok", "data": shown.data, "metadata": shown.metadata}

    def _payload(self, payload: Any, refused: list[Refusal]) -> JsonObject | None:
        """Return a contained payload: a page to show, or code for the next cell.

        Code for the next cell is not run; `%load` needs it. Other payloads open editors or end
        clients.
        """
        if not isinstance(payload, dict):
            return None
        if payload.get("source") == "page":
            data = payload.get("data")
            data = data if isinstance(data, dict) else {}
            # `page.page` of IPython puts a whole bundle here.
            data = data["data"] if isinstance(data.get("data"), dict) else data
            if "text/html" in data:
                refused.append(Refusal("text/html in the pager", "the text is shown instead"))
            start = payload.get("start")
            return {
                "source": "page",
                "data": {PLAIN: visible(shortened(as_text(data.get(PLAIN))))},
                "start": start if isinstance(start, int) else 0,
            }
        if payload.get("source") == "set_next_input" and isinstance(payload.get("text"), str):
            if reason := excess(payload["text"], MOST_TEXT):
                refused.append(Refusal("code", reason))
                return None
            return {
                "source": "set_next_input",
                "text": visible(payload["text"]),
                "replace": payload.get("replace") is True,
            }
        return None

    def _notes(self, refused: tuple[Refusal, ...]) -> list[Message]:
        notes = []
        for refusal in refused:
            if refusal.kind not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(refusal.kind)
                notes.append(notice(f"[AgentBay: {refusal.text}]"))
        return notes


# A sandbox can invent any number of types.
_MOST_TOLD = 50
# Payloads and expressions of one reply. Front ends request few.
_MOST_PARTS = 1_000
_MOST_COMPLETIONS_BYTES = 5_000_000
# Characters.
_LONGEST_INSPECTION, _LONGEST_PROMPT = 1_000_000, 10_000
_ENGINE = ("engine_uuid", "engine_id", "method")
_TYPES = "_jupyter_types_experimental"


class CellContainment:
    """Contains the messages of one request, whose streams may arrive in pieces."""

    def __init__(self, containment: Containment, charts: CellCharts) -> None:
        self._containment = containment
        self._charts = charts
        self._streams = StreamText()

    def __call__(self, message: Message) -> list[Message]:
        """Return the messages that replace a remote one."""
        return self._containment.contain(message, self._streams, self._charts)


def _error(content: JsonObject) -> JsonObject:
    return {
        "ename": one_line(as_text(content.get("ename"))),
        "evalue": visible(shortened(as_text(content.get("evalue")))),
        "traceback": [visible(line) for line in shortened_lines(content.get("traceback"))],
    }


def _status(content: JsonObject) -> JsonObject:
    status = content.get("status")
    return {"status": status if status in ("ok", "error", "aborted") else "error"}


def _transient(transient: Any) -> JsonObject:
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return {"display_id": one_line(display_id)} if isinstance(display_id, str) else {}


def _typed(entry: JsonObject) -> JsonObject:
    known = {name: entry[name] for name in ("start", "end") if isinstance(entry.get(name), int)}
    texts = {
        name: one_line(entry[name])
        for name in ("text", "type", "signature")
        if isinstance(entry.get(name), str)
    }
    return {**known, **texts}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def _substitute(message: Message) -> list[Message]:
    """Return a minimal message if a front end waits for one, without the part that failed."""
    if message.type == "input_request":
        return [Message("input_request", {"prompt": "", "password": True})]
    if message.type != "execute_reply":
        return []
    if message.content.get("status") == "ok":
        return [reply_ok()]
    return [reply_error(error("Error", "The error could not be shown.", []))]


def _is_readable(match: Any) -> bool:
    return isinstance(match, str) and one_line(match) == match
