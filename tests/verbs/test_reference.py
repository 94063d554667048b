"""docs/verbs.md says what the parsers do."""

from __future__ import annotations

from pathlib import Path

from agentbay_kernel.verbs.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verbs.md"


def test_the_page_has_the_reference_of_now() -> None:
    text = PAGE.read_text()
    assert text.endswith(reference() + "\n"), (
        "docs/verbs.md is not what the verbs are now: replace its reference by the output of "
        "python -m agentbay_kernel.verbs.reference"
    )
