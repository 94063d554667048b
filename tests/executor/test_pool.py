"""A pool is an executor as every other: order, errors, cancellation, timeouts, the end."""

from __future__ import annotations

import asyncio
import atexit
import collections
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from agentbay_kernel.errors import RemoteError, UnsupportedValueError
from agentbay_kernel.executor import RemoteTraceback, SandboxExecutor
from agentbay_kernel.service import AgentBay
from tests.sessions.conftest import wait_until

THRESHOLD = 10


class OwnError(Exception):
    """Not a builtin one."""


class Point:
    """Data can't be made of it."""


def above(number: int) -> bool:
    return number > THRESHOLD


def double(number: int) -> int:
    return 2 * number


def divide(number: int) -> float:
    return 1 / number


def fail(kind: str) -> None:
    errors: dict[str, BaseException] = {
        "zero": ZeroDivisionError("by zero"),
        "key": KeyError("a", 1),
        "file": FileNotFoundError(2, "No such file", "a.csv"),
        "decode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        "own": OwnError("mine"),
        "stop": StopIteration(3),
        "exit": SystemExit(4),
        "interrupt": KeyboardInterrupt(),
        "group": ExceptionGroup("two", [ValueError(1), TypeError(2)]),
        "point": ValueError(Point()),
        "hostile": ValueError("\x1b]0;title\x07 \u202eback"),
    }
    raise errors[kind]


def until(path: str) -> str:
    """Run until a file is there."""
    while not os.path.exists(path):  # noqa: PTH110 (runs in the sandbox)
        time.sleep(0.01)
    return path


def test_a_function_runs_there_with_what_it_captures(pool: SandboxExecutor) -> None:
    assert pool.submit(above, 11).result() is True
    assert pool.submit(above, number=10).result() is False
    assert pool.submit(os.getpid).result() != os.getpid()
    outer = 3
    assert pool.submit(lambda x, *, y=1: outer * x + y, 2, y=5).result() == 11


def temporary_directory() -> str:
    return os.environ["TMPDIR"]


def test_what_is_sent_is_removed_with_its_session(service: AgentBay) -> None:
    with SandboxExecutor(1, notify=lambda _: None) as pool:
        temporary = Path(pool.submit(temporary_directory).result())
        assert len(list(temporary.glob("ab-*/items.py"))) == 1
    wait_until(lambda: not temporary.exists(), "the session's directories are removed")


def test_map_keeps_the_order_and_takes_several_iterables(pool: SandboxExecutor) -> None:
    assert list(pool.map(double, range(300))) == [2 * n for n in range(300)]
    assert list(pool.map(pow, [2, 3, 4], [5, 2])) == [32, 9]
    assert list(pool.map(double, range(20), chunksize=7)) == [2 * n for n in range(20)]
    assert list(pool.map(double, [])) == []
    taken = iter(range(10**9))
    few = pool.map(double, taken, buffersize=4)
    assert [next(few) for _ in range(6)] == [0, 2, 4, 6, 8, 10]
    few.close()  # type: ignore[attr-defined]
    assert next(taken) < 20


