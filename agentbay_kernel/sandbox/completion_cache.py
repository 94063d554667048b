"""Jedi's cache of parsed files, filled before the first completion needs it.

Without a cache, the first completion parses Python's own stubs. That takes seconds, and a page does
not wait that long. A local runtime provides the cache. Elsewhere a process beside the kernel fills
it, and until it has ended IPython completes without Jedi.

Runs inside a sandbox, with Python 3.9 or newer, and in the local runtime, which makes its cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

# Names the directory of the cache that a local runtime provides.
CACHE_VARIABLE = "AGENTBAY_COMPLETION_CACHE"
# Completions that parse the files that most others need: builtins, typing, os, io.
FILL = """\
import os
os.nice(19)
import jedi
for code in ("pri", "''.jo", "import os\\nos.path.jo", "open('x').re", "import json\\njson.du"):
    for found in jedi.Interpreter(code, [{}]).complete():
        found.type, found.get_signatures()
"""
# Not in the home directory, where the user would see it. IPython 9 imports Jedi with the first
# completion, by a private function; older versions have imported it already.
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
# Run by the kernel, which knows the user's own setting.
WITHOUT_JEDI = "setattr(get_ipython().Completer, 'use_jedi', False)"
WITH_JEDI = """(lambda completer: setattr(completer, "use_jedi", completer.config.get(
    "Completer", {}
).get("use_jedi", type(completer).use_jedi.default_value)))(get_ipython().Completer)"""


class CompletionCache:
    """The cache of one kernel: copied from the local runtime's, or filled by a process.

    Arguments:
        folder: the bridge's directory; the cache is in it.
    """

    def __init__(self, folder: str) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.directory = f"{folder}/jedi"
        provided = os.environ.get(CACHE_VARIABLE, "")
        with contextlib.suppress(OSError):
            if provided:
                shutil.copytree(provided, self.directory)
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
        """Code that the kernel runs before any cell."""
        use = USE_DIRECTORY.format(source=USE_SOURCE, directory=self.directory)
        return [use, WITHOUT_JEDI] if self.filling else [use]

    @property
    def filling(self) -> bool:
        """Whether it is still being filled."""
        return self.process is not None

    def just_filled(self) -> bool:
        """Return once whether the process that fills it has ended."""
        if self.process is None or self.process.poll() is None:
            return False
        self.process = None
        return True

    def close(self) -> None:
        """End the process that fills it."""
        if self.process is not None:
            self.process.kill()
