"""`python -m agentbay_kernel`: the kernel when given `-f FILE`, else the command line."""

from __future__ import annotations

import sys


def main() -> int | None:
    """Dispatch; the kernel's and the command line's imports stay apart."""
    if any(argument == "-f" or argument.startswith("-f=") for argument in sys.argv[1:]):
        from agentbay_kernel.local.child import start_ahead

        # Before what takes time: a first cell waits for it.
        start_ahead()
        from agentbay_kernel.kernel import app

        app.main()
        return 0
    from agentbay_kernel import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
