"""The extensions for papermill: parameters for JavaScript, and an engine.

papermill loads this module by the entry point `papermill.engine` of this package. Then notebooks
whose language is JavaScript can have parameters with any engine, and `--engine agentbay` runs a
notebook in AgentBay's kernel, whatever kernel it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from papermill.engines import NBClientEngine
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.languages import JAVASCRIPT, find_language

_NAME = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")
# The usual form of a parameter: `const name = value;   // help`.
_DECLARED = re.compile(
    r"^\s*(?:const|let|var)\s+(?P<name>[\w$]+)\s*=\s*(?P<value>.*?)\s*;?\s*(?://\s*(?P<help>.*))?$"
)
# Larger integers are not exact as numbers of JavaScript.
_LARGEST = 2**53 - 1


class JavaScriptTranslator(Translator):  # type: ignore[misc]
    """Writes parameters as JavaScript source that is only data, with each value as JSON."""

    @classmethod
    def translate(cls, val: Any) -> str:
        """Return a value as source text.

        Arguments:
            val: a value that papermill read from YAML or the command line. A type that JSON does
                not have becomes a string.
        """
        if isinstance(val, bool) or val is None or isinstance(val, str):
            return json.dumps(val)
        if isinstance(val, int):
            return str(val) if abs(val) <= _LARGEST else f"{val}n"
        if isinstance(val, float):
            return json.dumps(val)
        if isinstance(val, Mapping):
            # Computed keys: a literal `__proto__` would set the prototype and not a key.
            inner = (f"[{json.dumps(str(key))}]: {cls.translate(it)}" for key, it in val.items())
            return "{" + ", ".join(inner) + "}"
        if isinstance(val, list | tuple):
            return "[" + ", ".join(map(cls.translate, val)) + "]"
        return json.dumps(str(val))

    @classmethod
    def comment(cls, cmt_str: str) -> str:
        """Return a comment in one line."""
        return f"// {cmt_str}".replace("\n", " ")

    @classmethod
    def assign(cls, name: str, str_val: str) -> str:
        """Return the declaration of a parameter.

        Raises:
            ConfigurationError: the name is not valid in JavaScript.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} can't be the name of a parameter in JavaScript. Use letters, digits, "
                "`_` and `$`."
            )
        return f"let {name} = {str_val};"

    @classmethod
    def inspect(cls, parameters_cell: Any) -> list[Parameter]:
        """Return the parameters that a notebook's parameters cell declares, one on each line."""
        found = []
        for line in parameters_cell["source"].splitlines():
            if match := _DECLARED.match(line):
                help_text = match["help"] or ""
                found.append(Parameter(match["name"], "None", match["value"], help_text))
        return found


class AgentBayEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's default engine with AgentBay's kernel, whatever kernel a notebook names."""

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Return the name of the AgentBay kernel for the notebook's language.

        Arguments:
            name: the kernel from the command line; used only if it is an AgentBay kernel.
        """
        if name and name.startswith("agentbay-"):
            return name
        return f"agentbay-{cls.nb_language(nb)}"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Return the notebook's language.

        Raises:
            UnsupportedLanguageError: the service does not run it.
        """
        metadata = nb.metadata
        named = (
            language
            or metadata.get("kernelspec", {}).get("language")
            or metadata.get("language_info", {}).get("name")
            or "python"
        )
        return find_language(str(named)).name


for _language in (JAVASCRIPT.name, "JavaScript"):
    papermill_translators.register(_language, JavaScriptTranslator)
