"""An AgentBay kernel that writes down which of its files a cell passes, and on which threads.

In: a folder in the environment. Out: from the moment that a file `begin` is there, one line in
`passed` for each file of the package in which something is called, and each thread that calls: the
path in the package, the thread's name.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import agentbay_kernel

FOLDER_VARIABLE = "AGENTBAY_TEST_WALK"


def note_passed_files(folder: Path) -> None:
    """Begin to write down, in all threads."""
    package = str(Path(agentbay_kernel.__file__).parent) + os.sep
    passed: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(package):
            return
        step = (path.removeprefix(package), threading.current_thread().name)
        if step not in passed and (folder / "begin").exists():
            passed.add(step)
            with (folder / "passed").open("a") as file:
                file.write(" ".join(step) + "\n")

    threading.setprofile(note)
    sys.setprofile(note)


if __name__ == "__main__":
    note_passed_files(Path(os.environ[FOLDER_VARIABLE]))
    from agentbay_kernel.kernel.app import main

    main()
