"""Charts: which specifications reach the page as data, and what becomes of all others."""

from __future__ import annotations

import base64
import copy
import gzip
import html
import importlib.resources
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.containment import messages, plotly, vega
from agentbay_kernel.containment.bundle import HTML, PLAIN, Contained, contain_bundle
from agentbay_kernel.containment.chart_frames import ChartBudget
from agentbay_kernel.containment.messages import CellContainment, Containment
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.execution.messages import Message
from tests.containment.outputs import harm_in

CONTAIN = Policy()
LITE = "application/vnd.vegalite.v5+json"
LITE_6 = "application/vnd.vegalite.v6.json"
VEGA = "application/vnd.vega.v5+json"
PLOTLY = "application/vnd.plotly.v1+json"
BAR: dict[str, Any] = {
    "data": {"values": [{"a": 1, "b": "x"}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b"}},
}
FIGURE = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"title": {"text": "t"}}}
PICTURE = "iVBORw0KGgo="
SHIPS = pd.DataFrame(
    {"ship": ["Aurora", "Corvus"], "n": [420, 515], "day": pd.to_datetime(["2024-01", "2024-02"])}
)


def shown(mime: str, value: Any, **others: Any) -> Contained:
    return contain_bundle({mime: value, PLAIN: "p", **others}, {}, CONTAIN)


def is_data(spec: Any, mime: str = LITE) -> bool:
    """Does the page get the specification, as it is?"""
    found = shown(mime, spec)
    assert PLAIN in found.data
    assert (mime in found.data) is (HTML not in found.data)
    assert found.data.get(mime) in (None, spec)
    return mime in found.data


