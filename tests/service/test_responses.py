"""Every shape that the service answers run_code in, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentbay_kernel.errors import InvalidResponseError
from agentbay_kernel.service.envelope import ToolResponse
from agentbay_kernel.service.responses import read_execution
from agentbay_kernel.service.results import CodeError, CodeExecutionResult

IPYTHON_TRACEBACK = (
    "\x1b[31m---------------------------------------------------------------------------\x1b[39m\n"
    "\x1b[31mValueError\x1b[39m                                Traceback (most recent call last)\n"
    "\x1b[36mCell In[3]\x1b[39m, line 2\n      1 print('x')\n----> 2 raise ValueError('a\\nb: c')\n"
    "\n\x1b[31mValueError\x1b[39m: a\nb: c\n"
)
IPYTHON_SYNTAX = "Cell In[1], line 1\n    x = \n       ^\nSyntaxError: invalid syntax"
PYTHON_TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "<stdin>", line 1, in <module>\n'
    "requests.exceptions.ReadTimeout: HTTPConnectionPool: Read timed out.\n"
)
CHAINED_TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "<stdin>", line 2, in <module>\nKeyError: 1\n\n'
    "During handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n"
    '  File "<stdin>", line 4, in <module>\nTypeError: no\nHint: yes\n'
)
NODE_TRACEBACK = (
    "ReferenceError: x is not defined\n    at evalmachine.<anonymous>:1:1\n    at Script"
)
NODE_SYNTAX = "evalmachine.<anonymous>:1\nfoo(\n    ^\n\nSyntaxError: missing ) after argument list"


def read(document: Any, is_error: bool = False) -> CodeExecutionResult:
    text = document if isinstance(document, str) else json.dumps(document)
    return read_execution(ToolResponse(text, is_error, "R-1"))


def current(**changes: Any) -> dict[str, Any]:
    return {
        "executionError": "",
        "result": [],
        "stdout": [],
        "stderr": [],
        "execution_count": 4,
        "execution_time": 0.25,
        "traceId": "t",
        **changes,
    }


def test_the_current_shape() -> None:
    items = [
        json.dumps({"isMainResult": False, "text/html": "<b>x</b>", "text/plain": "x"}),
        json.dumps({"isMainResult": True, "text/plain": "3"}),
    ]
    result = read(current(result=items, stdout=["a\n", "b\n"], stderr=["w\n"]))

    assert result.success and result.error is None and result.error_message == ""
    assert result.request_id == "R-1"
    assert result.logs.stdout == ["a\n", "b\n"] and result.logs.stderr == ["w\n"]
    assert [(item.data, item.is_main_result) for item in result.results] == [
        ({"text/html": "<b>x</b>", "text/plain": "x"}, False),
        ({"text/plain": "3"}, True),
    ]
    assert (result.execution_count, result.execution_time) == (4, 0.25)
    assert result.result == "3"


def test_result_is_the_first_text_and_then_the_prints() -> None:
    shown = {"isMainResult": False, "text/plain": "shown"}
    assert read(current(result=[shown], stdout=["p"])).result == "shown"
    assert read(current(result=[{"image/png": "AA=="}], stdout=["p", "q"])).result == "pq"


def test_a_whole_bundle_is_kept_with_its_metadata() -> None:
    bundle = {
        "text/plain": "p",
        "image/png": "iVBOR=",
        "application/vnd.vegalite.v4+json": {"mark": "bar", "data": [1, None]},
        "application/x-own": "?",
    }
    metadata = {"image/png": {"width": 3}}
    result = read(current(result=[{**bundle, "isMainResult": True, "metadata": metadata}]))
    assert result.results[0].data == bundle
    assert result.results[0].metadata == metadata


@pytest.mark.parametrize("times", [1, 2, 3])
def test_items_may_be_encoded_several_times(times: int) -> None:
    item: Any = {"isMainResult": True, "text/plain": "3"}
    for _ in range(times):
        item = json.dumps(item)
    assert read(current(result=[item])).results[0].data == {"text/plain": "3"}


def test_a_document_may_be_encoded_twice() -> None:
    assert read(json.dumps(json.dumps(current(stdout=["a"])))).logs.stdout == ["a"]


@pytest.mark.parametrize("text", ["plain", "3", '"quoted"', "{'a': 1}", '{"a": 1}', ""])
def test_an_item_that_is_a_text_is_that_text(text: str) -> None:
    assert read(current(result=[text])).results[0].data == {"text/plain": text}


def test_short_names_mean_types() -> None:
    item = {"text": "t", "html": "h", "json": {"a": 1}, "png": None, "chart": {"mark": "bar"}}
    assert read(current(result=[item])).results[0].data == {
        "text/plain": "t",
        "text/html": "h",
        "application/json": {"a": 1},
        "application/vnd.vegalite.v5+json": {"mark": "bar"},
    }


def test_the_legacy_document() -> None:
    result = read(
        {
            "logs": {"stdout": ["a"], "stderr": []},
            "results": [{"text": "1", "html": None, "is_main_result": True}],
            "error": None,
            "isError": False,
            "execution_count": 2,
            "execution_time": 1,
        }
    )
    assert result.success and result.result == "1" and result.logs.stdout == ["a"]
    assert result.results[0].data == {"text/plain": "1"}
    assert (result.execution_count, result.execution_time) == (2, 1.0)


def test_the_legacy_documents_error() -> None:
    error = {"name": "KeyError", "value": "'a'", "traceback": ["one", "two"]}
    result = read({"logs": {"stdout": ["a"]}, "results": [], "error": error, "isError": True})
    assert not result.success and result.logs.stdout == ["a"]
    assert result.error == CodeError("KeyError", "'a'", "one\ntwo")
    assert result.error_message == "KeyError: 'a'"


@pytest.mark.parametrize("text", ["hello\n", "[1, 2]", "3", "{'a': 1}", "{ broken"])
def test_plain_text_is_what_was_printed(text: str) -> None:
    for answer in (text, {"content": [{"type": "text", "text": text}]}):
        result = read(answer)
        assert result.success and result.result == text and result.results == []
        assert result.logs.stdout == [text]


def test_nothing_is_a_success_without_output() -> None:
    result = read("")
    assert result.success and result.result == "" and result.logs.stdout == []


@pytest.mark.parametrize("is_error", [True, False])
def test_error_shapes_a_and_b_keep_the_output(is_error: bool) -> None:
    result = read(
        current(
            executionError="ZeroDivisionError: division by zero",
            stdout=["before\n"],
            stderr=["Traceback (most recent call last):\n", "ZeroDivisionError: division by zero"],
        ),
        is_error,
    )
    assert not result.success
    assert result.error_message == "ZeroDivisionError: division by zero"
    assert result.error is not None
    assert (result.error.name, result.error.value) == ("ZeroDivisionError", "division by zero")
    assert result.error.traceback.startswith("Traceback (most recent call last):\nZero")
    assert result.logs.stdout == ["before\n"]
    assert result.execution_count == 4


def test_error_shape_c() -> None:
    result = read("NameError: name 'x' is not defined", is_error=True)
    assert not result.success
    assert result.error == CodeError("NameError", "name 'x' is not defined")


def test_an_error_that_stands_in_stderr_alone() -> None:
    result = read(current(stderr=["warned\n" + PYTHON_TRACEBACK]), is_error=True)
    assert result.error is not None
    assert result.error.name == "ReadTimeout"
    assert result.error.traceback == PYTHON_TRACEBACK.strip()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("ValueError", "ValueError", ""),
        ("KeyboardInterrupt: ", "KeyboardInterrupt", ""),
        ("pandas.errors.ParserError: bad\nline", "ParserError", "bad\nline"),
        ("SyntaxError: incomplete input (<x>)", "SyntaxError", "incomplete input (<x>)"),
        (IPYTHON_TRACEBACK, "ValueError", "a\nb: c"),
        (PYTHON_TRACEBACK, "ReadTimeout", "HTTPConnectionPool: Read timed out."),
        (CHAINED_TRACEBACK, "TypeError", "no\nHint: yes"),
        (NODE_TRACEBACK, "ReferenceError", "x is not defined"),
        (NODE_SYNTAX, "SyntaxError", "missing ) after argument list"),
        (IPYTHON_SYNTAX, "SyntaxError", "invalid syntax"),
        ("Killed", "ExecutionError", "Killed"),
        ("the kernel died: out of memory", "ExecutionError", "the kernel died: out of memory"),
    ],
)  # fmt: skip
def test_name_and_value_are_parsed(text: str, name: str, value: str) -> None:
    error = read(current(executionError=text)).error
    assert error is not None
    assert (error.name, error.value) == (name, value)
    if "\n" in text and name != "ParserError":
        assert error.traceback == text.strip()


def test_a_chained_traceback_is_found_whole_in_stderr() -> None:
    error = read(
        current(executionError="TypeError: no", stderr=["first\n", CHAINED_TRACEBACK])
    ).error
    assert error is not None and error.traceback == CHAINED_TRACEBACK.strip()


def test_an_unrelated_traceback_in_stderr_is_not_the_errors() -> None:
    error = read(current(executionError="KeyError: 1", stderr=[PYTHON_TRACEBACK])).error
    assert error == CodeError("KeyError", "1")


@pytest.mark.parametrize(
    "text",
    [
        "TimeoutError: the code ran longer than 2 s",
        "Execution timed out",
        "execution timeout after 60s",
        "Error: Execution timed out after 60 seconds",
        "Execution failed. Error code:-1 Error message: [timeout]",
        "ExecutionError: time limit exceeded",
        "context deadline exceeded",
    ],
)
def test_what_speaks_of_a_timeout_is_one(text: str) -> None:
    in_document = read(current(executionError=text, stdout=["so far"]), is_error=True)
    for result in (in_document, read(text, is_error=True)):
        assert not result.success
        assert result.error is not None and result.error.name == "TimeoutError"
        assert result.error_message
    assert in_document.logs.stdout == ["so far"]


def test_a_timeout_with_a_name_of_its_own_is_the_codes_own() -> None:
    text = "requests.exceptions.ReadTimeout: Read timed out."
    error = read(current(executionError=text)).error
    assert error is not None and error.name == "ReadTimeout"


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_become_null(constant: str) -> None:
    text = '{"result": [{"application/json": {"a": %s}}], "execution_time": %s}'
    result = read(text % (constant, constant))
    assert result.results[0].data == {"application/json": {"a": None}}
    assert result.execution_time == 0.0


def test_half_surrogate_pairs_are_replaced_and_whole_ones_kept() -> None:
    text = r'{"result": ["{\"text/plain\": \"\\ud83d\\ude00 \\ud800\"}"], "stdout": ["\udc00"]}'
    result = read(text)
    assert result.result == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    assert result.logs.stdout == ["\N{REPLACEMENT CHARACTER}"]


def test_the_camel_case_of_the_streaming_route_is_understood() -> None:
    result = read({"result": [], "executionCount": 7, "executionTime": 0.5})
    assert (result.execution_count, result.execution_time) == (7, 0.5)


@pytest.mark.parametrize(
    "document",
    [
        {"some": "thing"},
        current(stdout=5),
        current(stderr=[1]),
        current(result=7),
        current(result=[7]),
        current(result=[{"image/png": 5}]),
        current(result=[{"text/plain": "x", "metadata": 5}]),
        current(executionError=5),
        current(result=[{"application/json": json.loads("[" * 300 + "]" * 300)}]),
        {"content": [{"text": 5}]},
        json.dumps(current(stdout=["a"] * 9))[:-9],
        '{"result": ' + "[" * 100_000,
    ],
)
def test_what_is_no_result_is_refused_by_name(document: Any) -> None:
    with pytest.raises(InvalidResponseError, match="may have run"):
        read(document)


def test_odd_counters_do_not_lose_a_result() -> None:
    result = read(current(execution_count="4", execution_time=[1]))
    assert result.success and result.execution_count is None and result.execution_time == 0.0
