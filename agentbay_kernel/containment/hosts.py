"""The hosts that a user's frames may load from, besides those of the setting `html_hosts`.

They are in a file of the user, which is read for each new frame: a change needs no restart.
`jupyter agentbay allow` writes it. Its name starts with a dot, because cells reach no such file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from agentbay_kernel.errors import ConfigurationError

_FILE = ".allowed_hosts.json"
_LARGEST = 64 * 1024
_LOCK_WITHIN_S = 10.0
_label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A wildcard stands for the hosts of a domain, not for all of a top-level domain.
_host = re.compile(
    rf"(?:\*\.{_label}(?:\.{_label})+|{_label}(?:\.{_label})*)(?::\d{{1,5}})?\Z", re.A
)


def hosts_file() -> Path:
    """Return the path of the file, in Jupyter's configuration directory."""
    from jupyter_core.paths import jupyter_config_dir

    return Path(jupyter_config_dir(), "agentbay", _FILE)


def is_host(name: str) -> bool:
    """Return whether it is a host, or a wildcard, as `allow` accepts it."""
    return len(name) <= 253 and _host.match(name) is not None


def checked_host(name: str) -> str:
    """Return the host in lower case, in ASCII.

    Raises:
        ConfigurationError: it is not a host; the message shows how to write it.
    """
    host = name.strip().strip("'\"").lower().rstrip(".")
    if not host.isascii():
        with contextlib.suppress(UnicodeError):
            host = host.encode("idna").decode("ascii")
    if is_host(host):
        return host
    advice = "Write a host, like cdn.example.org or *.tile.example.org."
    if inside := re.match(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?([^/?#]+)", host):
        if is_host(inside[1]):
            advice = f"Write its host only: jupyter agentbay allow {inside[1]}"
    elif is_host(host.partition("/")[0]):
        advice = f"Write its host only: jupyter agentbay allow {host.partition('/')[0]}"
    elif host == "*":
        advice = "To allow every host, set AGENTBAY_HTML_HOSTS=* where Jupyter is started."
    raise ConfigurationError(f"{name!r} is not a host. {advice} Nothing was changed.")


def allowed_hosts() -> tuple[str, ...]:
    """Return the hosts in the file; no hosts if it is missing.

    Raises:
        ConfigurationError: the file is not valid, or others can write it.
    """
    path = hosts_file()
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            _check_owner(path, status)
            content = json.loads(file.read(_LARGEST))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, str(error)) from error
    hosts = content.get("hosts") if isinstance(content, dict) else None
    if not isinstance(hosts, list) or not all(isinstance(it, str) and is_host(it) for it in hosts):
        raise _unusable(path, "it is not a list of hosts")
    return tuple(hosts)


def change_hosts(add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Add and remove hosts; return all hosts that are allowed afterwards.

    Raises:
        ConfigurationError: a name is not a host, a host to remove is not in the file, or the file
            can't be used.
    """
    added, removed = [checked_host(it) for it in add], [checked_host(it) for it in remove]
    path = hosts_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_WITHIN_S, mode=0o600):
            before = allowed_hosts()
            if missing := [it for it in removed if it not in before]:
                raise ConfigurationError(
                    f"{', '.join(missing)} is not in the list: "
                    f"{', '.join(before) or 'no host is'}. Nothing was changed."
                )
            hosts = sorted({*before, *added} - set(removed))
            _replace(path, json.dumps({"hosts": hosts}, indent=1) + "\n")
    except (OSError, Timeout) as error:
        raise _unusable(path, str(error)) from error
    return tuple(hosts)


def _replace(path: Path, text: str) -> None:
    # Created by mkstemp with 0600.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "it is not a file")
    if os.name == "posix" and (
        status.st_uid not in (os.geteuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise _unusable(path, "others can write it")


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The list of allowed hosts, {path}, can't be used: {why}. "
        "Correct or remove it. Until then frames load from no host in it."
    )