def document_of(found: Contained) -> str:
    """The chart's document, out of the frames around it."""
    assert set(found.data) == {HTML, PLAIN}
    assert harm_in(found.data[HTML]) == ""
    assert found.data[HTML].count("<iframe") == 1
    outer = html.unescape(found.data[HTML])
    packed = re.search(r'id="packed"[^>]*>([A-Za-z0-9+/=]+)<', outer)
    inner = gzip.decompress(base64.b64decode(packed[1])).decode() if packed else ""
    return html.unescape(outer) + inner


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts in a frame are short: those of the libraries take a tenth of a second each time,
    and the tests that look into the frame have them."""
    monkeypatch.setattr(vega, "_scripts", lambda *_: "vega()")
    monkeypatch.setattr(plotly, "_read", lambda *_: "plotly()")


ALTAIR = {
    "bar": alt.Chart(SHIPS).mark_bar().encode(x="ship", y="n", color="ship", tooltip=["ship", "n"]),
    "line": alt.Chart(SHIPS).mark_line(point=True).encode(x="day:T", y="mean(n)"),
    "layers": alt.Chart(SHIPS).mark_bar().encode(x="ship", y="n")
    + alt.Chart(SHIPS).mark_text(dy=-5).encode(x="ship", y="n", text="n"),
    "side by side": alt.Chart(SHIPS).mark_bar().encode(x=alt.X("n", bin=True), y="count()")
    | alt.Chart(SHIPS).mark_boxplot().encode(y="n"),
    "facets": alt.Chart(SHIPS, title="Ships")
    .mark_circle(size=60, opacity=0.5)
    .encode(
        x=alt.X("n").title("Number").scale(zero=False).axis(format=",.1f", labelAngle=-45),
        y=alt.Y("ship", sort="-x"),
        column="ship:N",
    ),
    "heat map": alt.Chart(SHIPS)
    .mark_rect()
    .encode(
        x="yearmonth(day):O",
        y="ship",
        color=alt.Color("n", scale=alt.Scale(scheme="viridis"), legend=None),
    ),
    "pie": alt.Chart(SHIPS).mark_arc(innerRadius=50).encode(theta="n", color="ship"),
    "configured": alt.Chart(SHIPS)
    .mark_area(color="lightblue", interpolate="monotone")
    .encode(x="day", y=alt.Y("n", stack="normalize"))
    .configure_axis(grid=False)
    .configure_view(stroke=None),
    "rule": alt.Chart(SHIPS).mark_rule(color="red").encode(y=alt.datum(5), size=alt.value(2)),
}


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("name", ALTAIR)
def test_charts_of_marks_and_encodings_are_data_in_the_versions_that_the_page_draws(
    name: str,
) -> None:
    spec = ALTAIR[name].to_dict()
    assert is_data(spec)
    assert is_data(spec, "application/vnd.vegalite.v3+json")
    assert not is_data(spec, LITE_6)
    assert not is_data(spec, "application/vnd.vegalite.v2+json")
    assert not is_data(spec, "application/vnd.vegalite.v5.json")


def test_how_a_chart_is_embedded_is_not_for_it_to_say() -> None:
    found = contain_bundle(
        {LITE: {**BAR, "usermeta": {"embedOptions": {"config": "/x"}}}},
        {LITE: {"embed_options": {"width": 3, "patch": "/x", "renderer": "svg", "actions": True}}},
        CONTAIN,
    )
    assert found.data == {LITE: BAR}
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    assert found.metadata == {LITE: {"embed_options": {"width": 3, "actions": actions}}}


HOSTILE: list[tuple[str, Any]] = [
    ("params", [{"name": "p", "value": "", "bind": {"input": "text", "onerror": "x"}}]),
    ("params", [{"name": "p", "expr": "event.view"}]),
    ("params", [{"name": "p", "select": {"type": "point", "on": "body:keydown"}}]),
    ("selection", {"s": {"type": "single", "bind": {"element": "body", "input": "text"}}}),
    ("transform", [{"calculate": "datum.x", "as": "b"}]),
    ("transform", [{"filter": "datum.x"}]),
    ("signals", [{"name": "cursor", "value": "url(http://x), auto"}]),
    ("bind", {"element": "body"}),
    ("url", "http://x/y.json"),
    ("href", {"field": "a"}),
    ("href", {"value": "javascript:x"}),
    ("data", {"url": "data.csv"}),
    ("data", {"url": "data:text/csv,a"}),
    ("data", {"values": "a,b\n1,2", "format": {"type": "csv"}}),
    ("data", {"name": "__proto__"}),
    ("data", {"values": [{"image": "http://x"}]}),
    ("data", {"values": [{"a": {"image": "http://x"}}]}),
    ("data", {"values": [{"signal": "x"}, ["y"]]}),
    ("datasets", {"__proto__": []}),
    ("mark", "image"),
    ("mark", "geoshape"),
    ("mark", {"type": "image", "url": "http://x"}),
    ("mark", {"type": "bar", "href": "http://x"}),
    ("mark", {"type": "bar", "cursor": "url(http://x), auto"}),
    ("mark", {"type": "bar", "fill": "url(http://x)"}),
    ("mark", {"type": "bar", "color": {"expr": "x"}}),
    ("mark", {"type": "bar", "tooltip": {"content": "data"}}),
    ("mark", {"type": "bar", "tooltip": "<img src=x>"}),
    ("mark", {"type": "bar", "style": "x"}),
    ("mark", {"type": "text", "text": {"signal": "x"}}),
    ("encoding", {"url": {"field": "a"}}),
    ("encoding", {"href": {"field": "a"}}),
    ("encoding", {"key": {"field": "a"}}),
    ("encoding", {"tooltip": {"field": "image"}}),
    ("encoding", {"tooltip": {"field": "[image]"}}),
    ("encoding", {"tooltip": {"field": "a", "title": "image"}}),
    ("encoding", {"tooltip": [{"field": "a", "title": ["image"]}]}),
    ("encoding", {"x": {"field": "a']=x//"}}),
    ("encoding", {"x": {"field": "constructor"}}),
    ("encoding", {"x": {"field": {"repeat": "row"}}}),
    ("encoding", {"x": {"field": "a", "axis": {"labelExpr": "x"}}}),
    ("encoding", {"x": {"field": "a", "axis": {"title": {"signal": "x"}}}}),
    ("encoding", {"x": {"field": "a", "axis": {"formatType": "x"}}}),
    ("encoding", {"x": {"field": "a", "timeUnit": "year(x)"}}),
    ("encoding", {"x": {"field": "a", "sort": ["it's"]}}),
    ("encoding", {"x": {"field": "a", "bin": {"maxbins": {"signal": "x"}}}}),
    # What a page would count, or make room for, without an end.
    ("encoding", {"x": {"field": "a", "bin": {"step": 1e-9}}}),
    ("encoding", {"x": {"field": "a", "bin": {"base": 1}}}),
    ("encoding", {"x": {"field": "a", "bin": {"maxbins": 1e9}}}),
    ("encoding", {"x": {"field": "a", "axis": {"tickCount": 1e9}}}),
    ("encoding", {"x": {"field": "a", "axis": {"tickCount": "second"}}}),
    ("encoding", {"x": {"field": "a", "axis": {"format": "999999999d"}}}),
    ("encoding", {"x": {"field": "a", "scale": {"type": "log", "base": 1.0000001}}}),
    ("encoding", {"x": {"field": "a", "scale": {"type": "log", "base": 1e9}}}),
    ("encoding", {"x": {"field": "a", "scale": {"nice": 1e9}}}),
    ("encoding", {"x": {"field": "a", "scale": {"scheme": "constructor"}}}),
    ("encoding", {"x": {"field": "a", "format": "0>1000000000d"}}),
    ("config", {"axis": {"tickCount": 1e9}}),
    ("mark", {"type": "bar", "width": 1e9}),
    ("width", 1e9),
    ("width", {"step": 1e9}),
    ("data", {"values": [{"a": 1}] * 50_001}),
    ("encoding", {"color": {"field": "a", "scale": None}}),
    ("encoding", {"color": {"field": "a", "scale": {"range": ["url(http://x)"]}}}),
    ("encoding", {"color": {"field": "a", "scale": {"domain": {"expr": "x"}}}}),
    ("encoding", {"color": {"value": "url(http://x)"}}),
    ("encoding", {"color": {"condition": {"test": "x", "value": "red"}, "value": "blue"}}),
    ("encoding", {"__proto__": {"field": "a"}}),
    ("title", {"text": {"expr": "x"}}),
    ("title", "<img src=x>"),
    ("title", 'x": event.view, "y'),
    ("encoding", {"tooltip": {"field": "a", "title": 'x": event.view, "y'}}),
    ("encoding", {"tooltip": {"field": "a", "title": "x\\"}}),
    ("encoding", {"tooltip": {"field": "a", "title": "x\u2028"}}),
    ("width", {"signal": "x"}),
    ("height", float("nan")),
    ("config", {"signals": [{"name": "x", "on": [{"events": {"source": "body"}}]}]}),
    ("config", {"params": []}),
    ("config", {"mark": {"href": "http://x"}}),
    ("config", {"style": {"cell": {"cursor": "url(x)"}}}),
    ("config", {"locale": {}}),
    ("config", {"customFormatTypes": True}),
    ("projection", {"type": "mercator"}),
    ("repeat", ["a"]),
    ("spec", BAR),
    ("$schema", "http://x/y.json"),
    ("Mark", "bar"),
    ("mark ", "bar"),
    ("\uff4dark", "bar"),
    ("unknown", 1),
    ("constructor", {}),
]


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_what_could_act_is_drawn_in_a_frame(key: str, value: Any) -> None:
    spec = {**BAR, key: value}
    assert not vega.can_be_data(LITE, {"layer": [spec]})
    found = shown(LITE, spec)
    assert LITE not in found.data
    assert not found.refused
    assert 'vegaEmbed("#chart"' in document_of(found)


@pytest.mark.parametrize(
    "spec",
    [
        {"signals": [{"name": "s", "bind": {"input": "text", "type": "image", "onerror": "x"}}]},
        {"signals": [{"name": "s", "bind": {"element": "body", "input": "text"}}]},
        {"signals": [{"name": "k", "on": [{"events": {"source": "body"}, "update": "event"}]}]},
        {"signals": [{"name": "cursor", "value": "url(http://x), auto"}]},
        {"marks": []},
        {},
        BAR,
    ],
)
def test_full_vega_is_always_drawn_in_a_frame(spec: dict[str, Any]) -> None:
    for mime in (VEGA, "application/vnd.vega.v6.json", "application/vnd.vega.v2+json"):
        found = shown(mime, spec)
        assert 'mode:"vega",' in document_of(found)
        assert not found.metadata


# Independent of the containment: the names that Altair's own schema of Vega-Lite knows, without
# those that load, run or listen.
_SCHEMA = json.loads(
    (importlib.resources.files(alt) / "vegalite/v6/schema/vega-lite-schema.json").read_text("utf-8")
)


def _properties(part: Any) -> Iterator[str]:
    level = [part]
    while level:
        item = level.pop()
        if isinstance(item, dict):
            properties = item.get("properties")
            if isinstance(properties, dict):
                yield from properties
            level.extend(item.values())
        elif isinstance(item, list):
            level.extend(item)


_ACTING = {
    *("as", "bind", "calculate", "condition", "customFormatTypes", "element", "events", "expr"),
    *("filter", "from", "href", "image", "init", "labelExpr", "loader", "lookup", "on", "param"),
    *("params", "query", "select", "selection", "signal", "signals", "source", "test"),
    *("transform", "update", "url", "usermeta"),
}
_KNOWN = set(_properties(_SCHEMA)) - _ACTING
_CALLING = ("url(", "://", "javascript:", "data:", "<", "'", '"', "\\", "`", "=>", "event")


def harm_in_chart(spec: Any) -> str:
    """What is wrong with a specification that the page draws; empty if nothing is."""
    level = [("", spec)]
    while level:
        name, part = level.pop()
        if name in ("values", "datasets"):
            rows = part if isinstance(part, list) else [row for it in part.values() for row in it]
            for row in rows:
                if isinstance(row, dict) and {"image", "__proto__"} & row.keys():
                    return f"a row: {row}"
                for item in row.values() if isinstance(row, dict) else [row]:
                    if isinstance(item, dict | list):
                        return f"a row: {row}"
        elif isinstance(part, dict):
            for key in part:
                if key not in _KNOWN and key != "$schema":
                    return f"the key {key}"
            level.extend(part.items())
        elif isinstance(part, list):
            level.extend((name, item) for item in part)
        # Titles are drawn as text, whatever they say.
        elif isinstance(part, str) and name not in ("$schema", "title", "text"):
            if part in ("image", "geoshape"):
                return part
            for call in _CALLING:
                if call in part and not (call in "<'" and name == "format"):
                    return f"the string {part}"
    return ""


FIELDS = st.sampled_from(["a", "b", "my column", "größe", "image", "a.b", "[image]", "toString"])
HOSTILE_STRINGS = st.sampled_from(
    [
        *(
            "javascript:x",
            "url(http://x)",
            "<img src=x onerror=y>",
            "image",
            "datum.a",
            "__proto__",
        ),
        *("http://x/y.png", "event.view", "'];x//", "\\u0027", "body", "\ud800", "constructor"),
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | HOSTILE_STRINGS
    | st.sampled_from(["red", "bar", "x", "#fff", "quantitative", ",.2f"])
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted(_KNOWN | _ACTING)) | st.text(max_size=5), inner, max_size=3
        )
    ),
    max_leaves=5,
)
DEFINITIONS = st.fixed_dictionaries(
    {"field": FIELDS},
    optional={
        "type": st.sampled_from(["quantitative", "nominal", "x"]),
        "title": FIELDS | st.lists(FIELDS, max_size=2),
        "axis": st.none()
        | st.dictionaries(st.sampled_from(["title", "grid", "labelExpr"]), VALUES),
        "scale": st.dictionaries(st.sampled_from(["range", "domain", "scheme"]), VALUES),
        "sort": VALUES,
        "value": VALUES,
        "bin": VALUES,
        "timeUnit": VALUES,
    },
)
UNITS = st.fixed_dictionaries(
    {
        "mark": st.sampled_from(["bar", "line", "image"])
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["bar", "text", "image"])},
            optional=dict.fromkeys(("color", "cursor", "href", "text", "tooltip"), VALUES),
        ),
        "encoding": st.dictionaries(
            st.sampled_from(["x", "y", "color", "tooltip", "text", "url", "href"]),
            DEFINITIONS | st.lists(DEFINITIONS, max_size=2),
            max_size=3,
        ),
    },
    optional={
        "data": st.fixed_dictionaries(
            {"values": st.lists(st.dictionaries(FIELDS, VALUES, max_size=2), max_size=2)}
        ),
        "title": VALUES,
        "width": VALUES,
        "config": st.dictionaries(st.sampled_from(["view", "mark", "axis", "signals"]), VALUES),
    },
)
SPECS = UNITS | st.fixed_dictionaries({"layer": st.lists(UNITS, max_size=2)}) | VALUES


def check_chart(spec: Any) -> None:
    """What holds of every specification."""
    for mime in (LITE, VEGA, LITE_6):
        if vega.can_be_data(mime, spec):
            assert mime == LITE
            assert not harm_in_chart(spec)


@settings(max_examples=60)
@given(SPECS)
def test_what_is_data_is_on_the_list(spec: Any) -> None:
    check_chart(spec)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=5_000)
@given(SPECS)
def test_what_is_data_is_on_the_list_at_length(spec: Any) -> None:
    check_chart(spec)


def _places(spec: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the objects of a specification are, but the rows."""
    if isinstance(spec, dict):
        yield path
        for name, item in spec.items():
            if name not in ("values", "datasets"):
                yield from _places(item, (*path, name))
    elif isinstance(spec, list):
        for number, item in enumerate(spec):
            yield from _places(item, (*path, number))


