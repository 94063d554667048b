"""The inputs of one notebook's cells, where no kernel in the sandbox keeps them.

In: cells as they are run. Out: the content of a history_reply (Jupyter messaging protocol,
`history_request`). Kept in memory only: nothing of a cell is written to this machine.
"""

from __future__ import annotations

import fnmatch

# (session, line number, input), as in a history_reply.
Entry = tuple[int, int, str]
_SESSION = 1


class History:
    """Inputs by their numbers."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, number: int, code: str) -> None:
        """A cell was run under that number."""
        self._entries.append((_SESSION, number, code))

    def reply(
        self,
        access: str,
        *,
        session: int | None = None,
        start: int | None = None,
        stop: int | None = None,
        n: int | None = None,
        pattern: str | None = None,
        unique: bool = False,
        output: bool = False,
    ) -> dict[str, object]:
        """Answer a history_request; its fields are the arguments.

        `session` 0 and 1 are this notebook's, negative ones and others are not known here.
        """
        entries = self._entries
        if access == "range":
            known = (session or 0) in (0, _SESSION)
            last = start or 0, float("inf") if stop is None else stop
            entries = [e for e in entries if known and last[0] <= e[1] < last[1]]
        elif access == "search":
            entries = [e for e in entries if fnmatch.fnmatchcase(e[2], pattern or "*")]
            if unique:
                # The latest of each.
                latest = {entry[2]: entry for entry in entries}
                entries = sorted(latest.values(), key=lambda entry: entry[1])
        if access != "range" and n is not None:
            entries = entries[-n:] if n else []
        if output:
            return {"status": "ok", "history": [(s, num, (code, None)) for s, num, code in entries]}
        return {"status": "ok", "history": list(entries)}
