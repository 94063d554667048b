"""The setup recipe: packages, files and variables that every new session of a notebook gets.

It is TOML, in a `%%agentbay setup` cell or in `agentbay.toml` in the notebook's directory:

    pip = ["polars", "rich>=13"]            # packages for Python
    npm = ["lodash"]                        # packages for JavaScript
    files = ["data/prices.csv"]             # files and directories below the notebook's directory
    env = ["HF_TOKEN"]                      # environment variables, by name

A recipe comes with a notebook, so it is not trusted. It reaches no file outside the notebook's
directory, no file whose name starts with a dot, and no file through a link. It gets only the
variables that the user's own configuration (`setup_env`) allows, and never the service's key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import RecipeError
from agentbay_kernel.service.endpoint import KEY_VARIABLE
from agentbay_kernel.sessions.files import FileList, list_files

FILE = "agentbay.toml"
_KEYS = ("pip", "npm", "files", "env")
_LARGEST = 64 * 1024


@dataclass(frozen=True)
class Recipe:
    """The contents of a recipe: packages, files by their relative paths, names of variables.

    `folder` is the notebook's directory, `source` names the recipe's location.
    """

    folder: Path
    source: str
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    #: Whether it is the user's own configuration, not the notebook's.
    is_configured: bool = False

    def __bool__(self) -> bool:
        return bool(self.pip or self.npm or self.files or self.env)

    def without_this_machine(self) -> Recipe:
        """Return the recipe without its files and variables, which are of this machine."""
        return replace(self, files=(), env=())

    def local_files(self) -> FileList:
        """List the files to send.

        Raises:
            RecipeError: a file is missing or out of reach, or they are too many or too large.
        """
        return list_files(self.folder, self.files, self.source, skip_missing=self.is_configured)


def read_recipe(text: str, folder: Path, source: str, allowed: Collection[str]) -> Recipe:
    """Read a recipe from TOML.

    Arguments:
        folder: the notebook's directory.
        source: the location of the text, for messages.
        allowed: names of the environment variables that the user's configuration allows.

    Raises:
        RecipeError: it is not valid, or requests something that is not allowed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as failure:
        raise RecipeError(f"{source} is not valid TOML: {failure}.") from failure
    unknown = sorted(set(document) - set(_KEYS))
    if unknown:
        raise RecipeError(
            f"{source} has no {', '.join(unknown)}; a recipe has {', '.join(_KEYS)}, each a list "
            "of texts."
        )
    pip, npm, files, env = (_texts(document, key, source) for key in _KEYS)
    recipe = Recipe(folder, source, pip, npm, files, env)
    for package in (*recipe.pip, *recipe.npm):
        if package.startswith("-"):
            raise RecipeError(
                f"{source} names the package {package!r}, which is an option of the installer. "
                "Name packages only. Nothing was created."
            )
    for name in recipe.env:
        if name == KEY_VARIABLE:
            raise RecipeError(
                f"{source} asks for {KEY_VARIABLE}: the key enters no sandbox. Leave it out. "
                "Nothing was created."
            )
        if name not in allowed:
            raise RecipeError(
                f"{source} asks for the environment variable {name}, which your configuration "
                f"does not allow. If you trust it, write c.AgentBaySettings.setup_env = [{name!r}] "
                "into jupyter_agentbay_config.py."
            )
    # Files out of reach are reported before a session is created.
    recipe.local_files()
    return recipe


def find_recipe(folder: Path, allowed: Collection[str]) -> Recipe | None:
    """Return the recipe of `agentbay.toml` in that directory, if there is one.

    Raises:
        RecipeError: it is not valid.
    """
    path = folder / FILE
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST:
            raise RecipeError(f"{path} is larger than {_LARGEST} bytes, too much for a recipe.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise RecipeError(f"{path} can't be read: {failure}.") from failure
    return read_recipe(text, folder, FILE, allowed)


def _texts(document: dict[str, Any], key: str, source: str) -> tuple[str, ...]:
    values = document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise RecipeError(f'{source}: {key} must be a list of texts, for example {key} = ["x"].')
    return tuple(values)