@given(
    st.sampled_from(sorted(ALTAIR)),
    st.integers(0, 1000),
    st.sampled_from(sorted(_ACTING)),
    VALUES,
)
def test_a_good_chart_with_one_acting_key_anywhere_is_not_data(
    name: str, number: int, key: str, value: Any
) -> None:
    spec = copy.deepcopy(ALTAIR[name].to_dict())
    assert vega.can_be_data(LITE, spec)
    assert not harm_in_chart(spec)
    places = list(_places(spec))
    part = spec
    for step in places[number % len(places)]:
        part = part[step]
    part[key] = value
    assert not vega.can_be_data(LITE, spec)


@given(VALUES, VALUES)
def test_plotly_never_reaches_the_page_as_data(data: Any, layout: Any) -> None:
    figure = {"data": data, "layout": layout, "config": {"plotlyServerURL": "x"}}
    # A frame of megabytes for each example takes minutes; what is kept beside it is the same.
    for policy in (Policy("sanitize"), Policy("text")):
        assert contain_bundle({PLOTLY: figure, PLAIN: "p"}, {}, policy).data == {PLAIN: "p"}


def test_the_figure_in_the_frame_is_the_one_that_was_sent() -> None:
    figure = {
        "data": [{"y": [1, None, 2.5], "x": ["</script><b>", "\u2028", "\ud800"]}],
        "layout": {"title": {"text": "<span style='cursor:url(http://x),auto'>t</span>"}},
    }
    document = document_of(shown(PLOTLY, figure))
    data = document.rpartition('type="application/json">')[2].partition("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == {**figure, "config": {}}
    options = {"config": {"plotlyServerURL": "https://x", "scrollZoom": True}}
    document = document_of(shown(PLOTLY, {**figure, **options}))
    assert '"config":{"scrollZoom":true}}' in document
    broken = {"data": [{"y": [float("nan"), float("-inf"), 10**5000, 1]}]}
    document = document_of(shown(PLOTLY, broken))
    data = document.rpartition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data)["data"] == [{"y": [None, None, None, 1]}]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if depth % 2 else {"a": value}
    return value


