"""Where the sources of others come from, and the kernels that they are run with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.kernelspec import CLOUD_KERNELS

# As published; the versions that this environment has.
SDISTS = {
    "ipykernel": "7.4.*",
    "nbclient": "0.11.*",
    "papermill": "2.7.*",
    "nbconvert": "7.17.*",
    "ipywidgets": "8.1.*",
}
# What the suites import and this environment lacks; no kernel is tested with it.
TOOLS = (
    "flaky",
    "ipyparallel",
    "outcome",
    "pytest-asyncio",
    "pytest-mock",
    "sortedcontainers",
    "testpath",
    "trio",
    "xmltodict",
)


@dataclass(frozen=True)
class Row:
    """A test or a notebook: what came of it with each kernel."""

    name: str
    stock: str
    ours: str
    detail: str = ""

    @property
    def same(self) -> bool:
        """Is nothing worse with our kernel?"""
        return self.stock != "passed" or self.ours == "passed"


def _pip(*arguments: str) -> None:
    """Run the pip of the Python that this environment was made from; it may have none itself."""
    python = Path(sys.base_prefix, "bin", "python3")
    subprocess.run(
        [str(python), "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True
    )


def source(name: str, folder: Path) -> Path:
    """The unpacked sdist of a package in that folder; fetched if it isn't there."""
    if not (found := sorted(folder.glob(f"{name}-*/"))):
        if not (archives := sorted(folder.glob(f"{name}-*.tar.gz"))):
            # Not `:all:`: what only builds the metadata may come as a wheel.
            requirement = f"{name}=={SDISTS[name]}"
            _pip("download", "--no-deps", f"--no-binary={name}", "-d", str(folder), requirement)
            archives = sorted(folder.glob(f"{name}-*.tar.gz"))
        with tarfile.open(archives[-1]) as archive:
            archive.extractall(folder, filter="data")
        found = sorted(folder.glob(f"{name}-*/"))
    return found[-1]


def tools(folder: Path) -> Path:
    """A folder with the packages that only the suites need."""
    target = folder / "tools"
    if not target.is_dir():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        options = ("--no-deps", "--only-binary=:all:", f"--python-version={version}")
        _pip("install", *options, f"--target={target}", *TOOLS)
    return target


def environment(folder: Path, suite: str, which: str) -> dict[str, str]:
    """Variables with which `python3` and `python` name the stock kernel or ours.

    Arguments:
        folder: where the sources lie; the kernelspecs and a home are made below it.
        suite: whose tests are run.
        which: `stock`, `ours`, or `provisioner`: the stock kernelspecs, started by our provisioner.
    """
    data = folder / "runs" / f"{suite}-{which}-data"
    shutil.rmtree(data, ignore_errors=True)
    stock = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {"debugger": True},
        "kernel_protocol_version": "5.5",
    }
    # Containment has a comparison of its own (tests/fidelity).
    settings = {"AGENTBAY_BACKEND": "local", "AGENTBAY_HTML": "trust"}
    ours = CLOUD_KERNELS[0].read() | {"display_name": "Python 3", "env": settings}
    for name in ("python3", "python"):
        kernel = data / "kernels" / name
        kernel.mkdir(parents=True)
        kernel.joinpath("kernel.json").write_text(json.dumps(ours if which == "ours" else stock))
    home = data / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENTBAY_", "JUPYTER_", "PYTEST_"))
        and not name.lower().endswith("_proxy")
    }
    path = os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath)))
    if which == "provisioner":
        kept |= {**settings, "JUPYTER_DEFAULT_PROVISIONER_NAME": "agentbay-provisioner"}
    return kept | {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(data),
        "PATH": path,
        "PYTHONPATH": str(tools(folder)),
    }
