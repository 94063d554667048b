"""A session without isolation: its code can do all that the user can.

It has private directories and a clean environment, and leaves no process and no file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from agentbay_kernel.local.confinement import (
    MARK,
    PACKAGE,
    START,
    Confinement,
    Folders,
    Interpreter,
    Launch,
)
from agentbay_kernel.local.node import major_version
from agentbay_kernel.local.settings import Settings

FIRST_WITH_PERMISSIONS = 20
PERMISSIONS_STABLE = 24


class PlainConfinement(Confinement):
    """No isolation: private directories, a clean environment, resource limits."""

    def __init__(self, settings: Settings, interpreter: Interpreter, base: Path) -> None:
        super().__init__(settings, interpreter)
        self._home = Path(tempfile.mkdtemp(prefix="s", dir=base))
        for name in ("workspace", "tmp", "run"):
            (self._home / name).mkdir(mode=0o700)
        run = str(self._home / "run")
        self.folders = Folders(
            workspace=str(self._home / "workspace"),
            temporary=str(self._home / "tmp"),
            run=run,
            run_outside=run,
            library=str(PACKAGE.parent),
        )

    def _command(self, fd: int, first: Launch) -> list[str]:
        python = [sys.executable, "-I", "-S", "-c", START, self.folders.library]
        return [*python, *self.agent_arguments(fd, first, owner=True, uids=None)]

    def node_flags(self, node: str) -> list[str]:
        """Return the flags of Node's permissions: no writes elsewhere, no child processes."""
        major = major_version(node)
        if major < FIRST_WITH_PERMISSIONS:
            return []
        switch = "--permission" if major >= PERMISSIONS_STABLE else "--experimental-permission"
        return [
            switch,
            "--allow-fs-read=*",
            f"--allow-fs-write={self.folders.workspace}/",
            f"--allow-fs-write={self.folders.temporary}/",
        ]

    def _system_path(self) -> list[str]:
        return os.environ.get("PATH", os.defpath).split(os.pathsep)

    async def _clean(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._sweep)

    def _sweep(self) -> None:
        kill_marked(self.name)
        shutil.rmtree(self._home, ignore_errors=True)


def kill_marked(name: str) -> None:
    """Kill the processes with a session's variable: its agent may have been killed."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == name:
                process.kill()
