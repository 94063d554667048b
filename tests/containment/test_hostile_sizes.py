"""Hostile sizes: each output is bounded before it is read, and read once, never in its square.

A search that starts again at every character would take hours; the limit of a test ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.containment import markdown
from agentbay_kernel.containment.bundle import contain_bundle
from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.messages import Containment
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.containment.svg import judge_svg
from agentbay_kernel.containment.text import MOST_TEXT, StreamText, excess, one_line, visible
from agentbay_kernel.execution.messages import Message
from tests.kernels import RunningKernel, running_kernel

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


# --- Text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        ("\x1b[31mx\x1b[0m", "\x1b[31mx\x1b[0m"),
        ("\x1b", "\u241b"),
        ("\x1b[" + "0;" * 40, "\u241b[" + "0;" * 40),
        ("a\u202e", "a[U+202E]"),
        ("a\ufe0f\ufe0e", "a\ufe0f[U+FE0E]"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
        ("\U0001f3f4\U000e0067", "\U0001f3f4[U+E0067]"),
    ],
    ids=ascii,
)
def test_text_is_made_visible_in_one_reading(piece: str, shown: str) -> None:
    assert visible(piece * 50_000) == shown * 50_000
    assert StreamText().visible("stdout", f"{piece * 50_000}.") == f"{shown * 50_000}."


@pytest.mark.parametrize(
    ("mime", "policy"),
    [
        ("text/plain", Policy()),
        ("text/x-other", Policy("text")),
        # `make test` has each type and each policy above.
        pytest.param("text/plain", Policy("text"), marks=pytest.mark.slow),
        pytest.param("text/x-other", Policy(), marks=pytest.mark.slow),
    ],
    ids=lambda it: it.html if isinstance(it, Policy) else it,
)
def test_the_beginning_and_end_of_long_text_are_shown(mime: str, policy: Policy) -> None:
    text = contain_bundle({mime: f"begin{'x' * MOST_TEXT}end"}, {}, policy).data["text/plain"]
    assert text.startswith("begin") and text.endswith("end")
    assert "\n[AgentBay: 8 characters are left out here" in text and "download" in text
    assert len(text) < MOST_TEXT + 1000
    text = contain_bundle({mime: "\u202e" * 5_000_000}, {}, policy).data["text/plain"]
    assert len(text) < MOST_TEXT + 1000


def test_a_name_is_cut() -> None:
    assert len(one_line("\u00e9" * 1_000_000)) < 100_000


# --- Bundles ----------------------------------------------------------------------------------


class Unread(list[Any]):
    """A list of which only the length may be looked at."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("it was read")


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_bounds_are_applied_before_a_value_is_read() -> None:
    assert "more than 20 MB" in excess(Unread([0] * 3_000_000), 20_000_000)
    assert "more than 1,000 values" in excess({"a": Unread([0] * 1_001)}, 20_000_000, 1_000)
    assert "more than 20 MB" in excess([10**4_000] * 20_000, 20_000_000)
    assert "more than 100 levels" in excess(nested(10_000), 20_000_000)
    assert excess(nested(99), 20_000_000) == ""


@pytest.mark.parametrize(
    ("mime", "make", "told"),
    [
        ("application/json", lambda: Unread([0] * 1_500_000), "1,000,000 values"),
        ("application/json", lambda: ["x" * 1_000_000] * 21, "20 MB"),
        ("application/json", lambda: nested(10_000), "100 levels"),
        ("application/vnd.dataresource+json", lambda: Unread([0] * 1_500_000), "values"),
        ("application/vnd.jupyter.widget-view+json", lambda: Unread([0] * 1_500_000), "values"),
        ("application/vnd.vegalite.v5+json", lambda: {"a": Unread([0] * 3_000_000)}, "20 MB"),
        ("application/vnd.plotly.v1+json", lambda: "[" * 1_000_000, "nested"),
        ("text/html", lambda: "x" * 30_000_001, "30 MB"),
        ("text/markdown", lambda: "x" * 20_000_001, "20 MB"),
        ("text/latex", lambda: "x" * 1_000_001, "1 MB"),
        ("image/svg+xml", lambda: "<" * 20_000_001, "20 MB"),
        ("image/png", lambda: "A" * 60_000_001, "60 MB"),
        ("audio/wav", lambda: "A" * 60_000_001, "60 MB"),
    ],
)
def test_what_is_too_large_is_told_and_the_text_stays(
    mime: str, make: Callable[[], Any], told: str
) -> None:
    shown = contain_bundle({mime: make(), "text/plain": "kept"}, {}, Policy())
    assert shown.data == {"text/plain": "kept"}
    (refusal,) = shown.refused
    assert told in refusal.text and len(refusal.text) < 400


