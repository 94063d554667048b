"""`jupyter agentbay run` and `demo`: what is told, what is written, what is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.cli.test_main import call
from tests.runtime import running_local_runtime


@pytest.fixture(scope="module")
def local() -> Iterator[dict[str, str]]:
    """Variables that lead to a local runtime."""
    with running_local_runtime() as runtime:
        yield {
            "AGENTBAY_BACKEND": "local",
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
        }


def notebook(path: Path, *sources: str, language: str = "python") -> Path:
    made = new_notebook(cells=[new_code_cell(source) for source in sources])
    made.metadata["kernelspec"] = {"name": "x", "display_name": "x", "language": language}
    nbformat.write(made, path)
    return path


def test_a_failed_cell_is_told_and_what_was_reached_is_written(
    local: dict[str, str], tmp_path: Path
) -> None:
    path = notebook(tmp_path / "n.ipynb", "print('reached')", "1/0", "print('never')")
    done = call("run", str(path), **local)
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
    written = nbformat.read(tmp_path / "n.executed.ipynb", as_version=4)
    assert any(output.get("text") == "reached\n" for output in written.cells[0].outputs)
    assert written.cells[2].outputs == []
    assert nbformat.read(path, as_version=4).cells[0].outputs == []


@pytest.mark.parametrize(
    "metadata",
    [
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python", "version": "3.8.1", "mimetype": "text/x-old"},
            "course": {"week": 1},
        },
        pytest.param({}, marks=pytest.mark.slow),
    ],
)
def test_the_notebook_names_the_same_kernel_afterwards(
    local: dict[str, str], tmp_path: Path, metadata: dict[str, Any]
) -> None:
    path = tmp_path / "n.ipynb"
    hostname = "import socket\nprint(socket.gethostname())"
    nbformat.write(new_notebook(cells=[new_code_cell(hostname)], metadata=metadata), path)
    done = call("run", str(path), "--inplace", **local)
    assert done.returncode == 0, done.stderr
    written = nbformat.read(path, as_version=4)
    assert written.metadata == metadata
    assert written.cells[0].outputs[0].text.strip() not in ("", socket.gethostname())


def test_an_error_that_is_only_displayed_is_no_failure_and_one_that_ends_a_cell_is(
    local: dict[str, str], tmp_path: Path
) -> None:
    displayed = "try:\n    1/0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()"
    raised = "raise ExceptionGroup('several', [ValueError('one')])"
    path = notebook(tmp_path / "n.ipynb", displayed, "print('reached')", raised)
    done = call("run", str(path), **local)
    assert done.stderr.count("ok, ") == 2 and done.stderr.count("failed, ") == 1
    assert done.returncode == 1 and "A cell failed: ExceptionGroup" in done.stderr


@pytest.mark.slow
def test_errors_can_be_allowed_and_javascript_is_known(
    local: dict[str, str], tmp_path: Path
) -> None:
    path = notebook(tmp_path / "n.ipynb", "null.x", "[1, 2].length", language="javascript")
    done = call("run", str(path), "--allow-errors", "--inplace", **local)
    assert done.returncode == 1
    assert "1 cells failed" in done.stderr
    written = nbformat.read(path, as_version=4)
    assert written.cells[1].outputs[-1].data["text/plain"] == "2"


@pytest.mark.slow
def test_untrusted_cells_reach_no_file(local: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    path = notebook(tmp_path / "n.ipynb", "%agentbay upload data.csv")
    done = call("run", str(path), "--untrusted", **local)
    assert done.returncode == 1
    assert "NotAllowedError" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read"),
        pytest.param("{}", "is not a notebook", marks=pytest.mark.slow),
        pytest.param("no JSON", "is not a notebook", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_notebook_is_told(
    local: dict[str, str], tmp_path: Path, content: str | None, told: str
) -> None:
    path = tmp_path / "n.ipynb"
    if content is not None:
        path.write_text(content)
    done = call("run", str(path), **local)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_language_that_agentbay_does_not_run_is_told(
    local: dict[str, str], tmp_path: Path
) -> None:
    path = notebook(tmp_path / "n.ipynb", "1", language="R")
    done = call("run", str(path), **local)
    assert done.returncode == 1
    assert "'R'" in done.stderr and "--language python" in done.stderr


def test_the_demo_runs_where_the_configuration_says(tmp_path: Path) -> None:
    done = call("demo")
    assert done.returncode == 1 and "--local" in done.stderr
    # As an administrator's file in /etc/jupyter does.
    (tmp_path / "jupyter_agentbay_config.py").write_text("c.AgentBaySettings.backend = 'local'\n")
    done = call("demo", JUPYTER_CONFIG_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "285" in done.stdout and "local runtime on this machine" in done.stdout
