"""Runs a function in a process of its own, as the cells' user: the file operations of a session."""

from __future__ import annotations

import builtins
import fcntl
import json
import os
from collections.abc import Callable
from typing import Any

from agentbay_kernel.local.agent.identity import Identity

# The first byte of an operation's result if that is a text and not JSON.
TEXT = b"T"
# Bytes of a text in one piece: as much as a pipe holds.
PIECE = 65536
# The first descriptor after the standard ones.
KEPT = 3


def run(
    identity: Identity,
    operation: Callable[..., Any],
    arguments: dict[str, Any],
    take: Callable[[bytes], None],
    fd: int | None = None,
) -> Any:
    """Run a function in a process of the cells' user.

    A text that it returns is passed to `take` in pieces, in UTF-8. Another value must be JSON,
    and is returned. A descriptor becomes the function's argument `fd`.

    The process stays in the agent's session, and so in the group with the agent's weight. In
    it, links in the workspace lead only to what cells may open: in the agent itself, /proc/self
    would be the agent.

    Raises:
        OSError: the function raised it, or its process was killed.
        Exception: the function raised it; with the same type if that is a common one.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kept = [write_end] if fd is None else [write_end, fd]
            # First to higher numbers, so that neither is overwritten.
            kept = [fcntl.fcntl(one, fcntl.F_DUPFD, KEPT + len(kept)) for one in kept]
            for place, one in enumerate(kept, KEPT):
                os.dup2(one, place)
            os.closerange(KEPT + len(kept), os.sysconf("SC_OPEN_MAX"))
            if fd is not None:
                arguments = {**arguments, "fd": KEPT + 1}
            identity.become_cells()
            with os.fdopen(KEPT, "wb") as result:
                done = _attempt(operation, arguments)
                value = done.get("value")
                if isinstance(value, str):
                    value = value.encode("utf-8", "replace")
                if isinstance(value, bytes):
                    result.write(TEXT)
                    result.write(value)
                else:
                    result.write(json.dumps(done).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb", buffering=0) as result:
            text = result.read(1)
            if text == TEXT:
                while piece := result.read(PIECE):
                    take(piece)
                text = b'{"value": null}'
            else:
                text += result.readall()
    finally:
        _, status = os.waitpid(child, 0)
    if status != 0:
        raise OSError(5, "the process of this operation was killed")
    found = json.loads(text)
    if "value" in found:
        return found["value"]
    kind = getattr(builtins, found["kind"], None)
    if "errno" in found:
        raise OSError(found["errno"], *found["about"])
    if kind in (ValueError, TypeError, RecursionError, MemoryError):
        raise kind(found["message"])
    raise RuntimeError(f"{found['kind']}: {found['message']}")


def _attempt(operation: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": operation(**arguments)}
    except OSError as failure:
        about = [failure.strerror or str(failure)]
        if failure.filename is not None:
            about.append(str(failure.filename))
        return {"kind": "OSError", "errno": failure.errno or 5, "about": about}
    except Exception as failure:
        return {"kind": type(failure).__name__, "message": str(failure)}
