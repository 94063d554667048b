"""Showing a sandbox's messages in the current cell of an IPython shell."""

from __future__ import annotations

import sys

from IPython.core.display_functions import clear_output, publish_display_data

from agentbay_kernel.errors import RemoteError
from agentbay_kernel.execution.messages import Message


def display_message(message: Message) -> None:
    """Show one message as IPython would; ignore a type that a cell of a shell can't show."""
    content = message.content
    if message.type == "stream":
        file = sys.stderr if content["name"] == "stderr" else sys.stdout
        file.write(content["text"])
        file.flush()
    elif message.type == "error":
        sys.stderr.write("\n".join(content["traceback"]) + "\n")
        sys.stderr.flush()
    elif message.type in ("display_data", "execute_result", "update_display_data"):
        publish_display_data(
            content["data"],
            content["metadata"],
            transient=_own(content.get("transient")),
            update=message.type == "update_display_data",
        )
    elif message.type == "clear_output":
        clear_output(wait=content.get("wait", False))


def _own(transient: dict[str, object] | None) -> dict[str, object] | None:
    # A prefix, because a sandbox must not change the notebook's own displays, which have ids too.
    if not transient or "display_id" not in transient:
        return transient
    return {**transient, "display_id": f"agentbay-{transient['display_id']}"}


class _ShownRemoteError(RemoteError):
    def _render_traceback_(self) -> list[str]:
        # IPython shows this in place of its own traceback: only the remote frames are useful.
        return self.traceback


def remote_error(ename: str, evalue: str, traceback: list[str]) -> RemoteError:
    """Return the error to raise in the notebook for an error of the sandbox.

    Its class has the remote exception's name, because a notebook stores this name as `ename`.
    """
    # The sandbox's name may be any string, but the name of a class may not.
    name = ename.replace("\0", "") or "Error"
    kind = type(name, (_ShownRemoteError,), {"__doc__": RemoteError.__doc__})
    error: RemoteError = kind(ename, evalue, traceback)
    return error
