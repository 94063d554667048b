"""Hints on how to fix an error of the sandbox: with something that exists here, or by an
installation there.

They are made from the name and the message of a remote error. Nothing is sent. The error comes from
the sandbox, so it is not trusted: a hint names a package that runs on this machine only if it is
installed here or well known.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.local_files import path_to_read
from agentbay_kernel.sessions.packages import PACKAGES

_NAME = re.compile(r"(?:name '(\w{1,200})' is not defined|(\w{1,200}) is not defined)")
_FILE = re.compile(r"(?:No such file or directory: |ENOENT: [^']*)'([^']{1,4000})'")
_DIALOG = re.compile(r"(alert|confirm|prompt) is not defined")
_MODULE = re.compile(r"No module named '([\w.]{1,200})'", re.A)
_NODE_MODULE = re.compile(r"Cannot find (?:module|package) '((?:@[\w.-]+/)?\w[\w.-]{0,100})", re.A)
# No package has them: they were Python's own once, or belong to other environments.
_NEVER_THERE = {
    *("ConfigParser", "Queue", "StringIO", "Tkinter", "__builtin__", "asynchat", "asyncore"),
    *("cPickle", "cStringIO", "cgi", "crypt", "google", "imp", "smtpd", "telnetlib", "urllib2"),
    "urlparse",
}


@dataclass(frozen=True)
class Here:
    """The facts of this machine that hints use.

    Arguments:
        folder: the notebook's directory.
        names: names of variables that `-i` could send; none in an AgentBay kernel.
        untrusted: whether cells must not touch this machine: then no hint suggests it.
        offline_python: the interpreter of sandboxes without a network, which can't install packages
            themselves and use this interpreter's. Empty for others.
        sandbox_has: well-known packages of the sandbox, if they must be listed.
    """

    folder: Path
    names: Container[str] = ()
    untrusted: bool = False
    offline_python: str = ""
    sandbox_has: tuple[str, ...] = ()


def find_hint(ename: str, evalue: str, here: Here) -> str | None:
    """Return the hint for an error, one or two lines; None if nothing helps."""
    if match := _MODULE.search(evalue):
        return _missing(match[1], here) if ename == "ModuleNotFoundError" else None
    if here.untrusted:
        return None
    if ename in ("NameError", "ReferenceError") and (match := _NAME.match(evalue)):
        name = match[1] or match[2]
        if name in here.names:
            return f"{name} exists in this notebook: add `-i {name}` to %%agentbay to send it."
    elif match := _FILE.search(evalue):
        return _upload(match[1], here.folder)
    return None


def find_javascript_hint(ename: str, evalue: str, code: str, *, direct: bool) -> str | None:
    """Return the hint for an error of a JavaScript cell, as one line; None if there is none.

    Arguments:
        code: the code of the cell.
        direct: whether it was one request to the service.
    """
    from agentbay_kernel.javascript import dialect, with_calls

    if ename == "ReferenceError" and direct and (match := _DIALOG.fullmatch(evalue)):
        return f"{match[1]}() needs bridged execution: `%agentbay status` shows why it is direct."
    if match := _NODE_MODULE.match(evalue):
        package = match[1]
        return (
            f"{package} is not installed in the sandbox. In each new session: "
            f'`npm = ["{package}"]` in agentbay.toml.'
        )
    if ename != "SyntaxError":
        return None
    if name := dialect(code):
        return f"This looks like {name}. Node runs JavaScript: compile the code to it first."
    if direct and with_calls(code) != code:
        return (
            "`!command` and `name?` need bridged execution: `%agentbay status` shows why it is "
            "direct."
        )
    return None


def _upload(name: str, folder: Path, whole: str = "") -> str | None:
    """Return the hint for a file of the notebook's directory.

    Arguments:
        whole: the directory to send for it.
    """
    try:
        path = path_to_read(folder, name)
        relative = path.relative_to(folder.resolve()).as_posix()
    except (AgentBayError, OSError):
        return None
    if relative == ".":
        return None
    relative = whole or relative
    return (
        f"{relative} exists in the notebook's directory: `%agentbay upload "
        f"{shlex.quote(relative)}` sends it."
    )


def is_missing_module(ename: str, evalue: str) -> bool:
    """Return whether an error of Python reports that a package is missing."""
    return ename == "ModuleNotFoundError" and _MODULE.search(evalue) is not None


def _missing(module: str, here: Here) -> str | None:
    from importlib.metadata import packages_distributions

    top, _, inner = module.partition(".")
    if not here.untrusted and (own := _own_module(top, here.folder)) is not None:
        return own
    if top in _NEVER_THERE:
        return None
    distributions = packages_distributions().get(top)
    package = distributions[0] if distributions else PACKAGES.get(top)
    if inner:
        # The package that it belongs to was found.
        return package and (
            f"The {top} of the sandbox has no {module}. Another version may have it: "
            f"`%pip install --upgrade {package}`"
        )
    if package is None and top in sys.stdlib_module_names:
        return None
    missing = f"{top} is not installed in the sandbox."
    if here.sandbox_has:
        missing += f" It has {', '.join(here.sandbox_has)}; `%pip list` lists all."
    if not here.offline_python:
        package = package or top
        return (
            f"{missing}\nInstall it now: `%pip install {package}`; in each new session: "
            f'`pip = ["{package}"]` in agentbay.toml.'
        )
    python = shlex.quote(here.offline_python)
    missing += f"\nThe sandbox has no network, and the packages of {python}."
    if package is None:
        return missing
    return f"{missing} Install it in a terminal: {python} -m pip install {package}"


def _own_module(name: str, folder: Path) -> str | None:
    """Return the hint for a module beside the notebook."""
    return _upload(f"{name}.py", folder) or _upload(f"{name}/__init__.py", folder, name)
