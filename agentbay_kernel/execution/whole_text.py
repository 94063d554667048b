"""Where all of a text is that was folded for the page: in the sandbox, or kept here.

In: a direct cell's pieces of text, or the path that a bridge tells. Out: what `%agentbay last
--save` writes. It travels with the reply of the cell and never leaves this process otherwise.
"""

from __future__ import annotations

import posixpath
import shutil
import tempfile
from dataclasses import dataclass, replace
from typing import IO

from agentbay_kernel.execution.messages import Message

# Bytes of one cell that are kept, as the bridge keeps them in a sandbox.
BOUND = 1024 * 1024 * 1024
_IN_MEMORY = 4_000_000
# Its name in the reply's metadata.
WHOLE = "whole"


@dataclass(frozen=True)
class InSandbox:
    """The bridge keeps it.

    Arguments:
        next_cells: the file in which the session's next cell finds it.
    """

    next_cells: str

    @property
    def path(self) -> str:
        """Where it is as long as no other cell has run in that session."""
        return posixpath.join(posixpath.dirname(self.next_cells), "output.txt")

    @property
    def told(self) -> str:
        """Where it is, in words."""
        return f"{KeptHere.told} The next cell finds it in {self.next_cells!r}."


class KeptHere:
    """A direct cell's text has come here anyway: kept in a file without a name.

    It goes with this object, which goes with the next cell.
    """

    told = "`%agentbay last --save FILE` brings all of it."

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._size = 0

    def add(self, text: str) -> None:
        """A piece of what the cell printed; beyond a bound it is not kept."""
        data = text.encode("utf-8", "replace")
        if self._size + len(data) <= BOUND:
            self._size += self._file.write(data)

    def write_to(self, file: IO[bytes]) -> int:
        """Write all of it; returns the number of bytes."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        return self._size


def replied(reply: Message, whole: InSandbox | KeptHere | None, request_id: str = "") -> Message:
    """A cell's reply that tells where all of its text is; its sandbox has no say in that.

    `request_id` names the cell's request to the service, should one ask there about it.
    """
    metadata = {WHOLE: whole, "request_id": request_id}
    return replace(reply, metadata={name: value for name, value in metadata.items() if value})
