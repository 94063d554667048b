"""TLS, proxies and environment, by real connections."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from agentbay_kernel.errors import ConfigurationError, ServiceUnreachableError
from agentbay_kernel.service import AgentBay
from agentbay_kernel.service.transport import Transport
from tests.service.malformed import MalformedServer

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[MalformedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with MalformedServer(link=True, tls=context) as server:
        yield server


def can_create(server: MalformedServer) -> bool:
    with AgentBay(server.api_key, endpoint=server.endpoint) as client:
        session = client.create().session
        assert session is not None
        return session.code.run_code("1", "python").result == "1"


def test_a_certificate_that_is_not_trusted_is_refused(tls_server: MalformedServer) -> None:
    with pytest.raises(ServiceUnreachableError) as raised:
        can_create(tls_server)
    for word in ("certificate", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        assert word in str(raised.value)
    assert tls_server.counts == {}


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_authority_can_be_named(
    tls_server: MalformedServer,
    authority_file: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whatever the other variables name is trusted as well.
    for name in VARIABLES:
        monkeypatch.setenv(name, ssl.get_default_verify_paths().openssl_cafile)
    other = trustme.CA()
    other_file = Path(authority_file).with_name("other.pem")
    other.cert_pem.write_to_path(str(other_file))
    for name in VARIABLES:
        monkeypatch.setenv(name, authority_file if name == variable else str(other_file))
    assert can_create(tls_server)


def test_another_hosts_certificate_is_refused(
    authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("service.example").configure_cert(context)
    with MalformedServer(tls=context) as server:
        with pytest.raises(ServiceUnreachableError, match="certificate"):
            can_create(server)
        assert server.counts == {}


def test_a_certificate_file_that_is_missing_is_named(
    tls_server: MalformedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        can_create(tls_server)


def test_plain_http_at_a_tls_port_was_not_sent() -> None:
    with (
        MalformedServer() as server,
        Transport(5) as transport,
        pytest.raises(ServiceUnreachableError, match="TLS"),
    ):
        transport.post(f"https://127.0.0.1:{server.port}/", b"", {}, answer_within_s=5)


def test_loopback_never_goes_through_a_proxy(
    server: MalformedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert can_create(server)


class Proxy:
    """Takes one connection, notes its first line, refuses."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.lines: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.lines.append(connection.recv(65536).decode().splitlines()[0])
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


def test_a_proxy_is_used_and_its_refusal_is_nothing_sent(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    with (
        Transport(5) as transport,
        pytest.raises(ServiceUnreachableError, match="Nothing was sent"),
    ):
        transport.post("https://service.invalid/", b"", {}, answer_within_s=5)
    assert [line.rsplit(" ", 1)[0] for line in proxy.lines] == ["CONNECT service.invalid:443"]


def test_no_proxy_is_honoured(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setenv("NO_PROXY", "service.invalid")
    with Transport(5) as transport, pytest.raises(ServiceUnreachableError):
        transport.post("https://service.invalid/", b"", {}, answer_within_s=5)
    assert proxy.lines == []


def test_netrc_and_cookies_are_not_sent(
    server: MalformedServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secretword\n")
    netrc.chmod(0o600)
    try:
        assert can_create(server)
    finally:
        netrc.unlink()
    assert all("authorization" not in names for names in server.header_names)
