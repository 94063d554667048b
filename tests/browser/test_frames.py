"""A contained output and WebRTC, which obeys no content-security policy in Chromium.

A frame's scripts must not find it, in any document that they can make. Here the frames stand in a
page of their own: what is asked is the browser's answer to them, whatever the front end.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from agentbay_kernel.containment.frame import framed
from tests.browser.beacon import Beacon, listening_beacon

pytestmark = pytest.mark.browser

# Sends packets to the beacon if it can, and says that it ran. `OUT` stands for it below.
_OUT = (
    "(()=>{const C=self.RTCPeerConnection;try{top.postMessage((C?'reached: ':'ran: ')+'NAME','*')}"
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


@pytest.fixture
def beacon() -> Iterator[Beacon]:
    """Where packets arrive."""
    with listening_beacon() as listening:
        yield listening


def _said(page: Page, frames: str) -> list[str]:
    page.set_content(
        "<script>said=[];addEventListener('message',event=>said.push(event.data))</script>" + frames
    )
    page.wait_for_timeout(4000)
    said: list[str] = page.evaluate("said")
    return said


def _code(way: str, beacon: Beacon) -> str:
    out = _OUT.replace("NAME", way).replace("PORT", str(beacon.port))
    return "<p>x</p>" + WAYS[way].replace("OUT", out)


def test_no_document_of_a_frame_has_webrtc(browser: Browser, beacon: Beacon) -> None:
    page = browser.new_page()
    said = _said(page, "".join(framed(_code(way, beacon)) for way in WAYS))
    page.close()
    assert [it for it in said if str(it).startswith("reached")] == []
    assert beacon.datagrams == 0
    # Scripts do run there, in documents of documents too.
    assert {"ran: itself", "ran: a document in a document", "ran: document.open"} <= set(said)


def test_without_the_frame_packets_arrive(browser: Browser, beacon: Beacon) -> None:
    page = browser.new_page()
    ways = [way for way in WAYS if way.startswith(("a ", "an ", "DOM", "XML", "inner"))]
    said = _said(
        page,
        "".join(
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(_code(way, beacon))}"></iframe>'
            for way in ways
        ),
    )
    page.close()
    assert beacon.datagrams > 0
    assert len({it for it in said if str(it).startswith("reached")}) > len(ways) / 2
