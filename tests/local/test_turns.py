"""Whose turn it is in the runtime's event loop."""

from __future__ import annotations

import asyncio

from agentbay_kernel.local import turns

# Turns of the loop that the request takes.
TURNS = 20


async def steps(own: bool) -> int:
    """The steps that a large transfer takes while a request takes its turns: its own or another."""
    taken = 0

    async def transfer() -> None:
        nonlocal taken
        while True:
            await turns.give_way()
            taken += 1

    async def request() -> None:
        young = turns.begin()
        transferring = asyncio.create_task(transfer()) if own else None
        for _ in range(TURNS):
            await asyncio.sleep(0)
        turns.end(young)
        if transferring is not None:
            transferring.cancel()

    other = None if own else asyncio.create_task(transfer())
    await asyncio.create_task(request())
    if other is not None:
        other.cancel()
    return taken


def test_a_large_transfer_pauses_for_the_request_of_another() -> None:
    assert asyncio.run(steps(own=False)) <= TURNS // 4


def test_a_large_transfer_does_not_pause_for_its_own_request() -> None:
    assert asyncio.run(steps(own=True)) >= TURNS // 2
