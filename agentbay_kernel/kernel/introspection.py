"""Completion, inspection and history, for the front end.

It returns the contents of the replies (Jupyter messaging protocol), contained. Command lines are
completed here; everything else is requested from the sandbox, but only if there is one already:
introspection never creates a session. Without a response, words of the language are offered.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel import threads
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.verbs.completion import (
    TYPES,
    Completions,
    Surroundings,
    body_language,
    cell_body,
    complete_body,
    complete_line,
    complete_magic,
    complete_word,
)

if TYPE_CHECKING:
    from agentbay_kernel.containment.messages import Containment
    from agentbay_kernel.execution.bridge.execution import BridgedExecution
    from agentbay_kernel.sessions import SessionManager


JsonObject = dict[str, Any]

# A front end gives up on completions sooner than a distant sandbox can respond.
_ASK_WITHIN_S = 5.0


class Introspection:
    """Replies to the introspection requests of one kernel.

    Arguments:
        language: the notebook's language.
        folder: the notebook's directory; names of its files are completed in command lines.
        manager: the session manager; None as long as there is none.
        containment: contains the sandbox's responses.
    """

    def __init__(
        self,
        language: str,
        folder: Path,
        manager: SessionManager | None,
        containment: Containment,
    ) -> None:
        self._language = language
        self._folder = folder
        self._manager = manager
        self._containment = containment

    async def complete(self, code: str, cursor_pos: int) -> JsonObject:
        """Return the content of a complete_reply."""
        manager = self._manager
        untrusted = manager is not None and manager.settings.untrusted
        around = Surroundings(self._folder, manager, untrusted=untrusted)
        if (ours := complete_line(code, cursor_pos, around)) is not None:
            return ours.content()
        reply, language, begin = None, self._language, 0
        if (cell := cell_body(code)) is None:
            reply = await self._ask(lambda bridge: bridge.complete(code, cursor_pos))
        else:
            magic, begin = cell
            language = body_language(magic)
            if manager is not None:
                reply = await _answer_of(lambda: complete_body(magic, begin, cursor_pos, manager))
        if reply is None or reply.get("status") != "ok":
            reply = complete_word(language, code[begin:], cursor_pos - begin).content(begin)
        reply = self._containment.completions(reply)
        if (names := complete_magic(code, cursor_pos)) is not None:
            _add_magics(reply, names)
        return reply

    async def inspect(self, code: str, cursor_pos: int, detail_level: int) -> JsonObject:
        """Return the content of an inspect_reply."""
        reply = await self._ask(lambda bridge: bridge.inspect(code, cursor_pos, detail_level))
        if reply is None:
            reply = {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return self._containment.inspection(reply)

    async def history(self, request: JsonObject) -> JsonObject | None:
        """Return the content of a history_reply to that of a history_request.

        Returns:
            None if the sandbox has no history of this notebook.
        """
        bridge = self._manager.python_bridge() if self._manager is not None else None
        if bridge is None or self._language != PYTHON.name:
            return None
        asked = {name: value for name, value in request.items() if value is not None}
        reply = await _answer_of(lambda: bridge.history(asked))
        if reply is None:
            return {"status": "ok", "history": []}
        session = request.get("session")
        if request["hist_access_type"] == "range" and session and session > 0:
            # IPython returns 0 for the current session, even if the request gave its number.
            reply["history"] = [[session, *entry[1:]] for entry in reply.get("history", [])]
        return self._containment.history(reply)

    async def _ask(self, ask: Callable[[BridgedExecution], JsonObject]) -> JsonObject | None:
        manager = self._manager
        bridge = manager.bridge(self._language) if manager is not None else None
        return None if bridge is None else await _answer_of(lambda: ask(bridge))


def _add_magics(reply: JsonObject, names: Completions) -> None:
    """Insert the kernel's magics before those of the sandbox."""
    if reply["matches"] and reply["cursor_start"] != names.start:
        return
    reply["matches"][:0] = names.matches
    reply["cursor_start"], reply["cursor_end"] = names.start, names.end
    stretch = {"start": names.start, "end": names.end}
    reply["metadata"].setdefault(TYPES, [])[:0] = [
        {**stretch, "text": name, "type": "magic", "signature": ""} for name in names.matches
    ]


async def _answer_of(ask: Callable[[], JsonObject | None]) -> JsonObject | None:
    asked = asyncio.wrap_future(threads.start(ask))
    done, _ = await asyncio.wait([asked], timeout=_ASK_WITHIN_S)
    return asked.result() if done and asked.exception() is None else None


_SESSION = 1


def find_inputs(
    inputs: Iterable[tuple[int, str]],
    access: str,
    *,
    session: int | None = None,
    start: int | None = None,
    stop: int | None = None,
    n: int | None = None,
    pattern: str | None = None,
    unique: bool = False,
    output: bool = False,
) -> JsonObject:
    """Return the reply to a history_request from a notebook's inputs.

    The other arguments are the fields of the request.

    Arguments:
        inputs: the number and the code of each cell, oldest first.
        session: 0 and 1 are this notebook's; negative ones and others are not known here.

    Returns:
        The content of the history_reply.
    """
    found = list(inputs)
    if access == "range":
        known = (session or 0) in (0, _SESSION)
        last = float("inf") if stop is None else stop
        found = [it for it in found if known and (start or 0) <= it[0] < last]
    elif access == "search":
        found = [it for it in found if fnmatch.fnmatchcase(it[1], pattern or "*")]
        if unique:
            # Keep the latest of each.
            found = sorted({code: (number, code) for number, code in found}.values())
    if access != "range" and n is not None:
        found = found[-n:] if n else []
    return {
        "status": "ok",
        "history": [(_SESSION, it[0], (it[1], None) if output else it[1]) for it in found],
    }
