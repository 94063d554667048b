"""Loggers of this project, all below `agentbay_kernel` in the standard library's tree.

In: a name. Out: a `logging.Logger`. No handler is installed and no level set: that is the
program's business. Neither the API key nor a session's token is ever logged.
"""

from __future__ import annotations

import logging
import re

_ACTION = re.compile(r"/\?Action=\w+")


def get_logger(name: str) -> logging.Logger:
    """Return the logger `agentbay_kernel.NAME`.

    Arguments:
        name: its last part, for example `code`.

    Returns:
        A logger without a handler and a level of its own.
    """
    return logging.getLogger(f"agentbay_kernel.{name}")


def hide_paths_of(host: str) -> None:
    """Leave addresses at that host out of urllib3's log, but for the host and the action.

    It logs the path of each request at DEBUG, and paths and queries of a session's addresses hold
    codes that open it.
    """
    if not _filter.hosts:
        logging.getLogger("urllib3.connectionpool").addFilter(_filter)
    _filter.hosts.add(host)


class _HidesPaths(logging.Filter):
    hosts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if self.hosts.intersection(map(str, arguments)):
            record.args = tuple(
                _hidden(item) if isinstance(item, str) and item.startswith("/") else item
                for item in arguments
            )
        return True


_filter = _HidesPaths()


def _hidden(target: str) -> str:
    action = _ACTION.match(target)
    return f"{action[0]}&..." if action else "/..."
