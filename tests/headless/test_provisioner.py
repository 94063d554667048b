"""`agentbay-provisioner`: notebooks that name `python3` run in a sandbox, and nothing runs here."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbformat.v4 import new_code_cell

from tests.headless.conftest import MARK, Run, texts
from tests.kernels import RunningKernel

DEFAULT = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "agentbay-provisioner"}
# Without our kernel's name, as it was made elsewhere.
RUNNERS = {
    "jupyter execute": ("-m", "jupyter", "execute", "--inplace", "submission.ipynb"),
    "nbconvert": ("-m", "jupyter", "nbconvert", "--execute", "--inplace", "submission.ipynb"),
    "papermill": ("-m", "papermill", "submission.ipynb", "submission.ipynb"),
    "nbclient": (
        "-c",
        "import nbformat, nbclient\n"
        "notebook = nbformat.read('submission.ipynb', as_version=4)\n"
        "nbclient.execute(notebook)\n"
        "nbformat.write(notebook, 'submission.ipynb')",
    ),
}


@pytest.mark.parametrize(
    "runner",
    [
        "jupyter execute",
        pytest.param("nbconvert", marks=pytest.mark.slow),
        pytest.param("papermill", marks=pytest.mark.slow),
        pytest.param("nbclient", marks=pytest.mark.slow),
    ],
)
def test_an_untouched_notebook_runs_in_the_sandbox(run: Run, submission: Path, runner: str) -> None:
    notebook = nbformat.read(submission, as_version=4)
    notebook.cells.append(new_code_cell("import socket\nprint(socket.gethostname())"))
    nbformat.write(notebook, submission)
    done = run(*RUNNERS[runner], **DEFAULT)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(submission, as_version=4)
    assert texts(executed)[1] == "42"
    assert texts(executed)[2].strip() not in ("", socket.gethostname())
    # Elsewhere it is what it was.
    assert executed.metadata.kernelspec.name == "python3"
    # The fixture looks for the mark that its first cell leaves.


def kernelspec(folder: Path, name: str, **fields: Any) -> None:
    """A kernel of that name; where its command is run, it leaves a mark beside the notebook."""
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    mark = f"open({str(folder.parent / MARK)!r}, 'w').close()"
    spec = {
        "argv": [sys.executable, "-c", mark, "{connection_file}", "{resource_dir}"],
        "display_name": name,
        "language": "python",
        "metadata": {"debugger": True},
    }
    (place / "kernel.json").write_text(json.dumps({**spec, **fields}))


@pytest.fixture
def hostile(
    tmp_path: Path, service: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Kernelspecs that would do harm here; afterwards there must be no mark."""
    folder = tmp_path / "jupyter"
    module = tmp_path / "path"
    module.mkdir()
    (module / "sitecustomize.py").write_text(f"open({str(tmp_path / MARK)!r}, 'w').close()")
    kernelspec(folder, "python3")
    paths = {"PYTHONPATH": str(module), "LD_PRELOAD": str(module / "none.so")}
    environment = {**paths, "AGENTBAY_API_KEY": "akm-other"}
    kernelspec(folder, "all", env=environment, interrupt_mode="signal", language="Python")
    kernelspec(folder, "js", language="javascript")
    kernelspec(folder, "other", language="R")
    for name, value in {**service, **DEFAULT, "JUPYTER_PATH": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # It reads the variable once in a process, in which other tests have started kernels.
    KernelProvisionerFactory.clear_instance()
    yield folder
    KernelProvisionerFactory.clear_instance()
    assert not list(tmp_path.rglob(MARK))


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "name",
    [
        # `all` has what this one has, and more.
        pytest.param("python3", marks=pytest.mark.slow),
        "all",
        "js",
    ],
)
def test_of_a_kernelspec_only_name_and_language_are_used(name: str) -> None:
    manager = KernelManager(kernel_name=name)
    manager.start_kernel(env=dict(os.environ))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        kernel = RunningKernel(manager, client)
        language = "JavaScript" if name == "js" else "Python"
        client.kernel_info()
        banner = client.get_shell_msg(timeout=60)["content"]["banner"]
        assert f"AgentBay {language}" in banner
        loop = "console.log('on'); while (true);" if name == "js" else "print('on')\nwhile True: 1"
        running = kernel.send(loop)
        kernel.wait_for_output(running, "stream")
        assert manager.kernel_spec is not None
        assert manager.kernel_spec.interrupt_mode == "message"
        manager.interrupt_kernel()
        assert kernel.finish(running).reply["status"] == "error"
        # A restart starts the same.
        manager.restart_kernel()
        client.wait_for_ready(timeout=60)
        assert kernel.run("1 + 1").of_type("execute_result")[0]["data"]["text/plain"] == "2"
        # No notebook can trust a kernel.
        trusting = kernel.run("%agentbay config trusted_kernels=python3")
        assert trusting.reply["ename"] == "NotAllowedError"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


@pytest.mark.usefixtures("hostile")
def test_another_language_is_refused_before_anything_runs() -> None:
    with pytest.raises(Exception, match=r"'other' was not started: its language is 'R'"):
        KernelManager(kernel_name="other").start_kernel()


def test_a_kernel_that_the_configuration_trusts_runs_here(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTBAY_TRUSTED_KERNELS", "other, js")
    manager = KernelManager(kernel_name="other")
    manager.start_kernel()
    assert isinstance(manager.provisioner, LocalProvisioner)
    process = manager.provisioner.process
    assert process is not None
    assert process.wait(60) == 0
    manager.shutdown_kernel(now=True)
    # Taken away again: the fixture fails for it.
    (tmp_path / MARK).unlink()
