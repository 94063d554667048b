"""SVG: what real libraries make is kept byte for byte; nothing else reaches a page as markup."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import textwrap
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.display import SVG

from agentbay_kernel.containment.bundle import HTML, contain_bundle
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.containment.svg import LONGEST, judge_svg

OPEN = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'


def doubling(begin: str, reference: str, end: str) -> str:
    """A picture whose parts are each made of ten of the part before."""
    parts = [begin.format(n) + reference.format(n - 1) * 10 + end for n in range(1, 12)]
    return f"{OPEN}{begin.format(0)}<rect/>{end}{''.join(parts)}</svg>"


LAUGHS = "<!DOCTYPE svg [<!ENTITY a0 'x'>{}]><svg>&a9;</svg>".format(
    "".join(f"<!ENTITY a{n} '{'&a0;'.replace('0', str(n - 1)) * 10}'>" for n in range(1, 10))
)


def drawn(font: str) -> str:
    """A figure of matplotlib's as its inline backend shows it."""
    with mpl.rc_context({"svg.fonttype": font}):
        figure, (left, right) = plt.subplots(1, 2)
        left.plot([1, 2, 3], label="a < b & c")
        left.scatter(range(9), range(9), c=range(9))
        left.set_title("größer $x^2$ #1")
        left.legend()
        right.imshow(np.eye(9))
        right.contourf(np.arange(81).reshape(9, 9), hatches=["/", "x"])
        stored = io.StringIO()
        figure.savefig(stored, format="svg", metadata={"Title": "x"})
        plt.close(figure)
    return stored.getvalue()


@pytest.mark.parametrize("font", ["path", "none"])
def test_matplotlib_is_kept_byte_for_byte(font: str) -> None:
    source = drawn(font)
    shown = contain_bundle({"image/svg+xml": source}, {}, Policy())
    assert shown.data == {"image/svg+xml": source}
    # `IPython.display.SVG` takes the element out of its document.
    assert judge_svg(SVG(source).data).fate == "kept"  # type: ignore[no-untyped-call]


