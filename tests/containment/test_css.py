"""Styles that may stand in the page: they draw within their own place, however they are written."""

from __future__ import annotations

import pytest

from agentbay_kernel.containment.css import is_safe_block, is_safe_style

SIZES = ("width", "max-width", "height", "padding", "padding-left")


@pytest.mark.parametrize("name", ["margin", "margin-top", "letter-spacing", "word-spacing"])
@pytest.mark.parametrize(
    "value",
    [
        "-5px",
        "- 5px",
        "-.5em",
        "+-5px",
        "/**/-500px",
        "0-500px",
        "0 0-500px",
        "0%-500px",
        "0 'x'-500px",
        "calc(0px - 500px)",
        "calc(500px*-1)",
        "calc(1px*(1 - 500))",
        "min(0px,calc(1px - 500px))",
        "max(1px - 500px, 2px - 500px)",
        "1e1-5px",
        "-1e2px",
        "\u22125px",
        "var(--x,-500px)",
    ],
)
def test_nothing_is_moved_out_of_its_place(name: str, value: str) -> None:
    assert not is_safe_style(f"{name}:{value}")


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", ["calc(100% - 20px)", "calc(2 * 1em + 3px)", "min(10px, 5%)"])
def test_sizes_are_calculated(name: str, value: str) -> None:
    # A size below zero counts as zero.
    assert is_safe_style(f"{name}:{value}")


@pytest.mark.parametrize(
    "style",
    [
        "color:red",
        "color : #D65F5F !important; ",
        "font-family:-apple-system, 'Segoe UI', sans-serif",
        "font: bold 12px/1.5 Arial",
        "background:linear-gradient(90deg, #d65f5f 50.0%, transparent 50.0%)",
        "margin:0 auto .5em 10px",
        "color:rgba(0, 0, 0, .87)",
        "border:1px solid var(--jp-border-color1)",
        "grid-template-columns:repeat(2, minmax(0, 1fr))",
        "width:10em;height:80%;text-align:right",
    ],
)
def test_ordinary_styles_stay(style: str) -> None:
    assert is_safe_style(style)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["a", " ", "-", "{", "{}", "#T_a", "#T_a ", "a:b;", ".dataframe a "]
)
@pytest.mark.parametrize("end", ["", "!", "{}", "!{}"])
def test_long_styles_are_judged_at_once(piece: str, end: str) -> None:
    css = piece * (1_000_000 // len(piece)) + end
    is_safe_block(css)
    is_safe_block(f"#T_{css}")
    is_safe_style(css)
    is_safe_style(f"color:{css}")
