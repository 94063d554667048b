"""A JupyterHub with two users on this machine: both in sandboxes, and each with a key."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests.runtime import LocalRuntimeProcess, running_local_runtime

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
CONFIG = Path(__file__).with_name("hub_config.py")
WAIT_S = 120
# What code finds of keys: in its own variables, in those of all processes that it sees, in files.
FIND_KEYS = """\
import glob, os
open("/tmp/planted", "w").write("planted")
found = [os.environ.get("AGENTBAY_API_KEY", "")]
for path in [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/tmp/**", recursive=True),
             *glob.glob("/home/**", recursive=True), *glob.glob("/root/**", recursive=True)]:
    try:
        if os.path.isfile(path):
            found.append(open(path, errors="replace").read(100_000))
    except OSError:
        pass
print([key for key in KEYS if any(key in text for text in found)])"""


@dataclass(frozen=True)
class UserServer:
    """The Jupyter server of one user of the hub."""

    url: str
    token: str

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask its REST API."""
        headers = {"Authorization": f"token {self.token}"}
        return requests.request(
            method, f"{self.url}api/{path}", headers=headers, timeout=WAIT_S, **options
        )

    def run(self, kernel: str, code: str) -> str:
        """Run a cell in a kernel; returns what it printed, and its error."""
        address = f"{self.url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels"
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": ""}
        header |= {"session": uuid.uuid4().hex, "version": "5.4", "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        content |= {"user_expressions": {}, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        channel = websocket.create_connection(
            address, header={"Authorization": f"token {self.token}"}, timeout=WAIT_S
        )
        with contextlib.closing(channel):
            channel.send(json.dumps({**message, "channel": "shell", "buffers": []}))
            said = ""
            while True:
                got = json.loads(channel.recv())
                if got["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                content = got["content"]
                if got["msg_type"] == "stream":
                    said += content["text"]
                elif got["msg_type"] in ("display_data", "execute_result"):
                    said += content["data"].get("text/plain", "") + "\n"
                elif got["msg_type"] == "error":
                    said += f"{content['ename']}: {content['evalue']}"
                elif got["msg_type"] == "status" and content["execution_state"] == "idle":
                    return said


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def accounts() -> Iterator[dict[str, LocalRuntimeProcess]]:
    """A local runtime for each user, which plays the service with that user's account."""
    with running_local_runtime() as ana, running_local_runtime() as ben:
        yield {"ana": ana, "ben": ben}


@pytest.fixture(scope="module")
def servers(
    home: Path, accounts: dict[str, LocalRuntimeProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, UserServer]]:
    """A hub, and the servers of its users."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "policy").mkdir()
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(folder / "policy")}
    turn_on = [sys.executable, "-m", "agentbay_kernel", "policy", "on"]
    subprocess.run(turn_on, env=environment, check=True, timeout=WAIT_S)
    token, ports = secrets.token_hex(16), free_ports(2)
    given = {
        "routes": str(folder / "routes.json"),
        "policy": str(folder / "policy"),
        "homes": str(folder),
        "token": token,
        "ports": ports,
        "users": {
            name: {"key": one.api_key, "endpoint": one.endpoint} for name, one in accounts.items()
        },
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = folder / "hub.log"
    with log.open("wb") as sink:
        hub = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
            cwd=folder,
            env={**os.environ, "PATH": path, "HUB_TEST": json.dumps(given)},
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    api = f"http://127.0.0.1:{ports[0]}/hub/api"
    with requests.Session() as asking:
        asking.headers["Authorization"] = f"token {token}"
        try:
            _wait_for(api, hub, log)
            yield {name: _spawn(asking, api, name, folder, log) for name in accounts}
        finally:
            # It ends the servers of its users, and they end their kernels.
            hub.send_signal(signal.SIGTERM)
            try:
                hub.wait(WAIT_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(hub.pid, signal.SIGKILL)


def _wait_for(api: str, hub: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert hub.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{api}/", timeout=WAIT_S).ok:
                return
        time.sleep(0.2)


def _spawn(asking: requests.Session, api: str, name: str, folder: Path, log: Path) -> UserServer:
    made = asking.post(f"{api}/users/{name}/server", timeout=WAIT_S)
    assert made.status_code in (201, 202), made.text
    # Events until it is ready.
    progress = f"{api}/users/{name}/server/progress"
    with asking.get(progress, stream=True, timeout=WAIT_S) as events:
        told = [json.loads(it[5:]) for it in events.iter_lines() if it.startswith(b"data:")]
    assert told[-1].get("ready"), f"{told}\n{log.read_text()[-3000:]}"
    answer = asking.post(f"{api}/users/{name}/tokens", json={}, timeout=WAIT_S)
    target = json.loads((folder / "routes.json").read_text())[f"/user/{name}/"]
    return UserServer(f"{target}/user/{name}/", answer.json()["token"])


def test_two_users_of_a_hub_are_in_sandboxes_and_see_nothing_of_each_other(
    servers: dict[str, UserServer], accounts: dict[str, LocalRuntimeProcess]
) -> None:
    keys = [one.api_key for one in accounts.values()]
    kernels = {}
    for name, server in servers.items():
        made = server.request("POST", "kernels", json={"name": "python3"})
        assert made.status_code == 201, made.text
        kernels[name] = made.json()["id"]
    hosts = {}
    for name, server in servers.items():
        code = "import socket\nprint(socket.gethostname())\nopen('mine.txt', 'w').close()"
        hosts[name] = server.run(kernels[name], code).strip()
        assert hosts[name] not in ("", socket.gethostname())
        wanted = ["planted", *keys]
        assert server.run(kernels[name], f"KEYS = {wanted}\n{FIND_KEYS}").strip() == "['planted']"
    for name, server in servers.items():
        # Neither this machine's list of sessions nor the account has the other's.
        for listing in ("%agentbay sessions", "%agentbay sessions --all"):
            listed = server.run(kernels[name], listing)
            assert listed.count("of this notebook") == 1, listed
            (other,) = set(accounts) - {name}
            sessions = _sessions(accounts[other])
            assert sessions and not any(one in listed for one in sessions)
            assert all(one in listed for one in _sessions(accounts[name]))
        files = server.run(kernels[name], "import os\nprint(sorted(os.listdir()))")
        assert files.strip() == "['mine.txt']"
    # The other's server is the hub's to guard.
    foreign = UserServer(servers["ben"].url, servers["ana"].token)
    assert foreign.request("GET", "kernels").status_code == 403


def _sessions(account: LocalRuntimeProcess) -> list[str]:
    from agentbay_kernel.service import AgentBay

    client = AgentBay(account.api_key, endpoint=account.endpoint)
    return [row["sessionId"] for row in client.list_all()]
