"""Completion of our own lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs.completion import (
    Surroundings,
    complete_line,
    complete_magic,
    complete_word,
)


def matches(code: str, around: Surroundings) -> tuple[str, ...] | None:
    """The matches where `|` stands."""
    cursor = code.index("|")
    completions = complete_line(code.replace("|", ""), cursor, around)
    if completions is None:
        return None
    assert completions.end == cursor
    return completions.matches


@pytest.fixture
def around(manager: SessionManager, tmp_path: Path) -> Surroundings:
    (tmp_path / "data.csv").touch()
    (tmp_path / ".env").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.txt").touch()
    return Surroundings(tmp_path, manager, names=("df", "dates"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%agentbay statu|", ("status",)),
        ("%agentbay status --j|", ("--json",)),
        ("%agentbay status |", ("--help", "--json", "-h")),
        ("%agentbay help statu|", ("status",)),
        ("%agentbay config idle_m|", ("idle_minutes",)),
        ("%agentbay config timeout=5 idle_m|", ("idle_minutes",)),
        ("%agentbay nonsense |", ()),
        ("%agentbay last --save |", ("data.csv", "sub/")),
        ("%agentbay last --save sub/d|", ("sub/deep.txt",)),
        ("%agentbay last --save ../|", ()),
        ("%agentbay last --save .e|", ()),
        ("%agentbay status\n%agentbay conf|", ("config",)),
        ("%%agentbay p|", ("python",)),
        ("%%agentbay java|", ("javascript",)),
        ("%%agentbay python --sil|", ("--silent",)),
        ("%%agentbay python --in d|", ("dates", "df")),
        ("%%agentbay python -i df,d|", ("df,dates", "df,df")),
        ("%%agentbay js -s |", ()),
        ("%%agentbay py|\nprint(1)", ("python",)),
        # Not ours.
        ("%%agentbay python\nsta|", None),
        ("x = 1\n%%agentbay p|", None),
        ("x = 1\n%agentbay sta|", None),
        ("%agent|", None),
        ("sta|", None),
    ],
)
def test_completion(code: str, expected: tuple[str, ...] | None, around: Surroundings) -> None:
    assert matches(code, around) == expected


def test_untrusted_cells_learn_no_names_of_files(around: Surroundings) -> None:
    untrusted = Surroundings(around.folder, around.manager, around.names, untrusted=True)
    assert matches("%agentbay last --save d|", untrusted) == ()
    assert matches("%%agentbay python -i d|", untrusted) == ()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%agen|", ("%agentbay",)),
        ("%|", ("%agentbay", "%%agentbay")),
        ("%%|", ("%%agentbay",)),
        ("%%agentb|", ("%%agentbay",)),
        ("  %agentb|", ("%agentbay",)),
        ("%agentbay status\n%age|", ("%agentbay",)),
        ("%agentbay status\n%|", ("%agentbay",)),
        # Where they have no meaning, they are not offered.
        ("x = 1\n%agen|", None),
        ("x = 1\n%%agen|", None),
        ("%agentbay status\n%%agen|", None),
        ("%alias|", None),
        ("agen|", None),
        ("|", None),
    ],
)
def test_names_of_magics(code: str, expected: tuple[str, ...] | None) -> None:
    cursor = code.index("|")
    found = complete_magic(code.replace("|", ""), cursor)
    assert (found.matches if found else None) == expected


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "pri|", ("print",)),
        ("python", "x = lam|", ("lambda",)),
        ("python", "import num|", ("numbers",)),
        ("python", "import os, ran|", ("random",)),
        ("python", "from colle|", ("collections",)),
        ("python", "print(sor|", ("sorted",)),
        # Only a kernel knows these.
        ("python", "os.pa|", ()),
        ("python", "import os.pa|", ()),
        ("python", "'pri|", ()),
        ("python", "3pri|", ()),
        ("python", "|", ()),
        ("javascript", "structuredC|", ("structuredClone",)),
        ("javascript", "typeo|", ("typeof",)),
        ("javascript", "JSON.str|", ()),
        ("javascript", "$con|", ()),
        ("", "pri|", ()),
    ],
)
def test_words_of_the_language(language: str, code: str, expected: tuple[str, ...]) -> None:
    cursor = code.index("|")
    assert complete_word(language, code.replace("|", ""), cursor).matches == expected
