"""A way in while a call waits in the sandbox: lines written to the bridge's pipe by `shell`.

In: inward bytes and their offset, or the id of a call that is to end. Out: whether the shell wrote
them. Another tool is not held up by a `run_code` that waits. Bytes keep their offsets, so it does
no harm when the next call brings them again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import zlib

from agentbay_kernel.errors import CommandError
from agentbay_kernel.service import Session

# Bytes for one line: packed, it must be shorter than what a pipe takes as one (4096, POSIX).
_PIECE = 2_900
# More than this is better brought by a call.
MOST_BROUGHT = 8 * _PIECE

# Each bridge has its pipe in a folder of this name (sandbox/bridge.py).
_RELEASE_ANY = """for pipe in "${TMPDIR:-/tmp}"/ab-*/wake; do
[ -p "$pipe" ] && printf '%s\\n' '{"return": "*"}' 1<>"$pipe"; done; true"""


def release_any(session: Session) -> None:
    """Let a call end that a kernel which is gone has left waiting, so that it is in nobody's way.

    Where the shell can't, it ends by itself, after a minute at most.
    """
    with contextlib.suppress(CommandError):
        session.run_shell(_RELEASE_ANY)


class Wakeup:
    """Writes to the pipe of one bridge. Thread-safe.

    Arguments:
        pipe: its path in the sandbox; empty when there is none.
        holder: the number under which the bridge is held.
    """

    def __init__(self, session: Session, pipe: str, holder: int) -> None:
        self._session = session
        self._pipe = pipe
        self._holder = holder

    def probe(self) -> bool:
        """Write a line that says nothing: the bridge then knows that the pipe works."""
        return self._write([{}])

    def bring(self, offset: int, data: bytes, forget: int) -> bool:
        """Hand over inward bytes that stand at that offset.

        Arguments:
            forget: offset of the outward stream before which nothing is asked for again.
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
        """Let the call of that id end at once."""
        return self._write([{"return": call}])

    def _write(self, lines: list[dict[str, str | int]]) -> bool:
        if not self._pipe:
            return False
        pipe = shlex.quote(self._pipe)
        # Opened for reading too, which does not wait for a reader; each line is one write.
        prints = "; ".join(f"printf '%s\\n' {shlex.quote(json.dumps(line))}" for line in lines)
        command = f"[ -p {pipe} ] && {{ {prints}; }} 1<>{pipe}"
        try:
            return self._session.run_shell(command).success
        except CommandError:
            return False