@pytest.mark.parametrize("mime", [LITE, LITE_6, VEGA, PLOTLY])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param({"data": {"values": ["x" * 1000] * 50_000}}, "more than 20 MB", id="50 MB"),
        pytest.param({"data": [1] * 9_000_000}, "more than 20 MB", id="numbers"),
        pytest.param({"data": nested(10_000)}, "nested", id="deep objects"),
        pytest.param({"data": nested(10_001)}, "nested", id="deep lists"),
        pytest.param('{"data":' * 10_000 + "1" + "}" * 10_000, "nested", id="deep text"),
        pytest.param('{"data":"' + "x" * 50_000_000 + '"}', "more than 20 MB", id="50 MB of text"),
        pytest.param('{"a"' + "[" * 50_000_000, "more than 20 MB", id="50 MB of brackets"),
        pytest.param('"' + '\\"' * 5_000_000, "not JSON", id="escapes that do not end"),
        pytest.param('{"mark":"bar","mark":"image"}', "the key 'mark' is in it twice", id="twice"),
        pytest.param('{"mark":"bar","m\\u0061rk":1}', "twice", id="twice by an escape"),
        pytest.param('{"layer":[{"\ud800":1,"\ud800":1}]}', "twice", id="twice inside"),
        pytest.param('{"a":' + "9" * 10_000 + "}", "not JSON", id="a huge number"),
        pytest.param("http://example.org/chart.json", "not JSON", id="an address"),
        pytest.param("[1]", "not a JSON object", id="a list as text"),
        pytest.param([BAR], "not a JSON object", id="a list"),
        pytest.param(None, "not a JSON object", id="nothing"),
        pytest.param({"data": {1: 2}}, "not a JSON object", id="a number as a key"),
        pytest.param({"data": b"x"}, "not JSON", id="bytes"),
    ],
)
def test_bad_input_is_told_and_the_text_around_it_stays(mime: str, value: Any, told: str) -> None:
    found = contain_bundle({mime: value, PLAIN: "text", "image/png": PICTURE}, {}, CONTAIN)
    assert found.data == {PLAIN: "text", "image/png": PICTURE}
    (refusal,) = found.refused
    assert told in refusal.text
    assert len(refusal.text) < 400


