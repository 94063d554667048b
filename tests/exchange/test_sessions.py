"""What an exchange with a session takes, refuses, leaves behind; and a session that lies."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy
import pandas
import pytest

from agentbay_kernel.errors import (
    ExchangeError,
    ExchangeStoppedError,
    MalformedValueError,
    MissingNameError,
    TooLargeError,
    UnsupportedValueError,
)
from agentbay_kernel.exchange import Exchange, Progress
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.service import AgentBay
from tests.exchange.codec import WITHOUT_ARROW
from tests.exchange.conftest import Bench
from tests.runtime import LocalRuntimeProcess


def test_what_the_cells_made_is_fetched(bench: Bench) -> None:
    bench.run("import pandas as pd\nmade = pd.DataFrame({'a': [1, 2]}, index=['x', 'y'])")
    fetched = bench.exchange.fetch(["made"])
    assert fetched.values["made"].to_dict() == {"a": {"x": 1, "y": 2}}


def test_a_name_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(MissingNameError, match="no variable nothing_of_that_name"):
        bench.exchange.fetch(["nothing_of_that_name"])


def test_what_can_not_travel_is_named_and_sets_nothing(bench: Bench) -> None:
    with pytest.raises(UnsupportedValueError, match=r"second\['f'\] is a function"):
        bench.exchange.send({"first_of_two": 1, "second": {"f": lambda: 1}})
    bench.run("f = {'g': [len]}")
    with pytest.raises(UnsupportedValueError, match=r"f\['g'\]\[0\] is a builtin_function"):
        bench.exchange.fetch(["f"])
    with pytest.raises(MissingNameError):
        bench.exchange.fetch(["first_of_two"])


def test_nothing_is_left_among_the_users_names(bench: Bench) -> None:
    # Cells of the user's own are numbered: _i1, _i2, ...
    names = "print(sorted(n for n in globals() if not n.startswith('_i')))"
    before = bench.run(names)
    bench.exchange.send({"brought": 1})
    bench.exchange.fetch(["brought"])
    bench.run("del brought")
    assert bench.run(names) == before


def test_names_of_the_users_are_not_in_the_way(bench: Bench) -> None:
    bench.run("globals = open = print = __name__ = 1")
    bench.exchange.send({"brought": 2})
    assert bench.exchange.fetch(["brought"]).values == {"brought": 2}
    bench.run("del globals, open, print")


def test_what_javascript_made_is_fetched(bench: Bench) -> None:
    bench.run(
        "const held = new Map([[1, new Set(['a'])]]), huge = 2 ** 70, none = {u: undefined};"
        "const late = Promise.resolve(1)",
        "javascript",
    )
    fetched = bench.exchange.fetch(["held", "huge", "none"], "javascript")
    assert fetched.values == {"held": {1: {"a"}}, "huge": 2.0**70, "none": {"u": None}}
    assert type(fetched.values["huge"]) is float
    assert [note.name for note in fetched.notes] == ["huge", "none"]
    with pytest.raises(UnsupportedValueError, match="is a Promise: await it first"):
        bench.exchange.fetch(["late"], "javascript")
    with pytest.raises(MissingNameError, match="no variable gone"):
        bench.exchange.fetch(["gone"], "javascript")


@pytest.mark.parametrize("name", ["a b", "x.y", "1", "", "import", "x; y", "__import__('os')"])
def test_only_names_are_taken(bench: Bench, name: str) -> None:
    with pytest.raises(UnsupportedValueError, match="is no name"):
        bench.exchange.fetch([name])
    with pytest.raises(UnsupportedValueError, match="is no name"):
        bench.exchange.send({name: 1})


def test_a_stopped_exchange_sets_nothing(bench: Bench) -> None:
    stopped = threading.Event()

    def stop(tick: Progress) -> None:
        stopped.set()

    with pytest.raises(ExchangeStoppedError):
        bench.exchange.send({"unset": b"x" * 9_000_000}, progress=stop, stopped=stopped)
    with pytest.raises(MissingNameError):
        bench.exchange.fetch(["unset"])


def test_more_than_the_limit_is_refused_on_both_sides(bench: Bench) -> None:
    small = Exchange(bench.session, bench.execution_of, limit=100_000)
    with pytest.raises(TooLargeError, match="data has more than 100,000 bytes"):
        small.send({"data": b"x" * 200_000})
    bench.run("data = b'x' * 200_000\nlist_ = ['x' * 1000] * 200")
    for name in ("data", "list_"):
        with pytest.raises(TooLargeError, match="has more than 100,000 bytes"):
            small.fetch([name])


def test_temporary_files_may_be_cleared_away(bench: Bench) -> None:
    bench.exchange.send({"x": 1})
    bench.run(
        "import glob, shutil\nfor folder in glob.glob('/tmp/ab-*'):\n"
        "    if glob.glob(folder + '/exchange.py'): shutil.rmtree(folder)"
    )
    with pytest.raises(ExchangeError, match="try it again"):
        bench.exchange.send({"x": 2})
    bench.exchange.send({"x": 3})
    assert bench.exchange.fetch(["x"]).values == {"x": 3}


LACKING = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "pandas", "pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
"""


