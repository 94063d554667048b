"""Text: what could deceive is visible, colours stay, also where a stream is cut in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentbay_kernel.containment.text import StreamText, visible


@pytest.mark.parametrize(
    "text",
    [
        "plain\ttext\r\nwith\bcontrols",
        "\x1b[31mred\x1b[0m \x1b[1;38;5;208mbold\x1b[m",
        "\x1b[2K\x1b[1A\x1b[?25lprogress\x1b[?25h",
        "日本語 עברית العربية emoji 👩‍🚀 zero\u200cwidth \u200e",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb\u2066c", "a[U+202E]b[U+2066]c"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b]8;;https://x\x1b\\link", "␛]8;;https://x␛\\link"),
        ("\x1b[6n\x1b[c\x1b[?1049h", "␛[6n␛[c␛[?1049h"),
        ("\x9b6n\x00\x7f", "[U+009B]6n␀␡"),
        ("\ud800", "[U+D800]"),
    ],
)
def test_what_deceives_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_sequence_cut_in_two_is_still_one() -> None:
    streams = StreamText()
    pieces = ["a\x1b", "[3", "1mred\x1b[0", "m", "\x1b", "]0;x\x07"]
    shown = [streams.visible("stdout", piece) for piece in pieces]
    assert "".join(shown) == "a\x1b[31mred\x1b[0m␛]0;x␇"
    assert streams.visible("stderr", "other") == "other"


@given(st.text(alphabet=st.characters() | st.sampled_from("\x1b[0;31mKn]\x07\u202e"), max_size=30))
def test_visible_text_is_visible(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not set(shown) & set(
        "\x00\x07\x9b\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    shown.encode()
