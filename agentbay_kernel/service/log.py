"""Loggers of this project, all below `agentbay_kernel` in the standard library's tree.

In: a name. Out: a `logging.Logger`. No handler is installed and no level set: that is the
program's business. Neither the API key nor a session's token is ever logged.
"""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """The logger `agentbay_kernel.NAME`, for example `get_logger("code")`."""
    return logging.getLogger(f"agentbay_kernel.{name}")
