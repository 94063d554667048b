"""`python -m agentbay_kernel`: the kernel with `-f FILE`, else the command line."""

from __future__ import annotations

import sys


def main() -> int | None:
    """Run the kernel or the command line, and import only what that one needs."""
    if any(argument == "-f" or argument.startswith("-f=") for argument in sys.argv[1:]):
        from agentbay_kernel.local.own_runtime import start_ahead

        # Before the slow imports, because the first cell waits for it.
        start_ahead()
        from agentbay_kernel.kernel import app

        app.main()
        return 0
    from agentbay_kernel import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
