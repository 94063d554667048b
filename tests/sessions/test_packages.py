"""Recipes with packages, installed by a real pip and a real npm from files of the notebook's
folder: no index is asked."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import SetupError
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.sessions import SessionManager
from tests.runtime import running_local_runtime
from tests.sessions.test_manager import run, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WHEEL = "shipped-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with pip, into which may be installed; it has what these tests have too."""
    folder = tmp_path_factory.mktemp("python")
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", folder], check=True, timeout=100)
    (ours,) = (path for path in site.getsitepackages() if "site-packages" in path)
    (theirs,) = folder.glob("lib/python*/site-packages")
    (theirs / "ours.pth").write_text(f"{ours}\n")
    return folder / "bin" / "python"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The notebook's folder, with a wheel and a package of Node."""
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        wheel.writestr("shipped.py", "word = 'installed by pip'\n")
        facts = "shipped-1.0.dist-info"
        wheel.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: shipped\nVersion: 1.0\n")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{facts}/RECORD", "")
    (tmp_path / "shipped-js").mkdir()
    package = {"name": "shipped", "version": "1.0.0", "main": "index.js"}
    (tmp_path / "shipped-js" / "package.json").write_text(json.dumps(package))
    (tmp_path / "shipped-js" / "index.js").write_text("exports.word = 'installed by npm';\n")
    return tmp_path


@pytest.fixture
def manager(
    python: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SessionManager]:
    flags = ("--isolation", "none", "--python", str(python), "--idle-seconds", "0")
    with running_local_runtime(*flags) as runtime:
        monkeypatch.setenv("AGENTBAY_ENDPOINT", runtime.endpoint)
        monkeypatch.setenv("AGENTBAY_API_KEY", runtime.api_key)
        settings = AgentBaySettings(state_dir=str(folder / "state"))
        manager = SessionManager(settings, folder=folder)
        yield manager
        manager.close()


def test_what_a_recipe_names_is_installed_in_each_new_session(
    manager: SessionManager, folder: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    (folder / "agentbay.toml").write_text(
        f'pip = ["./{WHEEL}"]\nnpm = ["./shipped-js"]\nfiles = ["{WHEEL}", "shipped-js"]\n'
    )
    for name in ("one", "two"):
        assert "installed by pip" in shown(run(manager, "import shipped; shipped.word", name))
        code = "require('shipped').word"
        assert "installed by npm" in shown(run(manager, code, name, language="javascript"))


def test_what_is_not_there_fails_with_the_installers_own_words(
    manager: SessionManager, folder: Path
) -> None:
    (folder / "agentbay.toml").write_text('pip = ["./none.whl"]\n')
    with pytest.raises(SetupError, match=r"pip: (.|\n)*none\.whl") as failed:
        list(manager.execute(Cell("print(1)", "python")))
    assert "This cell did not run" in str(failed.value)
    (folder / "agentbay.toml").unlink()
    manager.store.set_recipe(None)
    assert "1\n" in shown(run(manager, "print(1)"))
