"""Messages for old and mistyped names of commands, flags and settings.

An old name is an error that shows the new name. Help and completion do not offer it. For a mistyped
name, the message suggests the most similar one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SETTINGS = {
    "idle_listen": "late_output_seconds",
    "local_spares": "local_prewarm",
    "answer_limit": "response_limit",
}
# From the old name to the new one, each as a user types it.
RENAMED = {
    "%agentbay start": "%agentbay create",
    "%agentbay stop": "%agentbay delete",
    "%agentbay look": "%agentbay top",
    "%agentbay replay": "%agentbay rerun",
    "%agentbay restart --kill": "%agentbay restart --force",
    "%%agentbay --to": "%%agentbay LANGUAGE --capture VAR",
    "%%agentbay --no-state": "%%agentbay LANGUAGE --ephemeral",
    "jupyter agentbay sessions sweep": "jupyter agentbay sessions prune",
    **_SETTINGS,
    **{f"AGENTBAY_{old.upper()}": f"AGENTBAY_{new.upper()}" for old, new in _SETTINGS.items()},
}


def use_instead(old: str, source: str = "") -> str:
    """Return the message for an old name.

    Arguments:
        old: a key of `RENAMED`.
        source: what sets the name, for example a file.
    """
    where = f" It is set by {source}." if source else ""
    return f"Use `{RENAMED[old]}`: `{old}` was renamed.{where} Nothing was done."


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a question with the name most similar to a mistyped one; empty if none is similar.

    It starts with a space, because it follows a sentence.
    """
    near = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""
