"""Feeds: items in order, errors raised, a reader that leaves stops the work."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator

import pytest

from agentbay_kernel import threads


def _failing() -> Iterator[int]:
    yield 1
    raise ValueError("on purpose")


def test_a_feed_yields_in_order_and_raises() -> None:
    assert list(threads.Feed(iter(range(1000)), threading.Event())) == list(range(1000))
    seen = []
    with pytest.raises(ValueError, match="on purpose"):
        for item in threads.Feed(_failing(), threading.Event()):
            seen.append(item)
    assert seen == [1]


def test_the_same_beside_an_event_loop() -> None:
    async def read() -> list[int]:
        return [item async for item in threads.Feed(iter(range(1000)), threading.Event())]

    # On a thread: a browser's tests leave this one a loop that runs.
    assert threads.start(lambda: asyncio.run(read())).result(60) == list(range(1000))

    async def fail() -> None:
        async for _ in threads.Feed(_failing(), threading.Event()):
            pass

    with pytest.raises(ValueError, match="on purpose"):
        threads.start(lambda: asyncio.run(fail())).result(60)


def test_a_reader_that_leaves_stops_the_work() -> None:
    ended = threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            ended.set()

    with threads.Feed(endless(), threading.Event()) as feed:
        assert [next(feed) for _ in range(3)] == [0, 1, 2]
    assert ended.wait(10)


def test_start_gives_the_outcome() -> None:
    assert threads.start(lambda: 42).result(10) == 42
    with pytest.raises(ZeroDivisionError):
        threads.start(lambda: 1 // 0).result(10)
