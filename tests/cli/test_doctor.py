"""`jupyter agentbay doctor`, `sessions` and `demo`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.sessions import SessionManager
from tests.cli.test_main import call, run
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A local runtime that plays the service."""
    with running_local_runtime() as runtime:
        yield runtime


@pytest.fixture
def service(runtime: LocalRuntimeProcess) -> dict[str, str]:
    """Variables that lead there."""
    return {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}


def checks(text: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_all_is_well_with_a_service(service: dict[str, str]) -> None:
    done = call("doctor", "--json", **service)
    assert done.returncode == 0, done.stdout
    found = checks(done.stdout)
    assert found["key"]["state"] == found["account"]["state"] == "OK"
    assert found["endpoint"]["state"] == "WARN"
    assert found["kernels"]["state"] == "OK"
    assert service["AGENTBAY_API_KEY"] not in done.stdout + done.stderr


def test_what_is_missing_is_told_with_what_to_do(runtime: LocalRuntimeProcess) -> None:
    done = call("doctor", AGENTBAY_ENDPOINT=runtime.endpoint)
    assert done.returncode == 1
    assert "FAIL key: missing\n     Fix: set AGENTBAY_API_KEY" in done.stdout


def test_a_key_that_is_refused_is_told(runtime: LocalRuntimeProcess) -> None:
    done = call("doctor", AGENTBAY_ENDPOINT=runtime.endpoint, AGENTBAY_API_KEY="akm-wrong-key")
    assert done.returncode == 1
    assert "FAIL account:" in done.stdout
    assert "akm-wrong-key" not in done.stdout + done.stderr


def test_a_service_that_is_not_reached_is_told() -> None:
    done = call("doctor", AGENTBAY_ENDPOINT="http://127.0.0.1:9", AGENTBAY_API_KEY="akm-x")
    assert done.returncode == 1
    assert "FAIL connection: 127.0.0.1 can't be reached" in done.stdout


@pytest.mark.slow
def test_a_certificate_that_is_not_accepted_is_told() -> None:
    with running_local_runtime("--tls") as runtime:
        service = {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}
        done = call("doctor", **service)
        assert done.returncode == 1
        assert "FAIL TLS:" in done.stdout
        ca_file = runtime.announcement["ca_file"]
        done = call("doctor", **service, REQUESTS_CA_BUNDLE=ca_file, SSL_CERT_FILE=ca_file)
        assert "OK   TLS:" in done.stdout


def test_wrong_settings_are_told() -> None:
    done = call("doctor", AGENTBAY_EXECUTION="magic")
    assert done.returncode == 1
    assert "FAIL settings: invalid" in done.stdout


def test_isolation_that_is_required_and_missing_must_be_fixed(tmp_path: Path) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    bwrap.chmod(0o755)
    local = {"AGENTBAY_BACKEND": "local", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = call("doctor", "--json", **local, AGENTBAY_LOCAL_ISOLATION="required")
    assert done.returncode == 1
    found = checks(done.stdout)["isolation"]
    assert found["state"] == "FAIL"
    assert "No permissions" in found["found"]
    assert "a container must be started so" in found["fix"]
    done = call("doctor", "--json", **local)
    assert done.returncode == 0
    assert checks(done.stdout)["isolation"]["state"] == "WARN"


def test_the_probe_finds_out_and_keeps_secrets(service: dict[str, str], tmp_path: Path) -> None:
    report = tmp_path / "probe.json"
    done = call("doctor", "--probe", "--report", str(report), **service)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["state"]["python"] is True
    assert found["execution"]["python"]["kind"] == "bridged"
    assert found["interrupt"]["ended_as"] == ["KeyboardInterrupt"]
    assert found["interrupt"]["state_kept"] is True
    assert found["errors"]["python"]["read_as"]["ename"] == "ZeroDivisionError"
    assert found["limits"]["timeout_success"] is False
    assert found["places"]["python"]
    assert found["places"]["tmp_shared_with_shell"] is True
    assert found["places"]["tmp_shared_with_file_tools"] is True
    for way in ("sent_bytes", "answered_bytes"):
        assert found["sizes"][way]["most_that_went"] == 5_000_000, found["sizes"]
    assert found["token"]["status"] in (200, 401, 403), found["token"]
    assert "long" not in found
    for secret in (service["AGENTBAY_API_KEY"], service["AGENTBAY_ENDPOINT"], "session-"):
        assert secret not in report.read_text()
    # Nothing is left of it.
    assert json.loads(call("sessions", "list", "--all", "--json", **service).stdout) == {
        "sessions": []
    }


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_probe_finds_out_how_much_a_request_carries_and_how_long_it_may_take(
    tmp_path: Path,
) -> None:
    profile = {"ws_url": False, "link_url": False, "message_limit": 64512}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    with running_local_runtime("--profile", str(tmp_path / "profile.json")) as runtime:
        service = {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}
        report = tmp_path / "probe.json"
        done = call("doctor", "--probe", "--long", "--report", str(report), **service)
        assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["sizes"]["sent_bytes"]["most_that_went"] == 50_000, found["sizes"]
    assert found["sizes"]["answered_bytes"]["most_that_went"] == 50_000
    assert found["token"] == {"offered": False}
    assert found["long"]["shell_of_65_s"]["went"] != "to its end"
    assert found["long"]["run_code_of_65_s"]["went"] != "to its end"


def test_sessions_are_listed_and_deleted(
    service: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What other tests wrote down may still be ending.
    service = {**service, "AGENTBAY_STATE_DIR": str(tmp_path)}
    assert "No session of yours" in call("sessions", "list", **service).stdout
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    manager = SessionManager(load_settings())
    try:
        session_id = manager.open("named").session.session_id
        (row,) = json.loads(call("sessions", "list", "--json", **service).stdout)["sessions"]
        assert (row["id"], row["name"]) == (session_id, "named")
        assert session_id in call("sessions", "list", "--all", **service).stdout
        # It is in use, so another process's prune leaves it.
        assert "no session is left behind" in run("sessions", "prune", **service).stdout
        done = call("sessions", "delete", session_id, **service)
        assert done.stdout == f"Deleted {session_id}\n"
        assert json.loads(call("sessions", "list", "--all", "--json", **service).stdout) == {
            "sessions": []
        }
    finally:
        manager.close()
    done = call("sessions", "delete", "session-nowhere", **service)
    assert done.returncode == 1
    assert "Not deleted: session-nowhere" in done.stderr
    assert call("sessions", "delete", **service).returncode == 2
    assert call("sessions", **service).returncode == 2


def test_the_demo_says_where_it_would_run() -> None:
    done = call("demo")
    assert done.returncode == 1
    assert "jupyter agentbay demo --local" in done.stderr


@pytest.mark.slow
def test_the_demo_runs() -> None:
    done = run("demo", "--local")
    assert done.returncode == 0, done.stderr
    assert "local runtime on this machine" in done.stdout
    assert "[ 1, 4, 9 ]" in done.stdout


@pytest.mark.parametrize("command", ["doctor", "run", "demo", "sessions", "install", "uninstall"])
def test_every_command_has_help(command: str) -> None:
    done = call(command, "--help")
    assert done.returncode == 0
    assert "usage: jupyter agentbay" in done.stdout
    assert command.endswith("install") or f"  jupyter agentbay {command}" in done.stdout
