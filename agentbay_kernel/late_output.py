"""What comes after a cell's end: prints of its threads and timers, displays, widgets they move.

In: messages of the sandbox that belong to no request under way. Out: the same, published under
the cell that they came from, which is where a front end shows them.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from typing import TYPE_CHECKING

from agentbay_kernel import threads
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.frontend import FrontEnd

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager

# So many requests are remembered; what older ones print goes to the latest.
_REMEMBERED = 100


class LateOutput:
    """The late output of one kernel.

    Arguments:
        loop: publishes it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._front_ends: collections.OrderedDict[str, FrontEnd] = collections.OrderedDict()
        self._following = False
        self._stopped = threading.Event()

    def follow(self, manager: SessionManager, front_end: FrontEnd) -> None:
        """From now on publish what comes late, also of this request. Called from any thread."""
        with self._lock:
            self._front_ends[front_end.request_id] = front_end
            self._front_ends.move_to_end(front_end.request_id)
            while len(self._front_ends) > _REMEMBERED:
                self._front_ends.popitem(last=False)
            if self._following or (late := manager.late()) is None:
                return
            self._following = True
        feed = threads.Feed(late, self._stopped)
        asyncio.run_coroutine_threadsafe(self._publish(feed), self._loop)

    def close(self) -> None:
        """Publish no more."""
        self._stopped.set()

    async def _publish(self, late: threads.Feed[tuple[str, Message]]) -> None:
        try:
            async for request_id, message in late:
                await self._front_end_of(request_id).pass_on(message)
        finally:
            with self._lock:
                self._following = False

    def _front_end_of(self, request_id: str) -> FrontEnd:
        with self._lock:
            known = self._front_ends.get(request_id)
            return known or next(reversed(self._front_ends.values()))
