"""Hostile text of a megabyte and more: each kind is judged in one reading, never in its square.

A search that starts again at every character would take hours; the limit of a test ends it.
"""

from __future__ import annotations

import pytest

from agentbay_kernel.containment.bundle import contain_bundle
from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.policy import Policy

pytestmark = pytest.mark.timeout(120)

CHARACTERS = 1_000_000
OPEN = (
    *("<script>", "<script ", "<script", "</script ", "</script", "<style>", "<style ", "<style"),
    *(
        "<link ",
        '<link "',
        "<link href=",
        "<!--",
        "<iframe ",
        "<b src ",
        "<img src=x ",
        "<tr",
        "<a ",
    ),
    *(
        "url( ",
        "@import ",
        "srcdoc=",
        'srcdoc="',
        "srcdoc='",
        "height",
        "height:1",
        "{",
        "&",
        "<b ",
    ),
    *(
        "data:image/png;base64, ",
        "'http://a",
        '"http://a',
        "padding-bottom: ",
        "<",
        " ",
        "<script><style>",
    ),
)


def repeated(piece: str, characters: int = CHARACTERS) -> str:
    """The piece again and again."""
    return piece * (characters // len(piece) + 1)


@pytest.mark.parametrize("piece", OPEN)
def test_html_that_is_framed(piece: str) -> None:
    assert "<iframe" in framed(repeated(piece))


@pytest.mark.parametrize(
    "html",
    [
        f'<img src="https://{repeated("{")}">',
        f'<img src="https://{repeated("@")}">',
        f'<img src="{repeated("a")}">',
        "".join(f'<img src="//h{number}.x">' for number in range(50_000)),
        "".join(f'<img src="./h{number}.x">' for number in range(50_000)),
        f"<script>{repeated('<script>')}</script>",
        f"<style>{repeated('#T_a')}</style><script>1</script>",
    ],
    ids=str.__len__,
)
def test_html_with_much_of_one_thing(html: str) -> None:
    assert "<iframe" in framed(html)


@pytest.mark.parametrize(
    "policy", [Policy(), Policy("sanitize"), Policy("text")], ids=lambda it: it.html
)
@pytest.mark.parametrize(
    "piece", ["<script>", "<style>a", "<b a", "</script ", "<a href=", "<![CDATA["]
)
def test_html_of_an_output(piece: str, policy: Policy) -> None:
    shown = contain_bundle({"text/html": repeated(piece), "text/plain": "kept"}, {}, policy)
    assert shown.data["text/plain"] == "kept"
