"""What `pip install` gives a user: built, installed and looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agentbay_kernel import __version__

CHECKOUT = Path(__file__).resolve().parents[1]
KERNELS = ["agentbay-javascript", "agentbay-python"]
FILES = ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]


def call(*command: str | Path, **environment: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT)
    return folder


@pytest.fixture(scope="module")
def prefix(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, without its dependencies."""
    prefix = tmp_path_factory.mktemp("prefix")
    uv = CHECKOUT / ".tools" / "bin" / "uv"
    if uv.exists():
        installer = [str(uv), "pip", "install", "--python", sys.executable, "--offline"]
    else:
        installer = [sys.executable, "-m", "pip", "install", "--no-index", "--ignore-installed"]
    call(*installer, "--no-deps", "--prefix", prefix, wheel(built))
    return prefix


def wheel(built: Path) -> Path:
    """The one wheel of the build."""
    (path,) = built.glob("*.whl")
    return path


def site_packages(prefix: Path) -> Path:
    """Where the package is below its prefix."""
    (path,) = prefix.glob("**/agentbay_kernel/__init__.py")
    return path.parents[1]


def test_the_wheel_holds_the_package_and_the_kernelspecs_only(built: Path) -> None:
    names = zipfile.ZipFile(wheel(built)).namelist()
    data = f"agentbay_kernel-{__version__}.data/data/share/jupyter/kernels"
    for kernel in KERNELS:
        for file in FILES:
            assert f"{data}/{kernel}/{file}" in names
            assert f"agentbay_kernel/kernelspec_files/{kernel}/{file}" in names
    code = [
        name
        for name in names
        if name.startswith("agentbay_kernel/") and "kernelspec_files" not in name
    ]
    assert {Path(name).suffix for name in code} <= {".py", ".js", ".typed"}
    assert {name.split("/")[0] for name in names} == {
        "agentbay_kernel",
        f"agentbay_kernel-{__version__}.data",
        f"agentbay_kernel-{__version__}.dist-info",
    }


def test_the_sdist_holds_what_is_needed_to_test_it(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {
        "README.md",
        "LICENSE",
        "Makefile",
        "kernelspec/agentbay-python/kernel.json",
        "notebooks/01-first-steps.ipynb",
        "tests/test_packaging.py",
    } <= names
    top = {name.split("/")[0] for name in names}
    assert not top & {".venv", ".tools", ".git", "build", "dist", ".env", "agentbay.log"}


def test_pip_places_the_kernels(prefix: Path) -> None:
    kernels = prefix / "share" / "jupyter" / "kernels"
    assert sorted(path.name for path in kernels.iterdir()) == KERNELS
    for kernel in KERNELS:
        assert sorted(path.name for path in (kernels / kernel).iterdir()) == FILES


def test_an_installed_wheel_can_place_kernels_elsewhere(prefix: Path, tmp_path: Path) -> None:
    # The installed package goes before the checkout's.
    environment = {"PYTHONPATH": str(site_packages(prefix)), "JUPYTER_DATA_DIR": str(tmp_path)}
    used = call(
        sys.executable, "-P", "-c", "import agentbay_kernel as a; print(a.__file__)", **environment
    )
    assert Path(used.strip()).is_relative_to(prefix)
    call(sys.executable, "-P", "-m", "agentbay_kernel", "install", "--local", **environment)
    for kernel in (*KERNELS, *(f"{name}-local" for name in KERNELS)):
        folder = tmp_path / "kernels" / kernel
        assert sorted(path.name for path in folder.iterdir()) == FILES


def test_jupyter_of_the_same_environment_finds_the_kernels() -> None:
    found = json.loads(call(sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"))
    for kernel in KERNELS:
        folder = Path(found["kernelspecs"][kernel]["resource_dir"])
        assert folder.is_relative_to(sys.prefix)
        # pip placed a copy of the checkout's files: `make setup` renews it.
        assert sorted(path.name for path in folder.iterdir()) == FILES
