"""How what a tool returns is escaped on its way into nested JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentbay_kernel.local.answers import (
    PIECE,
    RunResult,
    Spool,
    ToolResult,
    text_pieces,
    tool_result,
)
from agentbay_kernel.local.events import Failure, Finished, Result, Stream

# At the ends of pieces: what an escape or a character in UTF-8 could be cut in.
AT_ENDS = ('\U0001f600\\"\n\x1f\x7f\x85\u2028', *'"\\\b\f\n\r\t\0')


def sent(result: ToolResult, levels: int) -> str:
    """The text of a tool, as a client reads it."""
    data = b"".join(result.escaped(levels))
    result.close()
    for _ in range(levels):
        data = json.loads(b'"%s"' % data).encode()
    return data.decode()


def check(text: str, levels: int) -> None:
    """What is sent decodes to the text."""
    spool = Spool()
    for piece in text_pieces(text):
        spool.add(piece)
    assert sent(ToolResult(spool), levels) == text


@given(st.text(), st.integers(0, 3))
def test_any_text(text: str, levels: int) -> None:
    check(text, levels)


@pytest.mark.parametrize("levels", range(4))
def test_characters_at_the_ends_of_pieces(levels: int) -> None:
    for text in AT_ENDS:
        for shift in range(4):
            check("x" * (PIECE - shift) + text * 5 + "y" * PIECE, levels)


def document(shape: str, text: str, levels: int) -> Any:
    """The document of a run that prints a text, shows it, and fails with it."""

    async def collect() -> RunResult:
        run = RunResult(shape)
        await run.add(Stream("stdout", text))
        await run.add(Result({"text/plain": text, "application/json": {text: [text]}}))
        await run.add(Failure("Error", text, text))
        await run.add(Finished(1, 0.1))
        return run

    read = sent(tool_result(asyncio.run(collect())), levels)
    return read if shape == "plain" else json.loads(read)


@given(st.text(), st.integers(0, 3))
def test_any_document(text: str, levels: int) -> None:
    current = document("current", text, levels)
    assert current["stdout"] == [text]
    assert current["stderr"] == [text]
    shown = {"isMainResult": False, "text/plain": text, "application/json": {text: [text]}}
    assert json.loads(current["result"][0]) == shown
    legacy = document("legacy", text, levels)
    assert legacy["logs"]["stdout"] == [text]
    assert legacy["results"][0]["json"] == {text: [text]}
    assert legacy["error"]["traceback"] == text
    assert document("plain", text, levels) == text * 3


@pytest.mark.parametrize("levels", range(3))
def test_documents_with_characters_at_the_ends_of_pieces(levels: int) -> None:
    for part in AT_ENDS:
        # The text begins behind a quote, or behind two that are escaped.
        for shift in range(6):
            text = "x" * (PIECE - shift) + part * 5 + "y" * PIECE
            current = document("current", text, levels)
            assert current["stdout"] == [text]
            assert json.loads(current["result"][0])["text/plain"] == text
