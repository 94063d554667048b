"""A session with a bridge, and what can be seen of it from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.service import Session

# What the service carries on the action route (AgentBay wire protocol).
ROUTES: dict[str, dict[str, Any]] = {
    "websocket": {},
    "link": {"ws_url": False},
    # And without a prepared kernel, as at the service.
    "action": {
        "ws_url": False,
        "link_url": False,
        "message_limit": 64512,
        "prepared_kernel": False,
    },
}
# Longer than a call may wait where nothing can wake it, shorter than where something can.
SOON_S = 20.0


@dataclass
class Bench:
    """A session with a bridge, and the runtime that it is in."""

    session: Session
    tunnel: BridgeClient
    profile: Callable[..., None]
    journal: Path

    def __post_init__(self) -> None:
        self.bridged = BridgedPython(self.tunnel)

    def run(self, code: str, **options: Any) -> list[Message]:
        return list(self.bridged.execute(Cell(code, "python", **options)))

    def calls(self, tool: str = "run_code") -> list[dict[str, Any]]:
        """The calls of this session that have ended."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        mine = self.session.session_id
        return [line for line in lines if line["session"] == mine and line["tool"] == tool]

    def calls_of(self, work: Callable[[], object]) -> int:
        """How many calls some work takes."""
        self.settle()
        before = len(self.calls())
        work()
        self.settle()
        return len(self.calls()) - before

    def settle(self) -> None:
        """Wait until the calls that were made have ended and are in the journal."""
        ends_at = time.monotonic() + SOON_S
        while self.tunnel._pumping:
            assert time.monotonic() < ends_at
            time.sleep(0.01)
        # The journal has a call when it has ended, a moment after its answer. The runtime's one
        # loop comes to that before it answers what is asked now.
        assert self.session.call_mcp_tool("get_env", {}).success

    def warm_up(self) -> None:
        """Run cells until the bridge knows that it can be woken: a long one has it tried."""
        ends_at = time.monotonic() + SOON_S
        while not self.tunnel._wakeable:
            self.run("1" if self.tunnel._probed else "import time; time.sleep(0.5)")
            assert time.monotonic() < ends_at


def text_of(messages: list[Message]) -> str:
    return "".join(m.content["text"] for m in messages if m.type == "stream")


def value_of(messages: list[Message]) -> str:
    (value,) = [m.content["data"]["text/plain"] for m in messages if m.type == "execute_result"]
    return str(value)
