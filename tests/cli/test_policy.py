"""`jupyter agentbay policy`: what a real Jupyter server starts and offers under it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from agentbay_kernel.cli.doctor import FAIL, OK, Check, _policy
from agentbay_kernel.cli.main import main

TOKEN = "token-of-a-test"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with kernelspecs of his own; what they start leaves a mark."""
    mark = tmp_path / "mark"
    for name, more in (
        ("python3", {"language": "python"}),
        ("mine", {"language": "python"}),
        ("ir", {"language": "R"}),
        (
            "escaping",
            {
                "language": "python",
                "metadata": {"kernel_provisioner": {"provisioner_name": "local-provisioner"}},
            },
        ),
    ):
        folder = tmp_path / "data" / "kernels" / name
        folder.mkdir(parents=True)
        code = f"open({str(mark)!r}, 'a').write({name!r})"
        spec = {"argv": [sys.executable, "-c", code], "display_name": name, **more}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("AGENTBAY_BACKEND", "local")
    return tmp_path


def agentbay(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`jupyter agentbay`, without the seconds that a process takes to start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def running_server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Jupyter server of that user: the address of its REST calls, its process."""
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={home}"]
    runtime = home / "runtime"
    env = {**os.environ, "JUPYTER_TOKEN": TOKEN, "JUPYTER_RUNTIME_DIR": str(runtime)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        ends_at = time.monotonic() + 60
        while not (found := list(runtime.glob("jpserver-*.json"))):
            assert time.monotonic() < ends_at and process.poll() is None
            time.sleep(0.1)
        while not (text := found[0].read_text()).strip().endswith("}"):
            assert time.monotonic() < ends_at
        url: str = json.loads(text)["url"]
        # The file is written before it listens.
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}api", timeout=60)
                break
            assert time.monotonic() < ends_at
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def started(server: tuple[str, psutil.Process], kernel: str) -> tuple[int, list[list[str]]]:
    """The status of the request that starts a kernel, and what the server then runs."""
    url, process = server
    headers = {"Authorization": f"token {TOKEN}"}
    answer = requests.post(f"{url}api/kernels", json={"name": kernel}, headers=headers, timeout=60)
    running = []
    for child in process.children():
        # One that has ended has none.
        with contextlib.suppress(psutil.Error):
            running.append(child.cmdline())
    # Extensions of the server start programs too.
    running = [it for it in running if any("kernel-" in word for word in it)]
    if answer.ok:
        requests.delete(f"{url}api/kernels/{answer.json()['id']}", headers=headers, timeout=60)
    return answer.status_code, running


def offered(server: tuple[str, psutil.Process]) -> set[str]:
    """The kernels in the launcher."""
    headers = {"Authorization": f"token {TOKEN}"}
    found: dict[str, Any] = requests.get(
        f"{server[0]}api/kernelspecs", headers=headers, timeout=60
    ).json()
    return set(found["kernelspecs"])


def test_a_server_starts_only_sandboxed_and_trusted_kernels(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = agentbay("policy", "show").stdout
    # What it would do can be seen before.
    assert "The policy is off" in off and "if it were in force" in off and "ir  " in off
    (home / "config").mkdir()
    config = home / "config" / "jupyter_server_config.json"
    config.write_text('{"ServerApp": {"autoreload": false}, "KernelSpecManager": {"x": 1}}')
    done = agentbay("policy", "on", "--trust", "mine")
    assert done.returncode == 0, done.stderr
    assert {tuple(line.split()) for line in done.stdout.splitlines() if line.startswith("  ")} == {
        ("agentbay-javascript", "sandboxed"),
        ("agentbay-python", "sandboxed"),
        ("escaping", "sandboxed"),
        ("ir", "refused"),
        ("mine", "trusted"),
        ("python3", "sandboxed"),
    }
    with running_server(home) as server:
        ours = {"agentbay-javascript", "agentbay-python"}
        assert offered(server) == {*ours, "escaping", "mine", "python3"}
        for kernel in ("python3", "escaping"):
            status, running = started(server, kernel)
            assert status == 201
            assert running and all("agentbay_kernel" in command for command in running), running
        assert started(server, "ir")[0] >= 400
        assert not (home / "mark").exists()
        assert started(server, "mine")[0] in (201, 500)  # It ends at once.
        ends_at = time.monotonic() + 30
        while not (home / "mark").exists():
            assert time.monotonic() < ends_at
            time.sleep(0.1)
        assert (home / "mark").read_text().startswith("mine")
    assert policy_check().state == OK
    # Who starts kernels without a server has the variable alone.
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "agentbay-provisioner")
    check = policy_check()
    assert check.state == FAIL and "escaping" in check.found
    monkeypatch.delenv("JUPYTER_DEFAULT_PROVISIONER_NAME")
    # What stood there stays.
    assert agentbay("policy", "off").returncode == 0
    assert json.loads(config.read_text()) == {
        "ServerApp": {"autoreload": False},
        "KernelSpecManager": {"x": 1},
    }
    assert "off" in policy_check().found


def policy_check() -> Check:
    """What doctor says of the policy; all that it examines takes long."""
    return _policy()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "jupyter_server_config.py",
            "from jupyter_client.kernelspec import KernelSpecManager\n"
            "c.ServerApp.kernel_spec_manager_class = KernelSpecManager\n",
        ),
        (
            "jupyter_server_config.json",
            '{"ServerApp": {"kernel_spec_manager_class": '
            '"jupyter_client.kernelspec.KernelSpecManager"}}',
        ),
    ],
)
def test_a_configuration_that_wins_over_the_policys_is_noticed(
    home: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    # Of these two directories, the second wins, as a user's own does over the system's.
    system, own = home / "config", home / "own"
    assert agentbay("policy", "on").returncode == 0
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(own))
    done = agentbay("policy", "show")
    assert f"The policy is on in {system}" in done.stdout and "not in force" not in done.stdout
    assert policy_check().state == OK
    own.mkdir()
    (own / file).write_text(text)
    done = agentbay("policy", "show")
    assert "chooses jupyter_client.kernelspec.KernelSpecManager" in done.stdout
    check = policy_check()
    assert check.state == FAIL and "KernelSpecManager" in check.found


def test_kernels_that_a_users_own_configuration_trusts_are_shown(home: Path) -> None:
    assert agentbay("policy", "on").returncode == 0
    config = home / "config" / "jupyter_server_config.py"
    config.write_text("c.SandboxedKernelSpecManager.trusted_kernels = ['ir']\n")
    shown = agentbay("policy", "show").stdout
    assert ("ir", "trusted") in {tuple(line.split()) for line in shown.splitlines()}


@pytest.mark.usefixtures("home")
def test_what_is_wrong_is_said_and_nothing_is_changed(home: Path) -> None:
    done = agentbay("policy", "on", "--trust", "none-such")
    assert done.returncode == 1
    assert "There is no kernel none-such" in done.stderr
    (home / "config").mkdir()
    config = home / "config" / "jupyter_server_config.json"
    config.write_text("{not json")
    for what in ("on", "off", "show"):
        done = agentbay("policy", what)
        assert done.returncode == 1
        assert "Fix or remove it" in done.stderr
    assert config.read_text() == "{not json"
