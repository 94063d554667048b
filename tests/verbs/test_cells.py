"""What of a cell is ours and what is the sandbox's."""

from __future__ import annotations

import pytest

from agentbay_kernel.errors import VerbError
from agentbay_kernel.verbs import CellMagic, VerbCell, parse_cell
from agentbay_kernel.verbs.cells import check_commands


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


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "x = 1\n%agentbay status"),
        ("python", "if 1:\n    %agentbay status"),
        ("python", "x = 1\n%%agentbay javascript\n2"),
        ("python", "%agentbay status"),
        ("javascript", "let x = 1\n%agentbay status"),
        ("javascript", "%%agentbay python\n1"),
    ],
)
def test_a_command_below_code_is_refused_with_the_way_out(language: str, code: str) -> None:
    with pytest.raises(VerbError, match="Move it to the top of the cell"):
        check_commands(code, language)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "x = '''\n%agentbay status\n'''"),
        ("python", "%%bash\n%agentbay status"),
        ("python", "%agentbayou"),
        ("python", "print('%agentbay')"),
        ("python", "a = 7\nb = (a\n%agentbay)"),
        ("javascript", "let x = `\n%agentbay status`"),
        ("javascript", "/*\n%%agentbay python\n*/ 1"),
    ],
)
def test_what_only_looks_like_a_command_is_code(language: str, code: str) -> None:
    check_commands(code, language)
