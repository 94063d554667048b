"""What must hold of every contained bundle, and ways to make hostile ones."""

from __future__ import annotations

import html
import re
from typing import Any

from hypothesis import strategies as st

from agentbay_kernel.containment.bundle import HTML, PICTURES, PLAIN
from agentbay_kernel.containment.css import is_safe_block
from agentbay_kernel.containment.frame import content_security_policy

ALLOWED = {
    PLAIN,
    HTML,
    "text/markdown",
    "text/latex",
    "image/svg+xml",
    "application/json",
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.dataresource+json",
    *PICTURES,
}
_vega = re.compile(r"application/vnd\.vegalite\.v[345]\+json")
_frame = re.compile(
    r'<div><iframe title="Output of the sandbox, contained" sandbox="allow-scripts" '
    r'referrerpolicy="no-referrer" style="display:block;width:100%;border:0;resize:vertical;'
    r"padding-bottom:6px;box-sizing:content-box;"
    r"height:(\d+)px;height:if\(supports\(frame-sizing:content-height\):"
    r"calc-size\(auto,max\(0px,size - 1000px\) \+ \1\*clamp\(0px,1000px \+ 1px - size,1px\)\);"
    r'else:\1px\);frame-sizing:content-height" srcdoc="([^"<>]*)">(.*?)</iframe></div>',
    re.S,
)
_style = re.compile(r"<style[^>]*>([^<]*)</style>")
# Written here anew, not taken from the containment: what HTML can do harm with.
_harmful = re.compile(
    r"<\s*(script|iframe|frame|object|embed|svg|math|form|input|button|textarea|select|link|meta|"
    r"base|template|noscript|title|xmp|plaintext|applet|marquee|dialog|portal|foreignobject)\b"
    r"|<[^>]*\s(on\w+|srcdoc|formaction|action|xlink:href|ping|background|name|data-[\w-]+|"
    r"contenteditable|tabindex)\s*=",
    re.I,
)
_address = re.compile(
    r"""<[^>]*\s(?:src|poster|href)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.I
)


def harm_in(markup: str) -> str:
    """What is wrong with HTML that stands in the page; empty if nothing is."""
    # What stands in a frame is shown where the frame is taken out.
    rest = _frame.sub(lambda found: found[3], markup)
    for frame in _frame.finditer(markup):
        outer = html.unescape(frame[2])
        policy = html.escape(content_security_policy())
        starts = re.search(r"content=\"script-src ([^\"]*)\"", outer[:1500])
        if not outer.startswith('<!doctype html><meta charset="utf-8"><meta http-equiv='):
            return "the frame does not begin with its policy"
        if policy not in outer[:1500] or '<iframe sandbox="allow-scripts"' not in outer:
            return "the frame has no policy or its inner frame no sandbox"
        if not starts or re.sub(r"'sha256-[^']+' ", "", html.unescape(starts[1])) != (
            "'unsafe-eval' 'strict-dynamic'"
        ):
            return "the frame's policy lets scripts run that its guard did not start"
    for style in _style.finditer(rest):
        if not is_safe_block(style[1]):
            return f"a style of the page: {style[1]}"
    rest = _style.sub("", rest)
    if found := _harmful.search(rest):
        return found[0]
    for found in _address.finditer(rest):
        address = html.unescape(found[1] or found[2] or found[3] or "")
        if not re.match(r"https?://|mailto:|data:(image|audio|video)/[\w.+-]+", address, re.I):
            return f"an address: {address}"
        if re.match(r"https?:", address, re.I) and not found[0].lower().startswith("<a"):
            return f"it loads {address}"
    return ""


def is_allowed(mime: str) -> bool:
    """Is the type on the list?"""
    return mime in ALLOWED or _vega.fullmatch(mime) is not None


PIECES = st.sampled_from(
    [
        *(
            "<script>",
            "</script>",
            "<svg>",
            "</svg>",
            "<svg/onload=x>",
            "<math>",
            "<mtext>",
            "<mglyph>",
        ),
        *("<style>", "</style>", "<style scoped>", '<style type="text/css">', "#T_a{color:red}"),
        *(
            ".dataframe th{text-align:left}",
            "body{color:red}",
            "url(http://x/)",
            "@import 'x'",
            "\\",
        ),
        *("<div>", "</div>", "<b>", "</b>", "<p>", "<table>", "<tr>", "<td>", "</table>", "<form>"),
        *(
            "<img src=x onerror=y>",
            "<img ",
            "<a ",
            "href=",
            "src=",
            "onerror=x",
            "javascript:x",
            '"',
        ),
        *(
            "'",
            ">",
            "<",
            "/",
            "=",
            " ",
            "\n",
            "\0",
            "&lt;",
            "&#x3c;",
            "&quot;",
            "&Tab;",
            "<!--",
            "-->",
        ),
        *(
            "<noscript>",
            "<template>",
            "<textarea>",
            "<title>",
            "<xmp>",
            "<iframe srcdoc=",
            "</iframe>",
        ),
        *('<td style="color:red">', '<td style="position:fixed">', 'class="jp-Dialog"', "<input>"),
        *(
            'data-commandlinker-command="x"',
            '<table id="T_a" class="dataframe">',
            "<![CDATA[",
            "]]>",
        ),
        *(
            '<a href="https://example.org">',
            '<a href="/logout">',
            '<img src="data:image/png;base64,AA">',
        ),
        *(
            "# x\n",
            "[x](javascript:y)",
            "![x](http://y)",
            "```\n",
            "`",
            "$\\href{javascript:x}{y}$",
        ),
        *(
            "\u202e",
            "\x1b[31m",
            "\x1b]0;x\x07",
            "\ud800",
            "text",
            "ü",
            "<br/>",
            "<?x",
            "</",
            "<x-y>",
        ),
    ]
)
MARKUP = st.lists(PIECES | st.text(max_size=6), max_size=14).map("".join)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | MARKUP,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["url", "values", "data", "__proto__", "image", "type", "source"])
            | st.text(max_size=6),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
MIMES = st.sampled_from(
    [
        *sorted(ALLOWED),
        *(
            "application/javascript",
            "text/javascript",
            "application/pdf",
            "TEXT/HTML",
            "text/html ",
        ),
        *("application/vnd.vegalite.v5+json", "application/vnd.vega.v5+json", "x-strange/thing"),
        *("application/vnd.plotly.v1+json", "application/vnd.vegalite.v6.json"),
        "application/vnd.bokehjs_exec.v0+json",
    ]
)
BUNDLES = st.dictionaries(MIMES, MARKUP | st.lists(MARKUP, max_size=3) | JSON, max_size=4)
METADATA = st.dictionaries(
    st.sampled_from(["isolated", "embed_options", "tags"]) | MIMES,
    JSON | st.fixed_dictionaries({"isolated": st.just(True), "embed_options": JSON}),
    max_size=3,
)
