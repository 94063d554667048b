"""What goes out with a function: said once, never a key, and by name what can't."""

from __future__ import annotations

import functools
import io
import os
import socket
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pandas
import pytest

from agentbay_kernel.errors import NotAllowedError, UnsupportedValueError
from agentbay_kernel.executor import SandboxExecutor
from agentbay_kernel.executor.functions import pack
from tests.runtime import LocalRuntimeProcess

KEY = "akm-feedface-0123-4567-89ab-cdefdeadbeef"
OPEN_FILE = Path(__file__).open()  # noqa: SIM115 (captured below)
LOCK = threading.Lock()
GENERATOR = (number for number in range(3))
SOCKET = socket.socket()
api_key = "sk-0123456789abcdef"
settings = {"host": "example.org", "auth": {"dbPassword": "correct horse"}}
weights = [1, 2, 3]


VALUE = "ghp_0123456789"


class Keyed:
    class_secret = VALUE


class Client:
    def __init__(self, held: str = VALUE) -> None:
        self.access_token = held

    def ask(self) -> str:
        return self.access_token


class Slotted:
    __slots__ = "password"

    def __init__(self) -> None:
        self.password = VALUE


KEYED, SLOTTED = Keyed(), Slotted()
PARTIAL = functools.partial(print, password=VALUE)

CLIENT = Client()


def uses_weights(factor: int = 2) -> int:
    return factor * sum(weights)


def inner_open() -> str:
    return OPEN_FILE.read()


def outer_open() -> str:
    return inner_open()


def uses_lock() -> bool:
    return LOCK.locked()


def uses_api_key() -> str:
    return api_key


def uses_settings() -> Any:
    return settings["host"]


def uses_client() -> Any:
    return CLIENT


def environment() -> Any:
    return os.environ


def with_environment(variables: Any = os.environ) -> Any:
    return variables


def test_what_a_function_captures_is_listed(pool: SandboxExecutor, told: list[str]) -> None:
    local = "text"

    def score(row: int) -> tuple[int, str]:
        return uses_weights() + row, local

    assert list(pool.map(score, range(3))) == [(12 + n, "text") for n in range(3)]
    assert pool.submit(score, 5).result() == (17, "text")
    lines = [line for line in told if "score" in line]
    assert len(lines) == 1
    for part in ("local (str)", "uses_weights (function)", "weights (list)", "factor (int)"):
        assert part in lines[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (inner_open, "captures OPEN_FILE (TextIOWrapper)"),
        (outer_open, "captures OPEN_FILE (TextIOWrapper)"),
        (uses_lock, "captures LOCK (lock)"),
        (with_environment, "captures variables (_Environ)"),
        (lambda: SOCKET, "captures SOCKET (socket)"),
        (functools.partial(print, file=sys.__stderr__), "partial can't be sent"),
        (lambda: GENERATOR, "captures GENERATOR (generator)"),
    ],
)
def test_what_cant_be_pickled_is_named_for_every_future(
    pool: SandboxExecutor, function: Callable[..., Any], words: str
) -> None:
    errors = [pool.submit(function).exception() for _ in range(2)]
    assert all(isinstance(error, UnsupportedValueError) for error in errors)
    assert errors[0] is not errors[1]
    assert words in str(errors[0])
    assert pool.submit(uses_weights).result() == 12


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (uses_api_key, "api_key"),
        (lambda: uses_api_key(), "api_key"),
        (uses_settings, "settings.auth.dbPassword"),
        (uses_client, "CLIENT.access_token"),
        (lambda token="0123456789": token, "token"),
        (lambda these=[{"password": VALUE}]: these, "these.[0].password"),
        (lambda these=({"a": [{"password": VALUE}]},): these, "these.[0].a.[0].password"),
        (lambda call=PARTIAL: call, "call.password"),
        (lambda slotted=SLOTTED: slotted, "slotted.password"),
        (lambda method=CLIENT.ask: method, "method.access_token"),
        (lambda kind=Keyed: kind, "kind.class_secret"),
        (lambda keyed=KEYED: keyed, "keyed.class_secret"),
    ],
)
def test_names_that_look_like_keys_are_refused(
    pool: SandboxExecutor, function: Callable[[], Any], name: str
) -> None:
    error = pool.submit(function).exception()
    assert isinstance(error, NotAllowedError)
    assert f"captures {name}, whose name" in str(error)
    assert "0123456789" not in str(error)
    # Whoever allows it by name sends it.
    allowed = pack(function, {name.rpartition(".")[2]}, KEY)
    assert allowed.captured


