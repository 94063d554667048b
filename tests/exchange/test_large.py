"""200 MB each way, with memory that does not grow with it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pandas
import psutil
import pytest

from agentbay_kernel.exchange import Progress
from tests.exchange.conftest import Bench, benches_of
from tests.runtime import LocalRuntimeProcess

MEGABYTE = 1_000_000
# What an exchange may hold besides the value itself: pieces under way, a slice of rows.
BESIDES = 120 * MEGABYTE


class Peak:
    """The most memory that this process had while something was done, beyond what it began with."""

    bytes = 0


@contextmanager
def memory_peak() -> Iterator[Peak]:
    """Look at this process's memory every few milliseconds."""
    process = psutil.Process()
    before = process.memory_info().rss
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            peak.bytes = max(peak.bytes, process.memory_info().rss - before)
            time.sleep(0.005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        over.set()
        watching.join()


@pytest.fixture(params=["link", "action"])
def large_bench(runtime: LocalRuntimeProcess, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A fresh session, on a route."""
    with benches_of(runtime, request.param) as benches:
        bench = benches["bridged"]
        # What is imported for the first frame is no frame's.
        bench.exchange.send({"small": pandas.DataFrame({"a": range(1000)})})
        bench.exchange.fetch(["small"])
        yield bench


def frame_of(size: int) -> pandas.DataFrame:
    """A frame of so many bytes: numbers, moments, a few texts."""
    rows = size // 88
    random = numpy.random.default_rng(1)
    columns: dict[str, object] = {f"c{n}": random.normal(size=rows) for n in range(8)}
    columns["at"] = pandas.date_range("2020", periods=rows, freq="s", tz="Europe/Berlin")
    columns["n"] = numpy.arange(rows)
    columns["kind"] = pandas.Categorical.from_codes(
        (numpy.arange(rows) % 3).astype("i1"), ["low", "middle", "high"], ordered=True
    )
    return pandas.DataFrame(columns)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_frame_of_200_megabytes_each_way(large_bench: Bench) -> None:
    frame = frame_of(200 * MEGABYTE)
    ticks: list[Progress] = []
    with memory_peak() as sending:
        assert large_bench.exchange.send({"frame": frame}, progress=ticks.append) == []
    with memory_peak() as fetching:
        fetched = large_bench.exchange.fetch(["frame"], progress=ticks.append)
    pandas.testing.assert_frame_equal(fetched.values["frame"], frame)
    assert len(ticks) > 300
    print(f"beside it: {sending.bytes / MEGABYTE:.0f} MB out, {fetching.bytes / MEGABYTE:.0f} in")
    assert sending.bytes < BESIDES
    assert fetching.bytes < frame.memory_usage().sum() + BESIDES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_of_200_megabytes_each_way(large_bench: Bench, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    random = numpy.random.default_rng(1)
    with large.open("wb") as file:
        for _ in range(200):
            file.write(random.bytes(MEGABYTE))
    with memory_peak() as there:
        large_bench.exchange.upload(large)
    with memory_peak() as back:
        large_bench.exchange.download("large.bin", tmp_path / "back.bin")
    with large.open("rb") as one, (tmp_path / "back.bin").open("rb") as other:
        digests = [hashlib.file_digest(file, "sha256").hexdigest() for file in (one, other)]
    assert digests[0] == digests[1]
    print(f"besides: {there.bytes / MEGABYTE:.0f} MB there, {back.bytes / MEGABYTE:.0f} back")
    assert there.bytes < BESIDES and back.bytes < BESIDES
