"""What the parts of a session are made of: its tools, as far as files and jobs need them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.errors import PASSING_FAILURES
from agentbay_kernel.service.results import ShellResult, ToolResult

T = TypeVar("T")

# How long a request that may be repeated is repeated while the network or the service fails.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Capacity:
    """Characters that one call of a tool carries: `sent` in its arguments, `received` back."""

    sent: int
    received: int


class Tools(Protocol):
    """The tools of a session; `Session` is it."""

    def call_mcp_tool(
        self, name: str, args: Mapping[str, Any], timeout_s: float = 60
    ) -> ToolResult:
        """Call a tool; see `Session.call_mcp_tool`."""

    def shell(
        self,
        command: str,
        timeout_s: float = 50,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
    ) -> ShellResult:
        """Run a command; see `Session.shell`."""

    def capacity(self, tool: str) -> Capacity:
        """Return how much one call carries; see `Session.capacity`."""


def patiently(work: Callable[[], T]) -> T:
    """Do what does no harm when it is done twice, again while the service fails for a moment.

    Raises:
        CommandError: it failed for a minute, or in a way that stays.
    """
    gives_up_at = time.monotonic() + PATIENCE_S
    backoff = threads.Backoff(0.1, 5.0)
    while True:
        try:
            return work()
        except PASSING_FAILURES:
            if not backoff.sleep(gives_up_at):
                raise


def read_shell(result: ToolResult) -> ShellResult:
    """What a command did, in the shapes of the tool (AgentBay wire protocol, shell)."""
    text = result.text
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and ("stdout" in told or "stderr" in told):
        stdout, stderr, code = told.get("stdout"), told.get("stderr"), told.get("exit_code")
        known = code if type(code) is int else 0
        return ShellResult(
            stdout=stdout if isinstance(stdout, str) else "",
            stderr=stderr if isinstance(stderr, str) else "",
            exit_code=known if result.success else known or 1,
        )
    # Older images send the bare output, or the words of their error.
    if result.success:
        return ShellResult(text, "", 0)
    return ShellResult("", text, 1)
