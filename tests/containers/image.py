"""A Dockerfile carried out without a container engine, and what it makes started.

In: the Dockerfile; instead of its base image a fresh Debian with a Python in /usr/local, as made by
debootstrap. Out: a folder that is the image's root. Its commands run in it as root, in a container
that bubblewrap makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its text in one line."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, text = line.split(maxsplit=1)
            yield name, text


@dataclass
class Image:
    """What a Dockerfile makes: a root folder, and how a container of it starts."""

    root: Path
    workdir: str = "/"
    user: int = 0
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def build(self, dockerfile: Path) -> None:
        """Carry out all instructions.

        Raises:
            AssertionError: a command failed, or an instruction is not known here.
        """
        arguments: dict[str, str] = {}
        for name, text in instructions(dockerfile):
            if name == "ARG":
                key, _, value = text.partition("=")
                arguments[key] = value
            elif name == "FROM":
                self._make_base(arguments["BASE"].partition("@")[0].rpartition("-")[2])
            elif name == "RUN":
                done = self.run("/bin/sh", "-c", text)
                assert done.returncode == 0, f"RUN {text}\n{done.stdout}{done.stderr}"
            elif name == "COPY":
                source, target = text.split()
                assert source == ".", text
                copy_sources(self._inside(target))
            elif name == "WORKDIR":
                self.workdir = text
                self._inside(text).mkdir(parents=True, exist_ok=True)
            elif name == "USER":
                self.user = int(text)
            elif name == "ENTRYPOINT":
                self.entrypoint = json.loads(text)
            elif name == "CMD":
                self.command = json.loads(text)
            else:
                assert name == "EXPOSE", f"{name} is not known here"

    def run(
        self, *command: str, masked: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as the image's user, to its end."""
        arguments = self.container(*command, masked=masked, **environment)
        return subprocess.run(arguments, capture_output=True, text=True, errors="replace")

    def container(self, *command: str, masked: bool = False, **environment: str) -> list[str]:
        """The command line that runs a command in a container.

        Arguments:
            masked: parts of /proc are covered, as container engines do unless told otherwise;
                then the system lets nobody mount it anew.
        """
        bwrap = ["bwrap", "--die-with-parent", "--unshare-ipc", "--unshare-uts"]
        # Not a /proc of its own: bubblewrap hides parts of one.
        bwrap += ["--bind", str(self.root), "/", "--bind", "/proc", "/proc", "--dev", "/dev"]
        bwrap += ["--tmpfs", "/tmp", "--cap-add", "ALL", "--chdir", self.workdir, "--clearenv"]
        # The names and certificates by which this machine reaches the package registries.
        bwrap += ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf"]
        bwrap += ["--ro-bind", "/etc/ssl", "/etc/ssl"]
        if masked:
            bwrap += ["--ro-bind", "/proc/sys", "/proc/sys"]
        variables = {name: v for name, v in os.environ.items() if name.startswith("PIP_")}
        variables |= {"PATH": PATH, "HOME": "/home/jovyan" if self.user else "/root"}
        for name, value in {**variables, **environment}.items():
            bwrap += ["--setenv", name, value]
        if self.user:
            ids = (f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups")
            bwrap += ["setpriv", *ids, "--bounding-set=-all", "--inh-caps=-all"]
        return [*bwrap, *command]

    def _make_base(self, release: str) -> None:
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={PACKAGES}",
                release,
                self.root,
                MIRROR,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        # As any system's: open to all its users.
        self.root.chmod(0o755)
        # The base image has its Python, and pip, in /usr/local.
        made = self.run("python3", "-m", "venv", "/usr/local")
        assert made.returncode == 0, made.stderr

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def copy_sources(target: Path) -> None:
    """Copy what a clone of this repository holds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