def test_a_text_that_is_a_json_string_does_not_speak_for_us() -> None:
    mime = "application/vnd.vegalite.v5+json"
    (refusal,) = contain_bundle({mime: '"type rm -r"'}, {}, Policy()).refused
    assert "rm -r" not in refusal.text and "not a JSON object" in refusal.text


def test_metadata_types_and_names_of_types_are_bounded() -> None:
    shown = contain_bundle({"text/plain": "kept"}, {"a": Unread([0] * 100_000)}, Policy())
    assert (shown.data, shown.metadata) == ({"text/plain": "kept"}, {})
    assert "metadata" in shown.refused[0].text
    many = {f"x/{number}": "" for number in range(10_000)}
    shown = contain_bundle({**many, "text/plain": "kept"}, {}, Policy())
    assert shown.data == {"text/plain": "kept"}
    assert len(shown.refused) <= 101
    shown = contain_bundle({f"text/{'a' * 1_000_000}": "x"}, {}, Policy())
    assert "not shown" in shown.data["text/plain"] and len(shown.data["text/plain"]) < 100


_TOO_LONG = ("x" * 4_000_001, "<b>" * 500_000, "&amp;" * 500_000)


@pytest.mark.parametrize(
    ("mime", "source"),
    [
        *(("text/html", source) for source in _TOO_LONG),
        ("text/markdown", _TOO_LONG[0]),
        # As HTML they are told above, and Markdown becomes it.
        *(pytest.param("text/markdown", it, marks=pytest.mark.slow) for it in _TOO_LONG[1:]),
    ],
    ids=lambda it: it if len(it) < 20 else str(len(it)),
)
def test_html_that_is_too_long_to_sanitise_is_told(mime: str, source: str) -> None:
    shown = contain_bundle({mime: source}, {}, Policy("sanitize"))
    assert shown.data["text/plain"] == source
    assert "too long" in shown.refused[0].text
    assert "<iframe" in contain_bundle({mime: source}, {}, Policy()).data["text/html"]


# --- Searches that went back and forth --------------------------------------------------------


@pytest.mark.parametrize(
    "inside",
    [
        f"<style>* {{{'stroke-linecap:round ' * 200}x</style>",
        f"<style>* {{{' ' * 1_000_000}x</style>",
        f"<g fill='{'a' * 1_000_000}'/>",
        f"<g style='fill:{'a' * 1_000_000}'/>",
        f"<g fill='{'url(#' * 200_000}'/>",
        f"<g fill='{'url(' + ' ' * 1_000_000}'/>",
    ],
    ids=len,
)
def test_svg_that_searches_went_back_and_forth_in(inside: str) -> None:
    judged = judge_svg(f"<svg xmlns='http://www.w3.org/2000/svg'>{inside}</svg>")
    assert judged.fate == "picture"


def test_svg_is_counted_while_it_is_read() -> None:
    start = "<svg xmlns='http://www.w3.org/2000/svg'>"
    attributes = "".join(f" a{number}=''" for number in range(600_000))
    for inside in ("<g/>" * 1_100_000, f"<g{attributes}/>"):
        judged = judge_svg(f"{start}{inside}</svg>")
        assert judged.fate == "refused" and "elements and attributes" in judged.why
    parts = "".join(f"<use href='#a{number}'/>" for number in range(19_000))
    judged = judge_svg(f"{start}{'<g>' * 150}{parts}{'</g>' * 150}</svg>")
    assert judged.fate == "refused" and "refer" in judged.why


def test_pictures_that_are_not_base64() -> None:
    shown = contain_bundle({"image/png": f"{' ' * 1_000_000}<", "text/plain": "p"}, {}, Policy())
    assert shown.data == {"text/plain": "p"}


@pytest.mark.parametrize(
    "source",
    [
        f"{'|x' * 100}\n{'|-' * 100}\n" + "|\n" * 5_000,
        "\\begin{align}\n" * 5_000,
        "- a\n" * 20_000,
        "[" * 20_000,
        "x" * 200_001,
    ],
    ids=len,
)
def test_markdown_that_takes_long_to_parse_is_shown_as_its_source(source: str) -> None:
    assert markdown.as_html(source) == f"<pre>{source}</pre>"


# --- Messages ---------------------------------------------------------------------------------


def contained(kind: str, content: dict[str, Any]) -> list[Message]:
    """What is published for a message of a sandbox."""
    return Containment(lambda: None).for_cell()(Message(kind, content))


def test_errors_are_shortened() -> None:
    lines = [f"line {number}" for number in range(100_000)]
    content = {"ename": "E" * 1_000_000, "evalue": "x" * 21_000_000, "traceback": lines}
    (message,) = contained("error", content)
    assert len(message.content["ename"]) < 100_000
    assert "are left out here" in message.content["evalue"]
    assert message.content["traceback"] == ["\n".join(lines)]


