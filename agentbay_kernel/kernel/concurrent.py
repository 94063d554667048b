"""A kernel that answers some requests while a cell runs.

In: shell messages. Out: the same dispatched, those that need not wait past a running cell. The base
class does so for comm messages alone (ipykernel 7.4, `Kernel.shell_main`): all else waits for the
cell's end, and JupyterLab gives up on a completion long before.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

from ipykernel.kernelbase import Kernel

JsonObject = dict[str, Any]

_WITH_STATUS = ("execute_request", "comm_open", "comm_msg", "comm_close")
# Is the request that is being answered one that passed a running cell?
_passes: ContextVar[bool] = ContextVar("passes", default=False)


class ConcurrentKernel(Kernel):
    """Subclasses say by `passes_cells` which requests don't wait."""

    def passes_cells(self, request: JsonObject) -> bool:
        """May this request (a message as `Session.deserialize` gives it) pass a running cell?"""
        return False

    async def shell_main(self, subshell_id: str | None, msg: Any) -> None:
        """Dispatch a message, now or after the running cell."""
        request = None
        if subshell_id is None and self._main_asyncio_lock.locked() and not self._aborting:
            request = self._read(msg)
        if request is None or not self.passes_cells(request):
            await super().shell_main(subshell_id, msg)
            return
        # What is dispatched so has no status of its own. Widgets send nothing more before they get
        # that of their last message, and a cell does not end in the page without it.
        has_status = request["header"]["msg_type"] in _WITH_STATUS
        ident, parent = self._parent_ident["shell"], self.get_parent("shell")
        passing = self.dispatch_shell(msg, subshell_id=None, concurrent=True)
        context = copy_context()
        context.run(_passes.set, True)
        if has_status:
            self._tell_state("busy", request)
        try:
            await asyncio.create_task(passing, context=context)
        finally:
            self.set_parent(ident, parent, channel="shell")
            if has_status:
                self._tell_state("idle", request)

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """What waits behind the running cell is not aborted when something fails beside it."""
        if not _passes.get():
            super()._abort_queues(subshell_id)

    def _read(self, msg: Any) -> JsonObject | None:
        assert self.session is not None
        try:
            _, frames = self.session.feed_identities(msg, copy=False)
            # With its content unpacked a message counts as received, and is refused the next time.
            request: JsonObject = self.session.deserialize(frames, content=False, copy=False)
            request["content"] = self.session.unpack(request["content"])
        except Exception:
            # The base class words what is wrong with it.
            return None
        return request

    def _tell_state(self, state: str, request: JsonObject) -> None:
        assert self.session is not None
        self.session.send(
            self.iopub_socket,
            "status",
            {"execution_state": state},
            parent=request,
            ident=self._topic("status"),
        )
