"""How many attempts to get out there are, and of which kinds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.attacks import ONCE_ACTED, VARIANTS, attack_payloads
from tests.browser.payloads import chart_payloads, escape_payloads, mathematics_payloads

ROOT = Path(__file__).resolve().parents[2]
BEACON = "http://127.0.0.1:9"
MATHEMATICS = [it for of_use in mathematics_payloads(BEACON).values() for it in of_use]
ATTACKS = attack_payloads(BEACON)
ALL = [*escape_payloads(BEACON), *ATTACKS, *chart_payloads(BEACON), *MATHEMATICS]


def test_each_output_that_once_acted_is_tried_with_its_variants() -> None:
    assert [it.name for it in ATTACKS[:ONCE_ACTED]] == list(VARIANTS)


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_kind_has_five_variants(kind: str) -> None:
    others = [it for it in ALL if it not in ATTACKS[:ONCE_ACTED]]
    found = [{it.code for it in others if it.name.startswith(it_)} for it_ in VARIANTS[kind]]
    assert all(found), "no payload begins like this"
    assert len(set().union(*found)) >= 6


def test_no_payload_is_there_twice() -> None:
    assert len({(it.name, it.code) for it in ALL}) == len(ALL)


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/explanation/security.md"])
def test_the_docs_say_how_many_there_are(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (told,) = re.findall(r"more than (\d+) attempts to get out", text)
    assert int(told) < len(ALL) < int(told) + 50
