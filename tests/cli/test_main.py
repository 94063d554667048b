"""`jupyter agentbay`, run as a process the way a user runs it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentbay_kernel import __version__
from agentbay_kernel.cli import main


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `jupyter agentbay ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-m", "jupyter", "agentbay", *arguments],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, without the seconds that another takes to start."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        code = main([*arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def kernels(folder: Path) -> list[str]:
    """Names of the kernelspecs in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_help_shows_examples_and_exit_codes() -> None:
    for arguments in ((), ("--help",)):
        done = run(*arguments)
        assert done.returncode == 0
        assert "jupyter agentbay install --user" in done.stdout
        assert "exit codes:" in done.stdout
        assert "serve" in done.stdout


def test_version() -> None:
    assert run("--version").stdout == f"agentbay-kernel {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from agentbay_kernel.cli import main; main(['--help']);"
            "heavy = {'IPython', 'jupyter_client', 'jupyter_core', 'requests', 'tornado', 'zmq'};"
            "print('loaded:', sorted(heavy & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "loaded: []" in done.stdout, done


def test_install_and_uninstall_for_the_user(tmp_path: Path) -> None:
    place = tmp_path / "kernels"
    environment = {"JUPYTER_DATA_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}

    done = run("install", "--user", "--local", **environment)
    assert done.returncode == 0, done.stderr
    assert "THIS machine" in done.stdout
    assert kernels(place) == [
        "agentbay-javascript",
        "agentbay-javascript-local",
        "agentbay-python",
        "agentbay-python-local",
    ]

    done = run("uninstall", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Removed ") == 4
    assert kernels(place) == []
    assert "There is no AgentBay kernel in" in call("uninstall", **environment).stdout


def test_install_in_a_prefix(tmp_path: Path) -> None:
    place = tmp_path / "share" / "jupyter" / "kernels"
    assert call("install", "--prefix", str(tmp_path)).returncode == 0
    assert kernels(place) == ["agentbay-javascript", "agentbay-python"]
    assert call("uninstall", "--prefix", str(tmp_path)).returncode == 0
    assert kernels(place) == []


def test_a_failure_is_one_line_and_a_traceback_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("a file where a folder is needed")
    done = run("install", "--prefix", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("jupyter agentbay: The kernel agentbay-python could not be")
    assert "Traceback" not in done.stderr

    done = run("--debug", "install", "--prefix", str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KernelspecError" in done.stderr


@pytest.mark.parametrize("arguments", [["frobnicate"], ["install", "--user", "--sys-prefix"]])
def test_arguments_that_are_not_valid(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: jupyter agentbay" in done.stderr


def test_what_follows_serve_belongs_to_the_local_runtime() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0, done.stderr
    assert "--die-with-parent" in done.stdout


def test_nothing_to_delete_is_told_and_naming_nothing_is_a_mistake() -> None:
    done = call("sessions", "delete", "--mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no session of yours" in done.stdout
    done = run("sessions", "delete")
    assert done.returncode == 2 and "--mine" in done.stderr
