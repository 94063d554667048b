"""A cell that runs in the background: the handle that `%%agentbay ... --background` returns.

It shows the cell's state and its outputs so far, waits for its end, and stops it.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

from agentbay_kernel import threads
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.execution.cell import InterruptResult
from agentbay_kernel.execution.display import display_message, remote_error
from agentbay_kernel.execution.result import CellResult
from agentbay_kernel.magics.cell import MagicCell


class BackgroundCell:
    """A cell that runs while the notebook continues.

    Arguments:
        cell: the cell, which is started at once.
    """

    def __init__(self, cell: MagicCell) -> None:
        self._cell = cell
        self._ended = threads.start(cell.collect)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.done()

    @property
    def outcome(self) -> CellResult:
        """Its result so far: outputs, streams, error, timing, request id."""
        return self._cell.result

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """Its outputs so far, as a notebook stores them."""
        return self.outcome.outputs

    def wait(self, timeout: float | None = None) -> CellResult:
        """Wait for its end; an error of the cell is in the result.

        Interrupting stops the waiting, not the cell.

        Arguments:
            timeout: seconds to wait at most; None for no limit.

        Raises:
            TimeoutError: it still runs.
        """
        try:
            self._ended.result(timeout)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(
                f"The cell has not ended within {timeout:g} s. It still runs; .cancel() stops it."
            ) from None
        return self.outcome

    def result(self, timeout: float | None = None) -> CellResult:
        """Wait for its end; raise the error of the cell, if it has one.

        Raises:
            RemoteError: the code failed in the sandbox, or could not be run.
            TimeoutError: it still runs.
        """
        outcome = self.wait(timeout)
        if outcome.error is not None:
            raise remote_error(**outcome.error)
        return outcome

    def cancel(self) -> bool:
        """Stop the cell's code in the sandbox.

        Returns:
            False if it has ended already, or if the sandbox may continue to run it.
        """
        if self.done:
            return False
        try:
            return self._cell.interrupt() is not InterruptResult.CONTINUES
        except AgentBayError:
            return False

    def show(self) -> None:
        """Show its outputs so far in the current cell."""
        for message in self.outcome.messages():
            display_message(message)

    def __repr__(self) -> str:
        return f"<BackgroundCell, {self.outcome!r}>"
