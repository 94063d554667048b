"""Messages of a sandbox's debugger for a page, rebuilt from an allow list.

They are the contents of debug_reply and debug_event messages (Debug Adapter Protocol 1.6, and
ipykernel's additions). Only known fields stay, if they have the protocol's type; strings are made
visible and limited. JupyterLab renders the result of `richInspectVariables` as trusted, so it
passes the containment of outputs (`bundle`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentbay_kernel.containment.bundle import contain_bundle
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.containment.text import one_line, shortened, visible

JsonObject = dict[str, Any]
# Returns the contained value, or None if it is not of its type.
Shape = Callable[[Any], Any]

# Characters: of a name or a path, of a value in a grid, of a text that is copied or read.
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TEXT = 1_000, 2_000, 1_000_000
# Entries of a list; drawing more keeps a page busy.
_MOST_ENTRIES = 2_000
# Larger whole numbers are not exact in a page.
_LARGEST = 2**53


def _name(value: Any) -> str | None:
    return one_line(value[:_LONGEST_NAME]) if isinstance(value, str) else None


def _value(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    cut = "\u2026" if len(value) > _LONGEST_VALUE else ""
    return visible(value[:_LONGEST_VALUE]) + cut


def _text(value: Any) -> str | None:
    return visible(shortened(value, _LONGEST_TEXT)) if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < _LARGEST else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _identity(value: Any) -> int | str | None:
    return _name(value) if isinstance(value, str) else _number(value)


def _list(shape: Shape, most: int = _MOST_ENTRIES) -> Shape:
    def contain(value: Any) -> list[Any]:
        # A page iterates over it without a check that it is there.
        entries = map(shape, value[:most]) if isinstance(value, list) else ()
        return [entry for entry in entries if entry is not None]

    return contain


def _record(**fields: Shape) -> Shape:
    lists = [name for name, shape in fields.items() if shape.__qualname__.startswith("_list")]

    def contain(value: Any) -> JsonObject | None:
        if not isinstance(value, dict):
            return None
        found = {name: shape(value[name]) for name, shape in fields.items() if name in value}
        kept = {name: it for name, it in found.items() if it is not None}
        return {**{name: [] for name in lists}, **kept}

    return contain


_source = _record(
    name=_name, path=_name, sourceReference=_number, presentationHint=_name, origin=_name
)
_position = dict.fromkeys(("line", "column", "endLine", "endColumn"), _number)
_breakpoint = _record(id=_number, verified=_flag, message=_value, source=_source, **_position)
_breakpoints = _record(breakpoints=_list(_breakpoint))
_hint = _record(kind=_name, attributes=_list(_name, 20), visibility=_name, lazy=_flag)
_children = dict.fromkeys(("variablesReference", "namedVariables", "indexedVariables"), _number)
_assigned = _record(value=_value, type=_name, **_children)
_variable = _record(
    name=_name, value=_value, type=_name, evaluateName=_name, presentationHint=_hint, **_children
)
_module = _record(
    id=_identity, name=_name, path=_name, version=_name, package=_name, isOptimized=_flag
)


def _variables(value: Any) -> JsonObject:
    listed = value.get("variables") if isinstance(value, dict) else None
    variables = _list(_variable)(listed)
    if isinstance(listed, list) and (left := len(listed) - _MOST_ENTRIES) > 0:
        more = {"name": "\u2026", "value": f"{left:,} more", "type": "", "variablesReference": 0}
        variables.append(more)
    return {"variables": variables}


def _capabilities(value: Any) -> JsonObject | None:
    filters = _record(
        exceptionBreakpointFilters=_list(
            _record(
                filter=_name,
                label=_name,
                description=_value,
                default=_flag,
                supportsCondition=_flag,
                conditionDescription=_value,
            )
        )
    )
    if not isinstance(value, dict):
        return None
    can = {
        name: it
        for name, it in value.items()
        if name.startswith("supports")
        and name.isascii()
        and name.isalpha()
        and isinstance(it, bool)
    }
    return {**can, **filters(value)}


def _exception(depth: int) -> Shape:
    texts = dict.fromkeys(("message", "evaluateName", "stackTrace"), _value)
    inner = {"innerException": _list(_exception(depth - 1), 20)} if depth else {}
    return _record(typeName=_name, fullTypeName=_name, **texts, **inner)


_nothing = _record()
_frame = _record(
    id=_number,
    name=_name,
    source=_source,
    moduleId=_identity,
    presentationHint=_name,
    canRestart=_flag,
    **_position,
)
_scope = _record(
    name=_name, presentationHint=_name, expensive=_flag, source=_source, **_children, **_position
)

# The relayed commands, and the parts of their replies' bodies that a page may get.
REPLIES: dict[str, Shape] = {
    "attach": _nothing,
    "completions": _record(
        targets=_list(
            _record(
                label=_name,
                text=_name,
                sortText=_name,
                detail=_name,
                type=_name,
                start=_number,
                length=_number,
                selectionStart=_number,
                selectionLength=_number,
            )
        )
    ),
    "configurationDone": _nothing,
    "continue": _record(allThreadsContinued=_flag),
    "copyToGlobals": _assigned,
    "disconnect": _nothing,
    "dumpCell": _record(sourcePath=_name),
    "evaluate": _record(result=_text, type=_name, presentationHint=_hint, **_children),
    "exceptionInfo": _record(
        exceptionId=_name, description=_value, breakMode=_name, details=_exception(2)
    ),
    "goto": _nothing,
    "gotoTargets": _record(targets=_list(_record(id=_number, label=_name, **_position))),
    "initialize": _capabilities,
    "inspectVariables": _variables,
    "loadedSources": _record(sources=_list(_source)),
    "modules": _record(modules=_list(_module), totalModules=_number),
    "next": _nothing,
    "pause": _nothing,
    "scopes": _record(scopes=_list(_scope)),
    "setBreakpoints": _breakpoints,
    "setExceptionBreakpoints": _breakpoints,
    "setExpression": _assigned,
    "setFunctionBreakpoints": _breakpoints,
    "setVariable": _assigned,
    "source": _record(content=_text, mimeType=_name),
    "stackTrace": _record(stackFrames=_list(_frame), totalFrames=_number),
    "stepIn": _nothing,
    "stepInTargets": _record(targets=_list(_record(id=_number, label=_name, **_position))),
    "stepOut": _nothing,
    "threads": _record(threads=_list(_record(id=_number, name=_name))),
    "variables": _variables,
}

# The events that are passed on.
_EVENTS: dict[str, Shape] = {
    "breakpoint": _record(reason=_name, breakpoint=_breakpoint),
    "continued": _record(threadId=_number, allThreadsContinued=_flag),
    "exited": _record(exitCode=_number),
    "initialized": _nothing,
    "loadedSource": _record(reason=_name, source=_source),
    "module": _record(reason=_name, module=_module),
    "output": _record(
        category=_name, output=_text, group=_name, source=_source, line=_number, column=_number
    ),
    "process": _record(
        name=_name, systemProcessId=_number, isLocalProcess=_flag, startMethod=_name
    ),
    "stopped": _record(
        reason=_name,
        description=_value,
        text=_value,
        threadId=_number,
        allThreadsStopped=_flag,
        preserveFocusHint=_flag,
        hitBreakpointIds=_list(_number, 1_000),
    ),
    "terminated": _nothing,
    "thread": _record(reason=_name, threadId=_number),
}
_error = _record(id=_number, format=_value, showUser=_flag)


def contain_reply(reply: JsonObject, command: str, policy: Policy) -> JsonObject:
    """Return the contained content of a debug_reply.

    Arguments:
        command: the command of the request: one of `REPLIES`, or `richInspectVariables`.
    """
    success = reply.get("success") is True
    # Some of ipykernel's own replies have no `success`; those have not failed.
    success = success or ("body" in reply and "success" not in reply)
    body = reply.get("body")
    contained: JsonObject = {"success": success, "command": command}
    if not success:
        failed = _record(error=_error)(body) or {}
        message = _value(reply.get("message")) or _value(reply.get("evalue"))
        return {**contained, "message": message or "", "body": {**no_body(command), **failed}}
    if command == "richInspectVariables":
        parts = body if isinstance(body, dict) else {}
        data, metadata = (
            it if isinstance(it := parts.get(name), dict) else {} for name in ("data", "metadata")
        )
        shown = contain_bundle(data, metadata, policy)
        return {**contained, "body": {"data": shown.data, "metadata": shown.metadata}}
    return {**contained, "body": REPLIES[command](body if isinstance(body, dict) else {})}


def no_body(command: str) -> JsonObject:
    """Return the body of an empty reply: the lists that a page iterates over without a check."""
    body = REPLIES[command]({}) if command in REPLIES else {}
    return body or {}


def contain_event(event: JsonObject) -> JsonObject | None:
    """Return a debug_event's contained content; None for one that a page does not use."""
    name, body = event.get("event"), event.get("body")
    shape = _EVENTS.get(name) if isinstance(name, str) else None
    if shape is None:
        return None
    number = _number(event.get("seq"))
    contained = shape(body if isinstance(body, dict) else {})
    if name == "stopped" and "threadId" not in contained:
        return None
    return {"type": "event", "seq": number or 0, "event": name, "body": contained}
