"""MIME bundles: what is kept as it is, what is changed, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings

from agentbay_kernel.containment.bundle import (
    HTML,
    OTHER_TYPES,
    PLAIN,
    TYPES,
    contain_bundle,
    contain_html,
    row_of,
)
from agentbay_kernel.containment.markup import sanitized
from agentbay_kernel.containment.policy import Policy
from tests.containment.outputs import (
    BUNDLES,
    MARKUP,
    METADATA,
    harm_in,
    is_allowed,
)

CONTAIN = Policy()
JSON_UNFOLDED = {"application/json": {"expanded": True}}
SHIPS = pd.DataFrame({"ship": ["Aurora", "Corvus"], "containers": [420, 515]})


def contained(mime: str, value: Any) -> Any:
    """What becomes of the data of one type; None where it is not shown."""
    return contain_bundle({mime: value}, {}, CONTAIN).data.get(mime)


@pytest.mark.parametrize(
    "markup",
    [
        "<b>bold</b> and <i>italic</i>",
        "a < b & c > d",
        "<p style='color:red'>red<p>next",
        '<a href="https://example.org/x?a=1">web</a> <a href="mailto:a@example.org">mail</a>',
        '<img src="data:image/png;base64,iVBORw0KGgo=" width="3">',
        '<video controls  width="100" >\n <source src="data:video/mp4;base64,eHg=" '
        'type="video/mp4">\n Your browser does not support the video tag.\n </video>',
        "<progress style='width:60ex' max='10' value='3'></progress>",
        "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>",
        "$x_1 < y$ and \\(\\frac{1}{2}\\)",
        SHIPS.to_html(),
        SHIPS._repr_html_(),
        SHIPS.style.background_gradient().bar().set_caption("styled").to_html(),
        SHIPS.style.set_table_styles([{"selector": "th", "props": "color: red;"}]).to_html(),
        "",
    ],
)
def test_inert_html_is_kept_byte_for_byte(markup: str) -> None:
    assert contained(HTML, markup) == markup


@pytest.mark.parametrize(
    ("markup", "cleaned"),
    [
        ("x<!-- comment -->y", "xy"),
        ('<b data-commandlinker-command="x" id="main" class="jp-Dialog">y</b>', None),
        ('<a href="/logout">out</a>', "<a>out</a>"),
        ('<a href="java\tscript:x">out</a>', None),
        ("a\u202eb", "a[U+202E]b"),
        ("a&#x202e;b", "a[U+202E]b"),
    ],
)
def test_what_nobody_sees_is_taken_out(markup: str, cleaned: str | None) -> None:
    shown = contained(HTML, markup)
    assert "<iframe" not in shown
    assert not harm_in(shown)
    assert shown != markup
    if cleaned is not None:
        assert shown == cleaned


@pytest.mark.parametrize(
    "markup",
    [
        "<script>1</script>",
        "<b onclick='x'>y</b>",
        "<img src='https://example.org/x.png'>",
        "<img src='plot.png'>",
        "<style>b{color:red}</style><b>x</b>",
        "<style scoped>.dataframe th{position:fixed}</style>",
        "<style>#T_a ~ *{color:red}</style>",
        "<style>#T_a{background:url(x)}</style>",
        "<style scoped>.dataframe ~ div{text-align:left}</style>",
        "<b style='position:fixed'>x</b>",
        "<b style='margin:-9px'>x</b>",
        "<b style='background:u\\72l(x)'>x</b>",
        "<svg><circle r='4'/></svg>",
        "<form><input></form>",
        "<a href='javascript:x'>y</a>",
        "<!doctype html><html><body>x</body></html>",
        "<unknown-element>x</unknown-element>",
        "<div>" * 5000,
    ],
)
def test_what_acts_loads_or_styles_the_page_is_framed(markup: str) -> None:
    shown = contained(HTML, markup)
    assert (
        shown.count('<iframe title="Output of the sandbox, contained" sandbox="allow-scripts"') == 1
    )
    assert not harm_in(shown)


def test_a_frame_says_what_it_does_not_load() -> None:
    shown = contain_html(
        "<script src='https://cdn.jsdelivr.net/npm/vega@5'></script><img src='plot.png'>", CONTAIN
    )
    assert "cdn.jsdelivr.net" in shown
    assert "jupyter agentbay allow " in shown
    assert "plot.png" in shown
    assert "wants to load from cdn.jsdelivr.net" in shown.rpartition("srcdoc=")[2]
    allowing = Policy(hosts=("cdn.jsdelivr.net",))
    shown = contain_html("<script src='https://cdn.jsdelivr.net/npm/vega@5'></script>", allowing)
    assert "https://cdn.jsdelivr.net;" in shown
    assert "wants to load" not in shown


def test_the_stricter_and_the_looser_settings() -> None:
    bundle = {HTML: "<b>x</b><script>1</script>", PLAIN: "plain", "application/javascript": "1"}
    trusted = contain_bundle(bundle, {"isolated": True}, Policy("trust"))
    assert (trusted.data, trusted.metadata) == (bundle, {"isolated": True})
    sanitized = contain_bundle(bundle, {}, Policy("sanitize"))
    assert sanitized.data == {HTML: "<b>x</b>", PLAIN: "plain"}
    text = contain_bundle({**bundle, "image/png": "AAAA"}, {}, Policy("text"))
    assert text.data == {PLAIN: "plain", "image/png": "AAAA"}


def test_markdown_is_kept_or_becomes_html() -> None:
    kept = "# Title\n\n*text* `code` [link](https://example.org) $a_1$\n\n| a |\n|---|\n| b |"
    assert contained("text/markdown", kept) == kept
    for source, part in (
        ("```html\n<b onclick=x>\n```", "&lt;<span style="),
        ("<details><summary>x</summary>y</details> $a_1 b_1$", "$a_1 b_1$"),
        ("[x](javascript:y)", "[x](javascript:y)"),
        ("![x](https://example.org/beacon.png)", "example.org"),
        ("[x]: &#106;avascript:y\n[x]", ""),
        ("```mermaid\nA@{img: 'http://x'}\n```", "<pre><code>A@"),
        ("<script>1</script>", "sandbox="),
    ):
        shown = contain_bundle({"text/markdown": source, PLAIN: "p"}, {}, CONTAIN).data
        assert set(shown) == {PLAIN, HTML}
        assert part in shown[HTML]
        assert not harm_in(shown[HTML])


def test_types_that_are_refused_leave_text_and_are_told() -> None:
    for mime in (
        *(
            "application/javascript",
            "text/javascript",
            "application/pdf",
            "TEXT/HTML",
            "text/html;x",
        ),
        *("application/vnd.bokehjs_load.v0+json", "application/vnd.holoviews_load.v0+json"),
        *("application/vnd.jupyter.widget-state+json", "application/geo+json", "x-strange/thing"),
    ):
        shown = contain_bundle({mime: "alert(1)", PLAIN: "plain"}, {}, CONTAIN)
        assert shown.data == {PLAIN: "plain"}
        assert len(shown.refused) == 1
        alone = contain_bundle({mime: "alert(1)"}, {}, CONTAIN)
        assert set(alone.data) == {PLAIN}


def nested(depth: int) -> list[Any]:
    """Lists within lists."""
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer]
    return outer


@pytest.mark.parametrize(
    "mime",
    [
        "application/json",
        "application/vnd.dataresource+json",
        "application/vnd.plotly.v1+json",
        "application/vnd.vegalite.v5+json",
        "application/vnd.jupyter.widget-view+json",
        "application/geo+json",
        "text/html",
        "text/plain",
        "image/svg+xml",
        "image/png",
        "x-strange/thing",
    ],
)
@pytest.mark.parametrize(
    "value",
    [nested(10_000), {"data": nested(10_000)}, [0] * 1_500_000, '{"data": []}', 3, None, True],
    ids=["deep", "deep in a name", "many", "JSON as a string", "number", "null", "true"],
)
def test_data_of_a_strange_shape_leave_the_text_around_them(mime: str, value: Any) -> None:
    for policy in (CONTAIN, Policy("sanitize"), Policy("text")):
        shown = contain_bundle({mime: value, "text/x-more": "kept"}, {mime: value}, policy)
        json.dumps([shown.data, shown.metadata])
        assert mime == PLAIN or shown.data[PLAIN] == "kept"


def test_a_tree_of_data_is_unfolded_only_if_it_is_small() -> None:
    for rows, unfolded in ((10, True), (5_000, False)):
        shown = contain_bundle({"application/json": [0] * rows}, JSON_UNFOLDED, CONTAIN)
        assert ("expanded" in shown.metadata["application/json"]) is unfolded


def test_a_table_is_columns_and_rows() -> None:
    table = json.loads(SHIPS.to_json(orient="table"))
    assert contained("application/vnd.dataresource+json", table) == table
    more = {**table, "path": "https://x", "schema": {**table["schema"], "x": "<script>"}}
    assert contained("application/vnd.dataresource+json", more) == table


def test_each_type_is_on_one_row_and_text_types_are_text() -> None:
    for mime in ("text/csv", "text/x-python", "application/vnd.jupyter.stderr", "text/x.html"):
        assert contain_bundle({mime: "<b>\x1b]0;x"}, {}, CONTAIN).data == {PLAIN: "<b>␛]0;x"}
        assert contain_bundle({mime: "x", PLAIN: "p"}, {}, CONTAIN).data == {PLAIN: "p"}
    for mime in ("text/vnd.mermaid", "application/vnd.fasta.fasta"):
        shown = contain_bundle({mime: "source"}, {}, CONTAIN)
        assert shown.data == {PLAIN: "source"}
        assert len(shown.refused) == 1
    for row in TYPES:
        for name in re.findall(r"`([^`]+)`", row.types):
            assert row_of(name.replace("*", "5")) is row, name


def test_the_documentation_has_the_table_of_types() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "outputs.md").read_text(
        encoding="utf-8"
    )
    rows = [(row.types, row.shown, row.why) for row in TYPES]
    lines = [f"| {' | '.join(cells)} |" for cells in (*rows, OTHER_TYPES)]
    assert "\n".join(["| type | what is shown | why |", "| --- | --- | --- |", *lines]) in page


def test_pictures() -> None:
    still = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="4" fill="url(#a)"/></svg>'
    assert contained("image/svg+xml", still) == still
    for media in ("audio/wav", "video/mp4"):
        shown = contain_bundle({media: "AA\nAA"}, {}, CONTAIN).data
        assert contain_bundle(shown, {}, CONTAIN).data == shown
        assert f'controls src="data:{media};base64,AAAA"' in shown[HTML]
        assert not harm_in(shown[HTML])
        assert HTML not in contain_bundle({media: '"><script>'}, {}, CONTAIN).data
    assert contained("image/png", "iVBORw0KGgo=\n") == "iVBORw0KGgo=\n"
    assert contained("image/png", '"><script>') is None


def test_metadata_that_changes_the_rendering_is_dropped() -> None:
    shown = contain_bundle(
        {PLAIN: "x", "image/png": "AAAA"},
        {
            "isolated": True,
            "tags": ["a"],
            PLAIN: {"isolated": True, "key": 1},
            "image/png": {"width": 3, "height": "9", "custom": 1},
            "text/html": {"x": 1},
        },
        CONTAIN,
    )
    assert shown.metadata == {
        "tags": ["a"],
        PLAIN: {"key": 1},
        "image/png": {"width": 3, "custom": 1},
    }


def check_bundle(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    """What holds of every bundle."""
    for policy in (CONTAIN, Policy("sanitize"), Policy("text")):
        shown = contain_bundle(data, metadata, policy)
        assert all(is_allowed(mime) for mime in shown.data)
        assert bool(shown.data) == bool(data)
        if HTML in shown.data:
            assert not harm_in(shown.data[HTML]), shown.data[HTML]
            if policy.html == "sanitize" or "<iframe" not in shown.data[HTML]:
                again = contain_bundle(shown.data, shown.metadata, policy)
                assert again.data[HTML] == shown.data[HTML]
        # JupyterLab looks for it there, and there.
        assert "isolated" not in shown.metadata
        for mime, told in shown.metadata.items():
            assert mime not in shown.data or "isolated" not in told
        if policy.html == "text":
            assert HTML not in shown.data


def check_html(markup: str) -> None:
    """What holds of every piece of HTML."""
    shown = contain_html(markup, CONTAIN)
    assert not harm_in(shown), shown
    if shown != markup and "<iframe" not in shown:
        assert contain_html(shown, CONTAIN) == shown


@settings(max_examples=80)
@given(BUNDLES, METADATA)
def test_bundles(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    check_bundle(data, metadata)


@settings(max_examples=300)
@given(MARKUP)
def test_markup(markup: str) -> None:
    check_html(markup)


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="/logout"><div><table><a href="https://example.org">',
        '<a href="/x">$<table><a href="/y">\\href{javascript:1}{x}$',
        "<table><b class=x><tr><td>x<b><table>$<i>x</table></i>$",
        "<p class=x><small><table><p>x</small><a href='/x'><a href='/y'><li><table>$</p>$",
        "<b class=x><p><i><table><s><tr>$<td></b></i>x<u></s><table></u>$",
    ],
)
def test_what_a_page_reads_is_what_was_sanitised(markup: str) -> None:
    check_html(markup)
    shown = sanitized(markup)
    assert shown == sanitized(shown)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=4_000)
@given(BUNDLES, METADATA)
def test_many_bundles(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    check_bundle(data, metadata)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=10_000)
@given(MARKUP)
def test_much_markup(markup: str) -> None:
    check_html(markup)
