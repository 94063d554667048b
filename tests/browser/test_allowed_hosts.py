"""A host that the user allows: frames made from then on load from it, by https, and no other."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Browser, Page, expect

from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.hosts import change_hosts
from tests.browser.lab import chromium, find_chromium

pytestmark = pytest.mark.browser

# As a map does it: a script makes the pictures, by names of hosts that it puts together.
MAP = (
    "<div id=m></div><script>for(const s of ['a','b']){const i=new Image();i.onload=()=>m.append("
    "'tile '+s+' ');i.src=`https://${s}.tile.exa`+`mple.test/1/2/3.svg`}</script>"
)
TILE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


class _Tiles(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/svg+xml")
        self.end_headers()
        self.wfile.write(TILE)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def with_tiles() -> Iterator[Browser]:
    """A browser that finds the tiles' hosts on this machine."""
    path = find_chromium()
    assert path is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("*.tile.example.test").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Tiles)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rules = f"MAP *.tile.example.test 127.0.0.1:{server.server_port}, MAP * ~NOTFOUND"
    with chromium(path, f"--host-resolver-rules={rules}, EXCLUDE 127.0.0.1") as running:
        yield running
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(with_tiles: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of that browser; no host is allowed yet."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    opened = with_tiles.new_page(ignore_https_errors=True)
    yield opened
    opened.close()


def test_a_map_has_its_tiles_when_their_host_is_allowed(page: Page) -> None:
    outer = page.frame_locator("iframe")
    page.set_content(framed(MAP))
    # The frame says what to type, of hosts that only its scripts name too.
    expect(outer.locator("#note")).to_contain_text("a.tile.example.test")
    expect(outer.locator("#note code")).to_contain_text(
        "jupyter agentbay allow a.tile.example.test"
    )
    expect(outer.frame_locator("iframe").locator("#m")).to_have_text("")
    change_hosts(add=["*.tile.example.test"])
    page.set_content(framed(MAP))
    expect(outer.frame_locator("iframe").locator("#m")).to_contain_text("tile a")
    expect(outer.frame_locator("iframe").locator("#m")).to_contain_text("tile b")
    expect(outer.locator("#note")).to_be_hidden()


def test_scripts_of_an_allowed_host_run_in_their_order(page: Page) -> None:
    change_hosts(add=["*.tile.example.test"])
    # It is not a script, so it does nothing. What is behind it runs when it has arrived.
    page.set_content(
        framed(
            "<ol id=o></ol><script>const say=t=>o.append(t+' ');addEventListener('load',()=>say("
            "'load'));document.addEventListener('DOMContentLoaded',()=>say('ready'))</script>"
            "<script src='https://a.tile.example.test/x.js' onerror='say(1)' onload='say(1)'>"
            "</script><script>say(document.readyState)</script><script>say(2)</script>"
        )
    )
    inner = page.frame_locator("iframe").frame_locator("iframe")
    expect(inner.locator("#o")).to_contain_text("1 interactive 2 ready load")
