"""`python -m agentbay_kernel`: the kernel with `-f FILE`, else the command line."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any


def main() -> int | None:
    """Run the kernel or the command line, and import only what that one needs."""
    if any(argument == "-f" or argument.startswith("-f=") for argument in sys.argv[1:]):
        from agentbay_kernel.local.own_runtime import start_ahead

        # Before the slow imports, because the first cell waits for it.
        start_ahead()
        for name in ("IPython", "ipykernel", "jupyter_client"):
            import_in_parts(name)
        from agentbay_kernel.kernel import app

        app.main()
        return 0
    from agentbay_kernel import cli

    return cli.main(sys.argv[1:])


def import_in_parts(name: str) -> None:
    """Make a package's modules importable without its `__init__.py`, which runs when it is used.

    A notebook would wait for imports that its kernel never needs: ipykernel takes one exception
    from IPython, whose `__init__.py` imports the shell; jupyter_client's imports the managers.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None or name in sys.modules:
        return
    loader, package = spec.loader, importlib.util.module_from_spec(spec)
    lock, loaded = threading.RLock(), False

    def load(attribute: str) -> Any:
        nonlocal loaded
        with lock:
            if not loaded:
                loaded = True
                loader.exec_module(package)
        # IPython has such a function of its own since version 9.
        if attribute in vars(package) or vars(package)["__getattr__"] is not load:
            return getattr(package, attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    vars(package)["__getattr__"] = load
    sys.modules[name] = package


if __name__ == "__main__":
    sys.exit(main())
