"""What comes home is data: a sandbox that lies gets errors for its own items, and nothing runs."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.errors import (
    AgentBayError,
    ExchangeError,
    MalformedValueError,
    RemoteError,
    SessionError,
    SessionLostError,
    TooLargeError,
)
from agentbay_kernel.executor import SandboxExecutor, channel
from agentbay_kernel.executor.channel import _EXCEPTIONS, _rebuilt
from agentbay_kernel.executor.pool import _MOST_NOTES
from agentbay_kernel.service import AgentBay


def written_into_the_pipe(line: str) -> None:
    """An item that writes into all files that its process has open."""
    import os

    for number in range(3, 64):
        try:
            os.write(number, line.encode())
        except OSError:
            continue


@pytest.fixture(scope="module")
def hostile(service: AgentBay) -> Iterator[SandboxExecutor]:
    with SandboxExecutor(1) as pool:
        yield pool


def answers_itself(pool: SandboxExecutor) -> None:
    assert pool.submit(abs, -3).result() == 3


@pytest.mark.parametrize("where", [lambda x: x, lambda x: [x], lambda x: {"a": (1, {"b": x})}])
def test_nothing_is_unpickled_here(
    hostile: SandboxExecutor,
    where: Callable[[Any], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def returns() -> Any:
        class Bomb:
            """Makes a directory where it is unpickled."""

            def __reduce__(self) -> Any:
                return os.mkdir, ("bomb",)

        return where(Bomb())

    def raises() -> None:
        raise ValueError(returns())

    assert isinstance(hostile.submit(returns).exception(), ExchangeError)
    assert type(hostile.submit(raises).exception()) is ValueError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "nonsense\n",
        "\xff\n",
        '999 {"ok":1}\n',
        *(
            pytest.param(line, marks=pytest.mark.slow)
            for line in ('1 {"ok":\n', "1 NaN\n", 'x {"ok":1}\n')
        ),
        "begin x\n",
        "back 77\nback y\n",
        "fault made up \x1b[2J\n",
        "7" * 200_000 + "\n",
    ],
    ids=lambda line: repr(line[:20]),
)
def test_an_item_that_forges_the_protocol_gets_an_error_or_its_result(
    hostile: SandboxExecutor, line: str
) -> None:
    future = hostile.submit(written_into_the_pipe, line)
    error = future.exception(timeout=60)
    assert error is None or isinstance(error, SessionError | ExchangeError | RemoteError), error
    assert "\x1b" not in str(error)
    answers_itself(hostile)


def test_an_item_that_says_it_goes_back_runs_once(hostile: SandboxExecutor, tmp_path: Path) -> None:
    def goes_back(log: str) -> None:
        import os
        import time
        from pathlib import Path

        with Path(log).open("a") as file:
            file.write("ran\n")
        for number in range(3, 64):
            try:
                os.write(number, b"".join(b"back %d\n" % it for it in range(1, 200)))
            except OSError:
                continue
        time.sleep(0.5)

    # These sessions share our files.
    log = tmp_path / "log"
    error = hostile.submit(goes_back, str(log)).exception(timeout=60)
    assert error is None or isinstance(error, AgentBayError), error
    answers_itself(hostile)
    assert log.read_text() == "ran\n"


# A front of the sandbox's own: takes requests, and answers as `reply` says.
FRONT = """
import base64, json, zlib

class Front:
    def call(self, text):
        request = json.loads(zlib.decompress(base64.b64decode(text)))
        self.chunk, self.first = request["chunk"], request["after"]
        self.number = (request["items"] or [[1]])[0][0]
        {reply}

    def say(self, outcomes, **other):
        reply = dict(chunk=self.chunk, first=self.first, left=0, back=[], broken="")
        text = json.dumps(dict(reply, outcomes=outcomes, **other)).replace('"ENDLESS"', "1e999")
        print("agentbay-items:" + base64.b64encode(zlib.compress(text.encode())).decode())

    def outcome(self, **outcome):
        self.say([[self.number, outcome]])

