"""The versions of what this environment has of the package and its extras, for constraints.txt.

A constraints file installs nothing: it says which version is installed if one is.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "agentbay-kernel"
EXTRAS = {"demo", "local", "charts", "tls"}


def closure(name: str, extras: set[str]) -> dict[str, str]:
    """Name and version of everything that a distribution with such extras needs, itself included.

    A requirement that does not apply to this Python is passed over.
    """
    found: dict[str, str] = {}
    waiting = [(name, frozenset(extras))]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            known = distribution(wanted[0])
        except PackageNotFoundError:
            continue
        found[canonicalize_name(wanted[0])] = known.version
        for line in known.requires or []:
            needed = Requirement(line)
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted[1])
            )
            if applies:
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def main() -> None:
    """Print the constraints."""
    versions = closure(PACKAGE, EXTRAS)
    versions.pop(PACKAGE)
    print("# Written by `make constraints`: the versions that the tests pass with.")
    for name, version in sorted(versions.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