def test_graphviz_is_kept_byte_for_byte() -> None:
    graph = (
        'digraph { rankdir=LR; a -> "b < c" [label="x & y", color=red]; subgraph cluster_1 {d} }'
    )
    source = subprocess.run(
        ["dot", "-Tsvg"], input=graph, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert judge_svg(source).fate == "kept"


@pytest.mark.parametrize(
    "inside",
    [
        "<script>x</script>",
        "<SCRIPT>x</SCRIPT>",
        '<x:script xmlns:x="http://www.w3.org/2000/svg">x</x:script>',
        '<script xmlns="http://example.org/"/>',
        '<g onload="x"/>',
        '<g ONLOAD="x"/>',
        '<a href="javascript:x"><text>y</text></a>',
        '<a xlink:href="https://example.org"><text>y</text></a>',
        '<use href="https://example.org/a.svg#b"/>',
        '<use xlink:href=" #a"/>',
        '<image href="https://example.org/a.png"/>',
        '<image xlink:href="/api/contents"/>',
        "<foreignObject><b>x</b></foreignObject>",
        '<animate attributeName="href" to="javascript:x"/>',
        '<set attributeName="onclick" to="x"/>',
        "<style>*{fill:red}</style>",
        "<style>@import 'x';</style>",
        "<style>*{stroke-linejoin:round}body{display:none}</style>",
        '<rect style="fill:url(https://example.org/#a)"/>',
        '<rect style="fill:u\\72l(x)"/>',
        '<rect style="position:fixed"/>',
        '<svg style="transform:scale(99)"/>',
        '<svg overflow="visible"/>',
        '<rect fill="url(&quot;https://x&quot;)"/>',
        '<rect class="jp-Dialog"/>',
        '<rect id="jp-main-dock-panel"/>',
        '<rect id="main"/>',
        "<![CDATA[<script>x</script>]]>",
        "<title><b>x</b></title>",
        "<desc><![CDATA[<img src=x onerror=y>]]></desc>",
        "<text>$\\href{javascript:x}{y}$</text>",
        "<text>a\u202eb</text>",
        "<text>a&#x202e;b</text>",
        "<!--><script>x</script>-->",
        "<filter><feImage href='x'/></filter>",
        "<handler>x</handler>",
        "<iframe/>",
        "<math><mtext/></math>",
        "<metadata><script/></metadata>",
        '<metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/xhtml"/></metadata>',
        '<g xmlns="http://www.w3.org/1999/xhtml"/>',
        "<p/>",
    ],
)
def test_the_rest_is_an_image(inside: str) -> None:
    source = f"{OPEN}{inside}</svg>"
    judged = judge_svg(source)
    assert judged.fate == "picture"
    shown = contain_bundle({"image/svg+xml": source}, {}, Policy()).data
    assert list(shown) == [HTML]
    packed = re.fullmatch(r'<img src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)">', shown[HTML])
    assert packed is not None
    assert base64.b64decode(packed[1]).decode() == source


@pytest.mark.parametrize(
    "source",
    [
        '<svg xmlns="http://www.w3.org/2000/svg" width="9"/onload="x"></svg>',
        "<svg onload=x></svg>",
        "<svg><g></svg>",
        "<svg><!-- --!><script>x</script> --></svg>",
        "<svg></svg><script>x</script>",
        "text",
        "",
        "<html xmlns='http://www.w3.org/1999/xhtml'><script>x</script></html>",
        '<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>',
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        LAUGHS,
        '<?xml-stylesheet href="x.xsl" type="text/xsl"?><svg/>',
        "<svg>\0</svg>",
        "<svg>\ud800</svg>",
        "<svg>" + "<g>" * 10_000 + "</g>" * 10_000 + "</svg>",
        doubling("<g id='a{}'>", "<use href='#a{}'/>", "</g>"),
        doubling("<pattern id='a{}'>", "<rect fill='url(#a{})'/>", "</pattern>"),
        f"{OPEN}<image href='data:image/svg+xml,x'/></svg>",
        f"{OPEN}<image href='data:text/html,x'/></svg>",
        f"{OPEN}{'x' * LONGEST}</svg>",
        "\ufeff" * 3 + "<svg/>",
    ],
    ids=lambda source: textwrap.shorten(source, 60),
)
def test_what_no_browser_should_draw_is_refused(source: str) -> None:
    assert judge_svg(source).fate == "refused"
    shown = contain_bundle({"image/svg+xml": source, "text/plain": "p"}, {}, Policy())
    assert shown.data == {"text/plain": "p"}
    assert [refusal.kind for refusal in shown.refused] == ["image/svg+xml"]


def test_references_in_a_circle_end() -> None:
    circle = f'{OPEN}<g id="a1"><use href="#a2"/></g><g id="a2"><use href="#a1"/></g></svg>'
    assert judge_svg(circle).fate == "kept"


def test_a_picture_without_a_namespace_or_in_another_encoding_is_drawn() -> None:
    judged = judge_svg("<svg><style>text{fill:red}</style></svg>")
    assert judged.source.startswith('<svg xmlns="http://www.w3.org/2000/svg">')
    judged = judge_svg(f'<?xml version="1.0" encoding="utf-16"?>{OPEN}<text>ü</text></svg>')
    assert judged.fate == "picture"
    assert judged.source.startswith("<svg")
    assert judge_svg(f"\ufeff{OPEN}<style>a{{}}</style></svg>").source.startswith("<svg")


PIECES = st.sampled_from(
    [
        *('<g id="a1">', "</g>", "<rect/>", '<use href="#a1"/>', "<title>", "</title>", "<style>"),
        *("</style>", "<script>", "</script>", "<!--", "-->", "--!>", "<![CDATA[", "]]>", "<?x ?>"),
        *(
            '<g onload="x">',
            "<a href='javascript:x'>",
            "</a>",
            "<desc>",
            "</desc>",
            "&lt;",
            "&#60;",
        ),
        *("&apos;", '<rect fill="red"/>', '<rect style="fill:url(#a)"/>', "<metadata>", "\\", "$"),
        *("</metadata>", "<foreignObject>", "</foreignObject>", "<p>", "</p>", "x", "</svg>", OPEN),
    ]
)


def check(source: str) -> None:
    """What holds of every picture that is kept: a reader of HTML finds no other start tags."""
    judged = judge_svg(source)
    if judged.fate != "kept":
        return
    assert judged.source == source
    tree = ElementTree.fromstring(source)
    names = sorted(element.tag.rpartition("}")[2].lower() for element in tree.iter())
    # As HTML is cut into tags, whatever stands around them.
    tags = re.findall(r"<([a-zA-Z][^\s/>]*)", source)
    assert sorted(tag.rpartition(":")[2].lower() for tag in tags) == names
    assert not re.search(r"script|onload|javascript|foreign|<p|CDATA|\\", source)


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_kept_pictures_read_the_same_in_html(inside: str) -> None:
    check(f"{OPEN}{inside}</svg>")
