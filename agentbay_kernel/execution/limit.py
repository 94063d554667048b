"""How much one cell may print: beyond a limit nothing more is passed on, and that is said.

In: the sizes of a cell's stream messages. Out: whether each is passed on, and the closing note.
"""

from __future__ import annotations

from agentbay_kernel.execution.messages import Message, stream


class OutputLimit:
    """The output of one cell, in characters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._passed = 0
        self._left_out = 0

    def admits(self, text: str) -> bool:
        """May this piece of a stream be passed on?"""
        if self._left_out or self._passed + len(text) > self._limit:
            self._left_out += len(text)
            return False
        self._passed += len(text)
        return True

    def note(self) -> Message | None:
        """What was left out, to be told at the cell's end; None if nothing was."""
        if not self._left_out:
            return None
        return stream(
            "stderr",
            f"\n[AgentBay: this cell printed more than the limit of {self._limit:,} characters; "
            f"{self._left_out:,} more are not shown. The setting output_limit changes that.]\n",
        )