def test_a_sandbox_without_libraries_takes_what_needs_none(runtime: LocalRuntimeProcess) -> None:
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        direct = DirectExecution(session)
        assert not [m for m in direct.execute(Cell(LACKING, "python")) if m.type == "error"]
        exchange = Exchange(session, lambda language: direct)
        assert exchange.send({"x": [1, {"y": b"z"}]}) == []
        assert exchange.fetch(["x"]).values == {"x": [1, {"y": b"z"}]}
        for value, needs in (
            (numpy.arange(3), "numpy"),
            (pandas.DataFrame({"a": [1]}), "pandas"),
            (pandas.DataFrame({"a": range(1000)}), "pandas"),
        ):
            with pytest.raises(UnsupportedValueError, match=f"x is a .* and needs {needs}"):
                exchange.send({"x": value})
        session.delete(wait=False)


SMALL = pandas.DataFrame(
    {
        "n": numpy.arange(3000) / 7,
        "word": ["é", None, 'a,"b'] * 1000,
        "kind": pandas.Categorical(["x", "y", None] * 1000),
    },
    index=pandas.date_range("2024-10-26", periods=3000, freq="h", tz="Europe/Berlin"),
)
LARGE = pandas.DataFrame({"n": numpy.arange(200_000)})
# What a notebook without pyarrow does with a sandbox that has it.
NOTEBOOK = """
import sys
import pandas
from agentbay_kernel.errors import UnsupportedValueError
from agentbay_kernel.exchange import Exchange
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.service import AgentBay

with AgentBay(sys.argv[1], endpoint=sys.argv[2]) as client:
    session = client.get(sys.argv[3]).session
    direct = DirectExecution(session)
    exchange = Exchange(session, lambda language: direct)
    fetched = exchange.fetch(["small"])
    assert exchange.send({"back": fetched.values["small"]}) == []
    for act in (
        lambda: exchange.send({"large": pandas.DataFrame({"n": range(200_000)})}),
        lambda: exchange.fetch(["large"]),
    ):
        try:
            act()
        except UnsupportedValueError as error:
            print(error)
"""


def test_a_sandbox_without_pyarrow_takes_small_tables(runtime: LocalRuntimeProcess) -> None:
    says = (
        "large is a table of more than 1,000,000 bytes. It needs pyarrow on both sides, and the "
        "sandbox has none (14.0.1 or newer). Type in a cell of the sandbox: %pip install pyarrow"
    )
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        direct = DirectExecution(session)
        exchange = Exchange(session, lambda language: direct)
        make = f"{WITHOUT_ARROW}\nimport pandas\nlarge = pandas.DataFrame({{'n': range(200_000)}})"
        assert not [m for m in direct.execute(Cell(make, "python")) if m.type == "error"]
        assert exchange.send({"small": SMALL, "column": SMALL["word"]}) == []
        fetched = exchange.fetch(["small", "column"])
        assert fetched.notes == []
        pandas.testing.assert_frame_equal(fetched.values["small"], SMALL)
        pandas.testing.assert_series_equal(fetched.values["column"], SMALL["word"])
        for act in (lambda: exchange.send({"large": LARGE}), lambda: exchange.fetch(["large"])):
            with pytest.raises(UnsupportedValueError) as refusal:
                act()
            assert str(refusal.value) == says
        # What is no table needs none.
        array = numpy.arange(200_000.0)
        assert exchange.send({"array": array}) == []
        assert numpy.array_equal(exchange.fetch(["array"]).values["array"], array)
        session.delete(wait=False)


