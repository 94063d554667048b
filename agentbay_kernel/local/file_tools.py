"""The filesystem tools: a session's files as texts in the service's form.

In: a tool's arguments. Out: its text (AgentBay wire protocol, filesystem tools). The work is done
by the session's agent, inside its sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from weakref import WeakKeyDictionary

from agentbay_kernel.local.sessions import Session

# Tools of a session at a time: each may hold an answer of some megabytes.
AT_ONCE = 4
_at_once: WeakKeyDictionary[Session, asyncio.Semaphore] = WeakKeyDictionary()

SERVER = "wuying_filesystem"
NAMES = (
    "create_directory",
    "write_file",
    "read_file",
    "read_multiple_files",
    "get_file_info",
    "list_directory",
    "move_file",
    "delete_file",
    "edit_file",
    "search_files",
    "get_file_change",
)


async def call(session: Session, name: str, arguments: dict[str, Any]) -> str:
    """One filesystem tool.

    Raises:
        AgentError: the operating system or the agent refused.
    """
    if name == "get_file_change":
        found = await change_events(session, arguments["path"], watcher="tool")
        return json.dumps(found, ensure_ascii=False)
    async with _at_once.setdefault(session, asyncio.Semaphore(AT_ONCE)):
        value = await session.sandbox.agent.call("file", do=name, **arguments)
    if name == "read_file" and arguments.get("format") != "binary":
        return _unpacked(value)
    return _word(name, value)


async def change_events(session: Session, path: str, watcher: str) -> list[dict[str, str]]:
    """What changed below a folder since this watcher last asked; its first time is the baseline."""
    found = await session.sandbox.agent.call("file", do="changes", path=path, watcher=watcher)
    return list(found)


async def forget_watcher(session: Session, path: str, watcher: str) -> None:
    """This watcher does not ask again."""
    await session.sandbox.agent.call("file", do="forget", path=path, watcher=watcher)


def _word(name: str, value: Any) -> str:
    match name:
        case "read_file" | "edit_file":
            return str(value)
        case "read_multiple_files":
            return "\n---\n".join(f"{path}: \n{_unpacked(text)}\n" for path, text in value)
        case "get_file_info":
            return "\n".join(f"{key}: {_plain(item)}" for key, item in value.items())
        case "list_directory":
            lines = [
                f"[{'DIR' if folder else 'FILE'}] {entry}" for entry, folder in value["entries"]
            ]
            if value["left_out"]:
                lines.append(f"[cut: {value['left_out']:,} more entries]")
            return "\n".join(lines)
        case "search_files":
            cut = [f"[cut: {value['cut']}]"] if value["cut"] else []
            return "\n".join([*value["matches"], *cut]) or "No matches found"
    return "True"


def _unpacked(text: str) -> str:
    """Text that came as base64, because JSON makes some characters six times as long."""
    return base64.b64decode(text).decode("utf-8", "replace")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
