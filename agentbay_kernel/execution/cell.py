"""What a front end asks an execution to run."""

from __future__ import annotations

import enum
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.execution.output_limit import DEFAULT_CHARACTERS, DEFAULT_DISPLAY_BYTES


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell on its way to a sandbox.

    `timeout` is in seconds, None for no limit of our own; `output_limit` in characters,
    `display_limit` in bytes; the other options are those of an execute_request, `message_id` is
    its id, `cell_id` the notebook's name of the cell. `count` is the number at the cell's
    prompt, None where there is no prompt; `listen_s` is for how many seconds after its end the
    front end takes what its threads and timers still print; `strict_const` is JavaScript's. A
    front end that no longer wants the cell sets `stopped`: what was not sent by then is never
    sent.
    """

    code: str
    language: str
    timeout: float | None = None
    output_limit: int = DEFAULT_CHARACTERS
    display_limit: int = DEFAULT_DISPLAY_BYTES
    silent: bool = False
    store_history: bool = True
    user_expressions: dict[str, Any] = field(default_factory=dict)
    allow_stdin: bool = False
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    cell_id: str | None = None
    count: int | None = None
    listen_s: float = 0.0
    strict_const: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)


class InterruptResult(enum.Enum):
    """What an interrupt did to a cell."""

    UNSENT = "it was not sent and never will be"
    ENDING = "its code was interrupted and ends with an error of its own"
    RUNS_ON = "its code can't be interrupted"
