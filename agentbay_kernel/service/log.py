"""The loggers of this project, all below `agentbay_kernel` in the standard library's tree.

No handler is installed and no level is set: the program decides. Neither the API key nor a
session's token is ever logged.
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
        A logger without its own handler or level.
    """
    return logging.getLogger(f"agentbay_kernel.{name}")


def hide_paths_of(host: str) -> None:
    """Hide paths and queries of this host in urllib3's log, except for the action's name.

    urllib3 logs the path of each request at DEBUG, and paths and queries of a session's addresses
    hold its credentials.
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
