"""Whose turn it is in the runtime's event loop."""

from __future__ import annotations

import asyncio

from agentbay_kernel.local import turns

# Turns of the loop that the request takes.
TURNS = 20


async def steps() -> tuple[int, int]:
    """The steps of two large transfers while a request takes its turns: another's, and its own."""
    taken = [0, 0]

    async def transfer(which: int) -> None:
        while True:
            await turns.give_way()
            taken[which] += 1

    async def request() -> None:
        young = turns.begin()
        own = asyncio.create_task(transfer(1))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        turns.end(young)
        own.cancel()

    other = asyncio.create_task(transfer(0))
    await asyncio.create_task(request())
    other.cancel()
    return taken[0], taken[1]


def test_large_transfers_pause_for_a_request_and_not_for_their_own() -> None:
    others, own = asyncio.run(steps())
    assert others <= TURNS // 4
    assert own >= TURNS // 2