def test_a_specification_that_is_sent_as_text() -> None:
    assert shown(LITE, json.dumps(BAR)).data[LITE] == BAR
    assert "vegaEmbed" in document_of(shown(LITE_6, json.dumps(BAR)))


def test_one_form_of_a_chart_is_shown() -> None:
    complete = f"<div></div><script>{'x;' * 100_000}</script>"
    empty = "<div></div><script>Plotly.newPlot()</script>"
    found = shown(PLOTLY, FIGURE, **{HTML: complete})
    assert "x;x;x;" in document_of(found)
    assert "Plotly.newPlot" not in found.data[HTML]
    assert "figure.data" in document_of(shown(PLOTLY, FIGURE, **{HTML: empty}))
    # What the page can draw is the smallest.
    assert set(shown(LITE, BAR, **{HTML: complete}).data) == {LITE, PLAIN}
    for many in ("<script" * 500_000, "<script>" * 500_000):
        assert set(shown(LITE, BAR, **{HTML: many}).data) == {LITE, PLAIN}
    sanitized = contain_bundle({PLOTLY: FIGURE, HTML: "<b>x</b>"}, {}, Policy("sanitize"))
    assert set(sanitized.data) == {PLAIN}
    assert "sanitize" in sanitized.refused[0].text
    assert contain_bundle({LITE: BAR}, {}, Policy("sanitize")).data == {LITE: BAR}
    text = contain_bundle({LITE: BAR, PLOTLY: FIGURE, PLAIN: "p"}, {}, Policy("text"))
    assert (text.data, text.refused) == ({PLAIN: "p"}, ())


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    "beside",
    [
        {"text/markdown": "<b>x</b>"},
        {"image/svg+xml": "<svg><script>1</script></svg>"},
        {"audio/wav": "UklGRg=="},
    ],
)
def test_a_chart_is_not_replaced_by_what_is_beside_it(beside: dict[str, str]) -> None:
    for mime, value in ((LITE, BAR), (LITE_6, BAR), (VEGA, {}), (PLOTLY, FIGURE)):
        alone, found = shown(mime, value), shown(mime, value, **beside)
        assert found.data == alone.data
        assert mime in found.data or "<iframe" in found.data[HTML]


