"""Whose turn it is in the runtime's event loop, which all sessions share.

A short cell takes a dozen turns of the loop, from its request to its response. Large transfers are
made in steps, at most one in each turn; and while another request is young, they pause after each
step. So a short cell waits for few of them, and they are never held up for long.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

# A request that takes longer is no longer young.
YOUNG_S = 0.05
# The longest pause after a step.
PAUSE_S = 0.005

_steps = asyncio.Lock()
# The young requests, and when each stops to be one.
_young: dict[object, float] = {}
_own: ContextVar[object | None] = ContextVar("_own", default=None)


def begin() -> object:
    """Note that a request begins, which this task serves; return an argument for `end`."""
    request = object()
    _young[request] = time.monotonic() + YOUNG_S
    _own.set(request)
    return request


def end(request: object) -> None:
    """Note that a request has ended."""
    _young.pop(request, None)


async def give_way(pauses: bool = True) -> None:
    """Let others run, between two steps of a large transfer.

    `pauses` is False if this task is not of one request, so that it could be a young one's.
    """
    if _young.get(_own.get(), 0.0) > time.monotonic():
        # It does not wait for those that pause for it.
        await asyncio.sleep(0)
        return
    async with _steps:
        await asyncio.sleep(0)
        latest = time.monotonic() + PAUSE_S
        while pauses and _is_one_young() and time.monotonic() < latest:
            await asyncio.sleep(PAUSE_S / 2)


def _is_one_young() -> bool:
    now = time.monotonic()
    for request in [request for request, until in _young.items() if until < now]:
        del _young[request]
    return bool(_young)
