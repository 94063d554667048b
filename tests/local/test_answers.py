"""How a tool's text is escaped on its way into nested JSON, and how long that is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentbay_kernel.local.answers import PIECE, Spool, ToolResult


def check(text: str, levels: int) -> None:
    """What is sent decodes to the text, and is as long as was said."""
    spool = Spool()
    spool.add_text(text)
    result = ToolResult(spool)
    sent = list(result.escaped(levels))
    assert [len(part) for part in sent] == list(result.escaped_sizes(levels))
    result.close()
    data = b"".join(sent)
    for _ in range(levels):
        data = json.loads(b'"%s"' % data).encode()
    assert data == text.encode()


@given(st.text(), st.integers(0, 3))
def test_any_text(text: str, levels: int) -> None:
    check(text, levels)


@pytest.mark.parametrize("levels", range(4))
def test_characters_at_the_ends_of_pieces(levels: int) -> None:
    for text in ('\U0001f600\\"\n\x1f\x7f\x85\u2028', *'"\\\b\f\n\r\t\0'):
        for shift in range(4):
            check("x" * (PIECE - shift) + text * 5 + "y" * PIECE, levels)