@pytest.mark.parametrize(
    ("library", "told"),
    [("bokehjs", "file_html(plot, INLINE)"), ("holoviews", "holoviews.save(plot,")],
)
def test_notebook_modes_are_told_how_to_be_seen(library: str, told: str) -> None:
    for kind in ("exec", "load"):
        bundle = {
            f"application/vnd.{library}_{kind}.v0+json": "",
            "application/javascript": "x",
            HTML: "<div id='x'></div>",
            PLAIN: "p",
        }
        found = contain_bundle(bundle, {}, CONTAIN)
        assert found.data == {PLAIN: "p"}
        (refusal,) = found.refused
        assert told in refusal.text
        complete = f"<div></div><script>{'x;' * 100_000}</script>"
        found = contain_bundle({**bundle, HTML: complete}, {}, CONTAIN)
        assert not found.refused
        assert "x;x;x;" in document_of(found)


def refused_with(tmp_path: Path, without: tuple[str, ...], setup: str = "") -> list[str]:
    """What is told of charts that come with a picture, where some packages are not installed.

    Arguments:
        setup: code that is run first.
    """
    packages = tmp_path / "packages"
    packages.mkdir(exist_ok=True)
    for entry in Path(pd.__file__).parents[1].iterdir():
        if not entry.name.startswith(without):
            (packages / entry.name).symlink_to(entry)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    code = f"""
import json
from agentbay_kernel.containment import vega
from agentbay_kernel.containment.bundle import contain_bundle
from agentbay_kernel.containment.policy import Policy
{setup}
for mime, value in (({LITE_6!r}, {BAR!r}), ({VEGA!r}, {{}}), ({PLOTLY!r}, {FIGURE!r})):
    found = contain_bundle({{mime: value, "image/png": {PICTURE!r}}}, {{}}, Policy())
    print(json.dumps([found.data, [it.text for it in found.refused]]))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [tmp_path / "bare/bin/python", "-c", code],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{packages}"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    assert all(data == {"image/png": PICTURE} for data, _ in lines)
    return [text for _, (text,) in lines]


def test_without_the_scripts_a_picture_stays_and_what_to_type_is_told(tmp_path: Path) -> None:
    """In an environment with all that is installed here, but the scripts."""
    for text in refused_with(tmp_path, ("plotly", "vl_convert")):
        assert "are missing" in text
        assert "pip install vl-convert-python plotly" in text


@pytest.mark.parametrize(
    ("package", "told", "typed"),
    [
        ("import time\ntime.sleep(600)", "were not ready after 1 s", "Run the cell again"),
        ("import os\nos.kill(os.getpid(), 9)", "exit code -9", "pip install --upgrade"),
        ("", "AttributeError: module 'vl_convert' has no", "pip install --upgrade"),
        ("raise ImportError('libm\u202e.so')", "ImportError: libm[U+202E].so", "pip install"),
    ],
)
def test_scripts_that_can_not_be_made_are_not_called_missing(
    tmp_path: Path, package: str, told: str, typed: str
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "vl_convert.py").write_text(package, encoding="utf-8")
    limit = "vega._BUNDLING_S = 1" if "sleep" in package else ""
    *vega_texts, _ = refused_with(tmp_path, ("plotly", "vl_convert"), limit)
    for text in vega_texts:
        assert told in text
        assert typed in text
        assert "missing" not in text


# --- How many charts fit ----------------------------------------------------------------------

LIMIT = 12_000_000
# So many of two megabytes are more than that.
MANY = 7


def make() -> Containment:
    chosen = AgentBaySettings()
    return Containment(lambda: chosen)


# A tenth of all sizes, for what does not depend on them.
@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ChartBudget", lambda: ChartBudget(LIMIT // 10))


def display(cell: CellContainment, data: Any, kind: str = "display_data", name: str = "") -> str:
    """What is stored of a displayed chart, as the notebook's JSON has it."""
    transient = {"display_id": name} if name else {}
    (message, *_) = cell(Message(kind, {"data": data, "metadata": {}, "transient": transient}))
    return str(message.content["data"][HTML])


