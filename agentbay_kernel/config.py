"""The settings, in one traits class.

Each trait `x` takes its value from, in this order: the command line
(`--AgentBaySettings.x=...`), the environment variable `AGENTBAY_X`, `jupyter_agentbay_config.py`
in Jupyter's configuration folders (`c.AgentBaySettings.x = ...`), the default written here.
The working directory is never looked at: a downloaded folder must not change a setting.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Integer, TraitError, TraitType, Unicode
from traitlets.config import Config, Configurable

from agentbay_kernel.errors import ConfigurationError

CONFIG_FILE = "jupyter_agentbay_config.py"


class AgentBaySettings(Configurable):
    """Settings of the kernels, the magics and the command line."""

    backend = Enum(
        ("cloud", "local"),
        "cloud",
        help="Where sessions live: `cloud` is the AgentBay service, `local` the local runtime, "
        "which runs code on this machine.",
    ).tag(config=True)

    start = Enum(
        ("auto", "first-cell", "open"),
        "auto",
        help="When a session is created: `first-cell` at the first executed cell, `open` when "
        "the notebook is opened; `auto` is `first-cell` with the service, where a session costs "
        "money, and `open` with the local runtime.",
    ).tag(config=True)

    execution = Enum(
        ("auto", "direct", "bridged"),
        "auto",
        help="How Python cells are run: `direct` is one request to the service a cell, `bridged` "
        "a Jupyter kernel inside the sandbox; `auto` is bridged where the sandbox can.",
    ).tag(config=True)

    image = Unicode("code_latest", help="The image a session is created from.").tag(config=True)

    timeout = Float(
        None,
        allow_none=True,
        help="Seconds after which a cell is stopped; none by default. One request to the "
        "service is cut at 60 seconds whatever is set here.",
    ).tag(config=True)

    output_limit = Integer(
        20_000_000,
        min=1,
        help="Characters that one cell may print; what is beyond is counted and not shown.",
    ).tag(config=True)

    exchange_limit = Integer(
        2_000_000_000,
        min=1,
        help="Bytes that one exchange of values or files may have; what has more is refused.",
    ).tag(config=True)

    idle_minutes = Integer(
        15, min=1, help="Minutes without use after which the service releases a session."
    ).tag(config=True)

    max_minutes = Integer(
        480, min=1, help="Minutes after which the service releases a session in any case."
    ).tag(config=True)

    local_isolation = Enum(
        ("auto", "required", "none"),
        "auto",
        help="How the local runtime confines code: with bubblewrap where it works (`auto`), only "
        "with it (`required`), or not at all (`none`).",
    ).tag(config=True)

    local_network = Bool(
        False, help="Does the local runtime give isolated sessions this machine's network?"
    ).tag(config=True)

    local_python = Unicode(
        sys.executable,
        help="The interpreter that the local runtime runs Python cells in; it needs ipykernel.",
    ).tag(config=True)

    local_spares = Integer(
        0,
        min=0,
        max=1,
        help="Sessions that a notebook's local runtime keeps ready. One makes a further session "
        "start faster and takes about 110 MB.",
    ).tag(config=True)

    @property
    def starts_on_open(self) -> bool:
        """Is the session created when the notebook is opened?"""
        return self.start == "open" or (self.start == "auto" and self.backend == "local")


def load_settings(command_line: Config | None = None) -> AgentBaySettings:
    """The settings in force.

    Arguments:
        command_line: what was configured on the command line of the kernel; it wins.

    Raises:
        ConfigurationError: a configuration file or an environment variable is not valid.
    """
    try:
        settings = AgentBaySettings(config=_file_config())
    except TraitError as error:
        raise ConfigurationError(
            f"{CONFIG_FILE} holds a value that is not valid: {error}"
        ) from error
    for name, trait in AgentBaySettings.class_own_traits(config=True).items():
        variable = f"AGENTBAY_{name.upper()}"
        if value := os.environ.get(variable):
            _set_from_text(settings, name, trait, variable, value)
    if command_line is not None:
        settings.update_config(command_line)
    return settings


def _set_from_text(
    settings: AgentBaySettings, name: str, trait: TraitType[Any, Any], variable: str, value: str
) -> None:
    try:
        setattr(settings, name, trait.from_string(value))
    except (TraitError, ValueError) as error:
        raise ConfigurationError(
            f"The environment variable {variable}={value!r} is not valid: {error} "
            f"What it is for: {trait.help}"
        ) from error


def _file_config() -> Config:
    from jupyter_core.paths import jupyter_config_path
    from traitlets.config.loader import PyFileConfigLoader

    config = Config()
    # The first folder of the list wins, so it is merged last.
    for folder in reversed(jupyter_config_path()):
        if not Path(folder, CONFIG_FILE).is_file():
            continue
        try:
            config.merge(PyFileConfigLoader(CONFIG_FILE, path=folder).load_config())
        except Exception as error:
            raise ConfigurationError(
                f"{Path(folder, CONFIG_FILE)} could not be read: {type(error).__name__}: {error}. "
                "Mend or remove it."
            ) from error
    return config
