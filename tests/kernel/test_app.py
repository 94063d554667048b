"""The process around a kernel: how front ends reach it, and what it imports."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.manager import KernelManager

from tests.kernels import ANSWER_S, running_kernel, wait_until_ready

KERNEL = [sys.executable, "-P", "-m", "agentbay_kernel", "-f"]
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


@contextlib.contextmanager
def started_by_hand(file: str, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A kernel that no Jupyter program starts, with that connection file."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("JPY_")}
    env["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
    with subprocess.Popen(
        [*KERNEL, file, *more], cwd=folder, env=env, text=True, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def answers(connection_file: Path) -> bool:
    """Whether a front end that has only the file reaches the kernel, also by its heartbeat."""
    client = BlockingKernelClient(connection_file=str(connection_file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=ANSWER_S)
        return bool(client.is_alive())
    finally:
        client.stop_channels()


def wait_for_connection_file(process: subprocess.Popen[str]) -> Path:
    """Wait for the line that names the file."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("To connect: jupyter console --existing "), line
    return Path(line.rpartition(" ")[2].strip())


def test_a_connection_file_that_does_not_exist_is_written_and_removed(tmp_path: Path) -> None:
    with started_by_hand("mine.json", tmp_path) as process:
        path = wait_for_connection_file(process)
        assert path == tmp_path / "runtime" / "mine.json"
        # It holds the key.
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert answers(path)
    assert not path.exists()


def test_missing_ports_are_added_to_a_connection_file_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    shell = {"shell_port": write_connection_file(str(tmp_path / "free.json"))[1]["shell_port"]}
    given = {"ip": "127.0.0.1", "transport": "tcp", "key": "secret", "kernel_name": "mine"}
    path.write_text(json.dumps({**given, **dict.fromkeys(PORTS, 0), **shell}))
    with started_by_hand(str(path), tmp_path) as process:
        assert wait_for_connection_file(process) == path
        assert answers(path)
        written = json.loads(path.read_text())
    assert {**written, **given, **shell} == written
    assert len({written[port] for port in PORTS} - {0}) == len(PORTS)
    # It is not this kernel's own.
    assert path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"transport": "carrier pigeon"}'])
def test_a_broken_connection_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with started_by_hand(str(path), tmp_path) as process:
        _, errors = process.communicate(timeout=ANSWER_S)
    assert process.returncode == 1
    assert f"{path} is no connection file" in errors
    assert "Traceback" not in errors


def test_options_for_the_shell_of_ipython_have_no_effect_and_do_no_harm(tmp_path: Path) -> None:
    options = (
        "--profile-dir",
        str(tmp_path),
        "--matplotlib=inline",
        "--quiet",
        "--IPKernelApp.x=1",
    )
    with started_by_hand("mine.json", tmp_path, *options) as process:
        assert process.stderr is not None
        for name in ("--profile-dir", "--matplotlib=inline", "--quiet"):
            assert f"{name} is no option of this kernel" in process.stderr.readline()
        assert answers(wait_for_connection_file(process))


def test_a_port_in_use_is_named_and_the_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path.write_text(json.dumps({"ip": "127.0.0.1", "key": "", "stdin_port": port}))
        with started_by_hand(str(path), tmp_path) as process:
            _, errors = process.communicate(timeout=ANSWER_S)
    assert process.returncode == 1
    assert f"The kernel's stdin_port {port} can't be used: Address already in use" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_an_encrypted_connection(tmp_path: Path, transport: str) -> None:
    ip = {} if transport == "tcp" else {"ip": str(tmp_path / "k")}
    manager = KernelManager(kernel_name="agentbay-python", transport=transport, **ip)
    manager.start_kernel(transport_encryption="required")
    client = manager.blocking_client()
    info = manager.get_connection_info()
    assert info.pop("curve_publickey") and info.pop("curve_secretkey")
    plain = BlockingKernelClient()
    plain.load_connection_info(info)
    try:
        client.start_channels()
        wait_until_ready(manager, client)
        assert client.is_alive()
        with plain.connect_shell() as shell:
            shell.linger, shell.sndtimeo = 0, 1000
            with contextlib.suppress(zmq.Again):
                plain.session.send(shell, "kernel_info_request")
            assert not shell.poll(1000)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_module_of_the_notebook_is_never_imported_by_the_kernel(tmp_path: Path) -> None:
    # The names of modules that a kernel imports later than at its start.
    for name in ("requests", "psutil", "websocket", "html", "difflib"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')")
    with running_kernel("agentbay-python", {"AGENTBAY_BACKEND": "local"}, tmp_path) as kernel:
        kernel.run("%agentbay status")
        assert kernel.run("1").reply["status"] == "ok"
        assert kernel.run("%agentbay pastatus").reply["status"] == "error"
    assert not (tmp_path / "imported").exists()


def test_packages_that_are_imported_in_parts_are_whole_for_who_uses_them() -> None:
    code = (
        "import sys\n"
        "from agentbay_kernel.__main__ import import_in_parts\n"
        "for name in ('IPython', 'ipykernel', 'jupyter_client'): import_in_parts(name)\n"
        "import IPython, jupyter_client\n"
        "import ipykernel.kernelbase\n"
        "unused = 'IPython.core.interactiveshell', 'jupyter_client.manager'\n"
        "assert not sys.modules.keys() & set(unused)\n"
        "from IPython import embed, get_ipython, start_ipython\n"
        "assert get_ipython() is None\n"
        "assert IPython.version_info[0] >= 8 and IPython.core.error\n"
        "assert jupyter_client.KernelManager().kernel_name\n"
        "assert ipykernel.__version__ and ipykernel.get_connection_file\n"
        "assert sys.modules.keys() >= set(unused)\n"
        "for package in (IPython, ipykernel, jupyter_client):\n"
        "    assert not hasattr(package, 'nothing_of_this_name')\n"
        "    assert package.__file__.endswith('__init__.py')\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
