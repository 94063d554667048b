"""README: what it tells a newcomer to type is right, and does what it says."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from agentbay_kernel.cli import main
from agentbay_kernel.config import AgentBaySettings
from tests.browser.lab import LabServer, chromium, find_chromium, opened_window
from tests.kernels import running_kernel

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SERVICE_VARIABLES = {"AGENTBAY_API_KEY", "AGENTBAY_REGION_ID", "AGENTBAY_ENDPOINT"}


MOST_WORDS = 450
LARGEST_FILM_BYTES = 2_000_000
LARGEST_PICTURE_BYTES = 250_000


def blocks(language: str) -> list[str]:
    """README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


def first_commands() -> list[str]:
    """The lines of the README's first block of commands, without their comments."""
    return [line.split(" #")[0].strip() for line in blocks("sh")[0].splitlines()]


def test_it_is_short() -> None:
    read = re.sub(r"<[^>]*>|\]\([^)]*\)|^[|\s-]+$", " ", README, flags=re.M)
    words = re.findall(r"\S*\w\S*", read)
    assert len(words) <= MOST_WORDS, len(words)
    assert "bridged" not in words and "direct" not in words
    assert len(first_commands()) == 3
    assert sum(len(block.splitlines()) for block in blocks("python")) == 5
    assert len(re.findall(r"^- ", README, re.M)) == 6


def test_it_has_three_pictures_light_and_dark() -> None:
    shown = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(shown) == len(set(shown)) == 6
    assert {name.replace("-dark", "-light") for name in shown} == set(shown[1::2])
    for name in shown:
        most = LARGEST_FILM_BYTES if name.endswith(".gif") else LARGEST_PICTURE_BYTES
        assert 10_000 < (CHECKOUT / name).stat().st_size <= most, name
    assert len(re.findall(r'\balt="[^"]{30,}"', README)) == 3
    with Image.open(CHECKOUT / shown[1]) as film:
        assert film.n_frames >= 8  # type: ignore[attr-defined]
        milliseconds = 0
        for number in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(number)
            milliseconds += film.info["duration"]
    assert milliseconds == 8000


def test_variables_are_settings() -> None:
    settings = {f"AGENTBAY_{name.upper()}" for name in AgentBaySettings.class_own_traits()}
    named = set(re.findall(r"AGENTBAY_[A-Z_]+", README))
    assert "AGENTBAY_BACKEND" in named
    assert named <= settings | SERVICE_VARIABLES


def test_the_example_runs(tmp_path: Path) -> None:
    with running_kernel("python3", {"AGENTBAY_BACKEND": "local"}, tmp_path) as kernel:
        for code in blocks("python"):
            ran = kernel.run(code)
            assert ran.reply["status"] == "ok", (code, ran)
        (result,) = ran.of_type("execute_result")
        assert result["data"]["text/plain"] == "[42, 1024]"


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
@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_a_newcomer_who_follows_it(tmp_path: Path) -> None:
    *commands, lab = first_commands()
    assert lab == "AGENTBAY_BACKEND=local jupyter lab"
    chromium_path = find_chromium()
    assert chromium_path is not None
    home = tmp_path / "home"
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        # What a newcomer's pip would ask, on a machine of its own.
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }
    began = time.monotonic()
    # They put in the address of the page that they read; here it is this checkout's.
    script = "\n".join(["set -e", *commands]).replace("REPOSITORY", str(CHECKOUT))
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    installed = time.monotonic()

    # A test has no window, and may be root.
    command = f". sandboxed/bin/activate; {lab} --no-browser --allow-root --port {port}"
    command += " --ServerApp.port_retries=0 --IdentityProvider.token=t"
    with (tmp_path / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        server = LabServer(f"http://127.0.0.1:{port}", "t", tmp_path)
        _wait_until_up(server)
        with (
            chromium(chromium_path) as browser,
            opened_window(browser, server, "first") as notebook,
        ):
            notebook.open_launcher()
            notebook.open_notebook("AgentBay Python")
            notebook.run(0, "print('Hello from', 6 * 7)")
            expect(notebook.outputs(0).last).to_contain_text("Hello from 42")
            seconds = time.monotonic() - began
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    print(f"First output after {seconds:.0f} s, of which {installed - began:.0f} s to install.")


def _wait_until_up(server: LabServer) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            server.get("status")
            return
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.5)
