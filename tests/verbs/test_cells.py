"""What of a cell is ours and what is the sandbox's."""

from __future__ import annotations

import pytest

from agentbay_kernel.verbs import CellMagic, VerbCell, parse_cell


@pytest.mark.parametrize(
    ("code", "parsed"),
    [
        ("print(1)", None),
        ("", None),
        ("%agentbay status", VerbCell(("status",), "")),
        ("\n  %agentbay status  \n", VerbCell(("status",), "")),
        ("%agentbay", VerbCell(("",), "")),
        ("%agentbay status\n%agentbay help\nx = 1\n", VerbCell(("status", "help"), "x = 1\n")),
        ("%%agentbay js\nconst a = 1\n", CellMagic("js", "const a = 1\n")),
        ("\n%%agentbay   python \nx\ny", CellMagic("python", "x\ny")),
        ("%%agentbay", CellMagic("", "")),
        ("%%agentbay js -t 5\n1", CellMagic("js -t 5", "1")),
        ("%%agentbay?", CellMagic("?", "")),
        ("%agentbay?", VerbCell(("?",), "")),
        ("%agentbay status?", VerbCell(("status?",), "")),
        # Others' magics, and ours in the middle of code, are the sandbox's.
        ("%agentbayou", None),
        ("%time x", None),
        ("x = 1\n%agentbay status", None),
    ],
)
def test_parse_cell(code: str, parsed: VerbCell | CellMagic | None) -> None:
    assert parse_cell(code) == parsed
