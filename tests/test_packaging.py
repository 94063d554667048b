"""What `pip install` gives a user: built, installed and looked at."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agentbay_kernel import __version__
from tests.kernels import running_kernel

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
        timeout=600,
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


def sdist(built: Path) -> Path:
    """The one sdist of the build."""
    (path,) = built.glob("*.tar.gz")
    return path


def sdist_names(built: Path) -> set[str]:
    """The files in it, below its one folder."""
    with tarfile.open(sdist(built)) as archive:
        return {member.name.split("/", 1)[1] for member in archive if member.isfile()}


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
    assert {Path(name).suffix for name in code} <= {".py", ".js", ".txt", ".typed"}
    assert {name.split("/")[0] for name in names} == {
        "agentbay_kernel",
        f"agentbay_kernel-{__version__}.data",
        f"agentbay_kernel-{__version__}.dist-info",
    }


def test_the_sdist_holds_the_repository_and_nothing_else(built: Path) -> None:
    names = sdist_names(built)
    top = {name.split("/")[0] for name in names}
    assert not top & {".venv", ".tools", ".git", "build", "dist", ".env", "agentbay.log"}
    assert {"README.md", "LICENSE", "Makefile", "notebooks/01-first-steps.ipynb"} <= names
    if not (CHECKOUT / ".git").exists():
        return  # only git knows the rest
    tracked = call("git", "-C", CHECKOUT, "ls-files").splitlines()
    # For those who work on the repository itself.
    own = (".ci/", ".github/", ".pre-commit-config.yaml", ".readthedocs.yaml")
    expected = {name for name in tracked if not name.startswith(own)} | {"PKG-INFO"}
    assert expected <= names, sorted(expected - names)
    # A file that is new in the working tree is no leftover; what git ignores is.
    new = call("git", "-C", CHECKOUT, "ls-files", "--others", "--exclude-standard").splitlines()
    assert names <= expected | set(new), sorted(names - expected - set(new))
    hidden = {name for name in names if re.search(r"(^|/)\.", name)}
    assert hidden == {".dockerignore", ".gitignore"}


def test_the_wheel_is_typed_and_described(built: Path) -> None:
    with zipfile.ZipFile(wheel(built)) as archive:
        assert "agentbay_kernel/py.typed" in archive.namelist()
        text = archive.read(f"agentbay_kernel-{__version__}.dist-info/METADATA").decode()
    metadata = email.message_from_string(text)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    call(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


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


def test_a_kernel_of_an_installed_wheel_runs_a_cell(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
    environment = {"PYTHONPATH": str(site_packages(prefix)), "AGENTBAY_BACKEND": "local"}
    with running_kernel("agentbay-python", environment, tmp_path) as kernel:
        spec = kernel.manager.kernel_spec
        assert spec is not None and Path(spec.resource_dir).is_relative_to(prefix)
        assert kernel.run("print(6 * 7)").text() == "42\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [wheel, sdist])
def test_what_is_installed_in_a_clean_environment_conforms(
    built: Path, tmp_path: Path, kind: Callable[[Path], Path]
) -> None:
    venv = tmp_path / "venv"
    call(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    needed = ("jupyter_kernel_test", "pytest", "pytest-timeout")
    call(python, "-m", "pip", "install", "-q", f"{kind(built)}[local]", *needed)
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(CHECKOUT / "tests" / "kernel" / "test_conformance.py", tests)
    # Nothing of the checkout, and of this environment's settings, is in reach.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("LANG", "PATH") or name.startswith("PIP_")
    }
    done = subprocess.run(
        [python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests],
        cwd=tests,
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed, *others = re.findall(r"\d+ \w+", done.stdout.splitlines()[-1])
    print(f"{kind.__name__}: {done.stdout.splitlines()[-1]}")
    assert passed.endswith("passed") and int(passed.split()[0]) > 20
    assert not [other for other in others if "skipped" in other or "failed" in other]


def test_jupyter_of_the_same_environment_finds_the_kernels() -> None:
    found = json.loads(call(sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"))
    for kernel in KERNELS:
        folder = Path(found["kernelspecs"][kernel]["resource_dir"])
        assert folder.is_relative_to(sys.prefix)
        # pip placed a copy of the checkout's files: `make setup` renews it.
        assert sorted(path.name for path in folder.iterdir()) == FILES