@pytest.mark.parametrize(
    "value",
    [
        *(None, 2**70, -0.0, 1 + 2j, "x" * 100_000, b"\0" * 1_500_000, {1: {2}}, (1, [2])),
        *(Decimal("1.10"), collections.Counter("aab"), "\ud800"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_and_go_as_data(pool: SandboxExecutor, value: Any) -> None:
    def same(x: Any, *, named: Any) -> Any:
        return [x, named]

    assert pool.submit(same, value, named=value).result() == [value, value]


def test_tables_and_arrays_come_and_go(pool: SandboxExecutor) -> None:
    frame = pandas.DataFrame({"n": range(60_000), "t": ["text"] * 60_000})
    back = pool.submit(lambda table: table[table.n % 2 == 0], frame).result()
    pandas.testing.assert_frame_equal(back, frame[frame.n % 2 == 0])
    arrays = pool.map(lambda a: a * 2, [numpy.arange(n) for n in (3, 100_000)])
    assert [array.sum() for array in arrays] == [6, 100_000 * 99_999]


def test_what_changes_on_the_way_is_told_once(pool: SandboxExecutor, told: list[str]) -> None:
    def ordered(number: int) -> Any:
        import collections

        return collections.OrderedDict(a=number)

    assert list(pool.map(ordered, range(5))) == [{"a": n} for n in range(5)]
    lines = [line for line in told if "OrderedDict" in line]
    assert len(lines) == 1 and "arrives as dict" in lines[0]


@pytest.mark.parametrize(
    ("kind", "error", "args"),
    [
        ("zero", ZeroDivisionError, ("by zero",)),
        ("key", KeyError, ("a", 1)),
        ("file", FileNotFoundError, (2, "No such file")),
        ("decode", UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "bad")),
        ("hostile", ValueError, ("␛]0;title␇ [U+202E]back",)),
    ],
)
def test_builtin_errors_are_raised_as_they_are(
    pool: SandboxExecutor, kind: str, error: type[Exception], args: tuple[Any, ...]
) -> None:
    raised = pool.submit(fail, kind).exception()
    assert type(raised) is error and raised.args == args
    assert isinstance(raised.__cause__, RemoteTraceback)
    assert "in fail" in str(raised.__cause__) and "\x1b" not in str(raised.__cause__)
    if isinstance(raised, OSError):
        assert raised.filename == "a.csv"


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("own", "tests.executor.test_pool.OwnError", "mine"),
        ("stop", "StopIteration", "3"),
        ("exit", "SystemExit", "4"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("group", "ExceptionGroup", "two (2 sub-exceptions)"),
    ],
)
def test_other_errors_are_a_remote_error(
    pool: SandboxExecutor, kind: str, name: str, text: str
) -> None:
    raised = pool.submit(fail, kind).exception()
    assert isinstance(raised, RemoteError)
    assert (raised.ename, raised.evalue) == (name, text)
    assert any("in fail" in line for line in raised.traceback)


def test_an_error_of_a_value_that_cant_be_transferred_keeps_its_type(pool: SandboxExecutor) -> None:
    raised = pool.submit(fail, "point").exception()
    assert type(raised) is ValueError and "Point object" in raised.args[0]


def test_of_10001_items_two_cant_be_transferred_and_all_others_run(pool: SandboxExecutor) -> None:
    rows: list[Any] = list(range(10_001))
    rows[7] = rows[9_000] = Point()
    outcomes = list(pool.map(lambda row: row + 1, rows, return_exceptions=True))
    bad = {number: each for number, each in enumerate(outcomes) if isinstance(each, Exception)}
    assert list(bad) == [7, 9_000]
    assert all(isinstance(each, UnsupportedValueError) for each in bad.values())
    assert "argument 1 is a tests.executor.test_pool.Point" in str(bad[7])
    assert all(each == n + 1 for n, each in enumerate(outcomes) if n not in bad)


def test_a_result_that_cant_be_transferred_fails_alone(pool: SandboxExecutor) -> None:
    def result(number: int) -> Any:
        return {"deep": [open]} if number == 1 else number

    outcomes = list(pool.map(result, range(3), return_exceptions=True))
    assert outcomes[::2] == [0, 2]
    assert "result['deep'][0] is a builtin_function_or_method" in str(outcomes[1])


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os._exit(3), "exit status 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal 11"),
    ],
)
def test_an_item_that_ends_its_process_fails_alone(
    pool: SandboxExecutor, end: Callable[[], None], words: str
) -> None:
    futures = [pool.submit(double, n) for n in range(5)]
    ended = pool.submit(end)
    futures += [pool.submit(double, n) for n in range(5, 10)]
    assert [future.result() for future in futures] == [2 * n for n in range(10)]
    raised = ended.exception()
    assert isinstance(raised, RemoteError)
    assert raised.ename == "ProcessEnded" and words in raised.evalue


def test_what_is_printed_and_left_behind_disturbs_nothing(pool: SandboxExecutor) -> None:
    def noisy(number: int) -> int:
        import os
        import sys
        import threading

        print("printed", number)
        os.system("echo from a child; echo wrong >&2")
        sys.stdin.close()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        if number == 1 and os.fork() == 0:
            # A child that lives on, with all that its parent had open.
            os.execvp("sleep", ["sleep", "2"])
        return number

    assert list(pool.map(noisy, range(4))) == list(range(4))


