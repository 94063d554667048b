"""Hosts that a user allows for frames: what a host is, and the file that holds them."""

from __future__ import annotations

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.hosts import (
    allowed_hosts,
    change_hosts,
    checked_host,
    hosts_file,
)
from agentbay_kernel.errors import ConfigurationError


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory of its own."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("cdn.example.org", "cdn.example.org"),
        ("CDN.Example.org.", "cdn.example.org"),
        ("'*.tile.example.org'", "*.tile.example.org"),
        ("example.org:8443", "example.org:8443"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_hosts(name: str, host: str) -> None:
    assert checked_host(name) == host


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("https://cdn.example.org/x.js", "allow cdn.example.org Nothing"),
        ("https://me:word@cdn.example.org", "allow cdn.example.org Nothing"),
        ("cdn.example.org/x.js", "allow cdn.example.org Nothing"),
        ("*", "AGENTBAY_HTML_HOSTS=*"),
        ("*.org", "Write a host"),
        ("a.*.org", "Write a host"),
        ("a b", "Write a host"),
        ("x; script-src *", "Write a host"),
        ("x\n", ""),
        ("javascript:x", "Write a host"),
        ("-a.org", "Write a host"),
        ("", "Write a host"),
        ("a" * 300, "Write a host"),
        ("https://[::1]/", "Write a host"),
    ],
)
def test_what_is_not_a_host_is_refused_and_the_message_says_how_to_write_it(
    name: str, advice: str
) -> None:
    if name == "x\n":
        assert checked_host(name) == "x"
        return
    with pytest.raises(ConfigurationError) as refused:
        change_hosts(add=[name])
    assert advice in str(refused.value)
    assert not hosts_file().exists()


def test_the_file_is_the_users_alone_and_changes_as_a_whole() -> None:
    assert allowed_hosts() == ()
    assert change_hosts(add=["b.example.org", "*.a.example.org"]) == allowed_hosts()
    assert allowed_hosts() == ("*.a.example.org", "b.example.org")
    with pytest.raises(ConfigurationError, match="not in the list"):
        change_hosts(add=["c.example.org"], remove=["d.example.org"])
    assert allowed_hosts() == ("*.a.example.org", "b.example.org")
    change_hosts(remove=["b.example.org"])
    assert allowed_hosts() == ("*.a.example.org",)
    assert hosts_file().stat().st_mode & 0o777 == 0o600
    # Cells reach no file whose name starts with a dot, wherever it is.
    assert hosts_file().name.startswith(".")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"hosts": ["*"]}', '{"hosts": ["a; b"]}', '{"hosts": 1}', "[" * 9999],
)
def test_a_file_that_is_not_valid_allows_nothing(content: str) -> None:
    hosts_file().parent.mkdir()
    hosts_file().write_text(content)
    with pytest.raises(ConfigurationError, match="can't be used"):
        allowed_hosts()
    assert "https://" not in html.unescape(framed("<script>1</script>"))


def test_a_file_that_others_can_write_or_that_is_elsewhere_allows_nothing(tmp_path: Path) -> None:
    change_hosts(add=["a.example.org"])
    hosts_file().chmod(0o666)
    with pytest.raises(ConfigurationError, match="others can write it"):
        allowed_hosts()
    hosts_file().unlink()
    (tmp_path / "other.json").write_text('{"hosts": ["a.example.org"]}')
    hosts_file().symlink_to(tmp_path / "other.json")
    with pytest.raises(ConfigurationError, match="can't be used"):
        allowed_hosts()


def test_what_a_frame_says_to_type_works_when_it_is_typed() -> None:
    source = (
        "<script src='https://cdn.example.org/x.js'></script>"
        "<img src='https://{s}.tile.example.org/1/2/3.png'>"
    )
    shown = html.unescape(html.unescape(framed(source)))
    typed = re.sub(r"<[^>]*>", "", re.findall(r"<code>(jupyter agentbay .*?)</code>", shown)[0])
    assert typed == "jupyter agentbay allow cdn.example.org '*.tile.example.org'"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", typed],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # At once, in this process too.
    shown = html.unescape(html.unescape(framed(source)))
    assert "https://cdn.example.org" in shown.partition("script-src")[2].partition(";")[0]
    assert '<div id="note" hidden>' in shown
    removing = [*shlex.split("jupyter agentbay allow --remove"), "cdn.example.org"]
    subprocess.run(removing, env={**os.environ, "PATH": path}, check=True, timeout=120)
    assert allowed_hosts() == ("*.tile.example.org",)
