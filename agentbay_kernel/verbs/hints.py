"""One line that says how to fix an error of the sandbox with something that exists here.

In: the name and the message of a remote error, and what is here. Out: a line, or None. Sends
nothing: it looks whether a name, a file or a module of the error is on this side.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.exchange.local_files import path_to_read

_NAME = re.compile(r"(?:name '(\w{1,200})' is not defined|(\w{1,200}) is not defined)")
_FILE = re.compile(r"(?:No such file or directory: |ENOENT: [^']*)'([^']{1,4000})'")
_MODULE = re.compile(r"No module named '([\w.]{1,200})'")


@dataclass(frozen=True)
class Here:
    """What is on this side.

    Arguments:
        folder: the notebook's.
        names: of variables that `-i` could send; none in an AgentBay kernel.
        untrusted: cells must not touch this machine: no hint may do it.
    """

    folder: Path
    names: Container[str] = ()
    untrusted: bool = False


def find_hint(ename: str, evalue: str, here: Here) -> str | None:
    """Return the hint for an error, as one line; None if nothing here helps."""
    if match := _MODULE.search(evalue):
        return _install(match[1]) if ename == "ModuleNotFoundError" else None
    if here.untrusted:
        return None
    if ename in ("NameError", "ReferenceError") and (match := _NAME.match(evalue)):
        name = match[1] or match[2]
        if name in here.names:
            return f"{name} exists in this notebook: add `-i {name}` to %%agentbay to send it."
    elif match := _FILE.search(evalue):
        return _upload(match[1], here.folder)
    return None


def _upload(name: str, folder: Path) -> str | None:
    try:
        path = path_to_read(folder, name)
        relative = path.relative_to(folder.resolve()).as_posix()
    except (AgentBayError, OSError):
        return None
    if relative == ".":
        return None
    return (
        f"{relative} exists in the notebook's directory: `%agentbay upload "
        f"{shlex.quote(relative)}` sends it."
    )


def _install(module: str) -> str | None:
    from importlib.metadata import packages_distributions

    top = module.partition(".")[0]
    distributions = packages_distributions().get(top)
    if not distributions:
        return None
    return f"{top} is installed here, not in the sandbox: `%pip install {distributions[0]}` there."