@pytest.mark.parametrize("name", ["tokens", "sort_key", "keys", "monkey", "tokenizer"])
def test_other_names_are_not(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"{name} = 'a long text'\ndef uses(): return {name}", namespace)
    assert pack(namespace["uses"], (), KEY).captured == (f"{name} (str)",)


def test_values_of_keys_are_found_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "t0psecret-value")
    for hidden in (KEY, [{"x": (KEY,)}], io.StringIO(f"key={KEY}"), "t0psecret-value"):
        with pytest.raises(NotAllowedError) as raised:
            pack(lambda hidden=hidden: hidden, (), KEY)
        assert "captures the value of" in str(raised.value)
        assert KEY not in str(raised.value) and "t0psecret" not in str(raised.value)
    assert pack(lambda: KEY[:10], ("KEY",), "").payload


def test_the_services_key_is_no_argument(
    pool: SandboxExecutor, runtime: LocalRuntimeProcess
) -> None:
    key = runtime.api_key
    large = "x" * 100_000
    for arguments in (
        (key,),
        ({"deep": [f"Bearer {key}"]},),
        (key.encode(),),
        (bytearray(b"x" + key.encode()),),
        (b"xx" + key.encode() + b"y",),
        (large + key + large,),
        (large.encode() + key.encode(),),
        (numpy.frombuffer(key.encode() + b"y" * 1000, "u1"),),
        (pandas.DataFrame({"a": ["b", key]}),),
    ):
        error = pool.submit(len, *arguments).exception()
        assert isinstance(error, NotAllowedError)
        assert "AGENTBAY_API_KEY" in str(error) and runtime.api_key not in str(error)
    # The environment of the sandbox is its own.
    names = pool.submit(lambda: dict(os.environ)).result()
    assert runtime.api_key not in str(names)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the user's own, which imports another one."""
    (tmp_path / "own_inner.py").write_text("FACTOR = 3\ndef triple(n):\n    return FACTOR * n\n")
    (tmp_path / "own_outer.py").write_text(
        textwrap.dedent(
            """
            import json
            import own_inner
            from own_inner import triple

            class Sum:
                def __init__(self, start):
                    self.start = start

                def add(self, n):
                    return json.loads(json.dumps(self.start + triple(n) + own_inner.FACTOR))
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_outer  # type: ignore[import-not-found]

    yield own_outer
    del sys.modules["own_outer"], sys.modules["own_inner"]


def test_modules_that_are_not_installed_go_along(
    pool: SandboxExecutor, told: list[str], module: Any
) -> None:
    import cloudpickle

    before = cloudpickle.list_registry_pickle_by_value()
    assert pool.submit(module.triple, 4).result() == 12
    # One that is used as a module goes with all that it holds.
    assert pool.submit(module.Sum(1).add, 2).result() == 10
    assert cloudpickle.list_registry_pickle_by_value() == before
    assert any("own_inner.FACTOR (int)" in line for line in told)
    sys.modules["own_inner"].password = "correct horse"  # type: ignore[attr-defined]
    error = pool.submit(module.Sum(1).add, 2).exception()
    assert isinstance(error, NotAllowedError) and "own_inner.password" in str(error)


def test_an_installed_module_that_the_sandbox_lacks_is_named(
    pool: SandboxExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    module.__file__ = f"{sysconfig.get_path('purelib')}/only_here.py"
    exec("def one():\n    return 1", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    error = pool.submit(module.one).exception()
    assert isinstance(error, ModuleNotFoundError) and "only_here" in str(error)
    assert "setup recipe" in error.__notes__[0]


def test_what_is_changed_after_submit_is_not_seen(pool: SandboxExecutor) -> None:
    state = {"n": 1}
    first = pool.submit(lambda: state["n"])
    rows = [1, 2]
    second = pool.submit(sum, rows)
    state["n"] = 2
    rows.append(100)
    assert (first.result(), second.result(), pool.submit(lambda: state["n"]).result()) == (1, 3, 2)


def test_classes_methods_and_callables_run(pool: SandboxExecutor) -> None:
    class Adder:
        def __init__(self, n: int) -> None:
            self.n = n

        def __call__(self, m: int) -> int:
            return self.n + m

    assert pool.submit(Adder(2), 3).result() == 5
    assert pool.submit(Adder(2).__call__, 4).result() == 6
    assert pool.submit(functools.partial(pow, 2), 5).result() == 32
    assert pool.submit(str.upper, "a").result() == "A"
