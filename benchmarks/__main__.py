"""`python -m benchmarks`: all of them, one after the other. `python -m benchmarks.NAME`: one."""

from __future__ import annotations

import importlib
import pkgutil

import benchmarks


def main() -> None:
    """Run every module of this package that has a `main`."""
    for module in sorted(info.name for info in pkgutil.iter_modules(benchmarks.__path__)):
        if module == "__main__":
            continue
        run = getattr(importlib.import_module(f"benchmarks.{module}"), "main", None)
        if run is not None:
            print(f"## {module}\n", flush=True)
            run()
            print(flush=True)


if __name__ == "__main__":
    main()
