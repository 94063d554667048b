"""The checks of an assignment: functions of a Python file of the teacher's, run here."""

from __future__ import annotations

import importlib.util
import numbers
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agentbay_kernel.errors import ConfigurationError

_PREFIX = "check_"
_POINTS = "agentbay_points"

F = TypeVar("F", bound=Callable[..., Any])


def points(number: float) -> Callable[[F], F]:
    """Say how many points a check gives; one unless it is said.

    Raises:
        ConfigurationError: that is not a number of points.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1e6:
        raise ConfigurationError(f"{number!r} is not a number of points.")

    def mark(check: F) -> F:
        setattr(check, _POINTS, number)
        return check

    return mark


@dataclass(frozen=True)
class Check:
    """One check: its name without `check_`, its points, its function."""

    name: str
    points: float
    function: Callable[[Any], Any]

    def share(self, submission: Any) -> float:
        """Run it; returns the share of its points that a submission gets, from 0 to 1.

        Nothing and True are all of them, False is none, a number is the share.

        Raises:
            ValueError: it returned something else.
            Exception: what the check raised.
        """
        returned = self.function(submission)
        if returned is None:
            return 1.0
        if isinstance(returned, numbers.Real) or type(returned).__name__ in ("bool_", "bool"):
            share = float(returned)
            if 0 <= share <= 1:
                return share
        raise ValueError(
            f"The check returned {str(returned)[:100]!r}, which is not a number from 0 to 1."
        )


def load_checks(path: Path) -> list[Check]:
    """The checks of a file: its functions whose names start with `check_`, in their order.

    Raises:
        ConfigurationError: it can't be read or run, or has no check.
    """
    name = f"agentbay_checks_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigurationError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(
            f"The checks in {path} can't be loaded: {type(error).__name__}: {error}"
        ) from error
    checks = [
        Check(name.removeprefix(_PREFIX), getattr(function, _POINTS, 1), function)
        for name, function in vars(module).items()
        if name.startswith(_PREFIX) and callable(function)
    ]
    if not checks:
        raise ConfigurationError(
            f"{path} has no checks: define functions whose names start with {_PREFIX!r}."
        )
    return checks
