"""What of a cell is ours and what is the sandbox's."""

from __future__ import annotations

import pytest

from agentbay_kernel.verbs import LanguageCell, VerbCell, parse_cell


@pytest.mark.parametrize(
    ("code", "parsed"),
    [
        ("print(1)", None),
        ("", None),
        ("%agentbay status", VerbCell(("status",), "")),
        ("\n  %agentbay status  \n", VerbCell(("status",), "")),
        ("%agentbay", VerbCell(("",), "")),
        ("%agentbay status\n%agentbay help\nx = 1\n", VerbCell(("status", "help"), "x = 1\n")),
        ("%%agentbay js\nconst a = 1\n", LanguageCell("js", "const a = 1\n")),
        ("\n%%agentbay   python \nx\ny", LanguageCell("python", "x\ny")),
        ("%%agentbay", LanguageCell("", "")),
        # Others' magics, and ours in the middle of code, are the sandbox's.
        ("%agentbayou", None),
        ("%time x", None),
        ("x = 1\n%agentbay status", None),
    ],
)
def test_parse_cell(code: str, parsed: VerbCell | LanguageCell | None) -> None:
    assert parse_cell(code) == parsed
