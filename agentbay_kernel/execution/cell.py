"""The cell that a front end gives to an execution, and the result of an interrupt."""

from __future__ import annotations

import enum
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.execution.output_limit import DEFAULT_CHARACTERS, DEFAULT_DISPLAY_BYTES


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell to run in a sandbox.

    `timeout` is in seconds; None sets no limit here. `output_limit` is in characters,
    `display_limit` in bytes. `message_id` is the id of the execute_request, `cell_id` the
    notebook's id of the cell, `count` the number at the cell's prompt or None if there is no
    prompt. For `late_output_s` seconds after the cell's end, the front end still accepts output of
    threads and timers. `strict_const` is for JavaScript only. The other options are those of an
    execute_request. A front end sets `stopped` to cancel the cell: if it was not sent by then, it
    is never sent.
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
    late_output_s: float = 0.0
    strict_const: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)


class InterruptResult(enum.Enum):
    """The effect of an interrupt on a cell."""

    UNSENT = "it was not sent and never will be"
    ENDING = "its code was interrupted and ends with an error of its own"
    CONTINUES = "its code can't be interrupted"