import sys
sys.modules["_agentbay_items"].front = Front()
"""


def lie(pool: SandboxExecutor, reply: str) -> None:
    """Let the session of a pool take chunks with such a front."""
    answers_itself(pool)
    (worker,) = pool._workers
    assert worker._live is not None
    ran = worker._live.session.code.run_code(FRONT.replace("{reply}", reply), "python")
    assert ran.success, ran


@pytest.mark.parametrize(
    "reply",
    [
        "print('agentbay-items:')",
        pytest.param("print('agentbay-items:!!!')", marks=pytest.mark.slow),
        "print('agentbay-items:eJwDAAAAAAE=')",
        pytest.param("print('x' * 10**6)", marks=pytest.mark.slow),
        "raise ValueError",
        pytest.param("self.chunk = 1; self.say([])", marks=pytest.mark.slow),
        pytest.param("self.first = 5; self.say([])", marks=pytest.mark.slow),
        "self.say([])",
        pytest.param("self.say([[self.number, 3]])", marks=pytest.mark.slow),
    ],
)
def test_a_session_that_answers_nonsense_is_replaced(hostile: SandboxExecutor, reply: str) -> None:
    lie(hostile, reply)
    future = hostile.submit(abs, -2)
    error = future.exception(timeout=60)
    # If it says that it took nothing, another session runs the item.
    assert isinstance(error, AgentBayError) or future.result() == 2
    answers_itself(hostile)


def test_a_session_that_hands_back_for_ever_is_believed_for_a_while(service: AgentBay) -> None:
    with SandboxExecutor(1) as pool:
        lie(pool, "self.say([], back=[self.number])")
        error = pool.submit(abs, -2).exception(timeout=60)
        assert isinstance(error, SessionLostError) and "handed back" in str(error)


@pytest.fixture(scope="module")
def liar(service: AgentBay) -> Iterator[SandboxExecutor]:
    """A pool whose session returns the outcome that is in its `say_this.json`."""
    with SandboxExecutor(1) as pool:
        lie(pool, "self.outcome(**json.load(open('say_this.json')))")
        yield pool


def says(pool: SandboxExecutor, outcome: str) -> Future[int]:
    """An item with that outcome, JSON."""
    (worker,) = pool._workers
    assert worker._live is not None
    written = worker._live.session.code.run_code(
        f"with open('say_this.json', 'w') as file: file.write({outcome!r})", "python"
    )
    assert written.success
    return pool.submit(abs, -2)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ('{"ok": {"$": "pickle", "v": "gASVAAA="}}', MalformedValueError),
        ('{"error": {"name": "SystemExit", "builtin": true}}', RemoteError),
        ('{"error": "SystemExit"}', MalformedValueError),
        ('{"sizes": [1000000000000], "sha256": ""}', TooLargeError),
        ('{"sizes": [3], "sha256": ""}', ExchangeError),
        ('{"sizes": "3"}', MalformedValueError),
        ("{}", MalformedValueError),
        ('{"refused": [{}, 1, 2]}', ExchangeError),
    ],
)
def test_an_outcome_that_is_none_is_an_error(
    liar: SandboxExecutor, outcome: str, kind: type[Exception]
) -> None:
    assert isinstance(says(liar, outcome).exception(timeout=60), kind)


@pytest.mark.parametrize("seconds", ['"ENDLESS"', "-1", "true", '"1"', "null", "10000000000000000"])
def test_a_time_that_is_none_is_not_reckoned_with(liar: SandboxExecutor, seconds: str) -> None:
    before = dict(liar._seconds)
    assert says(liar, f'{{"ok": 2, "s": {seconds}}}').result(timeout=60) == 2
    assert dict(liar._seconds) == before


@pytest.mark.parametrize(
    "failure",
    [
        {"name": "StopIteration", "builtin": True, "message": "x", "traceback": "", "args": []},
        {"name": "eval", "builtin": True, "message": "x", "args": ["1"]},
        {"name": "BaseException", "builtin": True},
        {"name": "KeyboardInterrupt", "builtin": True, "args": []},
        {"name": "ValueError", "builtin": "yes"},
        {"name": ["ValueError"], "builtin": True},
        {},
    ],
)
def test_only_listed_names_become_builtin_errors(failure: dict[str, Any]) -> None:
    assert type(_rebuilt(failure)) is RemoteError


@pytest.mark.parametrize("args", [[], ["a"], [1, 2, 3], {"no": "list"}, {"$": "bad"}, None])
def test_every_listed_error_can_be_made_of_anything(args: Any) -> None:
    for name in _EXCEPTIONS:
        error = _rebuilt({"name": name, "builtin": True, "message": "m", "args": args})
        # An OSError of a number may be a FileNotFoundError; some need what is not there.
        assert type(error) in {*_EXCEPTIONS.values(), RemoteError}


@pytest.mark.parametrize(
    "args",
    [
        ["m", ["f.py", 1, 10**9, "x", 1, 10**9]],
        ["m", {"$": "tuple", "v": ["\x1b[2J", 1, 10**7, "x\x1b]0;y\x07"]}],
    ],
)
def test_a_syntax_error_draws_no_endless_line(args: Any) -> None:
    for name in ("SyntaxError", "IndentationError", "TabError"):
        error = _rebuilt({"name": name, "builtin": True, "message": "m", "args": args})
        shown = "".join(traceback.format_exception_only(error))
        assert len(shown) < 1000 and "\x1b" not in shown
        assert "\x1b" not in str(error.args) and isinstance(error, SyntaxError)


def test_the_arguments_of_an_error_are_cleaned_however_deep() -> None:
    deep = [{"\x1b": ["\x1b[2J", {"$": "tuple", "v": ["\u202e"]}]}]
    error = _rebuilt({"name": "ValueError", "builtin": True, "message": "m", "args": deep})
    assert type(error) is ValueError
    ((key, (first, (second,))),) = error.args[0].items()
    assert not any(bad in key + first + second for bad in ("\x1b", "\u202e"))


def test_a_session_that_never_ends_an_item_ends_with_the_items_time(
    service: AgentBay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SandboxExecutor(1, timeout=0.5) as pool:
        lie(pool, "self.say([], left=1)")
        monkeypatch.setattr(channel, "_PATIENCE_S", 1.0)
        error = pool.submit(abs, -2).exception(timeout=100)
        assert isinstance(error, SessionLostError) and "timeout" in str(error)


def test_lines_of_a_sandbox_hide_none_of_the_pools(service: AgentBay) -> None:
    told: list[str] = []
    with SandboxExecutor(1, notify=told.append) as pool:
        lie(
            pool,
            "import os; self.outcome(ok=1, notes=[os.urandom(8).hex() for _ in range(20)])",
        )
        for _ in range(12):
            assert pool.submit(abs, -2).result(timeout=60) == 1
        assert sum(line.startswith("AgentBay: abs: ") for line in told) == _MOST_NOTES
        pool._tell("The pool continues with 1.")
    assert told[-1] == "AgentBay: The pool continues with 1."


def test_output_of_hostile_names_is_inert(hostile: SandboxExecutor) -> None:
    def fails() -> None:
        raise type("Evil\x1b[2J\u202e", (Exception,), {})("\x1b]8;;http://x\x07\r\n")

    error = hostile.submit(fails).exception()
    assert isinstance(error, RemoteError)
    assert not any(bad in error.ename + error.evalue for bad in ("\x1b", "\u202e", "\x07"))


def test_a_pool_survives_what_items_do_to_its_files(hostile: SandboxExecutor) -> None:
    def removes() -> None:
        import shutil
        import sys

        shutil.rmtree(sys.argv[2])

    hostile.submit(removes).exception(timeout=60)
    # What needs a file may fail; each item has an outcome, and what needs none is as it was.
    futures: list[Future[Any]] = [hostile.submit(len, "x" * 100_000)]
    futures.append(hostile.submit(lambda: "y" * 100_000))
    wait(futures)
    answers_itself(hostile)
