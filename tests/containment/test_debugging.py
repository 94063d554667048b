"""What a sandbox's debugger says is rebuilt: known fields alone, of their types, bounded."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from agentbay_kernel.containment.debugging import REPLIES, contain_event, contain_reply
from agentbay_kernel.containment.policy import Policy

# What JupyterLab reads of each reply without asking whether it is there.
LISTS = {
    "stackTrace": "stackFrames",
    "scopes": "scopes",
    "variables": "variables",
    "inspectVariables": "variables",
    "setBreakpoints": "breakpoints",
    "modules": "modules",
}
EVIL: tuple[Any, ...] = (
    None,
    5,
    1e400,
    -(10**30),
    "\u202e<script>act()</script>\x1b]0;x\x07",
    "x" * 3_000_000,
    [],
    [[[[{}]]]],
    {"text/html": "<script>act()</script>", "__proto__": {}, "path": 5},
    True,
)


def strings(value: Any) -> list[str]:
    """All strings of a value, and its names."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for name, it in value.items() for text in (name, *strings(it))]
    return [text for it in value for text in strings(it)] if isinstance(value, list) else []


@pytest.mark.parametrize("command", sorted(REPLIES))
def test_any_body_is_made_a_reply(command: str) -> None:
    chance = random.Random(command)
    for _ in range(60):
        names = [*map(str, LISTS.values()), "source", "path", "value", "result", "error", "extra"]
        body = {name: chance.choice(EVIL) for name in names}
        body["variables"] = [dict(body), chance.choice(EVIL)] * 2
        said = chance.choice(({"success": True}, {}, {"success": None}, {"success": "true"}))
        reply = contain_reply({**said, "body": body, "message": EVIL[4]}, command, Policy())
        assert reply["success"] is (said.get("success", True) is True)
        assert command not in LISTS or isinstance(reply["body"][LISTS[command]], list)
        found = strings(reply)
        assert not any(sign in text for text in found for sign in ("\u202e", "\x1b", "\x07"))
        assert not {"extra", "__proto__", "text/html"} & set(found)
        assert sum(map(len, found)) < 5_000_000
        json.dumps(reply, allow_nan=False)
        if command in LISTS and reply["success"]:
            assert isinstance(reply["body"][LISTS[command]], list)


def test_a_rich_variable_passes_the_containment_of_outputs() -> None:
    data = {
        "text/html": "<img src=x onerror=act()>",
        "application/javascript": "act()",
        "application/vnd.unknown": {"act": 1},
        "text/plain": "x\u202e",
    }
    body = {"data": data, "metadata": {"text/html": {"isolated": True}, "isolated": True}}
    reply = contain_reply({"success": True, "body": body}, "richInspectVariables", Policy())
    assert set(reply["body"]["data"]) == {"text/html", "text/plain"}
    assert "onerror=act()" not in reply["body"]["data"]["text/html"].partition("srcdoc")[0]
    assert "isolated" not in str(reply["body"]["metadata"])
    for evil in EVIL:
        wrong = {"success": True, "body": {"data": evil, "metadata": evil}}
        assert contain_reply(wrong, "richInspectVariables", Policy())["success"]
        assert contain_reply(wrong, "richInspectVariables", Policy(html="trust"))["success"]


def test_events_of_the_protocol_alone() -> None:
    names: tuple[Any, ...] = (None, 5, "evil", "debugpySockets", "__proto__", {})
    for name in names:
        assert contain_event({"event": name, "body": {}}) is None
    assert contain_event({"event": "stopped", "body": {"threadId": "1"}}) is None
    body = {"threadId": 1, "reason": "breakpoint\u202e", "extra": 1, "allThreadsStopped": True}
    assert contain_event({"event": "stopped", "body": body, "seq": 7, "more": 1}) == {
        "type": "event",
        "seq": 7,
        "event": "stopped",
        "body": {
            "threadId": 1,
            "reason": "breakpoint[U+202E]",
            "allThreadsStopped": True,
            "hitBreakpointIds": [],
        },
    }
    for evil in EVIL:
        event = contain_event({"event": "output", "body": evil, "seq": evil})
        assert event is not None and not {"\u202e", "text/html"} & set(strings(event))


def test_long_lists_end_with_their_number() -> None:
    variables = [{"name": f"v{n}", "value": "1"} for n in range(5_000)]
    said = {"success": True, "body": {"variables": variables}}
    listed = contain_reply(said, "inspectVariables", Policy())["body"]["variables"]
    assert len(listed) == 2_001 and listed[-1]["value"] == "3,000 more"
