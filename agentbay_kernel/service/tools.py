"""The interface to a session's tools that files and jobs use, so that they don't need `Session`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.errors import TRANSIENT_FAILURES
from agentbay_kernel.service.results import ShellResult, ToolResult

T = TypeVar("T")

# Seconds for which a request is repeated while the network or the service fails.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Capacity:
    """Characters that one call of a tool can carry: `sent` in arguments, `received` in response."""

    sent: int
    received: int


class Tools(Protocol):
    """The tools of a session; `Session` implements it."""

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
        """Return how much data one call can carry; see `Session.capacity`."""


def patiently(work: Callable[[], T]) -> T:
    """Run `work`, again while the service fails for a moment. It must do no harm if done twice.

    Raises:
        CommandError: it failed for a minute, or with an error that a repetition can't fix.
    """
    gives_up_at = time.monotonic() + PATIENCE_S
    backoff = threads.Backoff(0.1, 5.0)
    while True:
        try:
            return work()
        except TRANSIENT_FAILURES:
            if not backoff.sleep(gives_up_at):
                raise


def read_shell(result: ToolResult) -> ShellResult:
    """Read a command's result in any form of the tool (AgentBay wire protocol, shell)."""
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
    # Older images send only the output, or only the text of the error.
    if result.success:
        return ShellResult(text, "", 0)
    return ShellResult("", text, 1)
