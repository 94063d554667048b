"""README: what it tells a newcomer to type is right, and does what it says."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from agentbay_kernel.cli import main
from agentbay_kernel.config import AgentBaySettings

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SERVICE_VARIABLES = {"AGENTBAY_API_KEY", "AGENTBAY_REGION_ID", "AGENTBAY_ENDPOINT"}


def first_commands() -> list[str]:
    """The lines of the README's first block of commands, without their comments."""
    block = re.search(r"^```sh\n(.*?)^```", README, re.S | re.M)
    assert block is not None
    return [line.split(" #")[0].strip() for line in block[1].splitlines()]


def test_variables_are_settings() -> None:
    settings = {f"AGENTBAY_{name.upper()}" for name in AgentBaySettings.class_own_traits()}
    named = set(re.findall(r"AGENTBAY_[A-Z_]+", README))
    assert "AGENTBAY_BACKEND" in named
    assert named <= settings | SERVICE_VARIABLES


def test_defaults_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| `AGENTBAY_(\w+)` \|.*\| (\S*) \|$", README, re.M)
    traits = AgentBaySettings.class_own_traits(config=True)
    told = {name.lower(): default.strip("`") for name, default in rows if name.lower() in traits}
    assert len(told) > 4
    assert told == {name: str(traits[name].default_value).lower() for name in told}


def test_commands_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
    commands = re.findall(r"jupyter agentbay ([a-z]+(?: list)?)", README)
    assert commands
    for command in commands:
        assert main([*command.split(), "--help"]) == 0, command
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_newcomer_who_follows_it(tmp_path: Path) -> None:
    *commands, lab = first_commands()
    assert lab == "jupyter lab"
    subprocess.run(["git", "clone", "-q", CHECKOUT, "agentbay-kernel"], cwd=tmp_path, check=True)
    (tmp_path / "home").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        # What a newcomer's pip would ask, on a machine of its own.
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }
    script = "\n".join(["set -e", *commands, "date +%s > first-cell"])
    began = time.time()
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This runs in a sandbox" in done.stdout
    seconds = int((tmp_path / "first-cell").read_text()) - began
    print(f"The first sandboxed cell was there after {seconds:.0f} s, downloads included.")

    # A test has no window, and may be root.
    command = f". sandboxed/bin/activate; exec {lab} --no-browser --allow-root --port {port}"
    command += " --ServerApp.port_retries=0 --IdentityProvider.token=t"
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        assert {"agentbay-python", "agentbay-javascript"} <= set(_kernels(port))
    finally:
        server.terminate()
        server.wait(30)


def _kernels(port: int) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while True:
        try:
            address = f"http://127.0.0.1:{port}/api/kernelspecs?token=t"
            with urllib.request.urlopen(address, timeout=10) as answer:
                kernels: dict[str, object] = json.load(answer)["kernelspecs"]
                return kernels
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.5)
