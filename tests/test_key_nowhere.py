"""A whole round with a key that is easy to find - kernels, magics, command line, both backends,
faults - and then a search for it: in notebooks, logs, all files, all processes, the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
import requests
from nbclient import NotebookClient

from agentbay_kernel.service import AgentBay
from tests.runtime import LocalRuntimeProcess, running_local_runtime

KEY = "akm-feedface-0123-4567-89ab-cdefdeadbeef"
# All that a cell can find out about where it runs.
LOOK = """\
import glob, os, subprocess
found = [str(dict(os.environ))]
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + glob.glob("./*"):
    try:
        found.append(open(path, "rb").read().decode("latin-1"))
    except OSError:
        pass
print("\\n".join(found))
print(subprocess.run("env; ps -ef", shell=True, capture_output=True, text=True).stdout)
"""
CELLS = [
    "1 + 1",
    LOOK,
    "raise ValueError('as planned')",
    "from IPython.display import HTML; HTML('<b>b</b>')",
    "%agentbay status",
    "%agentbay help",
    "%agentbay no such verb",
    "%%agentbay js\nconsole.log(process.env, process.argv); require('fs').readdirSync('.')",
    "import time\nfor i in range(3): print(i, flush=True); time.sleep(.1)",
    "x = 5",
    "print(x)",
]
MAGICS = [
    "%load_ext agentbay_kernel",
    "%%agentbay py\n" + LOOK,
    "%%agentbay py\n1 / 0",
    "%agentbay status",
    "%%agentbay js\nconsole.log(process.env)",
]
# Every logger of the process writes all it has into one file.
LOGGING = """\
import logging
logging.basicConfig(filename={path!r}, level=logging.DEBUG, force=True)
for name in ("urllib3", "requests", "websocket", "agentbay_kernel", "traitlets"):
    logging.getLogger(name).setLevel(logging.DEBUG)
"""
FAULTS = [
    {"kind": "reset", "effect": True, "probability": 0.15, "seed": 1},
    {"kind": "http_500", "effect": True, "probability": 0.1, "seed": 2},
    {"kind": "http_502", "effect": True, "probability": 0.1, "seed": 3},
    {"kind": "ws_drop", "effect": True, "probability": 0.15, "seed": 4},
]


class Round:
    """One round's places, and what must not be found in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = {KEY}
        self.shown = 0

    def environment(self, log: str) -> dict[str, str]:
        """For a process whose files are all in the folder."""
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        text = LOGGING.format(path=str(self.folder / log))
        (config / "jupyter_agentbay_config.py").write_text(text)
        return {
            **os.environ,
            "HOME": str(self.folder),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def search(self, text: str | bytes, what: str) -> None:
        """None of the secrets is in it."""
        data = text.encode(errors="replace") if isinstance(text, str) else text
        self.shown += len(data)
        for secret in self.secrets:
            assert secret.encode() not in data, f"found in {what}"

    def search_process(self, process: psutil.Process, *, has_key: bool = False) -> int:
        """Its arguments and environment, and all its children's."""
        for one in [process, *process.children(recursive=True)]:
            for name in ("cmdline", "environ"):
                if one is process and name == "environ" and has_key:
                    continue
                try:
                    data = Path(f"/proc/{one.pid}/{name}").read_bytes()
                except OSError:
                    continue
                self.search(data, f"the {name} of {one}")
        return len(process.children(recursive=True))

    def search_files(self, folder: Path) -> None:
        """All files below."""
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self.search(path.read_bytes(), str(path))
                self.search(str(path), "a file's name")

    def run_notebook(
        self, kernel: str, cells: list[str], env: dict[str, str], meanwhile: Callable[[Any], None]
    ) -> str:
        """A notebook as it is stored, and what it shows; `meanwhile` is called with its process."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        client = NotebookClient(notebook, kernel_name=kernel, allow_errors=True, timeout=150)
        with client.setup_kernel(env=env, cwd=str(self.folder)):
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            manager: Any = client.km
            meanwhile(psutil.Process(manager.provisioner.process.pid))
        stored: str = nbformat.writes(notebook)
        (self.folder / f"{kernel}.ipynb").write_text(stored)
        return stored


@pytest.fixture
def round(tmp_path: Path) -> Round:
    return Round(tmp_path)


@pytest.fixture
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRuntimeProcess]:
    """A local runtime that is opened by the key."""
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(KEY)
    with running_local_runtime("--api-key-file", str(key)) as runtime:
        assert runtime.api_key == KEY
        yield runtime


@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_with_a_service_that_is_opened_by_the_key(
    round: Round, joined: LocalRuntimeProcess, execution: str
) -> None:
    key = {
        "AGENTBAY_API_KEY": KEY,
        "AGENTBAY_ENDPOINT": joined.endpoint,
        "AGENTBAY_EXECUTION": execution,
    }
    form = {"Authorization": f"Bearer {KEY}", "Profile": json.dumps({"faults": FAULTS})}
    assert requests.post(f"{joined.endpoint}/?Action=LocalControl", data=form, timeout=10).ok

    def meanwhile(process: psutil.Process) -> None:
        with AgentBay(KEY, endpoint=joined.endpoint) as client:
            for entry in client.list_all():
                session = client.get(entry["sessionId"]).session
                assert session is not None and session.token
                # What opens the session is a secret as well.
                round.secrets |= {session.token, urlsplit(session.link_url).path}
                round.search(str(session.get_labels().labels), "the labels")
        round.search_process(process, has_key=True)
        assert round.search_process(psutil.Process(joined.process.pid)) > 0

    env = {**round.environment("kernel.log"), **key}
    stored = round.run_notebook("agentbay-python", CELLS, env, meanwhile)
    assert "as planned" in stored and "no such verb" in stored
    env = {**round.environment("magics.log"), **key}
    round.search(round.run_notebook("python3", MAGICS, env, meanwhile), "the notebook of magics")
    round.search(stored, "the notebook")
    for log in ("kernel.log", "magics.log"):
        assert "Action=CreateMcpSession" in (round.folder / log).read_text()
    round.search_files(round.folder)
    assert round.shown > 100_000


def test_with_the_kernels_own_runtime_beside_a_key(round: Round) -> None:
    env = {**round.environment("kernel.log"), "AGENTBAY_API_KEY": KEY, "AGENTBAY_BACKEND": "local"}
    children = []
    stored = round.run_notebook(
        "agentbay-python",
        CELLS,
        env,
        lambda process: children.append(round.search_process(process, has_key=True)),
    )
    # The runtime, the sandbox, its kernel: none has use for the key.
    assert children[0] >= 3
    round.search(stored, "the notebook")
    round.search_files(round.folder)


def test_the_command_line_and_the_kernelspecs(round: Round) -> None:
    env = {**round.environment("cli.log"), "AGENTBAY_API_KEY": KEY}
    for arguments in (
        ["--help"],
        ["--debug", "install", "--prefix", str(round.folder / "prefix"), "--local"],
        ["--debug", "install", "--prefix", "/dev/null/nowhere"],
        ["uninstall", "--prefix", str(round.folder / "nowhere")],
        ["no such command"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "agentbay_kernel", *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        round.search(done.stdout + done.stderr, f"the output of {arguments}")
    assert list(round.folder.rglob("kernel.json"))
    round.search_files(round.folder)
