"""`%agentbay config`: the settings, the source of each value, and what a cell may change.

It takes nothing, names, or NAME=VALUE, and shows a table. The settings themselves (`config.py`)
define what may be changed: a cell can make a setting stricter and never less strict.
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import ConfigurationError, VerbError
from agentbay_kernel.renamed import RENAMED, did_you_mean, use_instead
from agentbay_kernel.verbs.bundles import data, grid, shown_value, table
from agentbay_kernel.verbs.parser import LineParser, completed_by
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager


def _config(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    settings = context.settings
    traits = AgentBaySettings.class_own_traits(config=True)
    changes = [
        (name, value)
        for name, equals, value in (word.partition("=") for word in options.settings)
        if equals
    ]
    names = [word for word in options.settings if "=" not in word]
    for name in [*names, *(name for name, _ in changes)]:
        if name in RENAMED:
            raise VerbError(use_instead(name))
        if name not in traits:
            raise VerbError(
                f"There is no setting {name!r}.{did_you_mean(name, traits)} Use one of: "
                f"{', '.join(traits)}."
            )
    settings.change_in_notebook(changes)
    shown = [*names, *(name for name, _ in changes)] or list(traits)
    if options.json:
        return data({name: _described(settings, name) for name in shown})
    if names:
        return table(
            row for name in shown for row in _detail(name, _described(settings, name)).items()
        )
    rows = [
        (name, it["value_text"], it["from"], it["in_notebook"])
        for name in shown
        for it in [_described(settings, name)]
    ]
    if not changes:
        rows += _service_rows()
    return grid(("setting", "value", "from", "a cell may"), rows)


def _described(settings: AgentBaySettings, name: str) -> dict[str, Any]:
    trait = AgentBaySettings.class_own_traits(config=True)[name]
    value = getattr(settings, name)
    rule = trait.metadata.get("in_notebook")
    may = {"free": "change it", "lower": "lower it", None: "not change it"}
    return {
        "value": value,
        "value_text": shown_value(value),
        "from": settings.sources.get(name, "default"),
        "in_notebook": "make it stricter" if isinstance(rule, tuple) else may[rule],
        "help": trait.help,
    }


def _detail(name: str, described: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{described['value_text']} (from: {described['from']})",
        "  meaning": described["help"],
        "  a cell may": described["in_notebook"],
        "  elsewhere": f"AGENTBAY_{name.upper()}, or c.AgentBaySettings.{name}",
    }


def _service_rows() -> list[tuple[str, str, str, str]]:
    from agentbay_kernel.service.endpoint import (
        ENDPOINT_VARIABLE,
        KEY_VARIABLE,
        REGION_VARIABLE,
        find_credentials,
    )

    try:
        found = find_credentials()
    except ConfigurationError as error:
        return [("service", "invalid", str(error), "not change it")]
    values = {
        # Never the key itself.
        KEY_VARIABLE: "set" if found.api_key else "not set",
        REGION_VARIABLE: found.endpoint.region_id,
        ENDPOINT_VARIABLE: found.endpoint.url,
    }
    asked = {KEY_VARIABLE: bool(found.api_key), REGION_VARIABLE: bool(found.region_id)}
    return [
        (
            variable,
            value,
            "environment"
            if os.environ.get(variable)
            else (".env" if asked.get(variable) else "default"),
            "not change it",
        )
        for variable, value in values.items()
    ]


def _config_arguments(parser: LineParser) -> None:
    completed_by(
        parser.add_argument(
            "settings",
            nargs="*",
            metavar="NAME[=VALUE]",
            help="Show this setting, or change it for this notebook; show all if omitted",
        ),
        "setting",
    )
    parser.add_argument("--json", action="store_true", help="Show JSON")


CONFIG = Verb(
    "config",
    "Show the settings and where each value comes from; change what a cell may change",
    _config,
    _config_arguments,
    examples=(
        "%agentbay config",
        "%agentbay config timeout",
        "%agentbay config timeout=120 output_limit=1000000",
    ),
)
