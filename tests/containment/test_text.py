"""Text: what could deceive is visible, colours stay, also where a stream is cut in pieces."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentbay_kernel.containment.text import (
    DEEPEST,
    StreamText,
    all_visible,
    as_text,
    excess,
    one_line,
    prompt,
    visible,
)


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


@pytest.mark.parametrize(
    "text",
    [
        "flags 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 🇩🇪 👨‍👩‍👧 ❤️ 1️⃣",
        "می‌خواهم \u200e क्‍ष ශ්‍රී 葛\U000e0100",
        "a\u200bb \ufeff soft\u00adhyphen",
    ],
)
def test_what_scripts_and_emoji_are_written_with_stays_in_printed_text(text: str) -> None:
    assert visible(text) == text


def test_hidden_data_in_printed_text_is_visible() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "run")
    assert visible(f"ok{hidden}") == "ok[U+E0072][U+E0075][U+E006E]"
    assert visible(f"🏴{hidden}") == "🏴[U+E0072][U+E0075][U+E006E]"
    assert visible("a\ufe0f\U000e0112\U000e0113") == "a\ufe0f[U+E0112][U+E0113]"


@pytest.mark.parametrize(
    "text",
    [
        "read_csv",
        "größe.csv",
        "見積書　最終.xlsx",
        "שלום.txt",
        "Tiếng Việt",
        "हिन्दी.ipynb",
        "❤️ 1️⃣ 🇩🇪 👍🏽.png",
        "100 €, ½ ≤ 3",
    ],
)
def test_names_that_are_seen_stay(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\rd\0", "a␊b␉c␍d␀"),
        ("a\u2028b\u2029c\x85d", "a[U+2028]b[U+2029]c[U+0085]d"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\u202egpj.exe", "[U+202E]gpj.exe"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff", "a[U+200B]b[U+200C]c[U+200D]d[U+2060]e[U+FEFF]f"),
        ("a\U000e0061\U000e007f", "a[U+E0061][U+E007F]"),
        ("a\ufe0fb\U000e0112", "a[U+FE0F]b[U+E0112]"),
        ("a\u00a0b\u2003c\u00add", "a[U+00A0]b[U+2003]c[U+00AD]d"),
        ("\u3164\u115f\u2800\u034f", "[U+3164][U+115F][U+2800][U+034F]"),
        ("\ue000\ud800\uffff", "[U+E000][U+D800][U+FFFF]"),
        ("\u200e\u200f\u061c", "[U+200E][U+200F][U+061C]"),
    ],
)
def test_what_nobody_sees_in_a_name_is_visible(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_marks_do_not_pile_up() -> None:
    assert one_line("e" + "\u0301" * 50).count("[U+0301]") == 44


def test_a_prompt_may_have_lines_but_nothing_hidden() -> None:
    assert prompt("\x1b[1mName\x1b[0m:\n\tage\u202e? ") == "Name:\n    age[U+202E]? "


@given(st.text(max_size=30))
def test_a_name_is_one_line_of_what_is_seen(text: str) -> None:
    shown = one_line(text)
    assert one_line(shown) == shown
    assert len(shown.splitlines()) <= 1
    for character in shown:
        category = unicodedata.category(character)
        assert character in " \u3000" or category[0] in "LMNPS", category


def test_data_nested_deeply_stays_a_message() -> None:
    deep: object = "x"
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in str(all_visible({"a": deep}))
    assert f"more than {DEEPEST} levels" in excess(deep, 1000)
    assert as_text([deep, "line\n", {"a": 1}, 3]) == "line\n"
    # Taken apart level by level: even ending such a list is deep.
    while isinstance(deep, list):
        deep = deep.pop()
