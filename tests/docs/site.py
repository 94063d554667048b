"""The built site of the documentation."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import FOLDER


def built(factory: pytest.TempPathFactory) -> Path:
    """Where its pages are; of all the workers of a run, the first that asks builds it."""
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "site" / "complete").exists():
            # What a build that failed left says nothing.
            shutil.rmtree(place / "site", ignore_errors=True)
            _build(place / "site")
            (place / "site" / "complete").touch()
    return place / "site" / "html"


def _build(folder: Path) -> None:
    """Build it below a directory, warnings as errors."""
    if not shutil.which("dot"):
        pytest.skip("graphviz is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going"]
    command += ["-d", str(folder / "doctrees"), str(FOLDER), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """The site at a loopback address, as a reader gets it."""
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