def chart_of(library: str, size: int = 1_500_000) -> dict[str, str]:
    """A chart in HTML with scripts that don't compress."""
    script = base64.b64encode(library.encode() + os.urandom(size)).decode()
    return {HTML: f"<script>'{script}'</script>", "image/png": PICTURE, PLAIN: "p"}


def is_static(stored: str) -> bool:
    return "<iframe" not in stored


@pytest.mark.parametrize("library", ["plotly", "another"])
def test_charts_of_one_library_take_no_more_than_is_allowed(
    library: str, request: pytest.FixtureRequest
) -> None:
    bundle: dict[str, Any] = {PLOTLY: FIGURE, "image/png": PICTURE, PLAIN: "p"}
    limit, size = LIMIT, 1_500_000
    if library != "plotly":
        request.getfixturevalue("small")
        limit, size = LIMIT // 10, 150_000
        bundle = chart_of("first", size)
    containment = make()
    stored = [display(containment.for_cell(f"c{n}"), bundle) for n in range(MANY)]
    assert len(stored[0]) * MANY > limit
    assert sum(map(len, stored)) <= limit
    assert not is_static(stored[0])
    assert is_static(stored[-1])
    assert stored[-1].startswith('<img src="data:image/png;base64,')
    assert "take the chart out of an earlier cell, run that cell" in stored[-1]
    assert harm_in(stored[-1]) == ""
    # Other libraries have room of their own, and a new kernel begins anew.
    assert not is_static(display(containment.for_cell("other"), chart_of("second", size)))
    assert not is_static(display(make().for_cell("c9"), bundle))


