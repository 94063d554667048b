"""Where requests go and with which key: arguments, environment, `.env`, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.service import AgentBay, find_credentials
from agentbay_kernel.service.endpoint import parse_endpoint

KEY = "akm-00000000-key"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        (None, "agentbay.cn-hangzhou.aliyuncs.com"),
        ("cn-hangzhou", "agentbay.cn-hangzhou.aliyuncs.com"),
        ("ap-southeast-1", "agentbay.ap-southeast-1.aliyuncs.com"),
        ("US-east-1", "agentbay.us-east-1.aliyuncs.com"),
        ("pre-cn-hangzhou", "agentbay-pre.cn-hangzhou.aliyuncs.com"),
        ("pre-ap-southeast-1", "wuyingai-pre.ap-southeast-1.aliyuncs.com"),
    ],
)
def test_a_region_names_a_host(region: str | None, host: str) -> None:
    endpoint = parse_endpoint(None, region)
    assert (endpoint.url, endpoint.host) == (f"https://{host}", host)
    assert endpoint.is_known and not endpoint.is_loopback
    assert not endpoint.region_id.startswith("pre-")


@pytest.mark.parametrize("region", ["evil.example/", "oss-cn-hangzhou", "x@evil", "a b", "cn"])
def test_a_region_cannot_choose_a_host(region: str) -> None:
    with pytest.raises(ConfigurationError, match="AGENTBAY_REGION_ID"):
        parse_endpoint(None, region)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("service.example", "https://service.example"),
        ("service.example:8443", "https://service.example:8443"),
        ("https://service.example/prefix/", "https://service.example/prefix"),
        ("http://127.0.0.1:18080", "http://127.0.0.1:18080"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:18080/", "http://[::1]:18080"),
        ("127.0.0.1:18080", "https://127.0.0.1:18080"),
    ],
)
def test_an_address_is_taken(address: str, url: str) -> None:
    endpoint = parse_endpoint(address)
    assert endpoint.url == url
    assert not endpoint.is_known
    assert endpoint.is_loopback is ("example" not in url)


@pytest.mark.parametrize(
    "address",
    [
        "http://service.example",
        "http://127.0.0.1.evil.example",
        "ftp://service.example",
        "https://",
        "https://user:secretword@service.example",
        "https://service.example?x=1",
        "https://service.example:port",
        "https://two words",
    ],
)
def test_an_unsafe_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_endpoint(address)
    assert "secretword" not in str(raised.value)


@pytest.mark.parametrize(
    "host",
    ["wuyingai.cn-shanghai.aliyuncs.com", "https://agentbay.eu-central-1.aliyuncs.com"],
)
def test_known_hosts_are_known(host: str) -> None:
    assert parse_endpoint(host).is_known


@pytest.mark.parametrize(
    "host",
    [
        "agentbay.cn-hangzhou.aliyuncs.com.evil.example",
        "agentbay.oss-cn-hangzhou.aliyuncs.com",
        "xagentbay.cn-hangzhou.aliyuncs.com",
        "agentbay.cn-hangzhou.aliyuncs.com:8443",
    ],
)
def test_hosts_that_look_known_are_not(host: str) -> None:
    assert not parse_endpoint(host).is_known


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_API_KEY", "akm-environment")
    monkeypatch.setenv("AGENTBAY_REGION_ID", "us-east-1")
    found = find_credentials()
    assert (found.api_key, found.region_id) == ("akm-environment", "us-east-1")
    found = find_credentials(KEY, "ap-southeast-1")
    assert (found.api_key, found.region_id) == (KEY, "ap-southeast-1")
    monkeypatch.setenv("AGENTBAY_ENDPOINT", "http://127.0.0.1:1")
    assert find_credentials(KEY, "ap-southeast-1").endpoint.url == "http://127.0.0.1:1"


def test_only_key_and_region_are_read_from_the_nearest_env_file(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / ".env").write_text("AGENTBAY_API_KEY=akm-far\n")
    (tmp_path / "a" / ".env").write_text(
        'AGENTBAY_API_KEY="akm-near$HOME"\nAGENTBAY_REGION_ID=us-east-1\n'
        "AGENTBAY_ENDPOINT=https://evil.example\nAGENTBAY_TIMEOUT_MS=1\nHTTPS_PROXY=http://evil\n"
    )
    found = find_credentials(start_folder=folder)
    assert found.api_key == "akm-near$HOME"
    assert found.endpoint.url == "https://agentbay.us-east-1.aliyuncs.com"


def test_the_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("AGENTBAY_API_KEY=akm-file\n")
    monkeypatch.setenv("AGENTBAY_API_KEY", "akm-environment")
    assert find_credentials(start_folder=tmp_path).api_key == "akm-environment"


def test_an_env_file_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("AGENTBAY_API_KEY=akm-named\n")
    assert find_credentials(env_file=path).api_key == "akm-named"
    with pytest.raises(ConfigurationError, match="missing"):
        find_credentials(env_file=tmp_path / "missing")


def test_no_key_is_no_error_until_a_client_is_made(tmp_path: Path) -> None:
    assert find_credentials(start_folder=tmp_path).api_key is None
    with pytest.raises(ConfigurationError) as raised:
        AgentBay()
    for way_out in ("AGENTBAY_API_KEY", ".env", "AGENTBAY_BACKEND=local"):
        assert way_out in str(raised.value)


@pytest.mark.parametrize("key", ["akm\nx", "akm-\N{SNOWMAN}"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        AgentBay(key)
    assert key not in str(raised.value)


def test_no_repr_shows_the_key() -> None:
    with AgentBay(KEY) as client:
        assert KEY not in repr(client) + repr(client.endpoint) + repr(find_credentials(KEY))
