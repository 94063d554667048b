"""The settings, in one traits class.

Each trait `x` gets its value from the first of these that has one: the command line
(`--AgentBaySettings.x=...`), the environment variable `AGENTBAY_X`, `jupyter_agentbay_config.py`
in Jupyter's configuration directories (`c.AgentBaySettings.x = ...`), the default in this module.
No setting is read from the working directory: a downloaded directory must not change a setting. Two
files there are read, but they hold no settings: `.env`, of which only the key and the region are
used (service/endpoint.py), and `agentbay.toml`, the set-up of new sessions (sessions/recipe.py).

A notebook's cells may be untrusted. The trait's tag `in_notebook` defines how they can change the
setting for their notebook. `free` allows every value, and `lower` allows lower numbers. A tuple has
all values from loose to strict, and allows stricter ones. Without the tag, no change is allowed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Integer, List, TraitError, TraitType, Unicode
from traitlets.config import Config, Configurable

from agentbay_kernel.errors import ConfigurationError, NotAllowedError
from agentbay_kernel.renamed import RENAMED, did_you_mean, use_instead

CONFIG_FILE = "jupyter_agentbay_config.py"
_COMMAND_LINE = "the command line"
_HOST = re.compile(r"\*\Z|(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::\d{1,5})?\Z", re.I)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.A)
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_ENDING = re.compile(r"[A-Za-z0-9_]{1,20}\Z", re.A)
_PATH = re.compile(r"\.\Z|(?!\.)[^/\\:\0]+(?:/(?!\.)[^/\\:\0]+)*/?\Z")
_PACKAGE = re.compile(r"(?:@[\w.-]+/)?[\w.-]+\Z", re.A)


class Names(List[str]):
    """A list of names, separated by commas in the environment.

    Arguments:
        pattern: the pattern that each name must match.
        wanted: a description of such a name, for messages.
        help: the setting's help text.
    """

    def __init__(self, pattern: re.Pattern[str], wanted: str, help: str) -> None:
        super().__init__(Unicode(), help=help)
        self._pattern, self._wanted = pattern, wanted

    def validate_elements(self, obj: Any, value: Any) -> Any:
        """Refuse a name that does not match the pattern."""
        for name in value:
            if not isinstance(name, str) or not self._pattern.match(name):
                raise TraitError(f"{name!r} is not {self._wanted}.")
        return super().validate_elements(obj, value)

    def from_string(self, s: str) -> list[str]:
        """Return the names in a variable's value."""
        return [name.strip() for name in s.split(",") if name.strip()]


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
        help="How cells are run: `direct` is one request to the service per cell, `bridged` a "
        "Jupyter kernel or a Node worker inside the sandbox; `auto` is bridged if the sandbox "
        "can.",
    ).tag(config=True, in_notebook="free")

    image = Unicode("code_latest", help="The image a session is created from.").tag(config=True)

    timeout = Float(
        None,
        allow_none=True,
        help="Seconds that a cell's code may run before it is stopped; no limit by default. In "
        "direct execution the service cuts each request at 60 seconds, whatever is set here.",
    ).tag(config=True, in_notebook="free")

    output_limit = Integer(
        20_000_000,
        min=1,
        help="Characters that one cell may print; of the rest, only the end is shown.",
    ).tag(config=True, in_notebook="lower")

    display_limit = Integer(
        100_000_000,
        min=1,
        help="Bytes that the pictures and other displays of one cell may have together; a note "
        "replaces the rest.",
    ).tag(config=True, in_notebook="lower")

    response_limit = Integer(
        256 * 2**20,
        min=2**20,
        help="Most bytes of one response of the service, unpacked. A larger response is refused, "
        "with an error in the cell.",
    ).tag(config=True)

    late_output_seconds = Float(
        300.0,
        min=0.0,
        help="Seconds for which output of threads, timers and widgets is still collected after a "
        "cell or a widget's last message. Nothing is asked for when none of them is left.",
    ).tag(config=True, in_notebook="lower")

    strict_const = Bool(
        True,
        help="JavaScript: whether assigning to a `const` throws. A later cell may always declare "
        "it again.",
    ).tag(config=True, in_notebook="free")

    exchange_limit = Integer(
        2_000_000_000,
        min=1,
        help="Most bytes of one exchange of values or files; a larger one is refused.",
    ).tag(config=True, in_notebook="lower")

    download_endings = Names(
        _ENDING,
        "the ending of a name, like svg or html",
        help="Endings of names that `download` and `last --save` write where asked, besides those "
        "of data. Other files go below `from-sandbox`. In the environment: separated by commas.",
    ).tag(config=True)

    idle_minutes = Integer(
        15, min=1, help="Minutes without use after which the service releases a session."
    ).tag(config=True, in_notebook="lower")

    max_minutes = Integer(
        480, min=1, help="Minutes after which the service releases a session in any case."
    ).tag(config=True, in_notebook="lower")

    untrusted = Bool(
        False,
        help="Turns off every command and flag that touches this machine: upload, download, "
        "saving, values to and from the notebook. For notebooks that somebody else wrote. The "
        "local runtime then runs nothing that it can't isolate, unless `local_isolation` is "
        "`none`.",
    ).tag(config=True, in_notebook=(False, True))

    audit_log = Unicode(
        "",
        help="A file that gets a line each time code or local data is sent: time, session, sizes, "
        "the code's SHA-256. No file by default.",
    ).tag(config=True)

    keep_alive_minutes = Float(
        60.0,
        min=0.0,
        help="Minutes for which one running cell keeps its session alive; a longer `timeout` wins.",
    ).tag(config=True)

    max_sessions = Integer(
        3, min=1, help="Most sessions that you can have at one service at once, in all notebooks."
    ).tag(config=True)

    on_restart = Enum(
        ("interpreter", "session"),
        "interpreter",
        help="What a restarted kernel starts with: a new `interpreter` in the same session, so "
        "that its files stay, or a new `session`.",
    ).tag(config=True)

    grace_minutes = Float(
        10.0,
        min=0.0,
        help="Minutes for which the session of a killed kernel waits for its restarted notebook "
        "before it is deleted.",
    ).tag(config=True)

    state_dir = Unicode(
        "",
        help="Directory of the file that lists your sessions; `agentbay` in Jupyter's data "
        "directory if empty.",
    ).tag(config=True)

    session_id = Unicode(
        "", help="A session to attach to when the kernel starts; then none is created."
    ).tag(config=True)

    delete_attached = Bool(
        False,
        help="Whether `%agentbay delete --force` in a notebook may delete an attached session.",
    ).tag(config=True)

    setup_env = Names(
        _VARIABLE,
        "the name of an environment variable",
        help="Names of environment variables whose values a setup recipe may bring into a session. "
        "In the environment: separated by commas.",
    ).tag(config=True)

    session_files = Names(
        _PATH,
        "a relative path like data/prices.csv that starts with no dot, or . for the directory",
        help="Files and directories below the notebook's directory of which each new session gets "
        "read-only copies, also if `untrusted` is on; `.` is the whole directory. In the "
        "environment: separated by commas.",
    ).tag(config=True)

    html = Enum(
        ("contain", "sanitize", "trust", "text"),
        "contain",
        help="What a sandbox's HTML may do in the notebook's page: `contain` shows inert HTML "
        "as it is and the rest in sandboxed frames, `sanitize` removes what acts, `text` shows "
        "text and pictures only, `trust` lets everything run with the rights of the page.",
    ).tag(config=True, in_notebook=("trust", "contain", "sanitize", "text"))

    trusted_kernels = Names(
        _PACKAGE,
        "the name of a kernel, like python3",
        help="Kernels that `agentbay-provisioner` starts as they are, on this machine, without a "
        "sandbox. In the environment: separated by commas.",
    ).tag(config=True)

    html_hosts = Names(
        _HOST,
        "a host like cdn.example.org, *.example.org, or * for all",
        help="Hosts that framed output may load from, by https; none by default. In the "
        "environment: separated by commas. `jupyter agentbay allow HOST` allows more, without a "
        "restart.",
    ).tag(config=True)

    widget_packages = Names(
        _PACKAGE,
        "an npm package like ipyleaflet or @scope/package",
        help="Widget packages that are shown beside ipywidgets' own. Their code runs in the "
        "notebook's page, with state from the sandbox: name only those that handle hostile state.",
    ).tag(config=True)

    local_isolation = Enum(
        ("auto", "required", "none"),
        "auto",
        help="How the local runtime confines code: with bubblewrap where it works (`auto`), only "
        "with it (`required`), or not at all (`none`).",
    ).tag(config=True, in_notebook=("none", "auto", "required"))

    local_network = Bool(
        False, help="Whether isolated sessions of the local runtime can use this machine's network."
    ).tag(config=True, in_notebook=(True, False))

    local_python = Unicode(
        sys.executable,
        help="The interpreter that the local runtime runs Python cells in; it needs ipython, and "
        "ipykernel for bridged execution.",
    ).tag(config=True)

    local_memory = Integer(
        4096,
        min=256,
        help="MB of memory that all processes of a session of the local runtime may use together.",
    ).tag(config=True)

    local_prewarm = Integer(
        0,
        min=0,
        max=1,
        help="Pre-warmed sessions that a notebook's local runtime keeps. One makes a further "
        "session start faster and takes about 110 MB.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The source of each value that is not the default, by the setting's name.
        self.sources: dict[str, str] = {}

    @property
    def starts_on_open(self) -> bool:
        """Whether the session is created when the notebook is opened."""
        return self.start == "open" or (self.start == "auto" and self.backend == "local")

    @property
    def isolation(self) -> str:
        """The isolation of the local runtime: `local_isolation`, or `required` if untrusted.

        With `untrusted`, nobody has read the code. So it runs without isolation only if
        `local_isolation` is `none`.
        """
        return (
            "required"
            if self.untrusted and self.local_isolation == "auto"
            else self.local_isolation
        )

    def change_in_notebook(self, changes: Iterable[tuple[str, str]]) -> None:
        """Change settings for this notebook at the request of a cell: all of them, or none.

        A change never loosens a policy.

        Arguments:
            changes: names of settings, and the values as in environment variables.

        Raises:
            ConfigurationError: there is no such setting, or the value is not one of its values.
            NotAllowedError: a cell may not make this change.
        """
        values: dict[str, Any] = {}
        for name, text in changes:
            values[name] = self._allowed(name, text, values.get(name, getattr(self, name, None)))
        for name, value in values.items():
            setattr(self, name, value)
            self.sources[name] = "this notebook"

    def _allowed(self, name: str, text: str, before: Any) -> Any:
        """Return the value that a cell requests for a setting, if the change is allowed."""
        traits = self.class_own_traits(config=True)
        if name in RENAMED:
            raise ConfigurationError(use_instead(name))
        if name not in traits:
            raise ConfigurationError(
                f"There is no setting {name!r}. There are: {', '.join(sorted(traits))}."
            )
        trait = traits[name]
        rule = trait.metadata.get("in_notebook")
        elsewhere = (
            f"Set AGENTBAY_{name.upper()} in the environment or c.AgentBaySettings.{name} in "
            f"{CONFIG_FILE}, then restart the kernel. Nothing was changed."
        )
        if rule is None:
            raise NotAllowedError(f"A cell can't change the setting {name}. {elsewhere}")
        value = _from_text(name, trait, f"{name}={text}", text)
        if isinstance(rule, tuple):
            looser = rule.index(value) < rule.index(before)
        else:
            looser = rule == "lower" and value > before
        if looser:
            raise NotAllowedError(
                f"A cell can only make the setting {name} stricter than {before}, and {value} is "
                f"looser. {elsewhere}"
            )
        return value


def load_settings(command_line: Config | None = None) -> AgentBaySettings:
    """Return the settings from all sources.

    Arguments:
        command_line: the settings from the kernel's command line, which take precedence.

    Raises:
        ConfigurationError: a configuration file or an environment variable is invalid, or has a
            setting's old name.
    """
    config, sources = _file_config()
    _refuse_old_names(sources)
    on_command_line = {} if command_line is None else command_line.get("AgentBaySettings", {})
    _refuse_old_names(dict.fromkeys(on_command_line, _COMMAND_LINE))
    _refuse_old_names({name: "the environment" for name, value in os.environ.items() if value})
    try:
        settings = AgentBaySettings(config=config)
    except TraitError as error:
        raise ConfigurationError(
            f"{CONFIG_FILE} holds an invalid value: {error} Correct it there, then restart the "
            "kernel."
        ) from error
    settings.sources.update(sources)
    for name, trait in AgentBaySettings.class_own_traits(config=True).items():
        variable = f"AGENTBAY_{name.upper()}"
        if value := os.environ.get(variable):
            setattr(settings, name, _from_text(name, trait, f"{variable}={value!r}", value))
            settings.sources[name] = variable
    if command_line is not None:
        settings.update_config(command_line)
    settings.sources.update(dict.fromkeys(on_command_line, _COMMAND_LINE))
    return settings


def _refuse_old_names(sources: dict[str, str]) -> None:
    for name, source in sources.items():
        if name in RENAMED:
            raise ConfigurationError(use_instead(name, source))


def _from_text(name: str, trait: TraitType[Any, Any], given: str, text: str) -> Any:
    try:
        if text.lower() == "none" and trait.allow_none:
            return None
        value = _truth(text) if isinstance(trait, Bool) else trait.from_string(text)
        # Assigned to a temporary object, only to check the value.
        setattr(AgentBaySettings(), name, value)
        return value
    except (TraitError, ValueError) as error:
        why = str(error)
        if isinstance(trait, Enum):
            choices = [str(choice) for choice in trait.values or ()]
            why = f"use {' or '.join(choices)}.{did_you_mean(text, choices)}"
        raise ConfigurationError(f"{given} is not valid: {why} Meaning: {trait.help}") from error


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in (*_YES, *_NO):
        raise ValueError(f"{text!r} is not one of {', '.join((*_YES, *_NO))}.")
    return word in _YES


def _file_config() -> tuple[Config, dict[str, str]]:
    """Return the settings in the configuration files, and the file of each setting."""
    from jupyter_core.paths import jupyter_config_path
    from traitlets.config.loader import PyFileConfigLoader

    config, sources = Config(), {}
    # The first directory of the list takes precedence, so it is merged last.
    for folder in reversed(jupyter_config_path()):
        file = Path(folder, CONFIG_FILE)
        if not file.is_file():
            continue
        try:
            loaded = PyFileConfigLoader(CONFIG_FILE, path=folder).load_config()
        except Exception as error:
            raise ConfigurationError(
                f"{file} could not be read: {type(error).__name__}: {error}. Fix or remove it."
            ) from error
        config.merge(loaded)
        sources.update(dict.fromkeys(loaded.get("AgentBaySettings", {}), str(file)))
    return config, sources