def test_ten_charts_of_vega_and_small_html_are_all_live() -> None:
    containment = make()
    for number in range(10):
        cell = containment.for_cell(f"c{number}")
        assert not is_static(display(cell, {HTML: "<script>1</script>", PLAIN: "p"}))
        (message,) = cell(Message("display_data", {"data": {LITE: BAR}, "metadata": {}}))
        assert message.content["data"] == {LITE: BAR}


@pytest.mark.usefixtures("small")
def test_a_chart_that_is_replaced_takes_no_room() -> None:
    chart = chart_of("library", 150_000)
    containment = make()
    for _ in range(MANY):
        assert not is_static(display(containment.for_cell("again"), chart))
    containment = make()
    cell = containment.for_cell("animated")
    for _ in range(MANY):
        assert not is_static(display(cell, chart))
        cell(Message("clear_output", {"wait": True}))
    containment = make()
    assert not is_static(display(containment.for_cell("a"), chart, name="updated"))
    for number in range(MANY):
        cell = containment.for_cell(f"b{number}")
        assert not is_static(display(cell, chart, "update_display_data", "updated"))


@pytest.mark.usefixtures("small")
def test_a_display_that_is_shown_at_many_places_is_stored_at_each() -> None:
    chart, containment = chart_of("library", 150_000), make()
    stored = [display(containment.for_cell(f"c{n}"), chart, name="same") for n in range(MANY)]
    assert is_static(stored[-1])
    containment = make()
    for number in range(MANY):
        display(containment.for_cell(f"c{number}"), chart_of("a", 150_000), name=f"d{number % 2}")
    small = {HTML: "<script>1</script>", PLAIN: "p"}
    containment = make()
    for number in range(10):
        display(containment.for_cell(f"c{number}"), small, name="same")
    assert is_static(display(containment.for_cell("last"), chart, "update_display_data", "same"))


@pytest.mark.usefixtures("small")
def test_a_front_end_without_cell_ids_has_every_cell_counted() -> None:
    chart, containment = chart_of("library", 150_000), make()
    stored = [display(containment.for_cell(), chart) for _ in range(MANY)]
    assert sum(map(len, stored)) <= LIMIT // 10
    assert is_static(stored[-1])


def test_a_single_large_chart_is_live() -> None:
    script = base64.b64encode(os.urandom(10_000_000)).decode()
    assert not is_static(display(make().for_cell("c"), {HTML: f"<script>'{script}'</script>"}))


def test_a_figure_of_plotly_itself() -> None:
    figure = go.Figure(data=[go.Bar(y=[1, 2])], layout_title_text="Bars")
    document = document_of(shown(PLOTLY, json.loads(figure.to_json())))
    assert '"text":"Bars"' in document
