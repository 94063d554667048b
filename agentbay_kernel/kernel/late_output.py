"""Output after a cell's end: prints of threads and timers, displays, and updates of widgets.

The sandbox's messages that belong to no running request arrive here. They are published under the
cell that caused them, so that a front end shows them there.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from typing import TYPE_CHECKING

from agentbay_kernel import threads
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.kernel.publisher import FrontEnd

if TYPE_CHECKING:
    from agentbay_kernel.sessions import LiveSession

# How many requests are kept; output of older ones goes to the latest.
_REMEMBERED = 100


class LateOutput:
    """The late output of one kernel.

    Arguments:
        loop: the event loop that publishes it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._front_ends: collections.OrderedDict[str, FrontEnd] = collections.OrderedDict()
        # One event for each followed session; setting it ends the following.
        self._ends: list[threading.Event] = []

    def follow(self, live: LiveSession, front_end: FrontEnd) -> None:
        """Publish the late output of that session from now on, also that of this request.

        Called from any thread.
        """
        with self._lock:
            self._front_ends[front_end.request_id] = front_end
            self._front_ends.move_to_end(front_end.request_id)
            while len(self._front_ends) > _REMEMBERED:
                self._front_ends.popitem(last=False)
        if (late := live.late()) is not None:
            end = threading.Event()
            with self._lock:
                self._ends = [one for one in self._ends if not one.is_set()] + [end]
            feed = threads.Feed(late, end)
            asyncio.run_coroutine_threadsafe(self._publish(feed, live), self._loop)

    def close(self) -> None:
        """Stop publishing."""
        with self._lock:
            for end in self._ends:
                end.set()

    async def _publish(self, late: threads.Feed[tuple[str, Message]], live: LiveSession) -> None:
        async for request_id, message in late:
            await self._front_end_of(request_id).pass_on(message)
            live.note_shown(message.at)

    def _front_end_of(self, request_id: str) -> FrontEnd:
        with self._lock:
            known = self._front_ends.get(request_id)
            return known or next(reversed(self._front_ends.values()))
