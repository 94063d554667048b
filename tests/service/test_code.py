"""What run_code checks before it sends anything, and what it sends."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from agentbay_kernel.errors import (
    CodeSyntaxWarning,
    CommandError,
    InvalidCodeError,
    InvalidTimeoutError,
    ToolNotFoundError,
    UnsupportedLanguageError,
)
from agentbay_kernel.service import Session
from tests.service.malformed import MalformedServer


@pytest.mark.parametrize("language", ["ruby", "", "r", "java", None])
def test_other_languages_are_refused(
    session: Session, server: MalformedServer, language: Any
) -> None:
    with pytest.raises(UnsupportedLanguageError, match=r"python.*javascript"):
        session.code.run_code("1", language)
    assert server.counts["run_code"] == 0


@pytest.mark.parametrize("timeout_s", [0, -1, 60.001, float("nan"), float("inf"), "5", None, True])
def test_timeouts_out_of_range_are_refused(
    session: Session, server: MalformedServer, timeout_s: Any
) -> None:
    with pytest.raises(InvalidTimeoutError, match="60"):
        session.code.run_code("1", "python", timeout_s)
    assert server.counts["run_code"] == 0


@pytest.mark.parametrize("code", ["", " \n\t", None, b"1", 5, "'\ud800'"])
def test_what_is_no_code_is_refused(session: Session, server: MalformedServer, code: Any) -> None:
    with pytest.raises(InvalidCodeError, match="Nothing was sent"):
        session.code.run_code(code, "python")
    assert server.counts["run_code"] == 0


def test_these_errors_are_command_errors_and_value_errors() -> None:
    for error in (UnsupportedLanguageError, InvalidTimeoutError, InvalidCodeError):
        assert issubclass(error, CommandError) and issubclass(error, ValueError)


@pytest.mark.parametrize("language", ["python", "Python ", "py", "python3", "js", "node"])
def test_aliases_of_languages_are_taken(session: Session, language: str) -> None:
    assert session.code.run_code("1", language).success


@pytest.mark.parametrize(
    "code",
    [
        "'\N{SNOWMAN} \N{GRINNING FACE}' + \"a&b=c%20+\"",
        "'\\x00\x00 \r\n\ttab'",
        "x" * 300_000,
    ],
)
def test_code_arrives_unchanged(session: Session, server: MalformedServer, code: str) -> None:
    assert session.code.run_code(code, "python", 5).result == code
    assert server.codes == [code]


def test_an_image_without_the_tool_is_named(session: Session) -> None:
    with pytest.raises(ToolNotFoundError, match="code_latest"):
        session.call_mcp_tool("shell", {"command": "true"})


FINE = [
    ("1 + 1", "python"),
    ("await f()", "python"),
    ("async for x in y: pass", "python"),
    ("%matplotlib inline\nx = (", "python"),
    ("%%bash\nfor x in", "python"),
    ("!ls -l", "python"),
    ("files = !ls", "python"),
    ("f = %who_ls", "python"),
    ("?print", "python"),
    ("print?", "python"),
    ("print??\n", "python"),
    ("-" * 50_000 + "1", "python"),
    ("const x = await f()", "javascript"),
]
DOUBTFUL = [
    ("x = (", "python"),
    ("print 1", "python"),
    ("def f(:\n  pass", "python"),
    ("x = '\x00'", "python"),
    ("const = 1", "javascript"),
    ("function f() {", "js"),
]


@pytest.mark.parametrize(("code", "language"), FINE)
def test_code_that_may_run_is_not_warned_of(session: Session, code: str, language: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert session.code.check_syntax(code, language)


@pytest.mark.parametrize(("code", "language"), DOUBTFUL)
def test_code_that_does_not_parse_is_warned_of_and_sent(
    session: Session, server: MalformedServer, code: str, language: str
) -> None:
    with pytest.warns(CodeSyntaxWarning, match="sandbox decides") as warned:
        assert session.code.run_code(code, language, check_syntax=True).result == code
    assert warned[0].filename == __file__
    with pytest.warns(CodeSyntaxWarning) as warned:
        assert not session.code.check_syntax(code, language)
    assert warned[0].filename == __file__
    assert server.codes == [code]


def test_syntax_is_not_checked_unless_asked(session: Session) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.code.run_code("x = (", "python")