def test_replies_are_bounded() -> None:
    page = {"source": "page", "data": {"text/plain": "p"}}
    code = {"source": "set_next_input", "text": "x" * 21_000_000}
    content = {"status": "ok", "payload": [code, *[page] * 100_000], "user_expressions": {}}
    *notes, reply = contained("execute_reply", content)
    assert 0 < len(reply.content["payload"]) <= 1_000
    assert "Code for the next cell" in notes[0].content["data"]["text/plain"]
    containment = Containment(lambda: None)
    many = {"status": "ok", "matches": ["\u00e9"] * 1_000_000, "cursor_start": 0, "cursor_end": 0}
    assert containment.completions(many)["matches"] == []
    found = {"status": "ok", "found": True, "data": {"text/plain": "x" * 2_000_000}}
    assert len(containment.inspection(found)["data"]["text/plain"]) < 1_100_000
    assert containment.history({"status": "ok", "history": [[0] * 3_000_000]})["history"] == []


@pytest.mark.parametrize(
    "value",
    [Unread([0] * 1_500_000), "x" * 21_000_000, nested(10_000)],
    ids=["many", "long", "deep"],
)
def test_state_of_widgets_is_bounded(value: Any) -> None:
    package = {"_model_module": "@jupyter-widgets/controls", "_model_name": "TextModel"}
    data = {"state": {**package, "value": value}, "buffer_paths": []}
    content = {"comm_id": "c", "target_name": "jupyter.widget", "data": data}
    (note,) = contained("comm_open", content)
    assert note.content["data"]["text/plain"].startswith("[AgentBay: A widget is not shown")


# --- Whole cells ------------------------------------------------------------------------------

_CELL = """
import json
from IPython.display import display

LITE, PLOTLY, JSON = (f"application/{{it}}json" for it in (
    "vnd.vegalite.v5+", "vnd.plotly.v1+", ""))
def show(mime, value):
    print(f"before {{mime}}")
    display({{mime: value, "text/plain": f"text of {{mime}}"}}, raw=True)
    print(f"after {{mime}}")

deep = 0
for _ in range(115):
    deep = [deep]
show(LITE, {{"mark": "bar", "data": {{"values": ["x" * 1_000] * {thousands}}}}})
show(LITE, '{{"a":' * 10_000 + "1" + "}}" * 10_000)
show(LITE, '{{"mark": "bar", "mark": "line"}}')
show(PLOTLY, '{{"data":' * 10_000 + "1" + "}}" * 10_000)
show(JSON, deep)
for number in range({outputs}):
    display(number)
print("end")
"""


# The magics take the same way from the containment on.
@pytest.fixture(scope="module", params=["kernel", pytest.param("magic", marks=pytest.mark.slow)])
def cells(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningKernel, str]]:
    """A kernel, and what a cell for the sandbox starts with there."""
    name, magic = (
        ("agentbay-python", "") if request.param == "kernel" else ("python3", "%%agentbay python\n")
    )
    folder: Path = tmp_path_factory.mktemp("cells")
    with running_kernel(name, {"AGENTBAY_BACKEND": "local"}, folder) as kernel:
        if magic:
            assert kernel.run("%load_ext agentbay_kernel").reply["status"] == "ok"
        kernel.run(f"{magic}1")
        yield kernel, magic


@pytest.mark.parametrize(
    ("thousands", "outputs"),
    [
        pytest.param(21_000, 100, id="small"),
        pytest.param(50_000, 10_000, id="large", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(900)
def test_bad_input_is_told_and_nothing_around_it_is_lost(
    cells: tuple[RunningKernel, str], thousands: int, outputs: int
) -> None:
    kernel, magic = cells
    ran = kernel.run(magic + _CELL.format(thousands=thousands, outputs=outputs), timeout=800)
    assert ran.reply["status"] == "ok"
    mimes = [f"application/{it}json" for it in (*["vnd.vegalite.v5+"] * 3, "vnd.plotly.v1+", "")]
    told = "".join(f"before {mime}\nafter {mime}\n" for mime in mimes)
    assert ran.text() == f"{told}end\n"
    shown = [content["data"] for content in ran.of_type("display_data")]
    assert [it for it in shown if it == {"text/plain": f"text of {mimes[0]}"}] == [shown[0]] * 3
    for mime in mimes[3:]:
        assert {"text/plain": f"text of {mime}"} in shown
    assert sum(it["text/plain"].isdecimal() for it in shown) == outputs
    if outputs == 100:
        # Each type is told once.
        for told_of in ("vegalite.v5+json is not shown", "plotly.v1+json is not", "json is not"):
            assert told_of in ran.notices()
    assert kernel.run(f"{magic}print('next')").text() == "next\n"
