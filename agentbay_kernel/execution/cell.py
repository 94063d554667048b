"""What a front end asks an execution to run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One cell on its way to a sandbox.

    `timeout` is in seconds, None for no limit of our own. A front end that no longer wants the
    cell sets `stopped`: what was not sent by then is never sent.
    """

    code: str
    language: str
    timeout: float | None = None
    stopped: threading.Event = field(default_factory=threading.Event, compare=False)
