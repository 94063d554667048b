"""A sandboxed frame around active HTML.

HTML with scripts, styles, forms, or pictures from elsewhere becomes HTML with an `<iframe>`. In it
all that may run, but reaches neither the page nor a network.

There are two frames. The inner one holds the output. The outer one is the kernel's own, and has
these tasks. It has the content-security policies, which the inner frame inherits. They also limit
where the inner frame may navigate, because a script can always send its own frame to an address.
It unpacks a large document, is as high as the output, and shows what was blocked.
`sandbox="allow-scripts"` gives the output its own origin.

One policy limits what is loaded: nothing, or only from allowed hosts. The other limits which
scripts run: the kernel's own by their hash, and by 'strict-dynamic' those that they start. So the
guard (`frame_guard.js`) starts the output's scripts after it has removed WebRTC. Any document that
the output creates is inert unless it starts with the guard.

A frame's document can still do this: draw anything in its own area, use processor and memory, take
the keyboard focus while the user types in it, post messages to its parents, make documents without
scripts and workers without a network. It can make the browser look up a host's name and open a
connection, by a navigation and, if a browser supports it, <link rel=preconnect>. No request is sent
over that connection.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import itertools
import re
import shlex
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentbay_kernel.containment.hosts import allowed_hosts, is_host
from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import ConfigurationError

SANDBOX = "allow-scripts"
# A note in the frame lists what it loads, but not a hostile output's thousand addresses.
_MOST_TOLD, _LONGEST_NAME = 8, 80
_LOWEST_PX, _HIGHEST_PX, _WITH_SCRIPT_PX = 24, 700, 450
# Higher than any frame, to tell a document's requested height from other heights.
_SPARE_PX = 1000
# The part of the output's text that is shown if the frame is taken out.
_MOST_FALLBACK_CHARS, _MOST_FALLBACK_LINES = 2_000, 40
# Longer documents are stored packed: scripts of libraries shrink to a third.
_PACKED_FROM = 50_000

_RUNS = re.compile(r"<(?:script|canvas|iframe|object|embed)\b", re.I)
_loading = re.compile(
    r"<(?!a\b)[a-z][^<>]*?\s(?:src|href|data|poster|srcset|action|background|xlink:href)"
    r"""\s*=\s*["']?((?:https?:)?//[^\s"'<>]+|(?![a-z]+:|\#|//)[^\s"'<>]+)"""
    r"""|url\(\s*["']?((?:https?:)?//[^\s"'<>)]+)"""
    r"""|@import\s*["']((?:https?:)?//[^\s"'<>]+)""",
    re.I,
)
_in_nested_script = re.compile(r"""(?<!href=)["'](https?://[^\s"'<>\\]+)["']""")
_nested = re.compile(r"""srcdoc\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.I)
_doctype = re.compile(r"\s*<!doctype[^>]*>", re.I)
_end_of_script = re.compile(r"</script(?=[\s/>])[^<>]*+>", re.I)
# Nested documents are shown down to this depth. Only so many have scripts: the guard in each takes
# space.
_DEEPEST, _MOST_DOCUMENTS = 3, 50
_host = re.compile(r"(?:https?:)?//([^/?#@\s]*@)?([^/?#\s]+)", re.I)
_height = re.compile(
    r"""height\\?["']?\s*[:=]\s*\\?["']?(\d{2,4})(?:\.\d+)?(px|pt)?(?![\d%])""", re.I
)
# A box whose height is a percentage of its width, as in maps.
_by_width = re.compile(r"padding-bottom\s*:\s*\d+%", re.I)
# None of these searches reads a part of hostile HTML more than once or twice: they stop at the next
# `<`, and `_cut` at an element without an end.
_scripts = re.compile(r"<(script)\b[^<>]*+>", re.I)
_code = re.compile(r"<(script|style)\b[^<>]*+>", re.I)
_ends = {name: re.compile(rf"</{name}\b[^<>]*+>?", re.I) for name in ("script", "style")}
_tag = re.compile(r"<[^<>]*+>")
# A terminal's colours after their escape characters became visible.
_colours = re.compile("[\x1b\u241b\ufffd]\\[[\\d;]*m")
_png = re.compile(r"data:image/png;base64,\s*(iVBORw0KGgo[A-Za-z0-9+/\s\\]{40,60})")

# How to get without the network what some libraries load from it.
_ADVICE = {
    "cdn.plot.ly": "plotly: figure.to_html(include_plotlyjs=True)",
    "cdn.bokeh.org": "Bokeh: file_html(plot, INLINE)",
    "cdn.jsdelivr.net/npm/vega": "Altair: chart.to_html(inline=True)",
}

# The buttons of matplotlib's animations use a font of an outside host for their signs.
_ICON_HOSTS = ("maxcdn.bootstrapcdn.com",)
_ICON_LINK = re.compile(
    r'<link\b(?=[^<>]*"https://maxcdn\.bootstrapcdn\.com/font-awesome/)[^<>]*+>'
)
_SIGNS = {
    "fast-backward": "\u23ee",
    "step-backward": "\u23f4",
    "pause": "\u23f8",
    "play": "\u25b6",
    "step-forward": "\u23f5",
    "fast-forward": "\u23ed",
    "minus": "\u2212",
    "plus": "+",
}
_ICONS = "<style>.fa{{font-style:normal}}{}</style>".format(
    "".join(f'.fa-{name}:before{{content:"{sign}"}}' for name, sign in _SIGNS.items())
)


def _script_text(name: str, **values: int) -> str:
    """Return the program in a file beside this one, without comments and indentation."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    code = "\n".join(line.strip() for line in lines if not line.lstrip().startswith("//"))
    for word, value in values.items():
        code = re.sub(rf"\b{word}\b", str(value), code)
    return code


# Every document with output starts with the guard; it starts the scripts before each `_RUN`.
_GUARD, _REPORT = _script_text("frame_guard.js"), _script_text("frame_report.js")
_RUN = "agentbayRun()"
_OUTER_SCRIPT = _script_text(
    "frame_outer.js",
    LOWEST=_LOWEST_PX,
    HIGHEST=_HIGHEST_PX,
    MOST=_MOST_TOLD,
    SPARE=_SPARE_PX,
)
_hashes = " ".join(
    f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
    for code in (_GUARD, _RUN, _REPORT, _OUTER_SCRIPT)
)
# Of the scripts that a parser finds, only these run, in this document and in all documents that are
# made in it. The guard, and the scripts that it started, may start others.
_ONLY_OURS = f"script-src {_hashes} 'unsafe-eval' 'strict-dynamic'"

_HEAD = """<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{csp}">\
<meta http-equiv="Content-Security-Policy" content="{ours}"><meta name="referrer" \
content="no-referrer"><meta http-equiv="x-dns-prefetch-control" content="off">"""

_INNER = """<!doctype html>{head}<script>{guard}</script><script>{report}</script>\
<style>html{{background:#fff;color:#000;color-scheme:light}}\
body{{margin:8px;font-family:system-ui,sans-serif;font-size:13px}}</style>{content}"""

# Chromium measures a frame that is hidden at first as if it had no width, and a document without
# width as empty. So the body is at least one pixel wide, and `overflow:hidden`, which would cut all
# of it off, is not used.
_OUTER = """<!doctype html>{head}<meta name="responsive-embedded-sizing" \
content="allow-origins=* file:"><style>\
html{{scrollbar-width:none}}body{{margin:0;min-width:1px;background:#fff;\
font:12px/1.4 system-ui,sans-serif}}\
iframe{{display:block;width:100%;border:0;height:{height}px}}\
#note{{background:#fff4ce;color:#3b2f00;padding:4px 8px;border-bottom:1px solid #e0c97f;\
max-height:200px;overflow:auto}}#note[hidden]{{display:none}}</style>\
<div id="note"{hidden}>{note}</div><iframe sandbox="{sandbox}"{document}></iframe>{packed}\
<script>{script}</script>"""

# The estimated height, until the document requests one, in a browser that supports that (Chromium
# 154 and later). A requested height is more than the spare; any other is a height that Chromium
# takes from a frame that is hidden or not loaded. The strip below is for the mouse: the corner of a
# frame in another process can't be dragged.
_WRAPPER = """<div><iframe title="Output of the sandbox, contained" sandbox="{sandbox}" \
referrerpolicy="no-referrer" style="display:block;width:100%;border:0;resize:vertical;\
padding-bottom:6px;box-sizing:content-box;\
height:{height}px;height:if(supports(frame-sizing:content-height):\
calc-size(auto,max(0px,size - {spare}px) + {height}*clamp(0px,{spare}px + 1px - size,1px));\
else:{height}px);frame-sizing:content-height" srcdoc="{outer}">{fallback}</iframe></div>"""


def framed(source: str, hosts: Iterable[str] = (), plain: str = "", static: str = "") -> str:
    """Return the HTML in a sandboxed frame.

    Arguments:
        source: HTML or a whole document.
        hosts: hosts that it may load from, besides those that `jupyter agentbay allow` allowed.
        plain: the output as plain text, for readers without frames.
        static: inert HTML, such as a picture, that is shown instead of the text if the frame is
            taken out, as in a notebook that JupyterLab does not trust.
    """
    hosts = (*hosts, *_allowed_by_user())
    allowed = set(hosts)
    if not any(_is_allowed(host, allowed) for host in _ICON_HOSTS):
        source = _ICON_LINK.sub(_ICONS, source)
    blocked = [host for host in _outside(source) if not _is_allowed(host, allowed)]
    files = _files(source)
    note = _note(blocked, files, source)
    head = _HEAD.format(
        csp=html.escape(content_security_policy(hosts)), ours=html.escape(_ONLY_OURS)
    )
    inner = _INNER.format(head=head, guard=_GUARD, report=_REPORT, content=_guarded(source))
    height = _height_px(source)
    packed = _pack(inner) if len(inner) > _PACKED_FROM else ""
    outer = _OUTER.format(
        head=head,
        sandbox=SANDBOX,
        height=height,
        document="" if packed else f' srcdoc="{html.escape(inner)}"',
        packed=packed and f'<script type="text/plain" id="packed">{packed}</script>',
        note=note,
        hidden="" if blocked or files else " hidden",
        script=_OUTER_SCRIPT,
    )
    return _WRAPPER.format(
        height=height + (40 if blocked or files else 0),
        spare=_SPARE_PX,
        sandbox=SANDBOX,
        outer=html.escape(outer),
        fallback=_without_end(static) or _fallback(source, plain, blocked),
    )


def bare_frame(source: str, hosts: Iterable[str] = ()) -> str:
    """Return the frame that the HTML consists of, without its fallback.

    Empty if it is not a frame that `framed` makes with these hosts, or has more than that. The
    frame's content has its own origin and these policies, whoever made it.
    """
    found = _whole_frame().fullmatch(source)
    head = _head((*hosts, *_allowed_by_user()))
    if found is None or not html.unescape(found["outer"]).startswith(head):
        return ""
    return source[: found.start("fallback")] + source[found.end("fallback") :]


@functools.cache
def _whole_frame() -> re.Pattern[str]:
    pattern = re.escape(_WRAPPER)
    for name, value in (
        ("height", r"\d{1,5}"),
        ("spare", str(_SPARE_PX)),
        ("sandbox", SANDBOX),
        ("outer", '(?P<outer>[^"]*+)'),
        # It ends at the end of the frame.
        ("fallback", r"(?P<fallback>(?:(?!</iframe).)*+)"),
    ):
        pattern = pattern.replace(re.escape(f"{{{name}}}"), value)
    return re.compile(pattern, re.S | re.I)


def _head(hosts: Iterable[str]) -> str:
    policies = content_security_policy(hosts), _ONLY_OURS
    csp, ours = (html.escape(policy) for policy in policies)
    return f"<!doctype html>{_HEAD.format(csp=csp, ours=ours)}"


def _allowed_by_user() -> tuple[str, ...]:
    try:
        return allowed_hosts()
    except ConfigurationError:
        # The command that shows the hosts reports the reason.
        return ()


def _pack(document: str) -> str:
    packed = gzip.compress(document.encode("utf-8", "replace"), 6, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _guarded(source: str, depth: int = 0) -> str:
    """Return the HTML in which the guard starts each script, in nested documents too.

    A script that is not found here doesn't run: the policy ensures that, not this search.
    """
    parts, end = [], 0
    for found in itertools.islice(_nested.finditer(source), _MOST_DOCUMENTS):
        document = html.unescape(found[1] or found[2] or "")
        inner = _with_guard(document, depth + 1) if depth < _DEEPEST else ""
        quote = found[0][-1]
        parts += [
            _with_runs(source[end : found.start()]),
            f"srcdoc={quote}{html.escape(inner)}{quote}",
        ]
        end = found.end()
    return "".join([*parts, _with_runs(source[end:])])


def _with_guard(document: str, depth: int) -> str:
    doctype = _doctype.match(document)
    start = doctype.end() if doctype else 0
    guard = f"<script>{_GUARD}</script>"
    return f"{document[:start]}{guard}{_guarded(document[start:], depth)}"


def _with_runs(source: str) -> str:
    return _end_of_script.sub(rf"\g<0><script>{_RUN}</script>", source)


def content_security_policy(hosts: Iterable[str] = ()) -> str:
    """Return the policy of the frames: inline code runs, and only these hosts are loaded from."""
    allowed = " ".join(_source(host) for host in hosts)
    inline = f"data: blob: {allowed}".strip()
    directives = {
        "default-src": "'none'",
        "script-src": f"'unsafe-inline' 'unsafe-eval' {inline}",
        "style-src": f"'unsafe-inline' {inline}",
        "img-src": inline,
        "media-src": inline,
        "font-src": inline,
        "connect-src": inline,
        "worker-src": "data: blob:",
        "frame-src": allowed or "'none'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _source(host: str) -> str:
    return "https:" if host == "*" else f"https://{host}"


def _is_allowed(host: str, allowed: set[str]) -> bool:
    return (
        "*" in allowed
        or host in allowed
        or any(name.startswith("*.") and host.endswith(name[1:]) for name in allowed)
    )


def _outside(source: str) -> list[str]:
    """Return the hosts that the text of the HTML loads from, as far as it shows."""
    found = [address for address in _addresses(source) if _host.match(address)]
    for nested in _documents(source):
        found += [address for address in _addresses(nested) if _host.match(address)]
        found += _in_nested_script.findall(nested)
    hosts: dict[str, None] = {}
    for address in found:
        match = _host.match(address)
        host = re.sub(r"[^\w.:*-]", "", re.sub(r"\{[^{}]*+\}", "*", match[2])) if match else ""
        if host:
            hosts[host.lower()] = None
    return list(hosts)


def _addresses(source: str) -> list[str]:
    text = _nested.sub("", _short_scripts(source))
    return [found[1] or found[2] or found[3] for found in _loading.finditer(text)]


def _documents(source: str) -> list[str]:
    return [html.unescape(found[1] or found[2] or "") for found in _nested.finditer(source)]


def _files(source: str) -> list[str]:
    """Return addresses without a host in the HTML: the page would ask the Jupyter server."""
    names = [
        address for address in _addresses(_without(_scripts, source)) if not _host.match(address)
    ]
    return list(dict.fromkeys(name for name in names if re.search(r"[./]", name)))


def _short_scripts(source: str) -> str:
    # A library of megabytes does not show what this output loads.
    return "".join(
        before + (script if len(script) < 200_000 else "")
        for before, script in _cut(_scripts, source)
    )


def _cut(elements: re.Pattern[str], source: str) -> Iterator[tuple[str, str]]:
    """Yield the text before each of these elements, and the element.

    An element without an end ends with the source, as in browsers.
    """
    at = 0
    while (found := elements.search(source, at)) is not None:
        end = _ends[found[1].lower()].search(source, found.end())
        stop = end.end() if end else len(source)
        yield source[at : found.start()], source[found.start() : stop]
        at = stop
    yield source[at:], ""


def _without(elements: re.Pattern[str], source: str) -> str:
    return " ".join(before for before, _ in _cut(elements, source))


def _note(blocked: list[str], files: list[str], source: str) -> str:
    told, text = ", ".join(blocked[:_MOST_TOLD]), _short_scripts(source)
    if len(blocked) > _MOST_TOLD:
        told += f" and {len(blocked) - _MOST_TOLD} more"
    parts = []
    if files:
        # On one line, and short: the note is the kernel's own, and must not look otherwise.
        names = ", ".join(one_line(name)[:_LONGEST_NAME] for name in files[:_MOST_TOLD])
        parts.append(
            f"Not loaded: <b>{html.escape(names)}</b>. A page can't load files of the sandbox by "
            "their address; display them, for example with IPython.display.Image(filename=...)."
        )
    advice = [
        f" Without the network: <code>{html.escape(advice)}</code>."
        for name, advice in _ADVICE.items()
        if name in text
    ]
    # Hosts that are found only when scripts run are added here.
    label = f"<span{'' if blocked or not files else ' hidden'}>"
    parts.append(
        f'{label}Blocked: <b id="hosts">{html.escape(told)}</b>. Output of a sandbox loads nothing '
        "from outside. To allow it, type <code>jupyter agentbay allow "
        f'<span id="typed">{html.escape(_typed(blocked))}</span></code> in a terminal, then run '
        f"the cell again.{''.join(advice)}</span>"
    )
    return "<br>".join(parts)


def _without_end(static: str) -> str:
    # A browser that draws the frame reads its content as text, up to its end.
    return "" if "</iframe" in static.lower() else static


def _typed(hosts: list[str]) -> str:
    """Return the hosts as words of a shell; a wildcard is quoted."""
    return " ".join(shlex.quote(host) for host in hosts[:_MOST_TOLD] if is_host(host))


def _fallback(source: str, plain: str, blocked: list[str]) -> str:
    text = html.unescape(_tag.sub(" ", _without(_code, source))) if not _RUNS.search(source) else ""
    shown = plain if plain and not plain.startswith("<") else " ".join(text.split())
    told = "[Output of a sandbox that needs a frame of its own"
    if blocked:
        told += f" and wants to load from {', '.join(blocked[:_MOST_TOLD])}"
    told = html.escape(f"{told}. Run the cell again to see it.]")
    return f"{told}<pre>{html.escape(_shortened(shown))}</pre>" if shown else told


def _shortened(text: str) -> str:
    text = _colours.sub("", text)
    lines = text.strip("\n").split("\n", _MOST_FALLBACK_LINES)
    short = "\n".join(lines[:_MOST_FALLBACK_LINES])[:_MOST_FALLBACK_CHARS]
    return short if short == text.strip("\n") else f"{short} \u2026"


def _height_px(source: str) -> int:
    """Return a height for the output: the one that it states, otherwise one for its kind."""
    text = _short_scripts(source)
    for nested in _documents(text):
        text += nested
    sizes = [
        int(number) * (4 / 3 if unit == "pt" else 1)
        for number, unit in _height.findall(_png.sub("", text))
    ]
    sizes += _picture_heights(text)
    if _by_width.search(text):
        sizes.append(_WITH_SCRIPT_PX)
    rows = len(re.findall(r"<tr\b", text, re.I))
    words = len(_tag.sub("", _without(_code, text)))
    wanted = max([size for size in sizes if size <= 1200], default=0) + 90 if sizes else 0
    wanted = max(wanted, rows * 26 + 40 if rows else 0, min(words / 5, 400) + 40)
    if not sizes and _draws(text):
        wanted = _WITH_SCRIPT_PX
    return int(max(_LOWEST_PX, min(_HIGHEST_PX, wanted)))


def _draws(text: str) -> bool:
    """Return whether scripts or other documents probably fill it."""
    programs = sum(len(script) for _, script in _cut(_scripts, text))
    return programs > 400 or re.search(r"<(?:canvas|iframe|object|embed)\b", text, re.I) is not None


def _picture_heights(text: str) -> list[float]:
    heights = []
    for found in _png.finditer(text):
        head = re.sub(r"[\s\\]", "", found[1])[:48]
        try:
            _, tall = struct.unpack(">II", base64.b64decode(head[: len(head) // 4 * 4])[16:24])
        except (ValueError, struct.error):
            continue
        heights.append(float(tall))
    return heights[:50]