def test_a_notebook_without_pyarrow_takes_small_tables(runtime: LocalRuntimeProcess) -> None:
    says = (
        "large is a table of more than 1,000,000 bytes. It needs pyarrow on both sides, and your "
        "notebook's Python has none (14.0.1 or newer). Type: "
        "%pip install pyarrow"
    )
    access = runtime.api_key, runtime.endpoint
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        session = client.create().session
        assert session is not None
        direct = DirectExecution(session)
        exchange = Exchange(session, lambda language: direct)
        exchange.send({"small": SMALL, "large": LARGE})
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_ARROW + NOTEBOOK, *access, session.session_id],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.stdout.splitlines() == [says] * 2, done.stderr
        pandas.testing.assert_frame_equal(exchange.fetch(["back"]).values["back"], SMALL)
        session.delete(wait=False)


HOSTILE = """
import sys, json, pickle
class Trap:
    def __reduce__(self): return (print, (13,))
def serve(namespace, base):
    report, pack = {answer}
    if pack is not None:
        open(base + ".pack", "wb").write(pack)
    open(base + ".report", "w").write(report if isinstance(report, str) else json.dumps(report))
jobs = sys.modules["agentbay_kernel.sandbox.exchange.jobs"]
jobs.honest = getattr(jobs, "honest", jobs.serve)
jobs.serve = serve
"""
HONEST = """
import sys
jobs = sys.modules["agentbay_kernel.sandbox.exchange.jobs"]
jobs.serve = jobs.honest
"""
ANSWERS: dict[str, tuple[str, type[Exception], str]] = {
    "a pickle": ("(pickle.dumps(Trap(), 0).decode('latin1'), None)", MalformedValueError, "report"),
    "no report": ("('[]', None)", MalformedValueError, "report"),
    "an endless report": ("(' ' * 21_000_000, None)", MalformedValueError, "more than"),
    "no values": ("({'text': 5}, None)", MalformedValueError, "no values"),
    "no object": ("({'text': '[1]'}, None)", MalformedValueError, "no values by name"),
    "other names": ("({'text': '{\"exit\": 1}'}, None)", MalformedValueError, "other names"),
    "NaN": ("({'text': '{\"x\": NaN}'}, None)", MalformedValueError, "NaN"),
    "a huge claim": (
        "({'text': None, 'sizes': [2, 10**13], 'sha256': ''}, b'{}')", TooLargeError, "claims"
    ),
    "a negative claim": (
        "({'text': None, 'sizes': [2, -1], 'sha256': ''}, b'{}')", MalformedValueError, "how much"
    ),
    "less than claimed": (
        "({'text': None, 'sizes': [2, 50], 'sha256': ''}, b'{}')", MalformedValueError, "promised"
    ),
    "another content": (
        "({'text': None, 'sizes': [2], 'sha256': '0' * 64}, b'{}')", MalformedValueError, "not what"
    ),
    "a refusal of its own": ("({'refused': ['x', 'y']}, None)", MalformedValueError, "report"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_hostile_sandbox_is_not_believed(bench: Bench, kind: str) -> None:
    answer, error, says = ANSWERS[kind]
    bench.exchange.send({"x": 1})
    bench.run(HOSTILE.replace("{answer}", answer))
    try:
        with pytest.raises(error, match=says):
            bench.exchange.fetch(["x"])
    finally:
        bench.run(HONEST)
    assert bench.exchange.fetch(["x"]).values == {"x": 1}
