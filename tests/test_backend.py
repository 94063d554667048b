"""Where sessions live, and what is said about it. Nothing is contacted here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel.backend import open_backend
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import NoBackendError

KEY = "akm-00000000-test"


def test_a_key_means_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBAY_API_KEY", KEY)
    monkeypatch.setenv("AGENTBAY_REGION_ID", "ap-southeast-1")
    backend = open_backend(load_settings())
    assert not backend.is_local
    assert backend.client.endpoint.host == "agentbay.ap-southeast-1.aliyuncs.com"
    assert backend.notice == ""


def test_a_key_in_the_nearest_env_file_is_found_and_an_endpoint_there_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        f"AGENTBAY_API_KEY={KEY}\nAGENTBAY_ENDPOINT=evil.example\nAGENTBAY_BACKEND=local\n"
    )
    below = tmp_path / "notebooks"
    below.mkdir()
    monkeypatch.chdir(below)
    backend = open_backend(load_settings())
    assert backend.client.endpoint.host == "agentbay.cn-hangzhou.aliyuncs.com"
    assert not backend.is_local


def test_without_a_key_there_is_no_backend() -> None:
    with pytest.raises(NoBackendError, match=r"AGENTBAY_API_KEY.*AGENTBAY_BACKEND=local"):
        open_backend(load_settings())


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [("sandbox.example.org", "not an address of AgentBay's"), ("http://127.0.0.1:9", "THIS")],
)
def test_an_unknown_endpoint_is_named(
    endpoint: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTBAY_API_KEY", KEY)
    monkeypatch.setenv("AGENTBAY_ENDPOINT", endpoint)
    notice = open_backend(load_settings()).notice
    assert told in notice
    assert KEY not in notice


def test_kernel_and_magics_import_nothing_that_only_posix_has() -> None:
    posix_only = ["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"]
    code = (
        "import sys\n"
        "import ipykernel.kernelapp, IPython, psutil, requests, dotenv, tempfile\n"
        f"for name in {posix_only}: sys.modules[name] = None\n"
        "import agentbay_kernel.kernel, agentbay_kernel.magics, agentbay_kernel.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
