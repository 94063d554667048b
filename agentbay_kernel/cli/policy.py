"""`jupyter agentbay policy`: every notebook of a Jupyter server in a sandbox.

In: whose servers, and the kernels that are excepted. Out: settings in `jupyter_server_config.json`
(in one directory, it wins over the `.py`). It is a rule for those who use the server, not a wall
against the server's own user.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.provisioner import NAME, is_sandboxed

_FILE = "jupyter_server_config.json"
_VARIABLE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
# What the policy sets: sections of Jupyter Server's configuration, and a setting in each.
_MANAGER = "ServerApp", "kernel_spec_manager_class"
_TRUSTED = "SandboxedKernelSpecManager", "trusted_kernels"
_CLASS = "agentbay_kernel.provisioner.SandboxedKernelSpecManager"


@dataclass(frozen=True)
class Kernel:
    """An installed kernel, and what the policy makes of it.

    `state` is `sandboxed`, `trusted` (runs on this machine, because it is excepted) or `refused`
    (no language of the sandbox). `escapes` the variable, not the policy, who names a provisioner
    of its own.
    """

    name: str
    state: str
    escapes: bool


def policy(options: Namespace) -> int:
    """Turn the policy on or off, or show it."""
    folder = _folder(options)
    if options.what == "on":
        _turn_on(folder, options.trust)
    elif options.what == "off":
        _turn_off(folder)
    return _show(folder)


def active_policies() -> list[Path]:
    """The files that make the policy hold for a server of this user."""
    from jupyter_core.paths import jupyter_config_path

    return [
        Path(folder, _FILE)
        for folder in jupyter_config_path()
        if _value(_read(Path(folder)), _MANAGER) == _CLASS
    ]


def installed_kernels(trusted: list[str]) -> list[Kernel]:
    """All kernels that Jupyter finds, by name."""
    from jupyter_client.kernelspec import KernelSpecManager

    kernels = []
    for name, found in sorted(KernelSpecManager().get_all_specs().items()):
        spec = found["spec"]
        own = (spec.get("metadata") or {}).get("kernel_provisioner") or {}
        if name in trusted:
            state = "trusted"
        else:
            state = "sandboxed" if is_sandboxed(name, spec.get("language")) else "refused"
        kernels.append(Kernel(name, state, own.get("provisioner_name", NAME) != NAME))
    return kernels


def trusted_kernels() -> list[str]:
    """The kernels that settings or a policy except."""
    names = list(load_settings().trusted_kernels)
    config = _server_config()
    if config is None:
        for file in active_policies():
            names += _value(_read(file.parent), _TRUSTED) or []
        return names
    section, setting = _TRUSTED
    return [*names, *config[section].get(setting, [])]


def overriding_class() -> str:
    """The manager of kernelspecs that this user's servers have in spite of a policy, or nothing.

    A user's own configuration wins over that of the system.
    """
    config = _server_config()
    section, setting = _MANAGER
    chosen = config[section].get(setting) if config is not None and active_policies() else _CLASS
    name = chosen if isinstance(chosen, str) else f"{chosen.__module__}.{chosen.__qualname__}"
    return "" if name == _CLASS else name


def _server_config() -> Any:
    """What a Jupyter server of this user that starts here reads; None if none is installed."""
    try:
        from jupyter_server.serverapp import ServerApp
    except ImportError:
        return None
    server = ServerApp()
    # What can't be read it only reports, as this does.
    server.load_config_file()
    return server.config


def _turn_on(folder: Path, trust: list[str]) -> None:
    known = [kernel.name for kernel in installed_kernels(trust)]
    if missing := sorted(set(trust) - set(known)):
        raise ConfigurationError(
            f"There is no kernel {', '.join(missing)}. Installed: {', '.join(known)}. Nothing was "
            "changed."
        )
    document = _without_policy(_read(folder))
    for (section, setting), value in ((_MANAGER, _CLASS), (_TRUSTED, trust)):
        # An empty list would hide one in another file.
        if value:
            document.setdefault(section, {})[setting] = value
    _write(folder, document)


def _turn_off(folder: Path) -> None:
    document = _read(folder)
    if _value(document, _MANAGER) != _CLASS:
        return
    _write(folder, _without_policy(document))


def _without_policy(document: dict[str, Any]) -> dict[str, Any]:
    for section, setting in (_MANAGER, _TRUSTED):
        document.get(section, {}).pop(setting, None)
        if not document.get(section, True):
            del document[section]
    return document


def _show(folder: Path) -> int:
    active = active_policies()
    file = folder / _FILE
    print(f"The policy is {'on' if file in active else 'off'} in {file}")
    for other in active:
        if other != file:
            print(f"It is on in {other}")
    if overriding := overriding_class():
        print(
            f"It is not in force: a configuration of yours chooses {overriding}. Remove "
            f"{'.'.join(_MANAGER)} there (`jupyter --paths` lists the directories)."
        )
    in_force = bool(active) and not overriding
    print("Kernels:" if in_force else "Kernels, if it were in force:")
    for kernel in installed_kernels(trusted_kernels()):
        print(f"  {kernel.name:<24} {kernel.state}")
    if active:
        print("Servers that run must be restarted.")
    print(
        f"For programs without a server (nbclient, papermill, nbconvert): export {_VARIABLE}={NAME}"
        + (" (set here)" if os.environ.get(_VARIABLE) == NAME else "")
    )
    return 0


def _folder(options: Namespace) -> Path:
    from jupyter_core.paths import SYSTEM_CONFIG_PATH, jupyter_config_dir

    if options.sys_prefix:
        return Path(sys.prefix, "etc", "jupyter")
    return Path(SYSTEM_CONFIG_PATH[0] if options.system else jupyter_config_dir())


def _read(folder: Path) -> dict[str, Any]:
    file = folder / _FILE
    try:
        document = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if not isinstance(document, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} could not be read: {error}. Fix or remove it.") from error
    return document


def _write(folder: Path, document: dict[str, Any]) -> None:
    file = folder / _FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Never half of it: a server would start without the policy.
        new = file.with_suffix(".new")
        new.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        new.replace(file)
    except OSError as error:
        raise ConfigurationError(
            f"{file} could not be written: {error}. Nothing was changed."
        ) from error


def _value(document: dict[str, Any], place: tuple[str, str]) -> Any:
    section, setting = place
    found = document.get(section)
    return found.get(setting) if isinstance(found, dict) else None
