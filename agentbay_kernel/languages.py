"""The languages of the sandbox, in one table.

To add a language, add a row here and, for the local runtime, an engine in `local/`. Slow imports
come only when they are needed: the service client uses this table without Jupyter, and the kernel
uses it while it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import UnsupportedLanguageError
from agentbay_kernel.renamed import did_you_mean


@dataclass(frozen=True)
class Language:
    """One language of the sandbox.

    `name` is the language's name at the service. `language_info` is the field that a kernel sends
    to its front end (Jupyter messaging protocol, kernel_info). `completeness` returns the content
    of an is_complete_reply.
    """

    name: str
    display_name: str
    aliases: tuple[str, ...]
    language_info: dict[str, Any]
    completeness: Callable[[str], dict[str, str]]


def _python_completeness(code: str) -> dict[str, str]:
    from IPython.core.inputtransformer2 import TransformerManager

    status, indent = TransformerManager().check_complete(code)  # type: ignore[no-untyped-call]
    if status == "incomplete":
        return {"status": status, "indent": " " * (indent or 0)}
    return {"status": status}


def _javascript_completeness(code: str) -> dict[str, str]:
    from agentbay_kernel.javascript import completeness

    return completeness(code)


PYTHON = Language(
    name="python",
    display_name="Python",
    aliases=("py", "python3", "ipython"),
    language_info={
        "name": "python",
        # The sandbox's exact version is known only when a session runs.
        "version": "3",
        "mimetype": "text/x-python",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "pygments_lexer": "ipython3",
        "nbconvert_exporter": "python",
        "file_extension": ".py",
    },
    completeness=_python_completeness,
)

JAVASCRIPT = Language(
    name="javascript",
    display_name="JavaScript",
    aliases=("js", "node", "nodejs"),
    language_info={
        "name": "javascript",
        "version": "ES2023",
        "mimetype": "text/javascript",
        "codemirror_mode": "javascript",
        "pygments_lexer": "javascript",
        "nbconvert_exporter": "script",
        "file_extension": ".js",
    },
    completeness=_javascript_completeness,
)

LANGUAGES = {language.name: language for language in (PYTHON, JAVASCRIPT)}
_BY_ALIAS = {alias: lang for lang in LANGUAGES.values() for alias in (lang.name, *lang.aliases)}


def find_language(name: str) -> Language:
    """Return the language of a name or an alias, in any case.

    Raises:
        UnsupportedLanguageError: the service does not run that language.
    """
    language = _BY_ALIAS.get(name.strip().lower()) if isinstance(name, str) else None
    if language is None:
        known = ", ".join(
            f"{lang.name} (or {', '.join(lang.aliases)})" for lang in LANGUAGES.values()
        )
        raise UnsupportedLanguageError(
            f"Unsupported language: {name!r}.{did_you_mean(str(name), _BY_ALIAS)} Use one of: "
            f"{known}. Nothing was sent."
        )
    return language
