"""`make lab`: JupyterLab with the kernels and the notebooks, without a key."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "notebooks" / "open_lab.py"
TOKEN = "token-of-this-test"
START_S = 60


@contextlib.contextmanager
def opened(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`make lab`, without opening a browser; its output goes to `log`."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                *(sys.executable, SCRIPT, "--no-browser", "--ServerApp.ip=127.0.0.1"),
                *("--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"),
            ],
            stdout=sink,
            stderr=sink,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def address_of(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    """The address of the server, which it leaves in its runtime folder, once it answers."""
    deadline = time.monotonic() + START_S
    while True:
        for file in home.glob(f"**/jpserver-{process.pid}.json"):
            # The file may be half written, and is there before the server listens.
            with contextlib.suppress(ValueError, urllib.error.URLError):
                address = str(json.loads(file.read_text())["url"])
                get(address, "status")
                return address
        alive = process.poll() is None and time.monotonic() < deadline
        assert alive, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def get(address: str, path: str) -> Any:
    """The answer of the server's REST API."""
    request = urllib.request.Request(
        f"{address}api/{path}", headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_make_lab(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTBAY_BACKEND", raising=False)
    log = tmp_path / "lab.log"
    with opened(log) as process:
        address = address_of(process, home, log)
        kernels = get(address, "kernelspecs")["kernelspecs"]
        files = {entry["name"] for entry in get(address, "contents/notebooks")["content"]}
        # A link of notebook 03.
        assert get(address, "contents/docs/reference/values.md?content=0")["type"] == "file"
    assert "their cells run on THIS machine" in log.read_text()
    for name in ("agentbay-python", "agentbay-javascript"):
        assert set(kernels[name]["resources"]) == {"logo-32x32", "logo-64x64", "logo-svg"}
    assert {"01-first-steps.ipynb", "06-magics.ipynb"} <= files
