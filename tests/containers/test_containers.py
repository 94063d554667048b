"""The Dockerfile and binder/: they hold together, and what they make starts JupyterLab."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agentbay_kernel.config import load_settings
from tests.containers.image import CHECKOUT, Image, instructions

BINDER = CHECKOUT / "binder"
SCRIPTS = ("postBuild", "start")
# What `make constraints` covers.
EXTRAS = ("demo", "local", "charts", "tls")


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run(
        [hadolint, "--no-color", CHECKOUT / "Dockerfile"], capture_output=True, text=True
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_dockerfile_uses_the_same_scripts() -> None:
    told = dict(instructions(CHECKOUT / "Dockerfile"))
    assert json.loads(told["ENTRYPOINT"]) == ["/opt/agentbay-kernel/binder/start"]
    runs = [text for name, text in instructions(CHECKOUT / "Dockerfile") if name == "RUN"]
    assert "binder/postBuild" in runs
    (packages,) = re.findall(r"--no-install-recommends ([\w. -]+?) +&&", " ".join(runs))
    assert packages.split() == (BINDER / "apt.txt").read_text().split()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(BINDER / name, os.X_OK)
    subprocess.run(["bash", "-n", BINDER / name], check=True)


def test_the_constraints_are_what_the_package_needs() -> None:
    pins = {}
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            # A name and a version: no address, no option.
            name, version = re.fullmatch(r"([a-z0-9-]+)==([0-9][\w.+!]*)", line).groups()  # type: ignore[union-attr]
            pins[name] = version
    assert list(pins) == sorted(pins)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(it for name in EXTRAS for it in extras[name])]
    for needed in map(Requirement, lines):
        if needed.name != "agentbay-kernel":
            pin = pins.get(canonicalize_name(needed.name))
            assert pin is not None and needed.specifier.contains(pin, prereleases=True), needed


def test_the_constraints_cover_what_is_installed() -> None:
    written = subprocess.run(
        [sys.executable, BINDER / "constraints.py"], capture_output=True, text=True, check=True
    )
    names = {
        line.partition("==")[0]
        for text in (written.stdout, (CHECKOUT / "constraints.txt").read_text())
        for line in text.splitlines()
        if not line.startswith("#")
    }
    # Another Python, or another system, may need a few others; not the other way round.
    pinned = (CHECKOUT / "constraints.txt").read_text()
    missing = {name for name in names if f"\n{name}==" not in pinned}
    assert len(missing) < 10, f"run `make constraints`: {sorted(missing)}"


@pytest.mark.parametrize("script", [CHECKOUT / "Dockerfile", BINDER / "postBuild"])
def test_nothing_is_installed_without_the_constraints(script: Path) -> None:
    installs = re.findall(r"pip install .*", script.read_text())
    assert all("--constraint constraints.txt" in line for line in installs)
    assert installs or script.name == "Dockerfile"


def test_the_base_is_pinned_by_its_digest_and_can_be_another() -> None:
    told = list(instructions(CHECKOUT / "Dockerfile"))
    assert told[0][0] == "ARG" and told[1] == ("FROM", "${BASE}")
    pinned = r"BASE=python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}"
    assert re.fullmatch(pinned, told[0][1]), told[0][1]


def test_binders_python_is_one_of_ours() -> None:
    name, _, version = (BINDER / "runtime.txt").read_text().strip().partition("-")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert name == "python"
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's settings are in force."""
    shutil.copy(BINDER / "jupyter_agentbay_config.py", tmp_path)
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))


@pytest.mark.usefixtures("settings")
def test_settings_are_local_and_isolated_until_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = load_settings()
    assert (read.backend, read.local_isolation) == ("local", "required")
    monkeypatch.setenv("AGENTBAY_BACKEND", "cloud")
    assert load_settings().backend == "cloud"


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("works", [True, False])
def test_start_says_what_is_missing_and_becomes_the_command(tmp_path: Path, works: bool) -> None:
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if not works:
        (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
        folders.insert(0, str(tmp_path))
    done = subprocess.run(
        [BINDER / "start", "echo", "two words"],
        env={**os.environ, "PATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.endswith("two words\n")
    assert ("FAIL isolation" in done.stdout) is not works
    assert ("the first cell will say this again" in done.stdout) is not works


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The Dockerfile's image."""
    if os.geteuid() != 0 or not (shutil.which("debootstrap") and shutil.which("bwrap")):
        pytest.skip("this needs root, debootstrap and bubblewrap")
    image = Image(tmp_path_factory.mktemp("image"))
    image.build(CHECKOUT / "Dockerfile")
    yield image
    shutil.rmtree(image.root)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cells_of_the_container_are_isolated(image: Image) -> None:
    ran = image.run(*image.entrypoint, "jupyter", "agentbay", "demo")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "OK   isolation: local runtime: isolated by bubblewrap" in ran.stdout
    assert "This runs in a sandbox, in /workspace with" in ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_container_that_may_not_isolate_runs_nothing(image: Image) -> None:
    ran = image.run(*image.entrypoint, "jupyter", "agentbay", "demo", masked=True)
    assert ran.returncode == 1
    assert "FAIL isolation" in ran.stdout
    assert "a container must be started so that it may" in ran.stdout
    assert "Isolation is required but not available" in ran.stdout + ran.stderr
    assert "This runs in a sandbox, in /" not in ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_container_starts_jupyterlab(image: Image) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Here it is not a container's network.
    own = {"0.0.0.0": "127.0.0.1", "8888": str(port)}
    command = [re.sub("|".join(own), lambda part: own[part[0]], word) for word in image.command]
    command.append("--IdentityProvider.token=t")
    container = image.container(*image.entrypoint, *command)
    server = subprocess.Popen(container, start_new_session=True)
    try:
        kernels = _get(port, "kernelspecs")["kernelspecs"]
        assert {"agentbay-python", "agentbay-javascript"} <= set(kernels)
        names = {entry["name"] for entry in _get(port, "contents")["content"]}
        assert "01-first-steps.ipynb" in names
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _get(port: int, path: str) -> Any:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}?token=t") as answer:
                return json.load(answer)
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.5)
