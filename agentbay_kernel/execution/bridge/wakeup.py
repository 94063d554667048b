"""Sends data to the bridge while a call waits in the sandbox, with `shell` and the bridge's pipe.

A waiting `run_code` does not block `shell`, which is another tool. A line has inward bytes with
their offset, or the id of a call to end. Because of the offset, it does no harm if the next call
sends the same bytes again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import zlib

from agentbay_kernel.errors import CommandError
from agentbay_kernel.service import Session

# Bytes for one line: packed, it must be shorter than one atomic write to a pipe (4096, POSIX).
_PIECE = 2_900
# More bytes than this are sent by a call.
MOST_BROUGHT = 8 * _PIECE

# Each bridge has its pipe in a directory with such a name (sandbox/bridge.py).
_RELEASE_ANY = """for pipe in "${TMPDIR:-/tmp}"/ab-*/wake; do
[ -p "$pipe" ] && printf '%s\\n' '{"return": "*"}' 1<>"$pipe"; done; true"""


def release_any(session: Session) -> None:
    """End calls that an earlier kernel has left waiting, so that they don't block others.

    If the shell can't do it, they end by themselves within a minute.
    """
    with contextlib.suppress(CommandError):
        session.run_shell(_RELEASE_ANY)


class Wakeup:
    """Writes to the pipe of one bridge. Thread-safe.

    Arguments:
        pipe: the pipe's path in the sandbox; empty if there is no pipe.
        holder: the number that identifies this client as the bridge's user.
    """

    def __init__(self, session: Session, pipe: str, holder: int) -> None:
        self._session = session
        self._pipe = pipe
        self._holder = holder

    def probe(self) -> bool:
        """Write an empty line, so that the bridge can report that the pipe works."""
        return self._write([{}])

    def bring(self, offset: int, data: bytes, forget: int) -> bool:
        """Send inward bytes; return whether the shell wrote them.

        Arguments:
            offset: offset of the first byte in the inward stream.
            forget: offset in the outward stream; bytes before it are never requested again.
        """
        return self._write(
            [
                {
                    "holder": self._holder,
                    "at": offset + start,
                    "forget": forget,
                    "in": base64.b64encode(zlib.compress(data[start : start + _PIECE])).decode(),
                }
                for start in range(0, len(data), _PIECE)
            ]
        )

    def release(self, call: str) -> bool:
        """End the call of that id at once; return whether the shell wrote the line."""
        return self._write([{"return": call}])

    def _write(self, lines: list[dict[str, str | int]]) -> bool:
        if not self._pipe:
            return False
        pipe = shlex.quote(self._pipe)
        # Opened for reading too, so that it does not wait for a reader; each line is one write.
        prints = "; ".join(f"printf '%s\\n' {shlex.quote(json.dumps(line))}" for line in lines)
        command = f"[ -p {pipe} ] && {{ {prints}; }} 1<>{pipe}"
        try:
            return self._session.run_shell(command).success
        except CommandError:
            return False