def test_items_that_turn_out_to_be_long_are_handed_to_the_other_session(
    pool: SandboxExecutor, tmp_path: Path
) -> None:
    def work(path: str) -> int:
        import os
        import time

        while path and not os.path.exists(path):  # noqa: PTH110
            time.sleep(0.01)
        return os.getpid()

    # It is known as fast.
    assert len(set(pool.map(work, [""] * 400))) <= 2
    # The first of a chunk lasts until the others, which wait behind it, have run elsewhere.
    gate = tmp_path / "gate"
    first, *others = [pool.submit(work, path) for path in (str(gate), *[""] * 100)]
    there = {future.result() for future in others}
    gate.touch()
    assert first.result() not in there


def test_as_completed_wait_and_asyncio(pool: SandboxExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow: Future[Any] = pool.submit(until, str(gate))
    fast: Future[Any] = pool.submit(double, 1)
    assert wait([slow, fast], return_when=FIRST_COMPLETED).done == {fast}
    gate.touch()
    assert {future.result() for future in as_completed([slow, fast])} == {2, str(gate)}

    async def gather() -> list[Any]:
        futures = [asyncio.wrap_future(pool.submit(double, n)) for n in range(4)]
        failing = asyncio.wrap_future(pool.submit(fail, "stop"))
        return await asyncio.gather(*futures, failing, return_exceptions=True)

    *doubles, error = asyncio.run(gather())
    assert doubles == [0, 2, 4, 6] and isinstance(error, RemoteError)


def test_a_callback_may_end_its_pool_and_a_line_may_be_lost() -> None:
    def refuses(line: str) -> None:
        raise OSError(line)

    with SandboxExecutor(1, notify=refuses) as pool:
        # What it captures is told, and a dict of another kind comes back as a dict.
        import collections

        future = pool.submit(lambda: collections.OrderedDict(a=THRESHOLD))
        ended: list[bool] = []

        def end(_: object) -> None:
            pool.shutdown()
            ended.append(True)

        future.add_done_callback(end)
        assert future.result(timeout=60) == {"a": THRESHOLD}
    assert ended == [True]


def test_a_callback_that_exits_ends_no_worker(service: AgentBay) -> None:
    with SandboxExecutor(1) as pool:
        for wrong in (SystemExit, KeyboardInterrupt, GeneratorExit):
            future = pool.submit(double, 2)

            def leave(_: object, wrong: type[BaseException] = wrong) -> None:
                raise wrong

            future.add_done_callback(leave)
            others = [pool.submit(double, number) for number in range(5)]
            assert [it.result(timeout=60) for it in others] == [0, 2, 4, 6, 8]
        failing = pool.submit(divide, 0)
        failing.add_done_callback(leave)
        assert pool.submit(double, 3).result(timeout=60) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_ends_leaves_the_parents_sessions(service: AgentBay) -> None:
    with SandboxExecutor(1) as pool:
        assert pool.submit(double, 2).result() == 4
        child = os.fork()
        if not child:
            try:
                atexit._run_exitfuncs()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert len(list(service.list_all())) >= 1
        assert pool.submit(double, 3).result(timeout=60) == 6


def test_an_error_in_map_cancels_what_was_not_sent(pool: SandboxExecutor) -> None:
    with pytest.raises(ZeroDivisionError):
        list(pool.map(lambda n: 1 // n, range(100)))
    # The pool is as it was.
    assert pool.submit(double, 4).result() == 8


def test_map_has_a_timeout_and_progress(
    pool: SandboxExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate"
    with pytest.raises(TimeoutError):
        next(pool.map(until, [str(gate)], timeout=0.1))
    gate.touch()
    assert list(pool.map(double, range(30), progress="doubling")) == [2 * n for n in range(30)]
    shown = capsys.readouterr().err
    assert "doubling" in shown and "30/30" in shown
