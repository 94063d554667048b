"""Where sessions live, and what is said about it. Only a local runtime is contacted here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import LocalRuntimeError, NoBackendError
from agentbay_kernel.service import CreateSessionParams
from agentbay_kernel.sessions.backend import open_backend

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
    ("name", "value"), [("AGENTBAY_LOCAL_ISOLATION", "required"), ("AGENTBAY_UNTRUSTED", "1")]
)
def test_a_local_runtime_that_may_not_start_says_why_and_what_helps(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = r"did not start\. Isolation is required but not available.*apt install bubblewrap"
    with pytest.raises(LocalRuntimeError, match=told):
        open_backend(load_settings())
    # It was chosen by name.
    monkeypatch.setenv("AGENTBAY_LOCAL_ISOLATION", "none")
    with open_backend(load_settings()) as place:
        assert place.isolation["level"] == "none"


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


def test_the_variables_of_a_place_lead_other_programs_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    with open_backend() as place:
        created = place.client.create(CreateSessionParams(labels={"agent": "one"})).session
        assert created is not None
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        with open_backend() as other:
            # It did not start a second runtime, and leaves the first one alone at its end.
            assert other.runtime is None
            assert other.isolation == place.isolation
            assert other.environment == place.environment
            (entry,) = other.client.list({"agent": "one"}).session_ids
            assert entry["sessionId"] == created.session_id
        assert created.code.run_code("6 * 7", "python").result == "42"
        assert place.alive
    assert not place.alive


def test_the_variables_of_the_service_hold_what_stood_in_an_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    region = "ap-southeast-1"
    (tmp_path / ".env").write_text(f"AGENTBAY_API_KEY={KEY}\nAGENTBAY_REGION_ID={region}\n")
    monkeypatch.chdir(tmp_path)
    with open_backend() as place:
        told = place.environment
    monkeypatch.chdir(tmp_path.parent)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with open_backend() as other:
        assert not other.is_local
        assert other.client.endpoint == place.client.endpoint
        assert other.client.api_key == KEY
        assert other.notice == ""


def test_kernel_and_magics_import_nothing_that_only_posix_has() -> None:
    posix_only = ["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"]
    code = (
        "import sys\n"
        "import ipykernel.kernelapp, IPython, psutil, requests, dotenv, tempfile\n"
        f"for name in {posix_only}: sys.modules[name] = None\n"
        "import agentbay_kernel.kernel.kernel, agentbay_kernel.magics.magics, agentbay_kernel.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
