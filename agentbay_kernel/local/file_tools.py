"""The filesystem tools of a session (AgentBay wire protocol, filesystem tools).

The session's agent does the work, inside the sandbox.
"""

from __future__ import annotations

import asyncio
import codecs
import errno
import json
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.answers import Spool, ToolResult
from agentbay_kernel.local.priority import runs
from agentbay_kernel.local.sessions import Session

# Bytes of one text. An agent sends less, unless code of its session has taken it over.
TEXT_LIMIT = 64 * 1024 * 1024
# Tools of a session that run at a time: each needs a process.
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


async def call(session: Session, name: str, arguments: dict[str, Any]) -> ToolResult:
    """Run a filesystem tool.

    Raises:
        AgentError: the operating system or the agent refused.
    """
    if name == "get_file_change":
        found = await change_events(session, watcher="tool", **arguments)
        return ToolResult(json.dumps(found, ensure_ascii=False))
    return ToolResult(await text_of(session, name, arguments))


async def text_of(session: Session, name: str, arguments: dict[str, Any]) -> Spool:
    """Run a filesystem tool; return its text in UTF-8, which the caller closes.

    Raises:
        AgentError: the operating system or the agent refused.
        OSError: the disk is full.
    """
    text = Spool()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(piece: bytes) -> None:
        if text.size > TEXT_LIMIT:
            message = f"the text is larger than {TEXT_LIMIT >> 20} MB"
            raise AgentError(errno.EFBIG, message)
        text.add(decoder.decode(piece).encode())

    try:
        async with _at_once.setdefault(session, asyncio.Semaphore(AT_ONCE)):
            await work(session, name, arguments, take)
        text.add(decoder.decode(b"", final=True).encode())
    except BaseException:
        text.close()
        raise
    return text


async def work(
    session: Session,
    do: str,
    arguments: dict[str, Any],
    take: Callable[[bytes], None] | None = None,
    pass_fd: int | None = None,
) -> Any:
    """Call a file operation of the session's agent; see `AgentClient.call`."""
    sandbox = session.sandbox
    with runs.working(sandbox.priority):
        return await sandbox.agent.call(
            "file", do=do, arguments=arguments, take=take, pass_fd=pass_fd
        )


async def change_events(session: Session, path: str, watcher: str) -> list[dict[str, str]]:
    """Return what changed below a directory since this watcher's last call; the first returns
    nothing."""
    found = await work(session, "changes", {"path": path, "watcher": watcher})
    return list(found)


async def forget_watcher(session: Session, path: str, watcher: str) -> None:
    """Forget a watcher: it does not call again."""
    await work(session, "forget", {"path": path, "watcher": watcher})
