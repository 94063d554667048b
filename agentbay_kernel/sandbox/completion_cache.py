"""Jedi's cache of parsed files, filled before the first completion needs it.

A first completion parses Python's own stubs, which takes seconds where nothing is cached, and a
page does not wait that long. A local runtime brings the parsed files along. Elsewhere a process
beside the kernel parses them, and until it has ended IPython completes without Jedi.

Runs inside a sandbox, with Python 3.9 or newer, and in the local runtime, which makes what it
brings along.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

# Where a local runtime keeps what it brings along.
BROUGHT = "AGENTBAY_COMPLETION_CACHE"
# Completions whose files most others need too: builtins, typing, os, io.
FILL = """\
import os
os.nice(19)
import jedi
for code in ("pri", "''.jo", "import os\\nos.path.jo", "open('x').re", "import json\\njson.du"):
    for found in jedi.Interpreter(code, [{}]).complete():
        found.type, found.get_signatures()
"""
# Not in the home, where the user would find it. IPython 9 imports Jedi with the first completion,
# by a function that has no public name; before that, Jedi is imported already.
USE_DIRECTORY = """exec({source!r}, {{"__name__": "_agentbay", "directory": {directory!r}}})"""
USE_SOURCE = """\
import sys
from IPython.core import completer

def keep(jedi):
    jedi.settings.cache_directory = directory
    return jedi

get = getattr(completer, "_get_jedi", None)
if get is not None:
    completer._get_jedi = lambda: keep(get())
elif "jedi" in sys.modules:
    keep(sys.modules["jedi"])
"""
# Said to the kernel, which knows what its user has set meanwhile.
WITHOUT_JEDI = "setattr(get_ipython().Completer, 'use_jedi', False)"
WITH_JEDI = """(lambda completer: setattr(completer, "use_jedi", completer.config.get(
    "Completer", {}
).get("use_jedi", type(completer).use_jedi.default_value)))(get_ipython().Completer)"""


class CompletionCache:
    """The cache of one kernel: brought along, or filled by a process.

    Arguments:
        folder: the bridge's; the cache is in it.
    """

    def __init__(self, folder: str) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.directory = f"{folder}/jedi"
        brought = os.environ.get(BROUGHT, "")
        with contextlib.suppress(OSError):
            if brought:
                shutil.copytree(brought, self.directory)
                return
        with contextlib.suppress(OSError):
            self.process = subprocess.Popen(
                [sys.executable, "-c", FILL],
                env={**os.environ, "XDG_CACHE_HOME": folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def preparations(self) -> list[str]:
        """What the kernel runs before any cell."""
        use = USE_DIRECTORY.format(source=USE_SOURCE, directory=self.directory)
        return [use, WITHOUT_JEDI] if self.cold else [use]

    @property
    def cold(self) -> bool:
        """Is it still being filled?"""
        return self.process is not None

    def warmed(self) -> bool:
        """Has the process that fills it ended since this was asked last?"""
        if self.process is None or self.process.poll() is None:
            return False
        self.process = None
        return True

    def close(self) -> None:
        """End the process that fills it."""
        if self.process is not None:
            self.process.kill()
